//! Writing records one by one, in order, with a report for each.
//!
//! ```text
//! one task ─▶ send(record, token) ─▶ librdkafka's queue ─▶ Kafka
//!                                                            │ acks=all
//! bounded channel ◀─ delivered(token, result) ◀─ event thread ◀┘
//! ```
//!
//! Idempotent: librdkafka's retries neither double nor reorder. Send from one thread only, or the order of
//! a key is the order in which the threads happened to come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use crate::client::{Log, request};
use crate::config::KafkaConfig;
use crate::error::Error;
use crate::transaction::EVENT_POLL;

/// How a [`Producer`] writes.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// How long a record may take before it is reported as failed; `None` for as long as Kafka is away.
    ///
    /// With a limit, a later record may be written after an earlier one failed: the bridge, which must
    /// keep the order, sets none.
    pub delivery_timeout: Option<Duration>,
    /// Most records that may wait for Kafka.
    pub most_records: usize,
    /// Most bytes that may wait for Kafka.
    pub most_bytes: usize,
    /// How long records are gathered for one request.
    pub linger: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            delivery_timeout: None,
            most_records: 100_000,
            most_bytes: 64 << 20,
            linger: Duration::from_millis(5),
        }
    }
}

/// A record to be written.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewRecord<'a> {
    /// Target topic.
    pub topic: &'a str,
    /// Partition, or `None` to let the partitioner choose by key.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value, `None` for a tombstone.
    pub value: Option<&'a [u8]>,
    /// Kafka time stamp in ms since 1970, or `None` for the time of sending.
    pub timestamp_ms: Option<i64>,
    /// Names and values of the headers.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// Where a delivered record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Number of the partition.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
}

/// Why a record was not taken or not delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The queue is full: send the same record again, after some reports have come.
    #[error("the queue to Kafka is full")]
    Full,
    /// The record is larger than the client or the topic allows.
    #[error("topic {topic} does not take a record of {bytes} bytes")]
    TooLarge {
        /// Target topic.
        topic: String,
        /// Bytes of key and value.
        bytes: usize,
    },
    /// The topic refuses this record for what it is; sending it again will not help.
    #[error("topic {topic} refuses the record")]
    Refused {
        /// Target topic.
        topic: String,
        /// What Kafka reported.
        source: KafkaError,
    },
    /// Whoever writes has no right to write there.
    #[error(
        "Kafka does not allow this user (--kafka-user) to write to topic {topic}: an administrator gives the right, with \
         kafka-acls or as the provider of Kafka says"
    )]
    Denied {
        /// Target topic.
        topic: String,
        /// What Kafka reported.
        source: KafkaError,
    },
    /// The record was not delivered, for reasons that lie with Kafka or on the way to it.
    #[error("the record for topic {topic} was not delivered")]
    Undelivered {
        /// Target topic.
        topic: String,
        /// What librdkafka reported.
        source: KafkaError,
    },
    /// The producer can no longer be used.
    #[error("the producer failed for good")]
    Fatal {
        /// What librdkafka reported.
        source: KafkaError,
    },
}

/// What is called with the outcome of each record, in the order in which the outcomes became known.
///
/// It runs on the event thread and holds up all later reports: hand the outcome on and return.
pub type OnDelivery = dyn Fn(u64, Result<Delivered, SendError>) + Send + Sync;

/// Writes records in order, idempotently, acknowledged by all in-sync replicas.
pub struct Producer {
    inner: Arc<BaseProducer<Reports>>,
    kafka: KafkaConfig,
    stop: Arc<AtomicBool>,
    events: Option<JoinHandle<()>>,
}

struct Reports {
    log: Log,
    on_delivery: Box<OnDelivery>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, token: usize) {
        let outcome = match result {
            Ok(message) => Ok(Delivered { partition: message.partition(), offset: message.offset() }),
            Err((error, message)) => {
                let bytes = message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len);
                Err(send_error(message.topic(), bytes, error.clone()))
            }
        };
        (self.on_delivery)(token as u64, outcome);
    }
}

