//! A transactional producer, and what each of its errors means.
//!
//! Every call ends in one of four ways, and there is no fifth: it succeeded; the transaction must be
//! aborted, which leaves nothing behind; its outcome is in doubt, so that the producer must be made anew
//! (which makes Kafka settle the transaction) and the position read again; or the producer was fenced.
//!
//! librdkafka makes a request again by itself when its connection ends before the answer. The first may be on its way
//! still, and Kafka takes a late commit for that of the next transaction (KAFKA-17754): a producer that was cut off
//! ends its transaction and is made anew, which fences whatever comes late.
//!
//! Kafka itself fences a producer whose transaction took longer than its time, as one does that stood still or whose Kafka
//! was away. Nobody has taken its place then: such a transaction is in doubt, and so its producer is made anew.

mod bounded;
mod deliveries;
mod failure;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};
use telltale_records::Outgoing;
use telltale_records::outgoing::OutgoingRecord;
use tokio_util::sync::CancellationToken;

use crate::deadline::Deadline;
use crate::error::Error;
use bounded::bounded;
use deliveries::Deliveries;
pub(crate) use failure::{Failure, is_fenced, is_missing};
use failure::{classify, refused, repeatable};

/// How long the event thread stays in one poll, and so the longest time that ending it takes.
///
/// rdkafka spins through the last millisecond of a poll: short polls cost a processor.
pub(crate) const EVENT_POLL: Duration = Duration::from_millis(250);

/// Wait before a call is made again whose outcome is known.
const AGAIN: Duration = Duration::from_millis(10);

/// Longest time in one call about the transaction; after that its outcome is in doubt.
const CALL: Duration = Duration::from_secs(10);

/// Wait for room in the queue, and for librdkafka to let go of the last message.
const MOMENT: Duration = Duration::from_micros(100);

/// After so long without an answer a delivery is late enough to ask whether its topic is there, and for how long to ask.
const LATE: Duration = Duration::from_secs(5);

/// Most bytes that may wait in the producer, in KiB.
const QUEUE_KBYTES: &str = "65536";

/// A producer that writes transactions only.
pub(crate) struct TransactionalProducer {
    producer: Arc<BaseProducer<Deliveries>>,
    initialised: bool,
    /// After which time Kafka aborts an open transaction and fences its producer.
    timeout: Duration,
    /// Longest time for a transaction, and for its abort: shorter than `timeout`.
    patience: Duration,
    /// When the newest transaction began.
    begun: Cell<Instant>,
    /// Brings deadlines nearer.
    shutdown: CancellationToken,
    /// Ends the event thread.
    stop: Arc<AtomicBool>,
    events: Option<JoinHandle<()>>,
}

impl TransactionalProducer {
    /// Makes the producer; [`TransactionalProducer::initialise`] must succeed before it is used.
    pub(crate) fn new(
        mut client: ClientConfig,
        transactional_id: &str,
        timeout: Duration,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        // We give up first, with time for the abort: what Kafka ends by itself fences its producer.
        let patience = timeout * 2 / 3;
        client
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", timeout.as_millis().to_string())
            .set("message.timeout.ms", patience.as_millis().to_string())
            // A connection without answers is given up in time to try another one.
            .set("socket.timeout.ms", (patience / 2).as_millis().to_string())
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "2")
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", QUEUE_KBYTES)
            // Kafka's limits decide what is too large, not the client's.
            .set("message.max.bytes", "67108864")
            // For the ends of connections, see `Deliveries::log`.
            .set("debug", "broker")
            .set_log_level(RDKafkaLogLevel::Debug);
        let producer: BaseProducer<Deliveries> = client
            .create_with_context(Deliveries::default())
            .map_err(|source| Error::Client { purpose: "transactional producer", source })?;
        let (producer, stop) = (Arc::new(producer), Arc::new(AtomicBool::new(false)));
        let events = {
            let (producer, stop) = (Arc::clone(&producer), Arc::clone(&stop));
            let poll = move || {
                while !stop.load(Ordering::Relaxed) {
                    producer.poll(EVENT_POLL);
                }
            };
            let name = "kafka-delivery".to_owned();
            thread::Builder::new()
                .name(name.clone())
                .spawn(poll)
                .map_err(|source| Error::Thread { name, source })?
        };
        let begun = Cell::new(Instant::now());
        Ok(Self {
            producer,
            initialised: false,
            timeout,
            patience,
            begun,
            shutdown,
            stop,
            events: Some(events),
        })
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

