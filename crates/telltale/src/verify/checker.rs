//! All checks, fed with the records of the topics in the order of each partition.
//!
//! One implementation for a look at what lies there and for following what comes. What is proved is forgotten, so that its memory
//! does not grow with the records: it holds what is on its way, the last readings of each device, and the open windows.

use telltale_kafka::{KafkaConfig, RegistryConfig};
use telltale_records::prediction::Prediction;
use telltale_records::source::SOURCE_HEADER;
use telltale_records::{Record, Source, framing, topics};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::balance::{Balance, Place};
use super::checks::Checks;
use super::models::Models;
use super::recompute::{Recompute, Recomputed, Sample};
use super::report::{Report, Violation};
use super::sequence::Sequences;
use super::windows::Windows;

/// The topics that are checked, by their index.
pub const NAMES: [&str; 5] =
    [topics::SENSOR_DATA, topics::CLEAN, topics::PREDICTIONS, topics::DEAD_LETTERS, topics::EVENTS_PER_5MIN];
/// Index of the raw topic.
pub const RAW: usize = 0;
/// Index of the clean topic.
pub const CLEAN: usize = 1;
/// Index of the predictions.
pub const PREDICTIONS: usize = 2;
/// Index of the dead letters.
pub const DEAD_LETTERS: usize = 3;
/// Index of the table of counts.
pub const TABLE: usize = 4;

/// What was verified since it was last asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Raw records in the order of their devices.
    pub readings: u64,
    /// Raw records that have their one outcome.
    pub preprocessed: u64,
    /// Clean readings that have their one outcome.
    pub scored: u64,
    /// Rows of the table of counts that were compared.
    pub windows: u64,
}

/// The checks and what they remember.
#[derive(Debug)]
pub struct Checker {
    balance: Balance,
    sequences: Option<Sequences>,
    windows: Windows,
    recompute: Option<Recompute>,
    models: Models,
    verified: Verified,
}

impl Checker {
    /// Starts without having seen a record.
    ///
    /// # Errors
    ///
    /// Returns an error when a key cannot be read or Kafka cannot be asked for the models.
    pub fn open(
        checks: &Checks,
        kafka: &KafkaConfig,
        registry: &RegistryConfig,
        stop: &CancellationToken,
    ) -> Result<Self, Error> {
        let recompute = match checks.recompute {
            Sample::None => None,
            sample => Some(Recompute::open(sample, kafka, registry, stop)?),
        };
        Ok(Self {
            balance: Balance::new(NAMES.iter().map(|&it| it.to_owned()).collect()),
            sequences: (!checks.any_order).then(|| Sequences::new(checks.in_flight.get())),
            windows: Windows::new(checks.grace_ms()),
            recompute,
            models: Models::read(kafka, checks.trusted()?, stop)?,
            verified: Verified::default(),
        })
    }

    /// Declares a partition of the raw or clean topic whose records from `start` on must have outcomes.
    pub fn source(&mut self, place: Place, start: i64) {
        self.balance.source(place, start);
    }

    /// Says that a partition is not read from its first record on.
    pub fn join(&mut self, place: Place) {
        match place.topic {
            RAW => {
                if let Some(sequences) = &mut self.sequences {
                    sequences.join(place.partition);
                }
            }
            CLEAN => self.windows.join(place.partition),
            _ => {}
        }
    }

    /// Says that records below `first` are gone before they were read.
    pub fn deleted(&mut self, place: Place, first: i64) {
        self.balance.deleted(place, first);
        self.join(place);
    }

