//! Copying something into a topic in steps, each written together with how far it came.
//!
//! ```text
//! file ─▶ step of records + position ─▶ topic, offset of a group that nobody is in: one transaction
//! ```
//!
//! A process that is killed leaves no half of a step, and the next one reads where to go on. The position is kept
//! where Kafka keeps what groups have read: as the offset of partition 0 of the topic, with a note beside it.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use telltale_records::Outgoing;
use tokio_util::sync::CancellationToken;

use crate::client::{Log, REQUEST, partitions, request};
use crate::config::KafkaConfig;
use crate::error::Error;
use crate::transactional::{PublishError, Transactional};

/// How far a copy came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// What was copied of the whole, in units of the copy.
    pub done: u64,
    /// What the next process must know besides; Kafka takes up to 4096 bytes.
    pub note: String,
}

/// Copies into one topic under a name that one process holds at a time.
pub struct Progress {
    producer: Transactional,
    consumer: BaseConsumer<Log>,
    kafka: KafkaConfig,
    topic: String,
    name: String,
}

impl Progress {
    /// Takes the copy called `name` over: what an earlier process left open is settled, and it is fenced.
    ///
    /// `name` is the transactional id as well as the group. While Kafka is away, it waits, at most for `patience`.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no such topic, or Kafka refuses or does not answer in time.
    pub fn open(
        kafka: &KafkaConfig,
        name: &str,
        topic: &str,
        patience: Duration,
        stop: &CancellationToken,
    ) -> Result<Self, Error> {
        let mut client = kafka.client()?;
        client
            .set("group.id", name)
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false");
        let consumer: BaseConsumer<Log> = client
            .create_with_context(Log::default())
            .map_err(|source| Error::Client { purpose: "position of a copy", source })?;
        // A topic that is not there must be known before a producer waits for it.
        partitions(consumer.client(), kafka, topic)?;
        let producer = Transactional::open(kafka, name, patience, stop)?;
        let (kafka, topic, name) = (kafka.clone(), topic.to_owned(), name.to_owned());
        Ok(Self { producer, consumer, kafka, topic, name })
    }

    /// Where the copy stands; `None` where it never began, or so long ago that Kafka has forgotten.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka cannot be asked.
    pub fn position(&self) -> Result<Option<Position>, Error> {
        let attempt = format!("asking how far {} came with {}", self.name, self.topic);
        let failed = request(&self.kafka, attempt);
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, 0);
        let found = self.consumer.committed_offsets(list, REQUEST).map_err(failed)?;
        Ok(found.elements().first().and_then(|it| match it.offset() {
            Offset::Offset(done) => {
                Some(Position { done: u64::try_from(done).unwrap_or(0), note: it.metadata().to_owned() })
            }
            _ => None,
        }))
    }

    /// Writes `records` and `position` in one transaction.
    ///
    /// # Errors
    ///
    /// Says whether anything was written; see [`PublishError`]. Where that is unknown, [`Progress::position`] tells.
    pub fn publish(
        &mut self,
        records: &Outgoing,
        position: &Position,
        stop: &CancellationToken,
    ) -> Result<(), PublishError> {
        let attempt = format!("noting how far {} came with {}", self.name, self.topic);
        let failed = request(&self.kafka, attempt);
        let mut offsets = TopicPartitionList::new();
        let mut element = offsets.add_partition(&self.topic, 0);
        element
            .set_offset(Offset::Offset(i64::try_from(position.done).unwrap_or(i64::MAX)))
            .map_err(failed)?;
        element.set_metadata(&position.note);
        let group = Arc::new(self.consumer.group_metadata().expect("the consumer was made with a group"));
        self.producer.publish_with(records, Some((&offsets, &group)), |_| false, stop)
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress")
            .field("name", &self.name)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
