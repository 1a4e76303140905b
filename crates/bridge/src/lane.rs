//! One session at work: what was received, what of it is in Kafka, what may be acknowledged.
//!
//! ```text
//! accept(message) ─▶ ledger ─▶ jobs ─▶ Kafka ─▶ delivered(token, outcome) ─▶ ledger ─▶ acknowledge, in order
//!                                │       │                │
//!                                │       └─ full: wait ───┤ a report makes room: go on with the jobs
//!                                └───────── refused ──────┘ dead letter, in parts if it must be
//! ```
//!
//! A job is done by whoever comes first, the task that receives or the thread that reports, under one lock:
//! so records go to Kafka in the order of receipt. Every message ends as a record, as a dead letter, or
//! unacknowledged at the broker.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use telltale_kafka::producer::{Delivered, NewRecord, SendError};
use telltale_mqtt::ledger::Ledger;
use telltale_mqtt::subscriber::{Acks, Message, Receipt};
use telltale_records::{Reason, Rejection};
use tracing::{debug, info, warn};

use crate::headers;
use crate::mapping::Mapping;
use crate::metrics::LaneMetrics;
use crate::sessions::Plan;

/// Bytes of one part of a dead letter that is larger than its topic takes; below Kafka's default of 1 MiB.
const PART_BYTES: usize = 900_000;

/// Memory of a message beside its topic and payload, roughly.
const OVERHEAD: usize = 300;

/// Where records go; the bridge's is a producer, the tests' a list.
pub(crate) trait Kafka {
    /// Queues a record; its outcome is reported with `token`.
    fn send(&self, record: NewRecord<'_>, token: u64) -> Result<(), SendError>;
}

impl Kafka for telltale_kafka::Producer {
    fn send(&self, record: NewRecord<'_>, token: u64) -> Result<(), SendError> {
        Self::send(self, record, token)
    }
}

/// How much a lane may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of messages that may wait for Kafka.
    pub(crate) bytes: usize,
    /// Messages of QoS 0 are dropped when so many messages wait: no receive maximum bounds them.
    pub(crate) messages: usize,
}

/// One session at work.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Number of the lane, part of its tokens.
    pub(crate) index: u8,
    /// What logs and readiness call it.
    pub(crate) name: String,
    pub(crate) mapping: Mapping,
    dead_letters: String,
    acks: Acks,
    limits: Limits,
    pub(crate) metrics: LaneMetrics,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    ledger: Ledger<Entry>,
    /// Records that are not in Kafka's queue yet, in order.
    jobs: VecDeque<Job>,
    /// Bytes of the messages in the ledger.
    bytes: usize,
    /// When Kafka last reported anything, or the ledger last was empty.
    progress: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Messages are taken.
    Open,
    /// A message found no room: it and all after it are left to the broker, until the connection is renewed.
    Full,
    /// The bridge stops: messages are left to the broker.
    Closed,
}

#[derive(Debug)]
struct Entry {
    receipt: Option<Receipt>,
    message: Box<Message>,
    since: Instant,
    rejection: Option<Rejection>,
    /// Parts of its dead letter that are not delivered yet.
    parts_left: usize,
}

/// What to send for an entry of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Job {
    number: u64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Record,
    DeadLetter,
    /// A part of a dead letter, from 0.
    Part(u16),
}

/// Bits of a token, from the lowest: the number of the entry, kind and part, the lane.
const NUMBER_BITS: u32 = 40;
const KIND_BITS: u32 = 16;

impl Job {
    fn token(self, lane: u8) -> u64 {
        let kind = match self.kind {
            Kind::Record => 0,
            Kind::DeadLetter => 1,
            Kind::Part(part) => 2 + u64::from(part),
        };
        let number = self.number & ((1 << NUMBER_BITS) - 1);
        u64::from(lane) << (NUMBER_BITS + KIND_BITS) | kind << NUMBER_BITS | number
    }

    /// The job of a token. Numbers begin at 0 with the process and rise by one a message, so that 40 bits of
    /// them last for years at any rate.
    fn of(token: u64) -> Self {
        let number = token & ((1 << NUMBER_BITS) - 1);
        let kind = match (token >> NUMBER_BITS) & ((1 << KIND_BITS) - 1) {
            0 => Kind::Record,
            1 => Kind::DeadLetter,
            part => Kind::Part(u16::try_from(part - 2).expect("16 bits")),
        };
        Self { number, kind }
    }
}

/// The lane that a token belongs to.
pub(crate) fn lane_of(token: u64) -> usize {
    usize::try_from(token >> (NUMBER_BITS + KIND_BITS)).expect("8 bits")
}

impl Lane {
    pub(crate) fn new(
        index: u8,
        plan: Plan,
        dead_letters: String,
        acks: Acks,
        limits: Limits,
        metrics: LaneMetrics,
    ) -> Self {
        let state = Mutex::new(State {
            phase: Phase::Open,
            ledger: Ledger::new(),
            jobs: VecDeque::new(),
            bytes: 0,
            progress: Instant::now(),
        });
        let Plan { mapping, name, .. } = plan;
        Self { index, name, mapping, dead_letters, acks, limits, metrics, state }
    }

