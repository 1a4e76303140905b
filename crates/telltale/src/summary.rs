//! The balance of a demo, as `--summary` writes it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::evaluate::ModeFound;

/// Figures of one run; the names are part of the interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Cars that were asked for.
    pub cars: u64,
    /// Readings a second of each car.
    pub rate: f64,
    /// Seed of the fleet and of the models.
    pub seed: u64,
    /// Seconds from the start to the end of the readings.
    pub seconds: f64,
    /// Readings handed to the MQTT client.
    pub published: u64,
    /// Readings the broker acknowledged, so that the simulator need not send them again.
    pub acknowledged: u64,
    /// Records in the raw topic.
    pub raw: u64,
    /// Records in the clean topic.
    pub clean: u64,
    /// Windows in the table of counts: different keys, not changes.
    pub windows: u64,
    /// Predictions.
    pub predictions: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Acknowledged readings not in the raw topic, and records without outcome.
    pub lost: u64,
    /// Outcomes beyond the first of a record.
    pub duplicated: u64,
    /// Predictions that were recomputed from their model and reading.
    pub recomputed: u64,
    /// Breaches of the delivery contract, of whatever kind.
    pub violations: u64,
    /// From the start of the command to the first committed prediction.
    pub first_prediction_seconds: Option<f64>,
    /// From publishing a reading to reading its committed prediction, once those that had waited for the
    /// first model were worked off.
    pub latency_ms: LatencyMs,
    /// Every model in force during the run, oldest first.
    pub models: Vec<ModelLine>,
    /// Area under the ROC curve: readings past the first quarter of a failure's growth against healthy ones.
    pub auc: Option<f64>,
    /// Share of healthy readings that gave alarm.
    pub false_alarm_rate: Option<f64>,
    /// Each kind of failure that occurred.
    pub modes: Vec<ModeFound>,
    /// Processor time of the process; null where the system does not tell.
    pub cpu_seconds: Option<f64>,
    /// Largest resident set of the process in 10⁶ bytes; null where the system does not tell.
    pub peak_rss_mb: Option<f64>,
}

/// Quantiles of the latency in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct LatencyMs {
    /// Half of the readings were as quick.
    pub p50: Option<u64>,
    /// 99 of 100 readings were as quick.
    pub p99: Option<u64>,
}

/// One model.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ModelLine {
    /// Version, rising.
    pub version: u64,
    /// SHA-256 of the artifact, in hexadecimal digits.
    pub sha256: String,
    /// Readings it was trained on.
    pub rows: u64,
    /// Duration of the training.
    pub seconds: f64,
    /// Score above which a reading is an anomaly.
    pub threshold: f64,
}

/// Why the summary was not written.
#[derive(Debug, thiserror::Error)]
#[error("writing the summary to {path}: choose a file in a folder you may write to with --summary")]
pub struct SummaryError {
    /// `--summary`
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl Summary {
    /// Writes the summary to `path` as JSON.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), SummaryError> {
        let text =
            serde_json::to_string_pretty(self).expect("a summary has text keys and finite numbers only");
        fs::write(path, text + "\n").map_err(|source| SummaryError { path: path.to_owned(), source })
    }
}

/// Checks before a run that its summary can be written at its end.
///
/// # Errors
///
/// Returns an error when `path` cannot be opened for writing.
pub fn check(path: &Path) -> Result<(), SummaryError> {
    let opened = fs::OpenOptions::new().create(true).append(true).open(path);
    opened.map(drop).map_err(|source| SummaryError { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_that_were_promised() {
        let summary = Summary {
            models: vec![ModelLine::default()],
            modes: vec![ModeFound { mode: "leak".into(), episodes: 1, found: 0, median_delay_seconds: None }],
            ..Summary::default()
        };
        let value = serde_json::to_value(&summary).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let mut expected = vec![
            "cars",
            "rate",
            "seed",
            "seconds",
            "published",
            "acknowledged",
            "raw",
            "clean",
            "windows",
            "predictions",
            "dead_letters",
            "lost",
            "duplicated",
            "recomputed",
            "violations",
            "first_prediction_seconds",
            "latency_ms",
            "models",
            "auc",
            "false_alarm_rate",
            "modes",
            "cpu_seconds",
            "peak_rss_mb",
        ];
        let mut found = keys(&value);
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);
        let mut model = keys(&value["models"][0]);
        model.sort_unstable();
        assert_eq!(model, ["rows", "seconds", "sha256", "threshold", "version"]);
        let mut mode = keys(&value["modes"][0]);
        mode.sort_unstable();
        assert_eq!(mode, ["episodes", "found", "median_delay_seconds", "mode"]);
        assert_eq!(keys(&value["latency_ms"]), ["p50", "p99"]);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("s.json");
        let error = check(&path).unwrap_err();
        assert!(
            error.to_string().contains("missing/s.json") && error.to_string().contains("--summary"),
            "{error}"
        );
        let path = folder.path().join("s.json");
        check(&path).unwrap();
        Summary::default().write(&path).unwrap();
        assert!(fs::read_to_string(&path).unwrap().ends_with("}\n"));
    }
}
