//! What all librdkafka clients of this crate share: their logs, their last error, common requests.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use telltale_records::Batch;
use tracing::{debug, warn};

use crate::config::KafkaConfig;
use crate::denial;
use crate::error::{Error, passing};
use crate::intake::Message;

/// How long one request may take; librdkafka retries inside it.
pub(crate) const REQUEST: Duration = Duration::from_secs(10);

/// Takes librdkafka's logs into ours and keeps what cannot pass by itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    refusal: Arc<Mutex<Option<KafkaError>>>,
}

impl Log {
    /// The newest error that waiting does not mend, such as a wrong password; taken once.
    pub(crate) fn take_refusal(&self) -> Option<KafkaError> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Log {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Its errors are mostly about connections, which it mends itself: no person is needed yet.
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => warn!(facility, message, "librdkafka"),
            _ => debug!(facility, message, "librdkafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            // Not an error; whoever reads learns it from the poll.
            return;
        }
        warn!(%error, reason, "kafka client");
        if error.rdkafka_error_code().is_some_and(|it| !passing(it)) {
            *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }
}

impl rdkafka::consumer::ConsumerContext for Log {}

/// Says what was being attempted when a request failed, and why it did.
pub(crate) fn request(kafka: &KafkaConfig, attempt: impl Into<String>) -> impl FnOnce(KafkaError) -> Error {
    move |source| denial::explain(kafka, attempt.into(), source)
}

/// The partition numbers of `topic`.
pub(crate) fn partitions<C: ClientContext>(
    client: &Client<C>,
    kafka: &KafkaConfig,
    topic: &str,
) -> Result<Vec<i32>, Error> {
    let attempt = || format!("asking for the partitions of {topic}");
    let metadata = client.fetch_metadata(Some(topic), REQUEST).map_err(request(kafka, attempt()))?;
    let found = metadata.topics().iter().find(|it| it.name() == topic);
    let missing = || Error::MissingTopic { topic: topic.to_owned() };
    let found = found.ok_or_else(missing)?;
    if let Some(error) = found.error() {
        let code = RDKafkaErrorCode::from(error);
        return Err(match code {
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => missing(),
            code => request(kafka, attempt())(KafkaError::MetadataFetch(code)),
        });
    }
    let mut partitions: Vec<i32> = found.partitions().iter().map(|it| it.id()).collect();
    if partitions.is_empty() {
        return Err(missing());
    }
    partitions.sort_unstable();
    Ok(partitions)
}

/// First offset, and the offset after the last record that a reader of this client's isolation can see.
pub(crate) fn watermarks<C: ClientContext>(
    client: &Client<C>,
    kafka: &KafkaConfig,
    topic: &str,
    partition: i32,
) -> Result<Range<i64>, Error> {
    let attempt = format!("asking for the offsets of {topic}-{partition}");
    let (first, end) = client.fetch_watermarks(topic, partition, REQUEST).map_err(request(kafka, attempt))?;
    Ok(first..end)
}

/// A list of partitions with offsets.
pub(crate) fn positions<'a>(
    partitions: impl IntoIterator<Item = (&'a str, i32, Offset)>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in partitions {
        list.add_partition_offset(topic, partition, offset).expect("an offset that librdkafka can represent");
    }
    list
}

/// Copies a message from librdkafka's memory into `batch`.
pub(crate) fn push(batch: &mut Batch, message: &Message<'_>) {
    let (offset, time) = (message.offset(), message.timestamp_ms());
    let headers = message.headers().map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)));
    // A name of a header is any bytes on the wire, and a batch has text: a stranger's record goes on without headers.
    if headers.clone().all(|it| it.is_some()) {
        batch.push(offset, time, message.key(), message.value(), headers.flatten());
    } else {
        warn!(topic = message.topic(), partition = message.partition(), offset, "header names are not text");
        batch.push(offset, time, message.key(), message.value(), []);
    }
}
