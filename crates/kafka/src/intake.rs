//! Takes messages out of librdkafka many at a time: the one module that calls it past rdkafka.
//!
//! ```text
//! partitions ─ forwarded ─▶ queue ─ take ─▶ messages, back to librdkafka when the take is dropped
//! client ─────────────────▶ rdkafka's queue ─ serve ─▶ rebalances, statistics, errors
//! ```
//!
//! rdkafka hands on one message a poll, in an event of its own and with two looks at the clock, which is half of what
//! reading costs. librdkafka's call for batches has none of that, but rdkafka does not offer it.

#![expect(unsafe_code, reason = "librdkafka's call for batches is C")]

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings::{
    rd_kafka_consume_batch_queue, rd_kafka_header_get_all, rd_kafka_headers_t, rd_kafka_message_destroy,
    rd_kafka_message_headers, rd_kafka_message_t, rd_kafka_message_timestamp, rd_kafka_queue_destroy,
    rd_kafka_queue_forward, rd_kafka_queue_get_partition, rd_kafka_queue_new, rd_kafka_queue_t,
    rd_kafka_resp_err_t, rd_kafka_timestamp_type_t, rd_kafka_topic_name,
};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use crate::client::REQUEST;

/// Most messages of one take: enough that a call costs nothing, few enough that a limit on bytes is kept nearly.
const MOST: usize = 512;

/// A consumer whose messages come many at a time.
pub(crate) struct Intake<C: ConsumerContext> {
    /// Declared before the consumer, so that it is gone when the consumer goes.
    queue: Arc<Queue>,
    /// Room for the messages of one take; none are in it between takes.
    room: Vec<NonNull<rd_kafka_message_t>>,
    consumer: BaseConsumer<C>,
}

// SAFETY: `room` holds no message between calls, and neither a queue nor a consumer belongs to a thread.
unsafe impl<C: ConsumerContext> Send for Intake<C> {}

impl<C: ConsumerContext> Intake<C> {
    /// Takes a consumer that has nothing assigned yet.
    pub(crate) fn new(consumer: BaseConsumer<C>) -> Self {
        // SAFETY: the client lives as long as `consumer`, which is dropped behind the queue.
        let queue = unsafe { rd_kafka_queue_new(consumer.client().native_ptr()) };
        let queue = NonNull::new(queue).expect("librdkafka ends the process when it has no memory");
        Self { queue: Arc::new(Queue(queue)), room: Vec::with_capacity(MOST), consumer }
    }

    /// For the rebalance callback, which sees the consumer only.
    pub(crate) fn queue(&self) -> Weak<Queue> {
        Arc::downgrade(&self.queue)
    }

    /// For everything but messages.
    pub(crate) fn consumer(&self) -> &BaseConsumer<C> {
        &self.consumer
    }

    /// Begins to read `partitions` at their offsets, and nothing else.
    ///
    /// # Errors
    ///
    /// Returns what librdkafka has against it.
    pub(crate) fn assign(&self, partitions: &TopicPartitionList) -> KafkaResult<()> {
        self.unassign()?;
        self.queue.assign(&self.consumer, partitions)
    }

    /// Reads nothing any more.
    ///
    /// # Errors
    ///
    /// Returns what librdkafka has against it.
    pub(crate) fn unassign(&self) -> KafkaResult<()> {
        let read = self.consumer.assignment()?;
        if read.count() == 0 {
            return Ok(());
        }
        self.consumer.unassign()?;
        // librdkafka ends the forwarding of a partition where it stops to read it, which is some time after it was told to; a
        // forwarding for the next assignment must not come before. The answer to this call, a refusal, comes behind the stop.
        self.consumer.seek_partitions(read, REQUEST).map(|_| ())
    }

    /// Goes on at the offsets of `partitions`, which are being read; what was fetched before is dropped.
    ///
    /// # Errors
    ///
    /// Returns what librdkafka has against it, or that it did not answer in time.
    pub(crate) fn seek(&self, partitions: TopicPartitionList) -> KafkaResult<()> {
        if partitions.count() == 0 {
            return Ok(());
        }
        let outcome = self.consumer.seek_partitions(partitions, REQUEST)?;
        outcome.elements().iter().try_for_each(|it| it.error())
    }

