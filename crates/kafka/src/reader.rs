//! Reading without a consumer group: ranges of a partition, or a topic from a point on.
//!
//! No offset is ever committed, so any number of readers may read the same records.

use std::collections::{BTreeSet, HashMap};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use telltale_records::{Batch, Record};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::client::{self, Log, REQUEST, positions, request};
use crate::config::KafkaConfig;
use crate::denial::{denied, is_denial};
use crate::error::{Error, passing};
use crate::intake::{Intake, Message};

/// Most records handed on at once.
const BATCH_RECORDS: usize = 4096;
/// Most bytes handed on at once; a larger record goes alone.
const BATCH_BYTES: usize = 4 << 20;
/// Longest time in one poll: how late a stop may be noticed.
const POLL: Duration = Duration::from_millis(50);

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Those of committed transactions, and those written without one.
    Committed,
    /// All, also of transactions that are open or were aborted.
    Uncommitted,
}

/// Where to begin in each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first record there is.
    Beginning,
    /// Behind the last record there is.
    End,
    /// At most this many offsets before the end.
    Last(u64),
}

/// What a follower learns.
#[derive(Debug, Clone, Copy)]
pub enum Followed<'a> {
    /// The next record of one of the partitions.
    Record(Record<'a>),
    /// Everything that was there has been handed on; comes again whenever that is so again.
    CaughtUp,
}

/// A consumer without a group.
pub struct Reader {
    intake: Intake<Log>,
    kafka: KafkaConfig,
    push: fn(&mut Batch, &Message<'_>),
}

impl Reader {
    /// Makes a reader; connects when it is first used.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the settings.
    pub fn open(kafka: &KafkaConfig, isolation: Isolation) -> Result<Self, Error> {
        let mut client = kafka.client()?;
        client
            // librdkafka serves records only to consumers with a group id; no offset is ever committed under it.
            .set("group.id", "telltale-reader")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("allow.auto.create.topics", "false")
            .set("queued.min.messages", "50000")
            .set("queued.max.messages.kbytes", "32768")
            // Kafka says that a partition ends only after this time: every range that ends there waits for it, and
            // so does the next partition that is read.
            .set("fetch.wait.max.ms", "25")
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.error.backoff.ms", "100")
            .set(
                "isolation.level",
                match isolation {
                    Isolation::Committed => "read_committed",
                    Isolation::Uncommitted => "read_uncommitted",
                },
            );
        let consumer: BaseConsumer<Log> = client
            .create_with_context(Log::default())
            .map_err(|source| Error::Client { purpose: "reader", source })?;
        Ok(Self { intake: Intake::new(consumer), kafka: kafka.clone(), push: client::push })
    }

    /// Leaves headers out of what is read: librdkafka takes them apart only where somebody looks at them.
    #[must_use]
    pub fn without_headers(mut self) -> Self {
        self.push = |batch, message| {
            batch.push(message.offset(), message.timestamp_ms(), message.key(), message.value(), []);
        };
        self
    }

    /// The partition numbers of `topic`, ascending.
    ///
    /// # Errors
    ///
    /// Returns an error when the topic does not exist or Kafka cannot be asked.
    pub fn partitions(&self, topic: &str) -> Result<Vec<i32>, Error> {
        client::partitions(self.consumer().client(), &self.kafka, topic)
    }

    /// First offset, and the offset behind the last record this reader can see.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka cannot be asked.
    pub fn watermarks(&self, topic: &str, partition: i32) -> Result<Range<i64>, Error> {
        client::watermarks(self.consumer().client(), &self.kafka, topic, partition)
    }

    /// Offset of the first record with a time stamp of at least `time_ms`; `None` when there is none.
    ///
    /// It may be that of a control record, which no reader sees.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka cannot be asked.
    pub fn offset_at(&self, topic: &str, partition: i32, time_ms: i64) -> Result<Option<i64>, Error> {
        let list = positions([(topic, partition, Offset::Offset(time_ms))]);
        let attempt = format!("asking for the offset of {topic}-{partition} at time {time_ms}");
        let failed = request(&self.kafka, attempt);
        let found = self.consumer().offsets_for_times(list, REQUEST).and_then(|found| {
            let element = found.find_partition(topic, partition);
            element.map_or(Ok(Offset::End), |it| it.error().map(|()| it.offset()))
        });
        match found.map_err(failed)? {
            Offset::Offset(offset) => Ok(Some(offset)),
            _ => Ok(None),
        }
    }

    /// Reads `range` of a partition in order and hands batches to `take` until it is read, `take` breaks
    /// or `stop`; returns the offset reached.
    ///
    /// Offsets without a visible record (control records, compacted or aborted ones) are passed over.
    ///
    /// # Errors
    ///
    /// Returns an error when the range is not there, or Kafka refuses; while Kafka is away, it waits.
    pub fn read(
        &mut self,
        topic: &str,
        partition: i32,
        range: Range<i64>,
        stop: &CancellationToken,
        mut take: impl FnMut(&Batch) -> ControlFlow<()>,
    ) -> Result<i64, Error> {
        let (from, to) = (range.start, range.end);
        self.check(topic, partition, &range)?;
        if from == to {
            return Ok(to);
        }
        self.assign(topic, [(partition, Offset::Offset(from))])?;
        let mut batch = Batch::new(topic.into(), partition);
        let mut next = from;
        let mut ended = false;
        let mut flow = ControlFlow::Continue(());
        while !ended && flow.is_continue() && !stop.is_cancelled() {
            let mut errors = self.serve();
            self.intake.next(POLL, |message| match message {
                _ if ended || flow.is_break() => {}
                Ok(message) if message.offset() >= to => ended = true,
                Ok(message) => {
                    (self.push)(&mut batch, &message);
                    next = message.offset() + 1;
                    ended = next >= to;
                    if batch.len() >= BATCH_RECORDS || batch.bytes() >= BATCH_BYTES {
                        flow = take(&batch);
                        batch.clear();
                    }
                }
                // The end was behind `to` before reading began, so nothing of the range is left.
                Err(KafkaError::PartitionEOF(_)) => ended = true,
                Err(error) => errors.push(error),
            });
            errors.into_iter().try_for_each(|it| self.read_error(topic, partition, next, it))?;
        }
        if ended && flow.is_continue() && !batch.is_empty() {
            flow = take(&batch);
        }
        self.unassign();
        Ok(if ended && flow.is_continue() { to } else { next })
    }

