//! The balance at the end of a demo, as text.

use std::fmt::Write as _;
use std::time::Duration;

use super::numbers::{clock, figure, grouped, percent};
use crate::summary::Summary;
use crate::verify::report::Report;

/// The balance as lines for a person.
#[must_use]
pub fn text(summary: &Summary, report: &Report) -> String {
    let mut text = String::new();
    let duration = clock(Duration::from_secs_f64(summary.seconds.max(0.0)));
    let cars = grouped(summary.cars);
    line(
        &mut text,
        format!(
            "\nBalance of {duration} with {cars} cars, {} readings a second each, seed {}\n",
            summary.rate, summary.seed
        ),
    );
    let counts = [
        ("published by the cars", summary.published, ""),
        ("acknowledged to them", summary.acknowledged, ""),
        ("in sensor-data", summary.raw, ""),
        ("in SENSOR_DATA_S_AVRO", summary.clean, ""),
        ("predictions", summary.predictions, ""),
        ("dead letters", summary.dead_letters, ""),
        ("windows counted", summary.windows, ""),
        ("of them recomputed", summary.recomputed, ""),
        ("lost", summary.lost, if summary.lost == 0 { "✔" } else { "✘" }),
        ("duplicated", summary.duplicated, if summary.duplicated == 0 { "✔" } else { "✘" }),
    ];
    for (name, count, mark) in counts {
        line(&mut text, format!("  {name:<24} {:>14} {mark}", grouped(count)).trim_end().to_owned());
    }
    line(&mut text, String::new());
    models(&mut text, summary);
    quality(&mut text, summary);
    if let (Some(cpu), Some(memory)) = (summary.cpu_seconds, summary.peak_rss_mb) {
        line(&mut text, format!("  used {cpu:.1} s of processor time and {memory:.0} MB of memory at most"));
    }
    text.push_str(&violations(report));
    text
}

/// The faults found, one line each; empty without faults.
#[must_use]
pub fn violations(report: &Report) -> String {
    let mut text = String::new();
    if report.faults == 0 {
        return text;
    }
    line(&mut text, format!("\n{} violations", grouped(report.faults)));
    for violation in &report.violations {
        line(&mut text, format!("  {violation}"));
    }
    let more = report.faults - report.violations.len() as u64;
    if more > 0 {
        line(&mut text, format!("  … and {} more", grouped(more)));
    }
    text
}

fn models(text: &mut String, summary: &Summary) {
    match summary.first_prediction_seconds {
        Some(seconds) => {
            let latency = match (summary.latency_ms.p50, summary.latency_ms.p99) {
                (Some(p50), Some(p99)) => {
                    format!("; from publish to committed prediction p50 {p50} ms, p99 {p99} ms")
                }
                _ => String::new(),
            };
            line(text, format!("  first prediction after {seconds:.1} s{latency}"));
        }
        None => line(text, "  no prediction: the run ended before the first model was in force".to_owned()),
    }
    for model in &summary.models {
        line(
            text,
            format!(
                "  model {}: learnt from {} readings in {:.1} s, threshold {}, sha256 {}",
                model.version,
                grouped(model.rows),
                model.seconds,
                figure(model.threshold),
                model.sha256.get(..16).unwrap_or(&model.sha256),
            ),
        );
    }
}

fn quality(text: &mut String, summary: &Summary) {
    if let Some(auc) = summary.auc {
        line(text, format!("  AUC {auc:.4} against the truth"));
    }
    if let Some(rate) = summary.false_alarm_rate {
        line(text, format!("  false alarms: {} of the readings of healthy cars", percent(rate)));
    }
    if !summary.modes.is_empty() {
        line(text, format!("\n  {:<22} {:>8} {:>8} {:>16}", "failure", "episodes", "found", "median delay"));
    }
    for mode in &summary.modes {
        let delay = mode.median_delay_seconds.map_or_else(|| "–".to_owned(), |it| format!("{it:.1} s"));
        line(text, format!("  {:<22} {:>8} {:>8} {delay:>16}", mode.mode, mode.episodes, mode.found));
    }
}

fn line(text: &mut String, line: String) {
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::ModeFound;
    use crate::summary::{LatencyMs, ModelLine};
    use crate::verify::report::Violation;

    #[test]
    fn a_clean_balance_reads_as_one() {
        let summary = Summary {
            cars: 1000,
            rate: 1.0,
            seed: 7,
            seconds: 60.2,
            published: 59_000,
            first_prediction_seconds: Some(8.13),
            latency_ms: LatencyMs { p50: Some(20), p99: Some(75) },
            models: vec![ModelLine {
                version: 1,
                sha256: "ab".repeat(32),
                rows: 7000,
                seconds: 1.5,
                threshold: 2.0,
            }],
            auc: Some(0.9951),
            false_alarm_rate: Some(0.001),
            modes: vec![ModeFound {
                mode: "tyre-leak".into(),
                episodes: 5,
                found: 5,
                median_delay_seconds: Some(7.25),
            }],
            cpu_seconds: Some(30.0),
            peak_rss_mb: Some(400.0),
            ..Summary::default()
        };
        let text = text(&summary, &Report::default());
        for part in [
            "Balance of 1:00 with 1,000 cars, 1 readings a second each, seed 7",
            "published by the cars            59,000\n",
            "lost                                  0 ✔\n",
            "first prediction after 8.1 s; from publish to committed prediction p50 20 ms, p99 75 ms",
            "model 1: learnt from 7,000 readings in 1.5 s, threshold 2.000, sha256 abababababababab",
            "AUC 0.9951",
            "false alarms: 0.10 %",
            "tyre-leak                     5        5            7.2 s",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("violations"));
    }

    #[test]
    fn faults_are_listed_and_the_rest_is_counted() {
        let mut report = Report::default();
        (0..60).for_each(|it| report.add(Violation::Lost { source: "raw-0".into(), from: it, to: it }));
        let text = violations(&report);
        assert!(text.starts_with("\n60 violations\n  lost: raw-0-0 has no outcome\n"), "{text}");
        assert!(text.ends_with("  … and 10 more\n"), "{text}");
    }
}
