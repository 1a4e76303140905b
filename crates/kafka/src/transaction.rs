//! A transactional producer, and what each of its errors means.
//!
//! Every call ends in one of four ways, and there is no fifth: it succeeded; the transaction must be
//! aborted, which leaves nothing behind; its outcome is in doubt, so that the producer must be made anew
//! (which makes Kafka settle the transaction) and the position read again; or the producer was fenced.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use telltale_records::Outgoing;
use telltale_records::outgoing::OutgoingRecord;

use crate::client::Log;
use crate::error::Error;

/// How long librdkafka is left alone between looks at what was delivered; its own slices are 100 ms.
const SLICE: Duration = Duration::from_millis(1);

/// Most bytes that may wait in the producer, in KiB.
const QUEUE_KBYTES: &str = "65536";

/// Why a transaction was not committed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It must be aborted; the same records may be tried again.
    Abort(KafkaError),
    /// Target topics refuse these records, by their index; the transaction must be aborted.
    Refused(Vec<(usize, KafkaError)>),
    /// Nobody here knows whether it was committed.
    Doubt(KafkaError),
    /// The producer, and with it the process, is at its end.
    Fatal(KafkaError),
}

impl Failure {
    /// What librdkafka reported.
    pub(crate) fn source(&self) -> &KafkaError {
        match self {
            Self::Abort(error) | Self::Doubt(error) | Self::Fatal(error) => error,
            Self::Refused(failed) => &failed.first().expect("at least one record was refused").1,
        }
    }
}

/// Takes delivery reports: failures, by the index of the record.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    log: Log,
    failed: Mutex<Vec<(usize, KafkaError)>>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        if let Err((error, _)) = result {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).push((index, error.clone()));
        }
    }
}

/// A producer that writes transactions only.
pub(crate) struct TransactionalProducer {
    producer: BaseProducer<Deliveries>,
    initialised: bool,
    timeout: Duration,
}

impl TransactionalProducer {
    /// Makes the producer; [`TransactionalProducer::initialise`] must succeed before it is used.
    pub(crate) fn new(
        mut client: ClientConfig,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let milliseconds = timeout.as_millis().to_string();
        client
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", &milliseconds)
            // Not longer than the transaction's, or librdkafka refuses the settings.
            .set("message.timeout.ms", &milliseconds)
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "2")
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", QUEUE_KBYTES)
            // Kafka's limits decide what is too large, not the client's.
            .set("message.max.bytes", "67108864");
        let producer = client
            .create_with_context(Deliveries::default())
            .map_err(|source| Error::Client { purpose: "transactional producer", source })?;
        Ok(Self { producer, initialised: false, timeout })
    }

    /// Settles what an earlier producer of the same id left open and fences it; may be called again.
    pub(crate) fn initialise(&mut self, timeout: Duration) -> Result<(), Failure> {
        if self.initialised {
            return Ok(());
        }
        self.producer.init_transactions(timeout).map_err(classify)?;
        self.initialised = true;
        Ok(())
    }

    /// An error that waiting will not mend, such as a wrong password.
    pub(crate) fn take_refusal(&self) -> Option<KafkaError> {
        self.producer.context().log.take_refusal()
    }

    /// Writes `out` and `offsets` in one transaction.
    ///
    /// Each record for which `alone` holds travels in a request of its own, so that a refusal concerns it only.
    pub(crate) fn commit(
        &self,
        out: &Outgoing,
        offsets: Option<(&TopicPartitionList, &ConsumerGroupMetadata)>,
        alone: impl Fn(OutgoingRecord<'_>) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + self.timeout;
        self.failures().clear();
        self.producer.begin_transaction().map_err(classify)?;
        for (index, record) in out.records().enumerate() {
            if alone(record) {
                self.deliver(deadline)?;
                self.send(index, record, deadline)?;
                self.deliver(deadline)?;
            } else {
                self.send(index, record, deadline)?;
            }
        }
        if let Some((offsets, group)) = offsets {
            again(deadline, |left| self.producer.send_offsets_to_transaction(offsets, group, left))?;
        }
        self.deliver(deadline)?;
        again(deadline, |left| self.producer.commit_transaction(left))
    }

    /// Aborts the transaction in hand; on an error nobody knows what became of it.
    pub(crate) fn abort(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + self.timeout;
        // What is not on its way yet need not go; what is must come back before Kafka is told.
        self.producer.purge(PurgeConfig::default().queue());
        self.drain(deadline)?;
        again(deadline, |left| self.producer.abort_transaction(left))
    }

    fn send(&self, index: usize, record: OutgoingRecord<'_>, deadline: Instant) -> Result<(), Failure> {
        let mut message = base_record(record, index);
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((error, returned)) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::QueueFull) if Instant::now() < deadline => {
                        self.producer.poll(SLICE);
                        message = returned;
                    }
                    Some(RDKafkaErrorCode::QueueFull) => return Err(Failure::Abort(error)),
                    Some(code) if refused(code) => return Err(Failure::Refused(vec![(index, error)])),
                    Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced) => {
                        return Err(Failure::Fatal(error));
                    }
                    // An earlier record failed meanwhile: its report says more.
                    Some(RDKafkaErrorCode::State) => {
                        self.deliver(deadline)?;
                        return Err(Failure::Doubt(error));
                    }
                    _ => return Err(Failure::Abort(error)),
                },
            }
        }
    }

    /// Waits until each record sent so far is delivered.
    fn deliver(&self, deadline: Instant) -> Result<(), Failure> {
        self.drain(deadline)?;
        let mut failed = std::mem::take(&mut *self.failures());
        let Some((_, first)) = failed.first().cloned() else { return Ok(()) };
        // Records behind a refused one fail too, with other codes; they will be tried again.
        failed.retain(|(_, error)| error.rdkafka_error_code().is_some_and(refused));
        Err(if failed.is_empty() { Failure::Abort(first) } else { Failure::Refused(failed) })
    }

    fn drain(&self, deadline: Instant) -> Result<(), Failure> {
        while self.producer.in_flight_count() > 0 {
            if Instant::now() >= deadline {
                return Err(Failure::Doubt(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)));
            }
            self.producer.poll(SLICE);
        }
        Ok(())
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Vec<(usize, KafkaError)>> {
        self.producer.context().failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Repeats `call` while its error says that the same call may succeed.
fn again(deadline: Instant, call: impl Fn(Duration) -> Result<(), KafkaError>) -> Result<(), Failure> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match call(left) {
            Ok(()) => return Ok(()),
            Err(KafkaError::Transaction(error)) if repeatable(&error) && !left.is_zero() => {
                std::thread::sleep(SLICE * 10);
            }
            Err(error) => return Err(classify(error)),
        }
    }
}