    /// Whether a request of it may arrive late, so that it must not begin another transaction.
    pub(crate) fn is_cut_off(&self) -> bool {
        // What librdkafka has reported so far is taken in first.
        self.producer.poll(Duration::ZERO);
        self.initialised && self.deliveries().cut_off.load(Ordering::Acquire)
    }

    /// An error that waiting will not mend, such as a wrong password.
    pub(crate) fn take_refusal(&self) -> Option<KafkaError> {
        self.deliveries().log.take_refusal()
    }

    /// Writes `out` and `offsets` in one transaction.
    ///
    /// Each record for which `alone` holds travels in a request of its own, so that a refusal concerns it only.
    pub(crate) fn commit(
        &self,
        out: &Outgoing,
        offsets: Option<(&TopicPartitionList, &Arc<ConsumerGroupMetadata>)>,
        alone: impl Fn(OutgoingRecord<'_>) -> bool,
    ) -> Result<(), Failure> {
        self.begun.set(Instant::now());
        self.try_commit(out, offsets, alone).map_err(|it| self.unless_overdue(it))
    }

    fn try_commit(
        &self,
        out: &Outgoing,
        offsets: Option<(&TopicPartitionList, &Arc<ConsumerGroupMetadata>)>,
        alone: impl Fn(OutgoingRecord<'_>) -> bool,
    ) -> Result<(), Failure> {
        let deadline = &Deadline::new(self.patience, &self.shutdown);
        self.deliveries().failed().clear();
        self.producer.begin_transaction().map_err(classify)?;
        for (index, record) in out.records().enumerate() {
            if alone(record) {
                self.deliver(out, deadline)?;
                self.send(out, index, record, deadline)?;
                self.deliver(out, deadline)?;
            } else {
                self.send(out, index, record, deadline)?;
            }
        }
        if let Some((offsets, group)) = offsets {
            let sent = self.send_offsets(offsets, group, deadline);
            if sent.is_err() {
                // Where a record failed meanwhile, its report says more.
                self.deliver(out, deadline)?;
            }
            sent?;
        }
        self.deliver(out, deadline)?;
        again(deadline, |left| self.producer.commit_transaction(left))
    }

    /// Aborts the transaction in hand; on an error nobody knows what became of it.
    ///
    /// Returns the records that their topics refuse, by index: the same transaction would fail again.
    pub(crate) fn abort(&self) -> Result<Vec<(usize, KafkaError)>, Failure> {
        self.try_abort().map_err(|it| self.unless_overdue(it))
    }

    /// `failure`, but a producer that Kafka fenced because its transaction took too long is not at its end.
    fn unless_overdue(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Fatal(source) if is_fenced(&source) && self.begun.get().elapsed() >= self.timeout => {
                Failure::Doubt(source)
            }
            other => other,
        }
    }

    fn try_abort(&self) -> Result<Vec<(usize, KafkaError)>, Failure> {
        let deadline = &Deadline::new(self.patience, &self.shutdown);
        self.withdraw(deadline)?;
        again(deadline, |left| self.producer.abort_transaction(left))?;
        let mut failed = std::mem::take(&mut *self.deliveries().failed());
        // Records behind a refused one fail too, with other codes.
        failed.retain(|(_, error)| error.rdkafka_error_code().is_some_and(refused));
        Ok(failed)
    }

    fn send(
        &self,
        out: &Outgoing,
        index: usize,
        record: OutgoingRecord<'_>,
        deadline: &Deadline<'_>,
    ) -> Result<(), Failure> {
        let mut message = base_record(record, index);
        loop {
            self.deliveries().under_way.fetch_add(1, Ordering::AcqRel);
            let (error, returned) = match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            self.deliveries().under_way.fetch_sub(1, Ordering::AcqRel);
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) if !deadline.is_over() => {
                    thread::sleep(MOMENT);
                    message = returned;
                }
                Some(RDKafkaErrorCode::QueueFull) => return Err(Failure::Abort(error)),
                Some(code) if refused(code) => {
                    self.deliveries().failed().push((index, error.clone()));
                    return Err(Failure::Abort(error));
                }
                Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced) => {
                    return Err(Failure::Fatal(error));
                }
                // An earlier record failed meanwhile: its report says more.
                Some(RDKafkaErrorCode::State) => {
                    self.deliver(out, deadline)?;
                    return Err(Failure::Doubt(error));
                }
                _ => return Err(Failure::Abort(error)),
            }
        }
    }

    /// Writes the offsets into the transaction.
    fn send_offsets(
        &self,
        offsets: &TopicPartitionList,
        group: &Arc<ConsumerGroupMetadata>,
        deadline: &Deadline<'_>,
    ) -> Result<(), Failure> {
        // librdkafka forgets the time-out of this call, and of no other, while the group's coordinator is away (its
        // issue 5456). A thread that stays in it has the producer for itself: in doubt, another is made.
        again(deadline, |left| {
            let (producer, offsets, group) = (Arc::clone(&self.producer), offsets.clone(), Arc::clone(group));
            let send = move || producer.send_offsets_to_transaction(&offsets, &group, left);
            bounded("kafka-offsets", left, deadline, send)
        })
    }

    /// Waits until each record sent so far is delivered, or one is not. `out` is what they are of.
    fn deliver(&self, out: &Outgoing, deadline: &Deadline<'_>) -> Result<(), Failure> {
        if !self.deliveries().wait(true, &Deadline::new(LATE.min(deadline.left()), &self.shutdown)) {
            // librdkafka waits in silence for a topic that was deleted.
            if let Some(error) = self.missing_topic(out) {
                return Err(Failure::Abort(error));
            }
            if !self.deliveries().wait(true, deadline) {
                return Err(unanswered_delivery());
            }
        }
        // Once one has failed librdkafka sends no other before the abort.
        let failed = self.deliveries().failed().first().map(|(_, error)| error.clone());
        failed.map_or_else(|| self.settle(deadline), |error| Err(Failure::Abort(error)))
    }

    /// The error of the first topic of `out` that Kafka says does not exist.
    fn missing_topic(&self, out: &Outgoing) -> Option<KafkaError> {
        targets(out).into_iter().find_map(|topic| {
            let metadata = self.producer.client().fetch_metadata(Some(topic), LATE).ok()?;
            let error = metadata.topics().iter().find(|it| it.name() == topic)?.error()?;
            let code = RDKafkaErrorCode::from(error);
            is_missing(code).then_some(KafkaError::MessageProduction(code))
        })
    }

    /// Takes back what is not on its way yet and waits for what is.
    ///
    /// librdkafka's abort does so too, but once: requests behind a refused one come back into its queue after
    /// that, are never sent, and the abort waits for them until its time is over.
    fn withdraw(&self, deadline: &Deadline<'_>) -> Result<(), Failure> {
        loop {
            self.producer.purge(PurgeConfig::default().queue());
            if self.deliveries().wait(false, &Deadline::new(AGAIN, &self.shutdown)) {
                return self.settle(deadline);
            }
            if deadline.is_over() {
                return Err(unanswered_delivery());
            }
        }
    }

    /// Waits for librdkafka to let go of the messages reported last: a commit would sleep 100 ms over them.
    fn settle(&self, deadline: &Deadline<'_>) -> Result<(), Failure> {
        while self.producer.in_flight_count() > 0 {
            if deadline.is_over() {
                return Err(unanswered_delivery());
            }
            thread::sleep(MOMENT);
        }
        Ok(())
    }

    fn deliveries(&self) -> &Deliveries {
        self.producer.context()
    }
}

impl Drop for TransactionalProducer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(events) = self.events.take() {
            // A panic was printed when it happened; there is nothing to add.
            drop(events.join());
        }
    }
}

/// The topics that records of `out` go to.
pub(crate) fn targets(out: &Outgoing) -> BTreeSet<&str> {
    out.records().map(|it| it.topic()).collect()
}

/// The failure of a delivery that took too long.
fn unanswered_delivery() -> Failure {
    Failure::Doubt(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut))
}

/// Repeats `call` while its error says that the same call may succeed.
fn again(deadline: &Deadline<'_>, call: impl Fn(Duration) -> Result<(), KafkaError>) -> Result<(), Failure> {
    loop {
        let left = deadline.left();
        match call(left.min(CALL)) {
            Ok(()) => return Ok(()),
            Err(KafkaError::Transaction(error)) if repeatable(&error) && !left.is_zero() => {
                thread::sleep(AGAIN);
            }
            Err(error) => return Err(classify(error)),
        }
    }
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
#[path = "transaction_tests.rs"]
mod tests;
