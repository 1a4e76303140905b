//! What a consumer group has committed, asked from outside the group.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{Log, REQUEST, partitions, positions, request};
use crate::config::KafkaConfig;
use crate::error::Error;

/// Longest time for a group to have a coordinator that answers.
const COORDINATOR: Duration = Duration::from_secs(30);
/// Time between two questions to it.
const PAUSE: Duration = Duration::from_millis(100);

/// Looks at the offsets of a group without becoming its member.
pub struct Group {
    consumer: BaseConsumer<Log>,
    kafka: KafkaConfig,
    name: String,
}

impl Group {
    /// Makes the client; connects when it is first used.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the settings.
    pub fn open(kafka: &KafkaConfig, group: &str) -> Result<Self, Error> {
        let mut client = kafka.client()?;
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false")
            // Else the answer waits for the group's open transaction, and under load there is always one.
            .set("isolation.level", "read_uncommitted");
        let consumer = client
            .create_with_context(Log::default())
            .map_err(|source| Error::Client { purpose: "group offsets", source })?;
        Ok(Self { consumer, kafka: kafka.clone(), name: group.to_owned() })
    }

    /// The next offset the group will read of each partition of `topic`; without those it never committed.
    ///
    /// # Errors
    ///
    /// Returns an error when the topic does not exist or Kafka cannot be asked.
    pub fn committed(&self, topic: &str) -> Result<BTreeMap<i32, i64>, Error> {
        let partitions = partitions(self.consumer.client(), &self.kafka, topic)?;
        let list = positions(partitions.into_iter().map(|it| (topic, it, Offset::Invalid)));
        let attempt = format!("asking what group {} has committed of {topic}", self.name);
        let found = self.ask(&list).map_err(request(&self.kafka, attempt))?;
        let offsets = found.elements().into_iter().filter_map(|it| match it.offset() {
            Offset::Offset(offset) => Some((it.partition(), offset)),
            _ => None,
        });
        Ok(offsets.collect())
    }

    /// Asks until the group's coordinator answers: it moves when a broker ends, and on fresh brokers is only being chosen.
    fn ask(&self, list: &TopicPartitionList) -> KafkaResult<TopicPartitionList> {
        let deadline = Instant::now() + COORDINATOR;
        loop {
            match self.consumer.committed_offsets(list.clone(), REQUEST) {
                Err(error)
                    if error.rdkafka_error_code().is_some_and(is_moving) && Instant::now() < deadline =>
                {
                    thread::sleep(PAUSE);
                }
                answered => return answered,
            }
        }
    }
}

/// Whether the coordinator of a group is about to be another one.
fn is_moving(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    matches!(code, CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator)
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("name", &self.name).finish_non_exhaustive()
    }
}
