//! Predictions once more: from the model each one names and the reading it is of, by the scorer's own step, bit for bit.
//!
//! ```text
//! model-predictions ─ sample ─▶ gather ─▶ read their readings ─▶ the scorer's step with the model of the same version ─▶ equal?
//! ```
//!
//! Machines round in one of two ways, with fused multiply-adds or without, and each machine can compute both: a prediction must
//! be equal, bit for bit, to one of the two.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;

use telltale_kafka::{Isolation, KafkaConfig, Reader, Registry, RegistryConfig};
use telltale_records::prediction::Prediction;
use telltale_records::{Batch, Outgoing, Record, Source, framing, topics};
use telltale_scorer::{Again, Versioned};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::models::{Models, Named};
use super::report::Violation;

/// Predictions that are gathered until their readings are read.
const GATHERED: usize = 4096;
/// Readings between two wanted ones that are rather read than skipped: beginning a range costs as much.
const GAP: i64 = 20_000;

/// Which predictions are recomputed: the same ones whenever the same topics are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// Every one.
    All,
    /// One of so many, chosen by a hash of the reading's place.
    OneOf(u64),
    /// None.
    None,
}

impl Sample {
    /// Whether the prediction of the reading at `partition` and `offset` belongs to the sample.
    #[must_use]
    pub fn has(self, partition: i32, offset: i64) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::OneOf(count) => {
                mix(u64::from(partition.unsigned_abs()) << 48 ^ offset.unsigned_abs()).is_multiple_of(count)
            }
        }
    }
}

/// A hash in which each bit depends on all bits of `value`.
///
/// # Source
///
/// The finaliser of splitmix64, <https://prng.di.unimi.it/splitmix64.c>.
fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

impl FromStr for Sample {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is not all, none, or 1/N with N above 0, such as 1/100");
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            _ => match text.strip_prefix("1/").ok_or_else(wrong)?.parse().map_err(|_| wrong())? {
                0 => Err(wrong()),
                count => Ok(Self::OneOf(count)),
            },
        }
    }
}

/// How many predictions were recomputed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recomputed {
    /// Predictions that were compared.
    pub compared: u64,
    /// Those of them that were made on machines that round otherwise than this one.
    pub other_rounding: u64,
    /// Predictions of the sample whose reading or model is not in the topics any more.
    pub gone: u64,
}

/// A prediction that waits for its reading.
#[derive(Debug)]
struct Stored {
    at: Source,
    key: Option<Vec<u8>>,
    timestamp_ms: Option<i64>,
    value: Vec<u8>,
    model: (String, i64),
}

/// Gathers a sample of the predictions and recomputes them.
#[derive(Debug)]
pub struct Recompute {
    sample: Sample,
    again: Again,
    reader: Reader,
    /// By partition and offset of the reading.
    gathered: BTreeMap<(i32, i64), Stored>,
    done: Recomputed,
    stop: CancellationToken,
}

impl Recompute {
    /// Starts with nothing gathered.
    ///
    /// # Errors
    ///
    /// Returns an error when the settings of Kafka or of the registry cannot be used.
    pub fn open(
        sample: Sample,
        kafka: &KafkaConfig,
        registry: &RegistryConfig,
        stop: &CancellationToken,
    ) -> Result<Self, Error> {
        let registry = Arc::new(Registry::new(registry)?);
        Ok(Self {
            sample,
            again: Again::new(registry, topics::CLEAN, topics::PREDICTIONS),
            reader: Reader::open(kafka, Isolation::Committed)?,
            gathered: BTreeMap::new(),
            done: Recomputed::default(),
            stop: stop.clone(),
        })
    }

    /// Takes in the prediction `found` in `record`, which is the outcome of `source`; says whether enough are gathered.
    pub fn take(&mut self, source: &Source, record: Record<'_>, found: &Prediction<'_>) -> bool {
        if *source.topic == *topics::CLEAN && self.sample.has(source.partition, source.offset) {
            let stored = Stored {
                at: record.source(),
                key: record.key().map(<[u8]>::to_vec),
                timestamp_ms: record.timestamp_ms(),
                value: record.value().unwrap_or_default().to_vec(),
                model: (found.model_name.to_owned(), found.model_version),
            };
            // Of two predictions of one reading the balance tells.
            self.gathered.insert((source.partition, source.offset), stored);
        }
        self.gathered.len() >= GATHERED
    }

    /// How many were recomputed up to now.
    #[must_use]
    pub fn done(&self) -> Recomputed {
        self.done
    }