impl Producer {
    /// Makes a producer that reports every record's outcome to `on_delivery`.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the settings.
    pub fn new(
        kafka: &KafkaConfig,
        config: &ProducerConfig,
        on_delivery: impl Fn(u64, Result<Delivered, SendError>) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let mut client = kafka.producer()?;
        client
            .set("enable.idempotence", "true")
            // 0 is for ever in librdkafka.
            .set("message.timeout.ms", config.delivery_timeout.map_or(0, |it| it.as_millis()).to_string())
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", config.most_records.to_string())
            .set("queue.buffering.max.kbytes", (config.most_bytes >> 10).max(1).to_string())
            .set("linger.ms", config.linger.as_millis().to_string())
            .set("message.max.bytes", "67108864");
        let reports = Reports { log: Log::default(), on_delivery: Box::new(on_delivery) };
        let inner: BaseProducer<Reports> = client
            .create_with_context(reports)
            .map_err(|source| Error::Client { purpose: "producer", source })?;
        let (inner, stop) = (Arc::new(inner), Arc::new(AtomicBool::new(false)));
        let events = {
            let (inner, stop) = (Arc::clone(&inner), Arc::clone(&stop));
            let poll = move || {
                while !stop.load(Ordering::Relaxed) {
                    inner.poll(EVENT_POLL);
                }
            };
            let name = "kafka-delivery".to_owned();
            thread::Builder::new()
                .name(name.clone())
                .spawn(poll)
                .map_err(|source| Error::Thread { name, source })?
        };
        Ok(Self { inner, kafka: kafka.clone(), stop, events: Some(events) })
    }

    /// Puts `record` into the queue and returns at once; its outcome is reported with `token`.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Full`] when the record must be sent again, or why it can never be sent; there is
    /// no report for it then.
    pub fn send(&self, record: NewRecord<'_>, token: u64) -> Result<(), SendError> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in record.headers {
            headers = headers.insert(Header { key, value: Some(*value) });
        }
        let token = usize::try_from(token).expect("a token fits a pointer: 64-bit targets only");
        let mut message =
            BaseRecord::<[u8], [u8], usize>::with_opaque_to(record.topic, token).headers(headers);
        message.partition = record.partition;
        message.key = record.key;
        message.payload = record.value;
        message.timestamp = record.timestamp_ms;
        self.inner.send(message).map_err(|(error, message)| {
            let bytes = message.key.map_or(0, <[u8]>::len) + message.payload.map_or(0, <[u8]>::len);
            send_error(record.topic, bytes, error)
        })
    }

    /// Records that are not reported yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.inner.in_flight_count()).unwrap_or(0)
    }

    /// Waits until every record is reported; what is still in the queue when the producer is dropped is lost.
    ///
    /// # Errors
    ///
    /// Returns an error when some are not reported within `timeout`.
    pub fn flush(&self, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        while self.in_flight() > 0 {
            if Instant::now() >= deadline {
                let attempt = format!("delivering the last {} records", self.in_flight());
                let source = KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut);
                return Err(request(&self.kafka, attempt)(source));
            }
            // The event thread serves the reports; a flush would take them from it.
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(events) = self.events.take() {
            // A panic in a report was printed already; there is nothing to add.
            drop(events.join());
        }
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("bootstrap", &self.kafka.bootstrap).finish_non_exhaustive()
    }
}

fn send_error(topic: &str, bytes: usize, source: KafkaError) -> SendError {
    use RDKafkaErrorCode as Code;
    let topic = topic.to_owned();
    match source.rdkafka_error_code() {
        Some(Code::QueueFull) => SendError::Full,
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => SendError::TooLarge { topic, bytes },
        Some(Code::InvalidRecord | Code::InvalidTimestamp) => SendError::Refused { topic, source },
        Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
            SendError::Denied { topic, source }
        }
        Some(Code::Fatal | Code::Fenced) => SendError::Fatal { source },
        _ => SendError::Undelivered { topic, source },
    }
}