    /// Takes in the next record of a partition; returns the prediction where it is one.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka or the registry cannot be asked for what belongs to a prediction.
    pub fn take<'a>(&mut self, topic: usize, record: Record<'a>) -> Result<Option<Prediction<'a>>, Error> {
        let at = (Place { topic, partition: record.partition() }, record.offset());
        match topic {
            RAW => self.raw(record, at),
            CLEAN => {
                self.balance.present(at.0, at.1);
                let source = self.outcome(record, at);
                // The preprocessor did not count what somebody put back behind it.
                if source.is_none_or(|it| *it.0.topic != *topics::DEAD_LETTERS) {
                    self.windows.reading(record);
                }
            }
            PREDICTIONS => return self.prediction(record, at),
            // The bridge's have no source, for MQTT has no offsets.
            DEAD_LETTERS if record.header(SOURCE_HEADER).is_some() => _ = self.outcome(record, at),
            TABLE => self.windows.row(record),
            _ => {}
        }
        Ok(None)
    }

    fn raw(&mut self, record: Record<'_>, at: (Place, i64)) {
        self.balance.present(at.0, at.1);
        let Some(sequences) = &mut self.sequences else { return };
        self.verified.readings += 1;
        if let Some(fault) = sequences.take(record) {
            self.balance.add(Violation::Sequence { at: record.source().to_string(), fault });
        }
    }

    /// Takes in the outcome that `record` is; returns of what, and whether it is the first one.
    fn outcome(&mut self, record: Record<'_>, at: (Place, i64)) -> Option<(Source, bool)> {
        match source(record) {
            Ok(source) => {
                let topic = self.balance.topic(&source.topic);
                let place = topic.map(|topic| Place { topic, partition: source.partition });
                let first = place.is_some_and(|place| self.balance.outcome(place, source.offset, at));
                Some((source, first))
            }
            Err(found) => {
                self.balance.add(Violation::NoSource { at: record.source().to_string(), found });
                None
            }
        }
    }

    fn prediction<'a>(
        &mut self,
        record: Record<'a>,
        at: (Place, i64),
    ) -> Result<Option<Prediction<'a>>, Error> {
        let source = self.outcome(record, at);
        let payload = record.value().and_then(framing::split).map(|(_, payload)| payload);
        let problem = match payload.map(Prediction::read) {
            Some(Ok(found)) => {
                if let Some(from) = self.balance.fell(at, found.model_version)
                    && !self.models.rolled_back(from, found.model_version)?
                {
                    let (at, to) = (record.source().to_string(), found.model_version);
                    self.balance.add(Violation::VersionFell { at, from, to });
                }
                if let (Some(recompute), Some((source, true))) = (&mut self.recompute, source)
                    && recompute.take(&source, record, &found)
                {
                    self.recompute()?;
                }
                return Ok(Some(found));
            }
            Some(Err((_, problem))) => format!("is not a prediction: {problem}"),
            None => "is not framed Avro".to_owned(),
        };
        self.balance.add(Violation::NoSource { at: record.source().to_string(), found: problem });
        Ok(None)
    }

    /// Says that a partition holds no records up to `end` but those that were taken in.
    pub fn read(&mut self, place: Place, end: i64) {
        self.balance.read(place, end);
    }

    /// Says that a moment has come of which is asked, after this, where the groups are and where the topics end.
    pub fn mark(&mut self) {
        self.windows.mark();
    }

    /// Says that everything was read that was there when [`Checker::mark`] was called, after which the groups had `committed`.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka or the registry cannot be asked for what belongs to a prediction.
    pub fn settle(&mut self, committed: impl IntoIterator<Item = (Place, i64)>) -> Result<(), Error> {
        for (place, committed) in committed {
            let settled = self.balance.settle(place, committed);
            match place.topic {
                RAW => self.verified.preprocessed += settled,
                _ => self.verified.scored += settled,
            }
        }
        let (wrong, rows) = self.windows.settle();
        self.verified.windows += rows;
        wrong.into_iter().for_each(|it| self.balance.add(Violation::Miscounted(it)));
        self.recompute()
    }

    /// Recomputes the predictions that were gathered.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka or the registry cannot be asked for what belongs to them.
    pub fn recompute(&mut self) -> Result<(), Error> {
        if let Some(recompute) = &mut self.recompute {
            for violation in recompute.work(&mut self.models)? {
                self.balance.add(violation);
            }
        }
        Ok(())
    }

    /// Says that a quiet moment has come, and where the groups would go on.
    pub fn quiet(&mut self, committed: impl IntoIterator<Item = (Place, i64)>) {
        committed.into_iter().for_each(|(place, committed)| self.balance.quiet(place, committed));
    }

    /// Takes in a violation that was found elsewhere.
    pub fn add(&mut self, violation: Violation) {
        self.balance.add(violation);
    }

    /// The violations found since this was last asked, and what was verified.
    #[must_use]
    pub fn take_report(&mut self) -> (Report, Verified) {
        (self.balance.take_report(), std::mem::take(&mut self.verified))
    }

    /// How many predictions were recomputed.
    #[must_use]
    pub fn recomputed(&self) -> Recomputed {
        self.recompute.as_ref().map(Recompute::done).unwrap_or_default()
    }

    /// Records of a topic that came again, where that was looked at.
    #[must_use]
    pub fn replayed(&self) -> Option<u64> {
        self.sequences.as_ref().map(Sequences::replayed)
    }

    /// Whether the counts per window are held against a recount: they are rows of the shape that the cars' pipeline writes.
    #[must_use]
    pub fn recounts(&self) -> bool {
        self.windows.unreadable() == 0
    }

    /// Records that wait for their outcome, by topic.
    #[must_use]
    pub fn waiting(&self) -> [u64; 2] {
        [RAW, CLEAN].map(|it| self.balance.waiting(it))
    }

    /// The result; `drained` says that nothing was on its way any more.
    #[must_use]
    pub fn finish(mut self, drained: bool) -> Report {
        if drained {
            for it in self.windows.finish() {
                self.balance.add(Violation::Miscounted(it));
            }
        }
        self.balance.finish(drained)
    }
}

fn source(record: Record<'_>) -> Result<Source, String> {
    let header = record.header(SOURCE_HEADER).ok_or("has no header src")?;
    let text = std::str::from_utf8(header).map_err(|_| "has a header src that is not text")?;
    text.parse().map_err(|error: telltale_records::source::SourceError| {
        format!("has a header that is wrong: {error}")
    })
}
