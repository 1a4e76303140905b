//! Follows the topics while the demo runs, and asks how far each stage has come.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use telltale_kafka::reader::{Followed, Start};
use telltale_kafka::{Error, Group, Isolation, KafkaConfig, Reader};
use telltale_records::{Record, topics};
use telltale_service::Service;
use tokio_util::sync::CancellationToken;

use super::seen::Seen;
use super::{PREPROCESSOR_GROUP, SCORER_GROUP};
use crate::clock::now_ms;

/// What was seen, shared between the threads that follow and the one that shows.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
}

impl Watch {
    /// Begins to follow truth, models and predictions on threads of `service`, until its shutdown.
    ///
    /// Predictions of an earlier run are passed over, models and truth are taken in.
    #[must_use]
    pub fn begin(kafka: &KafkaConfig, service: &Service, started: Instant) -> Self {
        let watch = Self::default();
        let follow = |topic: &'static str, start, take: fn(&mut Seen, Record<'_>, Instant)| {
            let (kafka, seen, stop) = (kafka.clone(), watch.clone(), service.shutdown().token());
            let work = move || -> Result<(), Error> {
                Reader::open(&kafka, Isolation::Committed)?.follow(topic, start, &stop, |followed| {
                    if let Followed::Record(record) = followed {
                        take(&mut seen.seen(), record, started);
                    }
                    ControlFlow::Continue(())
                })
            };
            service.thread(topic, work)
        };
        follow(topics::TRUTH, Start::Beginning, |seen, record, _| seen.truth(record));
        follow(topics::MODELS, Start::Beginning, |seen, record, _| seen.model(record));
        follow(topics::PREDICTIONS, Start::End, |seen, record, started| {
            seen.prediction(record, now_ms(), started.elapsed());
        });
        watch
    }

    /// What was seen so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Offsets that say how far the stages have come, summed over the partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offsets {
    /// End of the raw topic.
    pub raw_end: u64,
    /// Raw records whose outcome is committed.
    pub raw_done: u64,
    /// Clean records without outcome; up to one a partition too many, since a commit marker takes an offset.
    pub clean_lag: u64,
}

/// Asks for the offsets.
#[derive(Debug)]
pub struct Progress {
    reader: Reader,
    preprocessor: Group,
    scorer: Group,
}

impl Progress {
    /// Makes the clients.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the settings.
    pub fn open(kafka: &KafkaConfig) -> Result<Self, Error> {
        Ok(Self {
            reader: Reader::open(kafka, Isolation::Committed)?,
            preprocessor: Group::open(kafka, PREPROCESSOR_GROUP)?,
            scorer: Group::open(kafka, SCORER_GROUP)?,
        })
    }

    /// Asks how far the stages have come.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka cannot be asked.
    pub fn offsets(&self) -> Result<Offsets, Error> {
        // What is done first, so that nothing seems to be done before it is there.
        let raw_done = sum(self.preprocessor.committed(topics::SENSOR_DATA)?.into_values());
        let raw_end = sum(self.ends(topics::SENSOR_DATA)?.into_values());
        let clean_lag = self.unscored()?.into_iter().map(|(_, range)| range.end - range.start);
        let clean_lag = clean_lag.filter(|it| *it > 1).sum::<i64>().unsigned_abs();
        Ok(Offsets { raw_end, raw_done, clean_lag })
    }

    /// Whether every clean record has its outcome.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka cannot be read.
    pub fn all_scored(&mut self, stop: &CancellationToken) -> Result<bool, Error> {
        for (partition, range) in self.unscored()? {
            let mut records = 0;
            self.reader.read(topics::CLEAN, partition, range, stop, |batch| {
                records += batch.len();
                ControlFlow::Break(())
            })?;
            if records > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Offsets of the clean topic that the scorer has not committed; they may hold commit markers alone.
    fn unscored(&self) -> Result<Vec<(i32, Range<i64>)>, Error> {
        let done = self.scorer.committed(topics::CLEAN)?;
        let mut unscored = Vec::new();
        for (partition, end) in self.ends(topics::CLEAN)? {
            let first = || Ok(self.reader.watermarks(topics::CLEAN, partition)?.start);
            let from = done.get(&partition).copied().map_or_else(first, Ok)?;
            unscored.push((partition, from.min(end)..end));
        }
        Ok(unscored)
    }

    fn ends(&self, topic: &str) -> Result<BTreeMap<i32, i64>, Error> {
        let partitions = self.reader.partitions(topic)?.into_iter();
        partitions.map(|it| Ok((it, self.reader.watermarks(topic, it)?.end))).collect()
    }
}

fn sum(offsets: impl IntoIterator<Item = i64>) -> u64 {
    offsets.into_iter().map(|it| u64::try_from(it).unwrap_or(0)).sum()
}
