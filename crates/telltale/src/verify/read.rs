//! Reads the topics back and fills the balance and the evaluation.
//!
//! ```text
//! t0  where the groups are, where raw and clean topic end: what must have an outcome
//! t1  where the target topics end, which is later: every outcome of it can be seen
//!     fleet-truth ─▶ episodes; raw, clean, predictions, dead letters ─▶ balance; predictions ─▶ evaluation
//! ```

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::{ControlFlow, Range};

use telltale_kafka::{Group, Isolation, KafkaConfig, Reader};
use telltale_records::prediction::{Prediction, Verdict};
use telltale_records::source::SOURCE_HEADER;
use telltale_records::{Record, Source, framing, topics};
use tokio_util::sync::CancellationToken;

use super::balance::{Balance, Place, Report, Violation};
use super::sequence::Sequences;
use super::windows::Windows;
use crate::commands::models::Known;
use crate::demo::{PREPROCESSOR_GROUP, SCORER_GROUP};
use crate::evaluate::{Evaluation, Truth};
use crate::simulator_files::Ledgers;
use crate::truth_records;

/// Topics by their index in the balance.
const RAW: usize = 0;
const CLEAN: usize = 1;
const PREDICTIONS: usize = 2;
const DEAD_LETTERS: usize = 3;

/// Which groups read which source, so that what they committed can be held to have an outcome.
const READERS: [(usize, &str); 2] = [(RAW, PREPROCESSOR_GROUP), (CLEAN, SCORER_GROUP)];

/// What to check, and where.
#[derive(Debug)]
pub struct Check<'a> {
    /// How to reach Kafka.
    pub kafka: &'a KafkaConfig,
    /// Whether nothing is on its way any more, so that every record must have its outcome.
    pub drained: bool,
    /// What the cars hold a PUBACK for, where their ledgers are at hand.
    pub ledgers: Option<Ledgers>,
    /// Where the run to be counted and judged begins; what lies before is only proved.
    pub since: Option<&'a Ends>,
    /// Whether what lies before is not even proved: on engines that others use, or have used.
    pub only_since: bool,
    /// What else the contract says, where that is to be checked too.
    pub thorough: Option<Thorough>,
    /// Ends the reading early.
    pub stop: &'a CancellationToken,
}

/// What is checked besides outcomes, acknowledgements and versions.
#[derive(Debug, Clone, Copy)]
pub struct Thorough {
    /// Whether devices may be out of order: where the bridge shares its subscription.
    pub any_order: bool,
    /// How long the preprocessor keeps windows open after their end, in ms.
    pub grace_ms: i64,
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
}

impl Found {
    /// Acknowledged readings and records that should be somewhere and are not.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.report.lost() + self.acknowledged.map_or(0, |(_, missing)| missing)
    }
}

type Parts = Vec<(i32, Range<i64>)>;