    /// Takes messages that were received together: one look at the clock and one lock are enough for them.
    ///
    /// # Errors
    ///
    /// Returns why nothing can be written to Kafka any more.
    pub(crate) fn accept(
        &self,
        kafka: &dyn Kafka,
        messages: impl IntoIterator<Item = Box<Message>>,
    ) -> Result<(), SendError> {
        let now = Instant::now();
        let mut state = self.lock();
        for message in messages {
            self.metrics.messages.inc();
            if message.duplicate {
                self.metrics.duplicates.inc();
            }
            self.enter(&mut state, message, now);
            self.work(kafka, &mut state)?;
        }
        Ok(())
    }

    /// Enters a message into the ledger, if there is room for it.
    fn enter(&self, state: &mut State, message: Box<Message>, now: Instant) {
        let bytes = size(&message);
        let too_many_bytes = state.bytes + bytes > self.limits.bytes && !state.ledger.is_empty();
        match (state.phase, message.receipt) {
            (Phase::Open, Some(_)) if too_many_bytes => {
                let (topic, waiting) = (self.mapping.topic.as_str(), state.ledger.len());
                warn!(topic, waiting, waiting_bytes = state.bytes, "no room, leaving messages to the broker");
                state.phase = Phase::Full;
                self.metrics.passed_over.inc();
                return;
            }
            (Phase::Open, None) if too_many_bytes || state.ledger.len() >= self.limits.messages => {
                self.metrics.best_effort_dropped.inc();
                return;
            }
            (Phase::Open, _) => {}
            (Phase::Full | Phase::Closed, Some(_)) => {
                self.metrics.passed_over.inc();
                return;
            }
            (Phase::Full | Phase::Closed, None) => {
                self.metrics.best_effort_dropped.inc();
                return;
            }
        }
        if state.ledger.is_empty() {
            state.progress = now;
        }
        let receipt = message.receipt;
        let entry = Entry { receipt, message, since: now, rejection: None, parts_left: 0 };
        state.bytes += bytes;
        self.metrics.waiting.inc();
        let number = state.ledger.enter(entry);
        state.jobs.push_back(Job { number, kind: Kind::Record });
    }

    /// Takes Kafka's report on a record; returns the time since the message was received, once it is safe.
    ///
    /// # Errors
    ///
    /// Returns why nothing can be written to Kafka any more.
    pub(crate) fn delivered(
        &self,
        kafka: &dyn Kafka,
        token: u64,
        outcome: Result<Delivered, SendError>,
    ) -> Result<Option<Duration>, SendError> {
        let job = Job::of(token);
        let now = Instant::now();
        let mut state = self.lock();
        state.progress = now;
        let mut waited = None;
        match outcome {
            Ok(_) => waited = self.settle(&mut state, job, now),
            Err(error) => self.refused(&mut state, job, error)?,
        }
        self.work(kafka, &mut state)?;
        if state.phase == Phase::Full && state.ledger.is_empty() {
            // Everything taken is acknowledged: what was passed over comes again on a new connection.
            self.acks.renew();
        }
        Ok(waited)
    }

    /// Whether something waits for room in Kafka's queue.
    pub(crate) fn is_held_up(&self) -> bool {
        !self.lock().jobs.is_empty()
    }

    /// Goes on with what waits for room in Kafka's queue.
    ///
    /// # Errors
    ///
    /// Returns why nothing can be written to Kafka any more.
    pub(crate) fn proceed(&self, kafka: &dyn Kafka) -> Result<(), SendError> {
        let mut state = self.lock();
        self.work(kafka, &mut state)
    }

    /// Takes messages again after the connection was renewed.
    pub(crate) fn connected(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Full {
            info!(topic = self.mapping.topic.as_str(), "there is room again");
            state.phase = Phase::Open;
        }
    }

    /// Leaves what comes from now on to the broker.
    pub(crate) fn close(&self) {
        self.lock().phase = Phase::Closed;
    }

    /// Says farewell to the broker.
    pub(crate) fn farewell(&self) {
        self.acks.close();
    }

