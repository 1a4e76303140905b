//! What can go wrong between this process and Kafka.

use std::path::PathBuf;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Why an operation on Kafka failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file with a secret or a certificate could not be read.
    #[error("cannot read {path:?}, given by {flag}")]
    File {
        /// The flag that names the file.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it could not be read.
        source: std::io::Error,
    },
    /// The settings contradict each other.
    #[error("{problem}: {hint}")]
    Settings {
        /// What is wrong.
        problem: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The client could not be made.
    #[error("cannot make a Kafka client ({purpose})")]
    Client {
        /// What the client was for.
        purpose: &'static str,
        /// What librdkafka reported.
        source: KafkaError,
    },
    /// A request to Kafka failed.
    #[error("{attempt} failed (is Kafka reachable at {bootstrap}? `--kafka` names it){seen}")]
    Request {
        /// What was being attempted.
        attempt: String,
        /// The bootstrap servers.
        bootstrap: String,
        /// What a look at the way there brought, or nothing.
        seen: String,
        /// What librdkafka reported.
        source: KafkaError,
    },
    /// Kafka does not let this client in or do this, or this client does not trust it; waiting mends nothing.
    #[error("{attempt} failed: Kafka at {bootstrap} {problem}: {hint}")]
    Denied {
        /// What was being attempted.
        attempt: String,
        /// The bootstrap servers.
        bootstrap: String,
        /// What Kafka does not do.
        problem: String,
        /// What to do about it.
        hint: &'static str,
        /// What librdkafka reported.
        source: KafkaError,
    },
    /// A topic does not exist.
    #[error(
        "topic {topic} does not exist; `telltale topics create` creates every topic with its configuration"
    )]
    MissingTopic {
        /// Name of the topic.
        topic: String,
    },
    /// A topic was created, and a broker has not heard of it.
    #[error("topic {topic} is created, but broker {broker} does not know it after {waited:?}")]
    TopicNotEverywhere {
        /// Name of the topic.
        topic: String,
        /// The broker, as host:port.
        broker: String,
        /// How long it had.
        waited: Duration,
    },
    /// A partition does not exist.
    #[error("topic {topic} has no partition {partition}, it has {partitions}")]
    MissingPartition {
        /// Name of the topic.
        topic: String,
        /// The partition that was asked for.
        partition: i32,
        /// How many partitions there are.
        partitions: usize,
    },
    /// A range begins after it ends.
    #[error("the range {from}..{to} of {topic}-{partition} ends before it begins")]
    Backwards {
        /// Name of the topic.
        topic: String,
        /// Number of the partition.
        partition: i32,
        /// First offset asked for.
        from: i64,
        /// Offset after the last asked for.
        to: i64,
    },
    /// A range begins before the first record that is still there.
    #[error(
        "offset {from} of {topic}-{partition} is gone: the first record there is now {first} (retention, or deleted records)"
    )]
    Deleted {
        /// Name of the topic.
        topic: String,
        /// Number of the partition.
        partition: i32,
        /// First offset asked for.
        from: i64,
        /// First offset there is.
        first: i64,
    },
    /// A range ends after the last committed record.
    #[error("offset {to} of {topic}-{partition} is not there yet: committed records end at {end}")]
    BeyondEnd {
        /// Name of the topic.
        topic: String,
        /// Number of the partition.
        partition: i32,
        /// Offset after the last asked for.
        to: i64,
        /// Offset after the last there is.
        end: i64,
    },
    /// Kafka has deleted or lost records that were not read yet.
    #[error(
        "group {group} can no longer read {topic}-{partition} at offset {position}: Kafka holds {first}..{end} \
         (retention deleted unread records, or the topic was made anew); nothing was skipped. To go on and accept \
         the gap, stop the service and set the group's offset with kafka-consumer-groups --reset-offsets"
    )]
    OffsetOutOfRange {
        /// Consumer group.
        group: String,
        /// Name of the topic.
        topic: String,
        /// Number of the partition.
        partition: i32,
        /// Where the group stands.
        position: i64,
        /// First offset there is.
        first: i64,
        /// Offset after the last there is.
        end: i64,
    },
    /// Another process took over the transactional id.
    #[error(
        "transactional id {transactional_id} was taken over by another process; two instances must not share an \
         identity (`--identity`)"
    )]
    Fenced {
        /// The id.
        transactional_id: String,
        /// What librdkafka reported.
        source: KafkaError,
    },
    /// Gathering would take longer than a record should.
    #[error("--linger {linger} is longer than 10s")]
    Linger {
        /// The setting.
        linger: humantime::Duration,
    },
    /// A record without a source was refused by the target topic, so nothing can stand in for it.
    #[error("topic {topic} refuses a record of {bytes} bytes that has no source record")]
    Refused {
        /// Target topic.
        topic: String,
        /// Bytes of key and value.
        bytes: usize,
        /// What librdkafka reported.
        source: KafkaError,
    },
    /// A thread could not be started.
    #[error("cannot start thread {name}")]
    Thread {
        /// Name of the thread.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// The client can no longer be used.
    #[error("{attempt} failed for good")]
    Fatal {
        /// What was being attempted.
        attempt: String,
        /// What librdkafka reported.
        source: KafkaError,
    },
}

impl Error {
    /// Whether trying again later may succeed: Kafka was away or slow.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Request { source, .. } => code(source).is_none_or(passing),
            _ => false,
        }
    }
}

/// The code of an error, also of those for which rdkafka keeps it to itself.
pub(crate) fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// Whether an error code says that Kafka was away, slow or busy with an election.
pub(crate) fn passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    let final_ones = matches!(
        code,
        Code::UnsupportedVersion | Code::UnsupportedFeature | Code::InvalidArgument | Code::InvalidTopic
    );
    !final_ones && !crate::denial::is_denial(code)
}