    /// Recomputes what was gathered; returns what is not equal.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka or the registry cannot be asked.
    pub fn work(&mut self, models: &mut Models) -> Result<Vec<Violation>, Error> {
        let mut violations = Vec::new();
        while let Some((&(partition, from), _)) = self.gathered.first_key_value() {
            let (first, to) = self.reachable(partition, from)?;
            let mut readings: BTreeMap<(String, i64), Batch> = BTreeMap::new();
            if first < to {
                let gathered = &self.gathered;
                self.reader.read(topics::CLEAN, partition, first..to, &self.stop, |batch| {
                    for record in batch.records() {
                        if let Some(stored) = gathered.get(&(partition, record.offset())) {
                            let new = || Batch::new(topics::CLEAN.into(), partition);
                            let batch = readings.entry(stored.model.clone()).or_insert_with(new);
                            let headers = record.headers();
                            let (key, value) = (record.key(), record.value());
                            batch.push(record.offset(), record.timestamp_ms(), key, value, headers);
                        }
                    }
                    ControlFlow::Continue(())
                })?;
            }
            if self.stop.is_cancelled() {
                return Ok(violations);
            }
            for ((name, version), batch) in readings {
                match models.get(&name, version)? {
                    Named::Model(model) => self.compare(&batch, &model, &mut violations)?,
                    Named::Gone => {}
                    Named::Wrong(problem) => {
                        // One is enough to show; all of them are by the same model.
                        if let Some(stored) = self.gathered.remove(&(partition, batch.record(0).offset())) {
                            let (at, model) = (stored.at.to_string(), format!("{name} version {version}"));
                            violations.push(Violation::ByNoModel { at, model, problem });
                        }
                    }
                }
            }
            // What is left of the range has no reading or no model any more.
            let before = self.gathered.len();
            self.gathered.retain(|it, _| it.0 != partition || it.1 >= to.max(from + 1));
            self.done.gone += (before - self.gathered.len()) as u64;
        }
        Ok(violations)
    }

    /// The offsets to read for the gathered predictions from `from` on, as far as they lie close together; empty where
    /// they are gone.
    fn reachable(&self, partition: i32, from: i64) -> Result<(i64, i64), Error> {
        let mut to = from + 1;
        for (&(_, offset), _) in self.gathered.range((partition, from)..=(partition, i64::MAX)) {
            if offset > to + GAP {
                break;
            }
            to = offset + 1;
        }
        let there = self.reader.watermarks(topics::CLEAN, partition)?;
        Ok((from.max(there.start), to.min(there.end)))
    }

    fn compare(
        &mut self,
        batch: &Batch,
        model: &Arc<Versioned>,
        violations: &mut Vec<Violation>,
    ) -> Result<(), Error> {
        let mut here = Outgoing::new();
        self.again.score(batch, model, 0, &mut here)?;
        let mut elsewhere: Option<Outgoing> = None;
        for (index, again) in here.records().enumerate() {
            let offset = batch.record(index).offset();
            let Some(stored) = self.gathered.remove(&(batch.partition(), offset)) else { continue };
            self.done.compared += 1;
            if stored.equals(again) {
                continue;
            }
            let other = match &mut elsewhere {
                Some(other) => other,
                none => {
                    let Versioned { name, version, generation, model } = &**model;
                    let model = model.other_rounding();
                    let (name, version, generation) = (name.clone(), *version, *generation);
                    let model = Arc::new(Versioned { name, version, generation, model });
                    let mut out = Outgoing::new();
                    self.again.score(batch, &model, 0, &mut out)?;
                    none.insert(out)
                }
            };
            if other.records().nth(index).is_some_and(|it| stored.equals(it)) {
                self.done.other_rounding += 1;
                continue;
            }
            violations.push(Violation::Recomputed {
                at: stored.at.to_string(),
                source: batch.record(index).source().to_string(),
                stored: describe(topics::PREDICTIONS, Some(&stored.value)),
                again: describe(again.topic(), again.value()),
            });
        }
        Ok(())
    }
}

impl Stored {
    /// Whether the scorer's step writes exactly this, whatever the id of its schema.
    fn equals(&self, again: telltale_records::OutgoingRecord<'_>) -> bool {
        let payload = |value: Option<&[u8]>| value.and_then(framing::split).map(|(_, it)| it.to_vec());
        again.topic() == topics::PREDICTIONS
            && again.key() == self.key.as_deref()
            && again.timestamp_ms() == self.timestamp_ms
            && payload(again.value()) == payload(Some(&self.value))
    }
}

/// What an outcome says, with every digit that tells it from another one.
fn describe(topic: &str, value: Option<&[u8]>) -> String {
    if topic != topics::PREDICTIONS {
        return "it cannot be scored".to_owned();
    }
    let payload = value.and_then(framing::split).map(|(_, payload)| Prediction::read(payload));
    let Some(Ok(it)) = payload else { return "no prediction".to_owned() };
    let mut text = format!(
        "{} at {} scores {:?} against {:?}, {}, because of",
        it.car,
        it.event_time,
        it.score,
        it.threshold,
        it.verdict.as_str()
    );
    for contribution in &it.contributions {
        let _ = write!(text, " {} {:?}", contribution.sensor, contribution.share);
    }
    let _ = write!(text, ", {}-{}", it.source_partition, it.source_offset);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_as_large_as_it_says_and_always_the_same() {
        for (text, expected) in [("all", 40_000), ("none", 0), ("1/1", 40_000), ("1/100", 400)] {
            let sample: Sample = text.parse().unwrap();
            let count = || (0..40_000).filter(|it| sample.has(it % 4, i64::from(it / 4))).count();
            assert!(count().abs_diff(expected) < 100, "{text}: {}", count());
        }
        for text in ["", "1/0", "1/x", "2/3", "10%", "1/-1"] {
            assert!(text.parse::<Sample>().unwrap_err().contains("1/100"), "{text}");
        }
    }
}
