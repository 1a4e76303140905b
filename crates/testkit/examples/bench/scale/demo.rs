//! Time from the start of `telltale demo` to its first prediction.

use std::fmt;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::figures::Spread;
use crate::machine::load;
use crate::report::Goal;
use crate::settings::Settings;

/// How long the cars run: long enough for a first model on a machine that is busy with other things.
const LENGTH: &str = "12s";
/// What it is to be, in seconds.
const GOAL: Goal = Goal::AtMost(5.0);

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Demos {
    /// Seconds from the start of the process to the first prediction that a reader of its topic saw.
    first_prediction_seconds: Spread,
    goal: Goal,
    reached: bool,
    runs: Vec<Demo>,
}

#[derive(Debug, Serialize)]
struct Demo {
    first_prediction_seconds: f64,
    /// Readings that the first model learnt from, and seconds that took.
    rows: u64,
    training_seconds: f64,
    lost: u64,
    duplicated: u64,
    load: f64,
}

/// Runs the demo as often as there are rounds.
pub(super) fn measure(settings: &Settings, stop: &CancellationToken) -> Result<Demos> {
    let mut runs = Vec::new();
    for round in 1..=settings.rounds.get() {
        ensure!(!stop.is_cancelled(), "stopped");
        let run = run(settings)?;
        println!("round {round}: first prediction after {:.2} s", run.first_prediction_seconds);
        runs.push(run);
    }
    let first = Spread::of(runs.iter().map(|it| it.first_prediction_seconds)).context("there are rounds")?;
    Ok(Demos { first_prediction_seconds: first, goal: GOAL, reached: GOAL.is_reached(first.median), runs })
}

fn run(settings: &Settings) -> Result<Demo> {
    let summary = settings.dir.join("demo.json");
    let mut command = Command::new(&settings.program);
    command.args(["demo", "--plain", "--for", LENGTH, "--summary"]).arg(&summary);
    for port in ["--mqtt-port", "--kafka-port", "--registry-port", "--http-port"] {
        command.args([port, "0"]);
    }
    let output = command.stdin(Stdio::null()).output().context("running the demo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the demo ended badly, {}: {said}", output.status);
    let text = std::fs::read_to_string(&summary).with_context(|| format!("reading {}", summary.display()))?;
    demo(&serde_json::from_str(&text)?)
}

/// A run, from its summary.
fn demo(summary: &Value) -> Result<Demo> {
    let number =
        |value: &Value, name: &str| value[name].as_f64().with_context(|| format!("no {name}: {summary}"));
    let model = &summary["models"][0];
    Ok(Demo {
        first_prediction_seconds: number(summary, "first_prediction_seconds")?,
        rows: number(model, "rows")? as u64,
        training_seconds: number(model, "seconds")?,
        lost: number(summary, "lost")? as u64,
        duplicated: number(summary, "duplicated")? as u64,
        load: load(),
    })
}

impl fmt::Display for Demos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread { median, least, most, rounds } = self.first_prediction_seconds;
        let word = if self.reached { "reached" } else { "missed" };
        writeln!(
            f,
            "first prediction after {median:.2} s ({least:.2} to {most:.2}), {rounds} runs   {}: {word}",
            self.goal
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_from_its_summary() {
        let mut summary = serde_json::json!({
            "first_prediction_seconds": 4.5, "lost": 0, "duplicated": 0,
            "models": [{"rows": 3000, "seconds": 0.4}, {"rows": 9000, "seconds": 1.0}]
        });
        let found = demo(&summary).unwrap();
        assert_eq!((found.first_prediction_seconds, found.rows, found.training_seconds), (4.5, 3000, 0.4));
        // A demo without a prediction says null.
        summary["first_prediction_seconds"] = Value::Null;
        assert!(demo(&summary).unwrap_err().to_string().contains("no first_prediction_seconds"));
    }
}