/// Whether the same call may be made again at once: it is retriable, and its outcome is known.
fn repeatable(error: &rdkafka::error::RDKafkaError) -> bool {
    error.is_retriable() && !error.is_fatal() && !error.txn_requires_abort() && !unanswered(error.code())
}

/// Whether a request may have been carried out although its answer is missing.
fn unanswered(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::MessageTimedOut
            | Code::TimedOutQueue
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::InProgress
    )
}

/// What an error of a transactional call means.
fn classify(error: KafkaError) -> Failure {
    match &error {
        KafkaError::Transaction(it) if it.is_fatal() => Failure::Fatal(error),
        KafkaError::Transaction(it) if it.txn_requires_abort() => Failure::Abort(error),
        _ => match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced) => Failure::Fatal(error),
            _ => Failure::Doubt(error),
        },
    }
}

/// Whether a code says that this record, and not the way to Kafka, is the trouble.
fn refused(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord | Code::InvalidTimestamp
    )
}

/// The record as librdkafka takes it.
pub(crate) fn base_record<'a, T: rdkafka::util::IntoOpaque>(
    record: OutgoingRecord<'a>,
    opaque: T,
) -> BaseRecord<'a, [u8], [u8], T> {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers().len());
    for (key, value) in record.headers() {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let mut message = BaseRecord::with_opaque_to(record.topic(), opaque).headers(headers);
    message.key = record.key();
    message.payload = record.value();
    message.partition = record.partition();
    message.timestamp = record.timestamp_ms();
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unanswered_request_is_in_doubt() {
        for code in [RDKafkaErrorCode::OperationTimedOut, RDKafkaErrorCode::BrokerTransportFailure] {
            assert!(matches!(classify(KafkaError::Flush(code)), Failure::Doubt(_)), "{code:?}");
        }
    }

    #[test]
    fn a_fenced_producer_is_at_its_end() {
        for code in [RDKafkaErrorCode::Fenced, RDKafkaErrorCode::Fatal] {
            assert!(matches!(classify(KafkaError::Global(code)), Failure::Fatal(_)), "{code:?}");
        }
    }

    #[test]
    fn only_faults_of_the_record_itself_are_refusals() {
        assert!(refused(RDKafkaErrorCode::MessageSizeTooLarge));
        assert!(!refused(RDKafkaErrorCode::MessageTimedOut));
        assert!(!refused(RDKafkaErrorCode::NotEnoughReplicas));
    }
}
