//! The view as plain lines, for a pipe, a file or a log.

use super::numbers::{clock, figure, grouped, rate, whole_percent};
use super::screen::{ModelInForce, Screen, Verdict};

/// One line with the state of the stages, the model and the worst car.
#[must_use]
pub fn line(screen: &Screen) -> String {
    let mut text = format!("{:>6}  {:<10}", clock(screen.elapsed), screen.phase.word());
    for stage in &screen.stages {
        text.push_str(&format!("  {} {}", stage.stage, grouped(stage.records)));
        if let Some(lag) = stage.lag.filter(|it| *it as f64 > screen.cars as f64 * screen.rate) {
            text.push_str(&format!(" (lag {})", grouped(lag)));
        }
    }
    if let Some(stage) = screen.stages.last() {
        text.push_str(&format!("  {}/s", rate(stage.per_second)));
    }
    if let Some((p50, p99)) = screen.latency_ms {
        text.push_str(&format!("  p50 {p50} ms p99 {p99} ms"));
    }
    if let Some(model) = screen.model() {
        text.push_str(&format!("  model {}", model.version));
    }
    if let Some(worst) = screen.worst.first() {
        let truth = match &worst.verdict {
            Verdict::Right(mode) => format!("right, {mode}"),
            Verdict::Early(mode) => format!("right, {mode} just begun"),
            Verdict::Repaired(mode) => format!("{mode} just repaired"),
            Verdict::Wrong => "wrong, healthy".to_owned(),
        };
        let sensor = worst.sensors.first().map(|(name, share)| format!(" {name} {}", whole_percent(*share)));
        let sensor = sensor.unwrap_or_default();
        text.push_str(&format!("  worst {} {:.1}×{sensor} ({truth})", worst.car, worst.times_threshold));
    }
    text
}

/// The line for a model that came into force.
#[must_use]
pub fn swap(model: &ModelInForce) -> String {
    format!(
        "{:>6}  model {} in force: learnt from {} readings in {:.1} s, threshold {}, sha256 {}",
        clock(model.since),
        model.version,
        grouped(model.rows),
        model.training.as_secs_f64(),
        figure(model.threshold),
        model.sha256,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::screen::example;

    #[test]
    fn a_line_says_what_the_screen_shows() {
        let text = line(&example());
        let expected = "  0:42  scoring     cars 41,000  bridge 40,998  preprocessor 40,990  scorer 40,980  1,000/s  \
            p50 31 ms p99 74 ms  model 2  worst car-000123 12.1× TIRE_PRESSURE11 61 % (right, tyre-leak)";
        assert_eq!(text, expected);
        let expected = "  0:40  model 2 in force: learnt from 35,000 readings in 1.8 s, threshold 2.500, \
            sha256 0123456789abcdef";
        assert_eq!(swap(&example().models[0]), expected);
    }
}
