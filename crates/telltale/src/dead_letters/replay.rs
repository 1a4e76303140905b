//! Puts dead letters back to where they failed, each once.
//!
//! A record that goes back carries its dead letter's place in the header `src`. Before anything is sent the target is read
//! for such headers, so a dead letter that went back before stays where it is, whoever sent it back and however that
//! ended: steps are transactions under one transactional id, and a killed process leaves no half of one.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use telltale_kafka::topics::Topics;
use telltale_kafka::{Isolation, KafkaConfig, Reader, Transactional};
use telltale_records::source::{SOURCE_HEADER, TRACE_HEADER};
use telltale_records::{Destination, Outgoing, Record, Source, topics};
use tokio_util::sync::CancellationToken;

use super::filter::Filter;
use super::{PART_HEADER, TARGET_HEADER, each, source_of, text};
use crate::clock::now_ms;
use crate::commands::Error;

/// One process at a time puts dead letters back: another would not see what this one has in hand.
const TRANSACTIONAL_ID: &str = "telltale-dead-letters-replay";
/// Longest time to take the id over.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most records of one transaction, and their bytes.
const STEP_RECORDS: usize = 500;
const STEP_BYTES: usize = 4 << 20;
/// How late a stop is noticed while a rate is kept.
const NAP: Duration = Duration::from_millis(50);

/// What became of the dead letters that were asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sent back now.
    pub sent: u64,
    /// Went back before.
    pub before: u64,
    /// Older than their topic keeps.
    pub too_old: u64,
    /// Do not say where they failed, or are parts of something larger.
    pub homeless: u64,
}

/// Where records go back to.
#[derive(Debug, Default)]
struct Target {
    /// Earliest time stamp of a dead letter that goes there.
    earliest: Option<i64>,
    /// Partitions it has.
    partitions: Vec<i32>,
    /// Time stamps before it are deleted.
    kept_from: i64,
    /// Dead letters that went back before.
    replayed: HashSet<(i32, i64)>,
}

/// Sends dead letters back.
pub struct Replay<'a> {
    kafka: &'a KafkaConfig,
    filter: &'a Filter,
    stop: &'a CancellationToken,
    targets: BTreeMap<String, Target>,
    producer: Transactional,
}

/// The topic a dead letter goes back to, and the partition it came from.
fn home(record: Record<'_>) -> Option<(String, Option<i32>)> {
    if record.header(PART_HEADER).is_some() {
        return None;
    }
    match source_of(record) {
        Some(source) => Some((source.topic.to_string(), Some(source.partition))),
        None => Some((text(record, TARGET_HEADER)?.to_owned(), None)),
    }
}

impl<'a> Replay<'a> {
    /// Reads where the dead letters go back to, and what went back before.
    ///
    /// # Errors
    ///
    /// Returns an error when a topic is missing or Kafka cannot be used.
    pub fn open(
        kafka: &'a KafkaConfig,
        filter: &'a Filter,
        stop: &'a CancellationToken,
    ) -> Result<Self, Error> {
        // First, so that nobody else's step is under way while the targets are read.
        let producer = Transactional::open(kafka, TRANSACTIONAL_ID, PATIENCE, stop)?;
        let mut reader = Reader::open(kafka, Isolation::Committed)?;
        let mut targets: BTreeMap<String, Target> = BTreeMap::new();
        each(&mut reader, filter, stop, |record| {
            if let Some((topic, _)) = home(record) {
                let target = targets.entry(topic).or_default();
                let time = record.timestamp_ms().unwrap_or(0);
                target.earliest = Some(target.earliest.map_or(time, |it| it.min(time)));
            }
            Ok(())
        })?;
        let settings = Topics::open(kafka)?;
        for (topic, target) in &mut targets {
            target.partitions = reader.partitions(topic)?;
            let kept = settings.describe(topic)?.get("retention.ms").and_then(|it| it.parse().ok());
            target.kept_from = kept.filter(|it| *it > 0).map_or(i64::MIN, |kept: i64| now_ms() - kept);
            for &partition in &target.partitions {
                let there = reader.watermarks(topic, partition)?;
                // What went back has its dead letter's time stamp.
                let from = match target.earliest {
                    Some(time) if time > 0 => reader.offset_at(topic, partition, time)?.unwrap_or(there.end),
                    _ => there.start,
                };
                let range = from.clamp(there.start, there.end)..there.end;
                reader.read(topic, partition, range, stop, |batch| {
                    target.replayed.extend(batch.records().filter_map(replayed));
                    ControlFlow::Continue(())
                })?;
            }
        }
        Ok(Self { kafka, filter, stop, targets, producer })
    }

