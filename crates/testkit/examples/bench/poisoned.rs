//! What messages that nobody can use cost the readings beside them: the whole pipeline with and without poison, in turns.
//!
//! ```text
//! load ───▶ MQTT broker ─▶ bridge ─▶ preprocessor ─▶ scorer ─▶ follower: times of the readings
//! poison ─▶     │                        └─▶ dead letters: each poison with its bytes and its reason
//! ```
//!
//! Poison comes once a second, all of that second at once, on top of the readings: harder than if it were spread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use telltale_testkit::soak::poison::Poison;
use tokio::runtime::Runtime;

use crate::figures::{Latency, Spread};
use crate::latency::{Pipeline, WARM_UP};
use crate::machine::load;
use crate::place::Place;

/// Below it devices publish, and the poison with them.
const DEVICES: &str = "vehicles/sensor/data";
/// Readings a second where none are asked for.
const RATE: f64 = 500.0;
/// Longest wait for the dead letters.
const PATIENCE: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(20);

/// What the rounds say.
#[derive(Debug, Serialize)]
struct Report {
    /// Readings a second.
    rate: f64,
    /// Poison, in percent of the readings.
    percent: f64,
    /// Poison that was published, each found as a dead letter.
    poison: u64,
    /// Readings alone, round by round.
    clean: Vec<Latency>,
    /// Readings with poison beside them, round by round.
    poisoned: Vec<Latency>,
    /// Poisoned by clean, of the medians of the rounds' quantiles.
    p50: f64,
    p99: f64,
    /// The same, round by round: how much of it is chance.
    p99_by_round: Spread,
    /// The machine's load average before and after.
    load: [f64; 2],
}

/// Measures rounds without and with poison in turns, prints them and writes `poison.json`.
pub(crate) fn measure(place: &mut Place, percent: f64) -> Result<()> {
    let before = load();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut pipeline = Pipeline::start(place, DEVICES)?;
    let mut poison = Poison::new(place.mqtt, &place.registry);
    pipeline.send(place, WARM_UP.0, Some(WARM_UP.1))?;
    let rate = place.settings.rate.unwrap_or(RATE);
    let messages = (rate * place.settings.latency as f64) as u64;
    let (mut clean, mut poisoned) = (Vec::new(), Vec::new());
    for round in 1..=place.settings.rounds.get() {
        for with_poison in [round % 2 == 0, round % 2 != 0] {
            let (what, found) = if with_poison {
                let second = (rate * percent / 100.0).round().max(1.0) as u16;
                let send = || pipeline.send(place, messages, Some(rate));
                ("with poison", beside(&runtime, &mut poison, second, send)?)
            } else {
                ("alone", pipeline.send(place, messages, Some(rate))?)
            };
            println!("round {round}: readings {what}: p50 {} ms, p99 {} ms", found.p50, found.p99);
            if with_poison { &mut poisoned } else { &mut clean }.push(found);
        }
    }
    let poison = dead(place, &poison)?;
    pipeline.end(place)?;
    let report = Report {
        rate,
        percent,
        poison,
        p50: ratio(&clean, &poisoned, |it| it.p50)?,
        p99: ratio(&clean, &poisoned, |it| it.p99)?,
        p99_by_round: Spread::of(
            clean.iter().zip(&poisoned).map(|(clean, other)| other.p99 as f64 / clean.p99.max(1) as f64),
        )
        .context("there are rounds")?,
        clean,
        poisoned,
        load: [before, load()],
    };
    let path = place.settings.dir.join("poison.json");
    std::fs::write(&path, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("writing {}", path.display()))?;
    println!("\n{report}\nwritten to {}", path.display());
    Ok(())
}

/// Publishes so much poison each second for as long as `work` takes.
fn beside<T>(runtime: &Runtime, poison: &mut Poison, second: u16, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut due = Instant::now();
            while !done.load(Ordering::Acquire) {
                if due <= Instant::now() {
                    poison.publish(runtime, second);
                    due += Duration::from_secs(1);
                }
                std::thread::sleep(MOMENT);
            }
        });
        let outcome = work();
        done.store(true, Ordering::Release);
        outcome
    })
}

/// Waits until each poison is a dead letter, with its bytes and its reason; returns how many there are.
fn dead(place: &Place, poison: &Poison) -> Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (published, missing) = poison.check(&place.kafka);
        if missing.is_empty() {
            return Ok(published);
        }
        ensure!(Instant::now() < deadline, "of {published} poison messages: {}", missing.join("; "));
        std::thread::sleep(10 * MOMENT);
    }
}

/// The median quantile of `others` by that of `ours`.
fn ratio(ours: &[Latency], others: &[Latency], quantile: impl Fn(&Latency) -> i64) -> Result<f64> {
    let median = |rounds: &[Latency]| Spread::of(rounds.iter().map(|it| quantile(it) as f64));
    let (ours, others) = median(ours).zip(median(others)).context("there are rounds")?;
    Ok(others.median / ours.median.max(1.0)) // a time below a millisecond is none
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rate, percent, poison, p99_by_round: rounds, .. } = self;
        writeln!(
            f,
            "{rate:.0} readings a second, {percent} % poison: {poison} messages, each a dead letter with its reason"
        )?;
        for (name, of) in [("alone", &self.clean), ("with poison", &self.poisoned)] {
            let list = |quantile: fn(&Latency) -> i64| {
                of.iter().map(|it| quantile(it).to_string()).collect::<Vec<_>>().join(" ")
            };
            writeln!(f, "{name:<11} p50 {} ms, p99 {} ms", list(|it| it.p50), list(|it| it.p99))?;
        }
        writeln!(f, "p50 × {:.3}, p99 × {:.3} (medians; the goal is less than 1.1)", self.p50, self.p99)?;
        write!(
            f,
            "p99 by round × {:.2} to {:.2}; load {:.1} before, {:.1} after",
            rounds.least, rounds.most, self.load[0], self.load[1]
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(p99: &[i64]) -> Vec<Latency> {
        p99.iter().map(|&p99| Latency { readings: 1, p50: 1, p99, p999: p99, most: p99 }).collect()
    }

    #[test]
    fn the_ratio_is_of_medians_so_that_one_bad_round_says_nothing() {
        let of = |ours: &[i64], others: &[i64]| ratio(&rounds(ours), &rounds(others), |it| it.p99).unwrap();
        assert_eq!(of(&[10, 10, 10], &[11, 900, 10]), 1.1);
        assert_eq!(of(&[0], &[3]), 3.0);
        assert!(ratio(&[], &[], |it| it.p99).is_err());
    }
}
