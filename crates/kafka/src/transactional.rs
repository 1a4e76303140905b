//! Writing several records as one: all of them are seen, or none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use telltale_records::Outgoing;
use telltale_records::outgoing::OutgoingRecord;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::backoff::{Backoff, sleep};
use crate::config::KafkaConfig;
use crate::denial::{denied, is_denial};
use crate::error::Error;
use crate::transaction::{Failure, TransactionalProducer, is_fenced};

/// Longest time of one attempt to start the producer: how late a stop may be noticed.
const INITIALISE: Duration = Duration::from_secs(2);

/// Why records were not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Nothing was published; it may be tried again.
    #[error("nothing was published")]
    Aborted {
        /// What librdkafka reported.
        source: KafkaError,
    },
    /// The target topic refuses a record; nothing was published.
    #[error("topic {topic} refuses a record of {bytes} bytes; nothing was published")]
    Refused {
        /// Target topic.
        topic: String,
        /// Bytes of key and value.
        bytes: usize,
        /// What librdkafka reported.
        source: KafkaError,
    },
    /// The records were published or not; now that this error is returned, it no longer changes. Read the
    /// target topic to know.
    #[error("it is not known whether the records were published")]
    Unknown {
        /// What librdkafka reported.
        source: KafkaError,
    },
    /// The producer cannot be used any more.
    #[error(transparent)]
    Ended(#[from] Error),
}

/// Publishes transactions under one transactional id, which one process holds at a time.
pub struct Transactional {
    kafka: KafkaConfig,
    transactional_id: String,
    timeout: Duration,
    producer: TransactionalProducer,
}

impl Transactional {
    /// Takes over `transactional_id`: what its last owner left open is settled, and that owner is fenced.
    ///
    /// While Kafka is away, it waits, at most for `patience`.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka refuses, does not answer in time, or `stop` comes first.
    pub fn open(
        kafka: &KafkaConfig,
        transactional_id: &str,
        patience: Duration,
        stop: &CancellationToken,
    ) -> Result<Self, Error> {
        let timeout = Duration::from_secs(60);
        let producer = start(kafka, transactional_id, timeout, patience, stop)?;
        Ok(Self { kafka: kafka.clone(), transactional_id: transactional_id.to_owned(), timeout, producer })
    }

    /// Writes `records` in one transaction.
    ///
    /// # Errors
    ///
    /// Says whether anything was published; see [`PublishError`].
    pub fn publish(&mut self, records: &Outgoing, stop: &CancellationToken) -> Result<(), PublishError> {
        // One record a request: a refusal names its record, and these transactions are small.
        self.publish_with(records, None, |_| true, stop)
    }

    /// As [`Transactional::publish`], in few requests: for many records, none of them large.
    ///
    /// # Errors
    ///
    /// As [`Transactional::publish`]; of a refusal nobody may know which record it concerns.
    pub fn publish_together(
        &mut self,
        records: &Outgoing,
        stop: &CancellationToken,
    ) -> Result<(), PublishError> {
        self.publish_with(records, None, |_| false, stop)
    }

    /// As [`Transactional::publish`], with `offsets` in the same transaction; each record for which `alone` holds
    /// travels in a request of its own.
    pub(crate) fn publish_with(
        &mut self,
        records: &Outgoing,
        offsets: Option<(&TopicPartitionList, &Arc<ConsumerGroupMetadata>)>,
        alone: impl Fn(OutgoingRecord<'_>) -> bool,
        stop: &CancellationToken,
    ) -> Result<(), PublishError> {
        if self.producer.is_cut_off() {
            self.start_again(stop)?;
        }
        let Err(failure) = self.producer.commit(records, offsets, alone) else { return Ok(()) };
        let failure = match failure {
            Failure::Abort(source) => match self.producer.abort() {
                Ok(refused) => {
                    let refused = refused.first().and_then(|(index, _)| records.records().nth(*index));
                    return Err(match refused {
                        Some(record) => {
                            let bytes =
                                record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len);
                            PublishError::Refused { topic: record.topic().to_owned(), bytes, source }
                        }
                        None if source.rdkafka_error_code().is_some_and(is_denial) => {
                            fatal(&self.kafka, &self.transactional_id, "publishing", source).into()
                        }
                        None => PublishError::Aborted { source },
                    });
                }
                Err(of_abort) => of_abort,
            },
            other => other,
        };
        Err(match failure {
            Failure::Fatal(source) => fatal(&self.kafka, &self.transactional_id, "publishing", source).into(),
            Failure::Abort(source) | Failure::Doubt(source) => {
                // A new producer makes Kafka end the transaction one way or the other.
                self.start_again(stop)?;
                PublishError::Unknown { source }
            }
        })
    }

    fn start_again(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        let (id, timeout) = (&self.transactional_id, self.timeout);
        self.producer = start(&self.kafka, id, timeout, Duration::MAX, stop)?;
        Ok(())
    }
}

impl std::fmt::Debug for Transactional {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transactional").field("id", &self.transactional_id).finish_non_exhaustive()
    }
}

fn start(
    kafka: &KafkaConfig,
    transactional_id: &str,
    timeout: Duration,
    patience: Duration,
    stop: &CancellationToken,
) -> Result<TransactionalProducer, Error> {
    let started = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut producer =
        TransactionalProducer::new(kafka.producer()?, transactional_id, timeout, stop.clone())?;
    loop {
        let source = match producer.initialise(INITIALISE) {
            Ok(()) => return Ok(producer),
            Err(Failure::Fatal(source)) => {
                return Err(fatal(kafka, transactional_id, "starting the producer", source));
            }
            Err(failure) => failure.source().clone(),
        };
        if let Some(source) = producer.take_refusal() {
            return Err(fatal(kafka, transactional_id, "starting the producer", source));
        }
        if started.elapsed() >= patience || sleep(backoff.next(), stop) {
            let attempt = format!("starting the transactional producer {transactional_id}");
            return Err(crate::client::request(kafka, attempt)(source));
        }
        warn!(transactional_id, error = %source, "waiting for Kafka");
    }
}

/// The error of a client that is at its end.
pub(crate) fn fatal(kafka: &KafkaConfig, transactional_id: &str, attempt: &str, source: KafkaError) -> Error {
    if is_fenced(&source) {
        return Error::Fenced { transactional_id: transactional_id.to_owned(), source };
    }
    let by = format!("{attempt} as {transactional_id}");
    match source.rdkafka_error_code() {
        Some(code) if is_denial(code) => denied(kafka, by, source),
        _ => Error::Fatal { attempt: by, source },
    }
}
