//! What becomes of the records that went back: waits until each has an outcome.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use telltale_kafka::{Isolation, KafkaConfig, Reader};
use telltale_records::dead_letter::REASON_HEADER;
use telltale_records::{Record, Source, topics};
use tokio_util::sync::CancellationToken;

use super::replay::replayed;
use super::{source_of, text};
use crate::commands::Error;

/// Pause before looking again.
const PAUSE: Duration = Duration::from_millis(100);

/// What became of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Went on to the next topic.
    pub passed: u64,
    /// Became dead letters again, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Have no outcome yet.
    pub open: u64,
}

/// Looks at what comes into topics from a point on.
pub struct Watch {
    reader: Reader,
    from: Next,
    sources: Vec<String>,
}

/// Next offset to look at, by topic and partition.
type Next = HashMap<(String, i32), i64>;

/// The topic where a record of `source` goes on to, as far as this program knows.
fn target(source: &str) -> Option<&'static str> {
    match source {
        topics::SENSOR_DATA => Some(topics::CLEAN),
        topics::CLEAN => Some(topics::PREDICTIONS),
        _ => None,
    }
}

impl Watch {
    /// Looks from now on at `sources`, at the topics they go on to, and at the dead letters.
    ///
    /// # Errors
    ///
    /// Returns an error when a topic is missing or Kafka cannot be asked.
    pub fn open<'a>(kafka: &KafkaConfig, sources: impl Iterator<Item = &'a str>) -> Result<Self, Error> {
        let reader = Reader::open(kafka, Isolation::Committed)?;
        let sources: Vec<String> = sources.filter(|it| target(it).is_some()).map(str::to_owned).collect();
        let mut next = HashMap::new();
        let targets = sources.iter().filter_map(|it| target(it));
        for topic in sources.iter().map(String::as_str).chain(targets).chain([topics::DEAD_LETTERS]) {
            for partition in reader.partitions(topic)? {
                let end = reader.watermarks(topic, partition)?.end;
                next.insert((topic.to_owned(), partition), end);
            }
        }
        Ok(Self { reader, from: next, sources })
    }

    /// Waits until each record that went back since has its outcome, at most for `patience`.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka cannot be read.
    pub fn wait(mut self, patience: Duration, stop: &CancellationToken) -> Result<Outcomes, Error> {
        let mut open: HashSet<Source> = HashSet::new();
        // A topic may be where records went back to, and where others go on to.
        let (mut sent, mut next) = (self.from.clone(), std::mem::take(&mut self.from));
        for topic in &self.sources {
            look(&mut self.reader, &mut sent, topic, stop, |record| {
                if replayed(record).is_some() {
                    open.insert(record.source());
                }
            })?;
        }
        let targets: Vec<&str> = self.sources.iter().filter_map(|it| target(it)).collect();
        let mut outcomes = Outcomes::default();
        let deadline = Instant::now() + patience;
        loop {
            for topic in &targets {
                look(&mut self.reader, &mut next, topic, stop, |record| {
                    outcomes.passed += u64::from(source_of(record).is_some_and(|it| open.remove(&it)));
                })?;
            }
            look(&mut self.reader, &mut next, topics::DEAD_LETTERS, stop, |record| {
                if source_of(record).is_some_and(|it| open.remove(&it)) {
                    let reason = text(record, REASON_HEADER).unwrap_or("?").to_owned();
                    *outcomes.failed.entry(reason).or_default() += 1;
                }
            })?;
            if open.is_empty() || Instant::now() >= deadline || stop.is_cancelled() {
                outcomes.open = open.len() as u64;
                return Ok(outcomes);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Hands what came into `topic` since the last look to `take`.
fn look(
    reader: &mut Reader,
    next: &mut Next,
    topic: &str,
    stop: &CancellationToken,
    mut take: impl FnMut(Record<'_>),
) -> Result<(), Error> {
    for ((_, partition), next) in next.iter_mut().filter(|((it, _), _)| it == topic) {
        let end = reader.watermarks(topic, *partition)?.end;
        if end > *next {
            *next = reader.read(topic, *partition, *next..end, stop, |batch| {
                batch.records().for_each(&mut take);
                ControlFlow::Continue(())
            })?;
        }
    }
    Ok(())
}