    /// Topics that dead letters go back to.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.targets.keys().map(String::as_str)
    }

    /// Sends what did not go back before, at most `rate` a second; where `dry` only counts it.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka refuses a step; those before it are in their topics, and calling again goes on.
    pub fn run(&mut self, rate: Option<f64>, dry: bool) -> Result<Counts, Error> {
        let mut reader = Reader::open(self.kafka, Isolation::Committed)?;
        let mut counts = Counts::default();
        let mut step = Outgoing::new();
        let mut bytes = 0;
        let started = Instant::now();
        let mut taken = 0_u64;
        let (filter, stop) = (self.filter, self.stop);
        let (targets, producer) = (&self.targets, &mut self.producer);
        each(&mut reader, filter, stop, |record| {
            let Some((topic, partition)) = home(record) else {
                counts.homeless += 1;
                return Ok(());
            };
            let place = record.source();
            let target =
                targets.get(&topic).filter(|it| !it.replayed.contains(&(place.partition, place.offset)));
            let Some(target) = target else {
                counts.before += 1;
                return Ok(());
            };
            if record.timestamp_ms().is_some_and(|it| it < target.kept_from) {
                counts.too_old += 1;
                return Ok(());
            }
            if dry {
                counts.sent += 1;
                return Ok(());
            }
            let due = rate.map(|rate| started + Duration::from_secs_f64(taken as f64 / rate));
            let early = due.is_some_and(|it| it > Instant::now() + NAP);
            if !step.is_empty() && (early || step.len() >= STEP_RECORDS || bytes >= STEP_BYTES) {
                publish(producer, &mut step, &mut counts, stop)?;
                bytes = 0;
            }
            wait(due, stop);
            if stop.is_cancelled() {
                return Ok(()); // the reading ends with its batch; what is left is counted nowhere
            }
            taken += 1;
            bytes += record.value().map_or(0, <[u8]>::len) + record.key().map_or(0, <[u8]>::len);
            let to = Destination {
                topic: step.topic(&topic),
                partition: partition.filter(|it| target.partitions.contains(it)),
                timestamp_ms: record.timestamp_ms(),
            };
            let trace = record.header(TRACE_HEADER).map(|it| (TRACE_HEADER, it));
            let headers: Vec<(&str, &[u8])> = trace.into_iter().collect();
            step.push(to, record.key(), record.value(), Some(&place), &headers);
            Ok(())
        })?;
        publish(producer, &mut step, &mut counts, stop)?;
        Ok(counts)
    }
}

/// The dead letter that a record of another topic was, if it was one.
pub(super) fn replayed(record: Record<'_>) -> Option<(i32, i64)> {
    let header = record.header(SOURCE_HEADER)?;
    let source: Source = std::str::from_utf8(header).ok()?.parse().ok()?;
    (&*source.topic == topics::DEAD_LETTERS).then_some((source.partition, source.offset))
}

fn publish(
    producer: &mut Transactional,
    step: &mut Outgoing,
    counts: &mut Counts,
    stop: &CancellationToken,
) -> Result<(), Error> {
    if !step.is_empty() {
        producer
            .publish_together(step, stop)
            .map_err(|source| Error::Replay { sent: counts.sent, source })?;
        counts.sent += step.len() as u64;
        step.clear();
    }
    Ok(())
}

fn wait(due: Option<Instant>, stop: &CancellationToken) {
    while let Some(left) = due.and_then(|it| it.checked_duration_since(Instant::now())) {
        if stop.is_cancelled() {
            return;
        }
        std::thread::sleep(left.min(NAP));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_records::Batch;

    #[test]
    fn a_dead_letter_goes_back_to_where_it_failed() {
        let mut batch = Batch::new(topics::DEAD_LETTERS.into(), 0);
        batch.push(0, None, None, None, [("src", Some(&b"sensor-data-2-7"[..]))]);
        batch.push(1, None, None, None, [("target", Some(&b"sensor-data"[..]))]);
        batch.push(2, None, None, None, [("target", Some(&b"sensor-data"[..])), ("part", Some(&b"1/3"[..]))]);
        batch.push(3, None, None, None, [("src", Some(&b"nonsense"[..]))]);
        let homes: Vec<_> = batch.records().map(home).collect();
        let topic = || "sensor-data".to_owned();
        assert_eq!(homes, [Some((topic(), Some(2))), Some((topic(), None)), None, None]);
    }

    #[test]
    fn only_what_was_a_dead_letter_went_back() {
        let mut batch = Batch::new(topics::SENSOR_DATA.into(), 0);
        batch.push(0, None, None, None, [("src", Some(&b"dead-letters-0-7"[..]))]);
        batch.push(1, None, None, None, [("src", Some(&b"sensor-data-0-7"[..]))]);
        batch.push(2, None, None, None, []);
        assert_eq!(batch.records().map(replayed).collect::<Vec<_>>(), [Some((0, 7)), None, None]);
    }
}