    /// Lets librdkafka rebalance and report, for at most `wait`.
    ///
    /// # Errors
    ///
    /// Returns an error of the client.
    pub(crate) fn serve(&self, wait: Duration) -> KafkaResult<()> {
        match self.consumer.poll(wait) {
            None => Ok(()),
            Some(Err(error)) => Err(error),
            // Partitions are forwarded before they are assigned.
            Some(Ok(_)) => Err(KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::Inconsistent)),
        }
    }

    /// Hands messages to `each`, of which it waits up to `wait` for the first and for no other.
    ///
    /// A message may be an error of its partition, also its end.
    pub(crate) fn next(&mut self, wait: Duration, mut each: impl FnMut(KafkaResult<Message<'_>>)) {
        if self.take(1, wait, &mut each) > 0 {
            self.take(MOST, Duration::ZERO, each);
        }
    }

    /// Hands up to `most` messages to `each` and waits up to `wait` for as many; returns how many there were.
    ///
    /// There may be fewer than `most` in less than `wait`: call it again.
    pub(crate) fn take(
        &mut self,
        most: usize,
        wait: Duration,
        mut each: impl FnMut(KafkaResult<Message<'_>>),
    ) -> usize {
        // Whole milliseconds, and not none for a part of one.
        let wait = wait.as_micros().div_ceil(1000).try_into().unwrap_or(i32::MAX);
        let room = self.room.as_mut_ptr().cast();
        // SAFETY: `room` is empty and has space for `MOST` pointers. librdkafka writes as many as it returns, none of
        // them null, and each message is ours until it is destroyed, which `Taken` does.
        let taken = unsafe {
            let taken = rd_kafka_consume_batch_queue(self.queue.0.as_ptr(), wait, room, most.min(MOST));
            self.room.set_len(usize::try_from(taken).unwrap_or(0));
            Taken(&mut self.room)
        };
        for &raw in taken.0.iter() {
            each(Message { raw, of: PhantomData }.or_error());
        }
        taken.0.len()
    }
}

/// Where the messages of forwarded partitions wait.
pub(crate) struct Queue(NonNull<rd_kafka_queue_t>);

// SAFETY: librdkafka's queues have a lock of their own.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// Forwards `partitions` to this queue and has `consumer`, which reads nothing, read them.
    ///
    /// In this order: what is fetched before the forwarding would come through the consumer's own queue.
    pub(crate) fn assign<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partitions: &TopicPartitionList,
    ) -> KafkaResult<()> {
        for element in partitions.elements() {
            let topic = std::ffi::CString::new(element.topic())?;
            // SAFETY: the client lives as long as `consumer`; the partition's queue is given back after its use.
            unsafe {
                let client = consumer.client().native_ptr();
                let of = rd_kafka_queue_get_partition(client, topic.as_ptr(), element.partition());
                if of.is_null() {
                    return Err(KafkaError::Subscription(format!("no queue of {}", element.topic())));
                }
                rd_kafka_queue_forward(of, self.0.as_ptr());
                rd_kafka_queue_destroy(of);
            }
        }
        consumer.assign(partitions)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_queue_new`, destroyed once, before its client.
        unsafe { rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// Messages of one take, given back to librdkafka when it ends, even by a panic.
struct Taken<'a>(&'a mut Vec<NonNull<rd_kafka_message_t>>);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for message in self.0.drain(..) {
            // SAFETY: ours since it was taken, and destroyed once.
            unsafe { rd_kafka_message_destroy(message.as_ptr()) }
        }
    }
}

/// Which partition a message is of: equal only for messages of the same partition, as long as one take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(usize, i32);

/// A message in librdkafka's memory.
pub(crate) struct Message<'a> {
    /// Alive and unchanged for `'a`.
    raw: NonNull<rd_kafka_message_t>,
    of: PhantomData<&'a rd_kafka_message_t>,
}

impl<'a> Message<'a> {
    fn or_error(self) -> KafkaResult<Self> {
        match self.raw().err {
            rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(self),
            rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                Err(KafkaError::PartitionEOF(self.raw().partition))
            }
            code => Err(KafkaError::MessageConsumption(code.into())),
        }
    }

    /// The topic it was read from.
    pub(crate) fn topic(&self) -> &'a str {
        // SAFETY: a message holds its topic, whose name is text that Kafka restricts to letters, digits and `._-`.
        let name = unsafe { CStr::from_ptr(rd_kafka_topic_name(self.raw().rkt)) };
        name.to_str().unwrap_or_default()
    }

    /// The partition it was read from.
    pub(crate) fn partition(&self) -> i32 {
        self.raw().partition
    }

    /// Topic and partition, cheaper to compare than their names.
    pub(crate) fn place(&self) -> Place {
        Place(self.raw().rkt.addr(), self.raw().partition)
    }

    /// Its position there.
    pub(crate) fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// The key, `None` where Kafka has null.
    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: librdkafka's pointer and length of the key.
        unsafe { bytes(self.raw().key.cast(), self.raw().key_len) }
    }

    /// The value, `None` for a tombstone.
    pub(crate) fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: librdkafka's pointer and length of the value.
        unsafe { bytes(self.raw().payload.cast(), self.raw().len) }
    }

    /// Its time in ms since 1970, if it has one.
    pub(crate) fn timestamp_ms(&self) -> Option<i64> {
        let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, and `kind` is written only.
        let time = unsafe { rd_kafka_message_timestamp(self.raw.as_ptr(), &raw mut kind) };
        (kind != rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && time != -1).then_some(time)
    }

    /// Names and values of its headers, in order; a name is any bytes but 0.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone + use<'a> {
        let mut headers: *mut rd_kafka_headers_t = ptr::null_mut();
        // SAFETY: the message is alive; without headers nothing is written. The list lives as long as the message.
        let found = unsafe { rd_kafka_message_headers(self.raw.as_ptr(), &raw mut headers) };
        let is_there = found == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && !headers.is_null();
        (0..).map_while(move |index| {
            // SAFETY: `headers` is the message's list, and an index behind its end is refused.
            if is_there { unsafe { header(headers, index) } } else { None }
        })
    }

    fn raw(&self) -> &'a rd_kafka_message_t {
        // SAFETY: see the field.
        unsafe { self.raw.as_ref() }
    }
}

/// # Safety
///
/// `headers` must be a list that lives and does not change for `'a`.
unsafe fn header<'a>(
    headers: *const rd_kafka_headers_t,
    index: usize,
) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: the three are written when the answer is that there is such a header, and then are the list's.
    unsafe {
        let found = rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size);
        (found == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR)
            .then(|| (CStr::from_ptr(name).to_bytes(), bytes(value.cast(), size)))
    }
}

/// # Safety
///
/// A `start` that is not null must begin `length` bytes that live and do not change for `'a`.
unsafe fn bytes<'a>(start: *const u8, length: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller vouches.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start, length) })
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
