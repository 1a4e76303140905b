//! The loop of every stream service: each record's outcome and its offset in one transaction.
//!
//! ```text
//!          ┌──────────── one OS thread per worker ─────────────┐
//! topics ─▶│ gather ─▶ begin ─▶ process ─▶ send ─▶ offsets ─▶ commit │─▶ topics
//!          └────▲────────────────────────────────────────┬─────┘
//!               └── abort, back off, rebuild the state ◀──┘ passing fault
//! ```
//!
//! Rules that hold it together:
//! * The consumer is polled only between transactions, so partitions come and go only then.
//! * A batch that was gathered stays in memory until its transaction is committed or its partition is
//!   taken away; an abort processes it again.
//! * Whether a commit whose answer is lost took place is asked of Kafka, never assumed: the producer is
//!   rebuilt, which settles its transaction, and the position is read again.

mod assignment;
mod flags;
mod held;
mod metrics;
mod refusals;
mod standing;
mod worker;

use std::error::Error as StdError;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use telltale_records::{Batch, Outgoing, topics};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use flags::LoopFlags;
pub use metrics::{Metrics, OutcomeLabel, TopicLabel};

use crate::TopicPartition;
use crate::config::KafkaConfig;

/// What a service makes of batches; each worker owns one.
pub trait Step {
    /// What can go wrong in it.
    type Error: StdError + Send + Sync + 'static;

    /// Says whether to process now; asked before every transaction, and repeatedly while waiting.
    ///
    /// What must be the same for a whole transaction, such as the model, is read here.
    fn begin(&mut self) -> Begin {
        Begin::Go
    }

    /// Takes over partitions: rebuilds the state that belongs to them.
    ///
    /// # Errors
    ///
    /// A passing fault is tried again later; no record of these partitions is processed before it succeeds.
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault<Self::Error>> {
        let _ = partitions;
        Ok(())
    }

    /// Forgets the state of partitions: they were taken away, or their transaction was aborted.
    fn revoked(&mut self, partitions: &[TopicPartition]) {
        let _ = partitions;
    }

    /// Appends to `out` what becomes of each record of `batch`: outputs, or a dead letter.
    ///
    /// # Errors
    ///
    /// Returns a fault of its surroundings; a bad record is not an error but a dead letter.
    fn process(&mut self, batch: &Batch, out: &mut Outgoing) -> Result<(), Fault<Self::Error>>;

    /// Learns that everything processed since the last call is committed.
    fn committed(&mut self) {}

    /// Learns, when it changes, whether the worker makes progress; for the readiness probe.
    fn health(&mut self, health: Health<'_>) {
        let _ = health;
    }
}

/// Whether a step can process records now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Process.
    Go,
    /// Leave the records where they are and ask again soon.
    Wait,
}

/// A fault of a step's surroundings.
#[derive(Debug)]
pub enum Fault<E> {
    /// It will pass: the transaction is aborted and tried again, for as long as it takes.
    Passing(E),
    /// It will not pass: the process ends.
    Final(E),
}

/// Whether a worker makes progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health<'a> {
    /// It is a member of its group and nothing is in its way.
    Ready,
    /// It waits, for this reason.
    NotReady(&'a str),
}

/// What a loop reads, and how.
#[derive(Debug, Clone)]
pub struct LoopConfig {
    /// Name of the service, for the dead letters that the loop itself writes.
    pub service: &'static str,
    /// Consumer group: its members share the partitions.
    pub group: String,
    /// Topics to read.
    pub topics: Vec<String>,
    /// Where records go that a target topic refuses.
    pub dead_letters: String,
    /// Worker threads; more than there are partitions wait in reserve.
    pub workers: usize,
    /// Name of this instance: the same after a restart, different from every other instance of the group.
    ///
    /// The transactional id is made of it, by which Kafka settles what an earlier run left open.
    pub identity: String,
    /// Whether the instance keeps its partitions over a short restart (static membership).
    pub static_member: bool,
    /// Most records in one transaction.
    pub max_records: usize,
    /// Least time from the begin of a transaction to that of the next: records gather meanwhile.
    pub linger: Duration,
    /// After which time Kafka aborts a transaction that its owner left open.
    pub transaction_timeout: Duration,
    /// After which silence Kafka gives a worker's partitions to another.
    pub session_timeout: Duration,
    /// Longest time between polls, and so for one transaction, before Kafka takes the partitions away.
    pub max_poll_interval: Duration,
}

impl LoopConfig {
    /// A loop with one worker and the defaults that keep a record's way through it well under 100 ms.
    #[must_use]
    pub fn new(
        service: &'static str,
        group: impl Into<String>,
        topics: &[&str],
        identity: impl Into<String>,
    ) -> Self {
        Self {
            service,
            group: group.into(),
            topics: topics.iter().map(|&it| it.to_owned()).collect(),
            dead_letters: topics::DEAD_LETTERS.to_owned(),
            workers: 1,
            identity: identity.into(),
            static_member: false,
            max_records: 10_000,
            linger: Duration::from_millis(5),
            transaction_timeout: Duration::from_secs(60),
            session_timeout: Duration::from_secs(30),
            max_poll_interval: Duration::from_secs(300),
        }
    }
}

/// Why a loop ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E: StdError + 'static> {
    /// Kafka could not be used.
    #[error(transparent)]
    Kafka(#[from] crate::Error),
    /// The step failed for good.
    #[error(transparent)]
    Step(E),
    /// A worker panicked.
    #[error("worker {worker} panicked")]
    Panicked {
        /// Number of the worker.
        worker: usize,
    },
}

/// Runs the workers until `stop`, then finishes the transaction in hand.
///
/// # Errors
///
/// Returns why the first worker failed; the others are stopped then.
pub fn run<S: Step>(
    config: &LoopConfig,
    kafka: &KafkaConfig,
    stop: CancellationToken,
    metrics: &Metrics,
    make_step: impl Fn(usize) -> S + Sync,
) -> Result<(), Error<S::Error>> {
    match check_topics(config, kafka) {
        // The workers wait for Kafka, and say so.
        Err(error) if error.is_passing() => warn!(%error, "looking for the topics"),
        other => other?,
    }
    // Cancelled with the caller's, and by the first worker that ends.
    let stop = stop.child_token();
    let mut result = Ok(());
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for index in 0..config.workers.max(1) {
            let (make_step, worker_stop) = (&make_step, stop.clone());
            let work = move || {
                let _stop_others = worker_stop.clone().drop_guard();
                worker::run(index, config, kafka, &worker_stop, metrics, make_step(index))
            };
            let name = format!("{}-{index}", config.group);
            match thread::Builder::new().name(name.clone()).spawn_scoped(scope, work) {
                Ok(thread) => threads.push(thread),
                Err(source) => {
                    stop.cancel();
                    result = Err(crate::Error::Thread { name, source }.into());
                    break;
                }
            }
        }
        for (worker, thread) in threads.into_iter().enumerate() {
            let outcome = thread.join().unwrap_or(Err(Error::Panicked { worker }));
            if result.is_ok() {
                result = outcome;
            }
        }
    });
    result
}

/// Makes sure that every topic exists, so that a missing one is named at start.
///
/// # Errors
///
/// Names the topic that is missing, or says that Kafka could not be asked.
pub fn check_topics(config: &LoopConfig, kafka: &KafkaConfig) -> Result<(), crate::Error> {
    let reader = crate::Reader::open(kafka, crate::Isolation::Committed)?;
    let client = reader.consumer().client();
    for topic in config.topics.iter().chain([&config.dead_letters]) {
        crate::client::partitions(client, kafka, topic)?;
    }
    Ok(())
}