/// Offsets behind the last record of each partition, by topic and partition.
pub type Ends = BTreeMap<(&'static str, i32), i64>;

/// The topics that are read back, by their index in the balance.
const NAMES: [&str; 4] = [topics::SENSOR_DATA, topics::CLEAN, topics::PREDICTIONS, topics::DEAD_LETTERS];

/// Where the topics end now.
///
/// # Errors
///
/// Returns an error when a topic is missing or Kafka cannot be asked.
pub fn ends(kafka: &KafkaConfig) -> Result<Ends, telltale_kafka::Error> {
    let reader = Reader::open(kafka, Isolation::Committed)?;
    let mut ends = Ends::new();
    for topic in NAMES {
        ends.extend(
            parts(&reader, topic, None)?
                .into_iter()
                .map(|(partition, range)| ((topic, partition), range.end)),
        );
    }
    Ok(ends)
}

impl Check<'_> {
    /// Reads everything back.
    ///
    /// # Errors
    ///
    /// Returns an error when a topic is missing or Kafka cannot be read.
    pub fn run(mut self) -> Result<Found, telltale_kafka::Error> {
        let mut reader = Reader::open(self.kafka, Isolation::Committed)?;
        let from = self.since.filter(|_| self.only_since);
        let mut balance = Balance::new(NAMES.iter().map(|&it| it.to_owned()).collect());
        for (topic, group) in READERS {
            let committed = Group::open(self.kafka, group)?.committed(NAMES[topic])?;
            for (partition, range) in parts(&reader, NAMES[topic], from)? {
                balance.source(Place { topic, partition }, range, committed.get(&partition).copied());
            }
        }
        let known = Known::read(self.kafka, self.stop)?;
        let mut truth = Truth::default();
        read(&mut reader, topics::TRUTH, from, self.stop, |record| {
            if let Some(episode) = truth_records::episode(record) {
                truth.add(episode);
            }
        })?;
        let mut ledgers = self.ledgers.take();
        let mut counts = [0_u64; NAMES.len()];
        let (mut sequences, mut wrong) = (Sequences::default(), Vec::new());
        let thorough = self.thorough;
        let mut recount = thorough.map(|it| Windows::new(it.grace_ms));
        let since = self.since;
        let mut count = |topic: usize, (place, offset): (Place, i64)| {
            let base = since.and_then(|it| it.get(&(NAMES[topic], place.partition))).copied();
            let counts_here = base.is_none_or(|it| offset >= it);
            counts[topic] += u64::from(counts_here);
            counts_here
        };
        read(&mut reader, NAMES[RAW], from, self.stop, |record| {
            let at = place(RAW, record);
            count(RAW, at);
            balance.present(at.0, at.1);
            if thorough.is_some_and(|it| !it.any_order)
                && let Some(fault) = sequences.take(record)
            {
                wrong.push(Violation::Sequence { at: record.source().to_string(), fault });
            }
            if let Some(ledgers) = &mut ledgers {
                ledgers.drained.found(record);
                ledgers.killed.found(record);
            }
        })?;
        for (partition, range) in parts(&reader, NAMES[CLEAN], from)? {
            if let Some(recount) = recount.as_mut().filter(|_| range.start > 0) {
                recount.leave_out(partition);
            }
        }
        read(&mut reader, NAMES[CLEAN], from, self.stop, |record| {
            if let Some(recount) = &mut recount {
                recount.reading(record);
            }
            let at = place(CLEAN, record);
            count(CLEAN, at);
            balance.present(at.0, at.1);
            outcome(&mut balance, record, at);
        })?;
        read(&mut reader, NAMES[PREDICTIONS], from, self.stop, |record| {
            let at = place(PREDICTIONS, record);
            let judged = count(PREDICTIONS, at);
            outcome(&mut balance, record, at);
            predicted(&mut balance, judged.then_some(&mut truth), &known, record, at);
        })?;
        read(&mut reader, NAMES[DEAD_LETTERS], from, self.stop, |record| {
            let at = place(DEAD_LETTERS, record);
            count(DEAD_LETTERS, at);
            outcome_if_any(&mut balance, record, at);
        })?;
        let [raw, clean, predictions, dead_letters] = counts;
        let mut windows = HashSet::new();
        read(&mut reader, topics::EVENTS_PER_5MIN, from, self.stop, |record| {
            let mut hasher = DefaultHasher::new();
            record.key().hash(&mut hasher);
            if record.value().is_some() {
                windows.insert(hasher.finish());
            }
            if let Some(recount) = &mut recount {
                recount.row(record);
            }
        })?;
        let mut report = balance.finish(self.drained);
        for (_, shown) in ledgers.iter().map(|it| it.drained.altered()) {
            wrong.extend(shown.iter().map(|it| Violation::Altered { at: it.clone() }));
        }
        let recounted = recount.as_ref().is_some_and(|it| it.unreadable() == 0);
        let miscounts = recount.map(|it| it.finish(self.drained)).unwrap_or_default();
        wrong.extend(miscounts.into_iter().map(Violation::Miscounted));
        wrong.into_iter().for_each(|it| report.add(it));
        let (drained, killed) = ledgers.map(|it| (it.drained.finish(), it.killed.finish())).unzip();
        if let Some((_, missing)) = drained.filter(|(_, missing)| *missing > 0) {
            report
                .add(Violation::AcknowledgedMissing { what: "the cars' ledgers".to_owned(), count: missing });
        }
        Ok(Found {
            report,
            raw,
            clean,
            predictions,
            dead_letters,
            windows: windows.len() as u64,
            acknowledged: drained,
            killed: killed.filter(|(acknowledged, _)| *acknowledged > 0),
            evaluation: truth.evaluate(),
            replayed: thorough.filter(|it| !it.any_order).map(|_| sequences.replayed()),
            recounted,
        })
    }
}