    /// Hands each record of `topic`, from `start` on and as new ones come, to `take`, until it breaks or `stop`.
    ///
    /// While Kafka is away, it waits.
    ///
    /// # Errors
    ///
    /// Returns an error when the topic does not exist, records were deleted before they were read, or Kafka
    /// refuses.
    pub fn follow(
        &mut self,
        topic: &str,
        start: Start,
        stop: &CancellationToken,
        mut take: impl FnMut(Followed<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let partitions = self.partitions(topic)?;
        let mut next = HashMap::new();
        for &partition in &partitions {
            let there = self.watermarks(topic, partition)?;
            let from = match start {
                Start::Beginning => there.start,
                Start::End => there.end,
                Start::Last(count) => {
                    let count = i64::try_from(count).unwrap_or(i64::MAX);
                    there.end.saturating_sub(count).max(there.start)
                }
            };
            next.insert(partition, from);
        }
        self.assign(topic, next.iter().map(|(&partition, &from)| (partition, Offset::Offset(from))))?;
        let mut behind: BTreeSet<i32> = partitions.into_iter().collect();
        let mut batches: HashMap<i32, Batch> = HashMap::new();
        let mut flow = ControlFlow::Continue(());
        while flow.is_continue() && !stop.is_cancelled() {
            let mut errors = self.serve();
            self.intake.next(POLL, |message| match message {
                _ if flow.is_break() => {}
                Ok(message) => {
                    let partition = message.partition();
                    let batch =
                        batches.entry(partition).or_insert_with(|| Batch::new(Arc::from(topic), partition));
                    batch.clear();
                    (self.push)(batch, &message);
                    next.insert(partition, message.offset() + 1);
                    behind.insert(partition);
                    flow = take(Followed::Record(batch.record(0)));
                }
                Err(KafkaError::PartitionEOF(partition)) => {
                    behind.remove(&partition);
                    if behind.is_empty() {
                        flow = take(Followed::CaughtUp);
                    }
                }
                Err(error) => errors.push(error),
            });
            let (&partition, &at) = next.iter().next().expect("a topic has partitions");
            errors.into_iter().try_for_each(|it| self.read_error(topic, partition, at, it))?;
        }
        self.unassign();
        Ok(())
    }

    /// Lets librdkafka report; returns an error of the client.
    fn serve(&self) -> Vec<KafkaError> {
        self.intake.serve(Duration::ZERO).err().into_iter().collect()
    }

    pub(crate) fn consumer(&self) -> &BaseConsumer<Log> {
        self.intake.consumer()
    }

    fn check(&self, topic: &str, partition: i32, range: &Range<i64>) -> Result<(), Error> {
        let (from, to, topic_name) = (range.start, range.end, topic.to_owned());
        if from > to {
            return Err(Error::Backwards { topic: topic_name, partition, from, to });
        }
        let partitions = self.partitions(topic)?;
        if !partitions.contains(&partition) {
            return Err(Error::MissingPartition {
                topic: topic_name,
                partition,
                partitions: partitions.len(),
            });
        }
        let there = self.watermarks(topic, partition)?;
        if from < there.start {
            return Err(Error::Deleted { topic: topic_name, partition, from, first: there.start });
        }
        if to > there.end {
            return Err(Error::BeyondEnd { topic: topic_name, partition, to, end: there.end });
        }
        Ok(())
    }

    fn assign(&self, topic: &str, at: impl IntoIterator<Item = (i32, Offset)>) -> Result<(), Error> {
        let list = positions(at.into_iter().map(|(partition, offset)| (topic, partition, offset)));
        self.intake.assign(&list).map_err(request(&self.kafka, format!("beginning to read {topic}")))
    }

    fn unassign(&self) {
        if let Err(error) = self.intake.unassign() {
            warn!(%error, "cannot end an assignment");
        }
    }

    /// Passes over what will mend itself; returns the rest.
    fn read_error(&self, topic: &str, partition: i32, at: i64, error: KafkaError) -> Result<(), Error> {
        let attempt = format!("reading {topic}-{partition} at offset {at}");
        match &error {
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) => {
                let first = self.watermarks(topic, partition)?.start;
                Err(Error::Deleted { topic: topic.to_owned(), partition, from: at, first })
            }
            KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition) => {
                Err(Error::MissingTopic { topic: topic.to_owned() })
            }
            KafkaError::MessageConsumption(code) if passing(*code) => {
                warn!(topic, partition, %error, "reading");
                Ok(())
            }
            KafkaError::MessageConsumption(code) if is_denial(*code) => {
                Err(denied(&self.kafka, attempt, error))
            }
            _ => Err(Error::Fatal { attempt, source: error }),
        }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("bootstrap", &self.kafka.bootstrap).finish_non_exhaustive()
    }
}
