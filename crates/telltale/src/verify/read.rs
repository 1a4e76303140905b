//! Reads the topics back once, up to where they end, and says what was found.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::time::Duration;

use telltale_kafka::{Isolation, KafkaConfig, Reader, RegistryConfig};
use telltale_records::prediction::{Prediction, Verdict};
use telltale_records::{Record, topics};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::checker::{Checker, NAMES, PREDICTIONS, RAW, TABLE};
use super::checks::Checks;
use super::recompute::Recomputed;
use super::report::{Report, Violation};
pub use super::tail::Ends;
use super::tail::{Start, Tail};
use crate::evaluate::{Evaluation, Truth};
use crate::simulator_files::Ledgers;
use crate::truth_records;

/// Time between two looks at transactions that are open.
const PAUSE: Duration = Duration::from_millis(100);
/// Looks at them, at most: those of the services end within a second, those of a process that was killed only when Kafka ends them.
const LOOKS: usize = 100;

/// What to check, and where.
#[derive(Debug)]
pub struct Check<'a> {
    /// How to reach Kafka.
    pub kafka: &'a KafkaConfig,
    /// How to reach the registry: what readings were written with, to recompute predictions.
    pub registry: &'a RegistryConfig,
    /// What is checked, and how strictly.
    pub checks: &'a Checks,
    /// Whether nothing is on its way any more, so that every record must have its outcome.
    pub drained: bool,
    /// What the cars hold a PUBACK for, where their ledgers are at hand.
    pub ledgers: Option<Ledgers>,
    /// Where the run to be counted and judged begins; what lies before is only proved.
    pub since: Option<&'a Ends>,
    /// Whether what lies before is not even proved: on engines that others use, or have used.
    pub only_since: bool,
    /// Ends the reading early.
    pub stop: &'a CancellationToken,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The balance with its faults.
    pub report: Report,
    /// Records in the raw topic.
    pub raw: u64,
    /// Records in the clean topic.
    pub clean: u64,
    /// Predictions.
    pub predictions: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Different windows in the table of counts.
    pub windows: u64,
    /// Acknowledged readings of drained runs, and those of them that are not in the raw topic.
    pub acknowledged: Option<(u64, u64)>,
    /// The same of runs that were killed: the broker kept the last ones in memory.
    pub killed: Option<(u64, u64)>,
    /// The predictions against the truth.
    pub evaluation: Evaluation,
    /// Records of the raw topic that came again, where that was looked at.
    pub replayed: Option<u64>,
    /// Whether the counts per window were held against a recount.
    pub recounted: bool,
    /// How many predictions were recomputed.
    pub recomputed: Recomputed,
    /// Whether transactions stayed open: what is behind them was not looked at.
    pub open: bool,
}

impl Found {
    /// Acknowledged readings and records that should be somewhere and are not.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.report.lost() + self.acknowledged.map_or(0, |(_, missing)| missing)
    }
}

/// Where the topics end now.
///
/// # Errors
///
/// Returns an error when a topic is missing or Kafka cannot be asked.
pub fn ends(kafka: &KafkaConfig) -> Result<Ends, telltale_kafka::Error> {
    let reader = Reader::open(kafka, Isolation::Committed)?;
    let mut ends = Ends::new();
    for topic in NAMES {
        for partition in reader.partitions(topic)? {
            ends.insert((topic, partition), reader.watermarks(topic, partition)?.end);
        }
    }
    Ok(ends)
}

impl Check<'_> {
    /// Reads everything back.
    ///
    /// # Errors
    ///
    /// Returns an error when a topic is missing or Kafka or the registry cannot be asked.
    pub fn run(mut self) -> Result<Found, Error> {
        let mut checker = Checker::open(self.checks, self.kafka, self.registry, self.stop)?;
        let start = self.since.filter(|_| self.only_since).map_or(Start::Beginning, Start::At);
        let mut tail = Tail::open(self.checks, self.kafka, start, &mut checker, self.stop)?;
        let mut truth = self.truth()?;
        let mut ledgers = self.ledgers.take();
        let mut counts = [0_u64; NAMES.len()];
        let mut windows = HashSet::new();
        let since = self.since;
        let mut seen = |topic: usize, record: Record<'_>, prediction: Option<&Prediction<'_>>| {
            let base = since.and_then(|it| it.get(&(NAMES[topic], record.partition()))).copied();
            let judged = base.is_none_or(|it| record.offset() >= it);
            counts[topic] += u64::from(judged);
            match (topic, prediction) {
                (RAW, _) => {
                    if let Some(ledgers) = &mut ledgers {
                        ledgers.drained.found(record);
                        ledgers.killed.found(record);
                    }
                }
                (PREDICTIONS, Some(found)) if judged => {
                    let alarm = found.verdict == Verdict::Anomaly;
                    truth.prediction(found.car, found.event_time, found.score as f32, alarm);
                }
                (TABLE, _) if record.value().is_some() => {
                    let mut hasher = DefaultHasher::new();
                    record.key().hash(&mut hasher);
                    windows.insert(hasher.finish());
                }
                _ => {}
            }
        };
        // The second moment finds the table to hold what was counted up to the first.
        let (mut moments, mut looks) = (2, LOOKS);
        while moments > 0 && looks > 0 && !self.stop.is_cancelled() {
            if tail.round(&mut checker, &mut seen)?.settled {
                moments -= 1;
            } else {
                looks -= 1;
                std::thread::sleep(PAUSE);
            }
        }
        checker.recompute()?;
        if self.drained {
            checker.quiet(tail.last_committed());
        }
        let [raw, clean, predictions, dead_letters, _] = counts;
        if let Some(ledgers) = &ledgers {
            for at in ledgers.drained.altered().1 {
                checker.add(Violation::Altered { at: at.clone() });
            }
        }
        let (drained, killed) = ledgers.map(|it| (it.drained.finish(), it.killed.finish())).unzip();
        if let Some((_, count)) = drained.filter(|(_, missing)| *missing > 0) {
            checker.add(Violation::AcknowledgedMissing { what: "the cars' ledgers".to_owned(), count });
        }
        Ok(Found {
            raw,
            clean,
            predictions,
            dead_letters,
            windows: windows.len() as u64,
            acknowledged: drained,
            killed: killed.filter(|(acknowledged, _)| *acknowledged > 0),
            evaluation: truth.evaluate(),
            replayed: checker.replayed(),
            recounted: checker.recounts(),
            recomputed: checker.recomputed(),
            open: moments > 0,
            report: checker.finish(self.drained),
        })
    }

    /// What the simulator did to which car, where it told.
    fn truth(&self) -> Result<Truth, telltale_kafka::Error> {
        let mut truth = Truth::default();
        let mut reader = Reader::open(self.kafka, Isolation::Committed)?;
        for partition in reader.partitions(topics::TRUTH)? {
            let range = reader.watermarks(topics::TRUTH, partition)?;
            reader.read(topics::TRUTH, partition, range, self.stop, |batch| {
                batch.records().filter_map(truth_records::episode).for_each(|it| truth.add(it));
                ControlFlow::Continue(())
            })?;
        }
        Ok(truth)
    }
}