/// The records of `topic`, or those behind the ends `from`.
fn parts(reader: &Reader, topic: &'static str, from: Option<&Ends>) -> Result<Parts, telltale_kafka::Error> {
    let partitions = reader.partitions(topic)?.into_iter();
    let part = |partition| {
        let there = reader.watermarks(topic, partition)?;
        let first = from.and_then(|it| it.get(&(topic, partition))).copied().unwrap_or(there.start);
        Ok((partition, first.clamp(there.start, there.end)..there.end))
    };
    partitions.map(part).collect()
}

/// Hands the records of `topic`, or those behind the ends `from`, to `take`.
fn read(
    reader: &mut Reader,
    topic: &'static str,
    from: Option<&Ends>,
    stop: &CancellationToken,
    mut take: impl FnMut(Record<'_>),
) -> Result<(), telltale_kafka::Error> {
    for (partition, range) in parts(reader, topic, from)? {
        reader.read(topic, partition, range, stop, |batch| {
            batch.records().for_each(&mut take);
            ControlFlow::Continue(())
        })?;
    }
    Ok(())
}

fn place(topic: usize, record: Record<'_>) -> (Place, i64) {
    (Place { topic, partition: record.source().partition }, record.offset())
}

/// Takes in the outcome that `record` is; it must say of what.
fn outcome(balance: &mut Balance, record: Record<'_>, at: (Place, i64)) {
    match source(record) {
        Ok(source) => answer(balance, &source, at),
        Err(found) => balance.no_source(at, found),
    }
}

/// Takes in the outcome that a dead letter is; the bridge's have no source, for MQTT has no offsets.
fn outcome_if_any(balance: &mut Balance, record: Record<'_>, at: (Place, i64)) {
    if record.header(SOURCE_HEADER).is_some() {
        outcome(balance, record, at);
    }
}

fn answer(balance: &mut Balance, source: &Source, at: (Place, i64)) {
    if let Some(topic) = balance.topic(&source.topic) {
        balance.outcome(Place { topic, partition: source.partition }, source.offset, at);
    }
}

fn source(record: Record<'_>) -> Result<Source, String> {
    let header = record.header(SOURCE_HEADER).ok_or("has no header src")?;
    let text = std::str::from_utf8(header).map_err(|_| "has a header src that is not text")?;
    text.parse().map_err(|error: telltale_records::source::SourceError| {
        format!("has a header that is wrong: {error}")
    })
}

/// Takes in the prediction that `record` is; `truth` only if it is to be judged.
fn predicted(
    balance: &mut Balance,
    truth: Option<&mut Truth>,
    known: &Known,
    record: Record<'_>,
    at: (Place, i64),
) {
    let found = record.value().and_then(framing::split).map(|(_, payload)| Prediction::read(payload));
    match found {
        Some(Ok(found)) => {
            balance.version(at, found.model_version, |from, to| known.rolled_back(from, to));
            if let Some(truth) = truth {
                let alarm = found.verdict == Verdict::Anomaly;
                truth.prediction(found.car, found.event_time, found.score as f32, alarm);
            }
        }
        Some(Err((_, problem))) => balance.no_source(at, format!("is not a prediction: {problem}")),
        None => balance.no_source(at, "is not framed Avro".to_owned()),
    }
}