    /// Messages taken and not yet safe, and for how long Kafka has reported nothing.
    pub(crate) fn waiting(&self) -> (usize, Duration) {
        let state = self.lock();
        let silence = if state.ledger.is_empty() { Duration::ZERO } else { state.progress.elapsed() };
        (state.ledger.len(), silence)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does jobs until there are none or Kafka's queue is full.
    fn work(&self, kafka: &dyn Kafka, state: &mut State) -> Result<(), SendError> {
        while let Some(job) = state.jobs.front().copied() {
            match self.send(kafka, state, job) {
                Err(SendError::Full) => return Ok(()),
                Ok(()) => {
                    state.jobs.pop_front();
                }
                Err(error) => {
                    state.jobs.pop_front();
                    self.refused(state, job, error)?;
                }
            }
        }
        Ok(())
    }

    fn send(&self, kafka: &dyn Kafka, state: &mut State, job: Job) -> Result<(), SendError> {
        let Some(entry) = state.ledger.get_mut(job.number) else { return Ok(()) };
        let message = &entry.message;
        let topic = std::str::from_utf8(&message.topic).unwrap_or("");
        let target = self.mapping.topic.as_str();
        let refuse =
            |problem: String| Err(Rejection { reason: Reason::BadKey, detail: problem, service: "bridge" });
        let key = match (std::str::from_utf8(&message.topic).is_ok(), self.mapping.key_of(topic)) {
            (true, Ok(key)) => Ok(key),
            (true, Err(problem)) => refuse(problem),
            (false, _) => refuse("the MQTT topic is not UTF-8 text".to_owned()),
        };
        let (key, kind) = match key {
            Ok(key) => (key, job.kind),
            Err(rejection) => {
                entry.rejection.get_or_insert(rejection);
                (None, if job.kind == Kind::Record { Kind::DeadLetter } else { job.kind })
            }
        };
        let key = key.map(str::as_bytes);
        let token = Job { kind, ..job }.token(self.index);
        if kind == Kind::Record {
            let with_topic = (!self.mapping.tells_topic()).then_some(topic);
            let (headers, dropped) = headers::of_record(message, with_topic);
            let value = Some(&message.payload[..]);
            let record = NewRecord { topic: target, key, value, headers: &headers, ..NewRecord::default() };
            kafka.send(record, token)?;
            self.metrics.properties_dropped.inc_by(dropped);
            return Ok(());
        }
        let rejection = entry.rejection.as_ref().expect("a dead letter has a reason");
        let (mut value, mut place) = (&message.payload[..], String::new());
        if let Kind::Part(part) = kind {
            let parts = value.len().div_ceil(PART_BYTES).max(1);
            place = format!("{} of {parts}", part + 1);
            value = value.chunks(PART_BYTES).nth(part.into()).unwrap_or_default();
        }
        let headers = headers::of_dead_letter(message, topic, target, rejection, &place);
        let topic = self.dead_letters.as_str();
        kafka.send(
            NewRecord { topic, key, value: Some(value), headers: &headers, ..NewRecord::default() },
            token,
        )
    }

    /// Decides what becomes of a record that Kafka did not take.
    fn refused(&self, state: &mut State, job: Job, error: SendError) -> Result<(), SendError> {
        let Some(entry) = state.ledger.get_mut(job.number) else { return Ok(()) };
        let reason = match &error {
            SendError::TooLarge { .. } => Reason::TooLarge,
            SendError::Refused { .. } => Reason::Refused,
            _ => return Err(error),
        };
        match job.kind {
            Kind::Record => {
                debug!(topic = self.mapping.topic.as_str(), %error, "record becomes a dead letter");
                let detail = match std::error::Error::source(&error) {
                    Some(source) => format!("{error}: {source}"),
                    None => error.to_string(),
                };
                entry.rejection.get_or_insert(Rejection { reason, detail, service: "bridge" });
                state.jobs.push_back(Job { number: job.number, kind: Kind::DeadLetter });
            }
            Kind::DeadLetter if reason == Reason::TooLarge && entry.message.payload.len() > PART_BYTES => {
                let parts = entry.message.payload.len().div_ceil(PART_BYTES);
                entry.parts_left = parts;
                let number = job.number;
                let part =
                    |it: usize| Job { number, kind: Kind::Part(u16::try_from(it).unwrap_or(u16::MAX)) };
                state.jobs.extend((0..parts).map(part));
            }
            Kind::DeadLetter | Kind::Part(_) => return Err(error),
        }
        Ok(())
    }

    /// A record is in Kafka: acknowledges what may be acknowledged now.
    fn settle(&self, state: &mut State, job: Job, now: Instant) -> Option<Duration> {
        let entry = state.ledger.get_mut(job.number)?;
        let waited = now.saturating_duration_since(entry.since);
        match job.kind {
            Kind::Record => _ = self.metrics.delivered.inc(),
            Kind::DeadLetter => self.metrics.dead_letter(entry.rejection.as_ref()),
            Kind::Part(_) => {
                entry.parts_left -= 1;
                if entry.parts_left > 0 {
                    return None;
                }
                self.metrics.dead_letter(entry.rejection.as_ref());
            }
        }
        let mut freed = 0;
        state.ledger.complete(job.number, |entry| {
            freed += size(&entry.message);
            self.metrics.waiting.dec();
            if entry.receipt.is_some_and(|it| self.acks.acknowledge(it)) {
                self.metrics.acknowledged.inc();
            }
        });
        state.bytes -= freed;
        Some(waited)
    }
}

fn size(message: &Message) -> usize {
    let properties: usize =
        message.user_properties.iter().map(|(name, value)| name.len() + value.len()).sum();
    message.topic.len() + message.payload.len() + properties + OVERHEAD
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
