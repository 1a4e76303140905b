//! One worker: gather, process, commit.

mod recovery;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use telltale_records::Outgoing;
use tokio_util::sync::CancellationToken;

use super::assignment::{Change, GroupConsumer, GroupIntake, join};
use super::held::Held;
use super::metrics::{OutcomeLabel, TopicLabel};
use super::refusals::Refusals;
use super::standing::Standing;
use super::{Begin, Error, Fault, LoopConfig, Metrics, Step};
use crate::backoff::Backoff;
use crate::config::KafkaConfig;
use crate::transaction::TransactionalProducer;

/// Longest time in one poll: how late a stop or a new model may be noticed.
const POLL: Duration = Duration::from_millis(50);

/// Runs worker `index` until `stop`.
pub(super) fn run<S: Step>(
    index: usize,
    config: &LoopConfig,
    kafka: &KafkaConfig,
    stop: &CancellationToken,
    metrics: &Metrics,
    step: S,
) -> Result<(), Error<S::Error>> {
    let intake = join(index, config, kafka, metrics)?;
    let mut worker = Worker {
        stop,
        transactional_id: format!("{}-{index}", config.identity),
        index,
        config,
        kafka,
        metrics,
        step,
        intake,
        producer: None,
        standing: Standing::new(),
        joined: false,
        waiting: true,
        held: Held::default(),
        out: Outgoing::new(),
        refusals: Refusals::default(),
        backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
        retry_at: Instant::now(),
        began: Instant::now(),
        health: None,
    };
    worker.work()
}

struct Worker<'a, S> {
    stop: &'a CancellationToken,
    transactional_id: String,
    index: usize,
    config: &'a LoopConfig,
    kafka: &'a KafkaConfig,
    metrics: &'a Metrics,
    step: S,
    intake: GroupIntake,
    /// `None` after a doubtful outcome: the next one settles it.
    producer: Option<TransactionalProducer>,
    standing: Standing,
    /// Whether the group has answered, if only with no partition.
    joined: bool,
    /// Whether the step asked to wait.
    waiting: bool,
    held: Held,
    out: Outgoing,
    refusals: Refusals,
    backoff: Backoff,
    retry_at: Instant,
    /// When the newest transaction began.
    began: Instant,
    /// What the step was told last: `Some("")` is ready.
    health: Option<String>,
}

impl<S: Step> Worker<'_, S> {
    fn work(&mut self) -> Result<(), Error<S::Error>> {
        self.not_ready("joining the group");
        while !self.stop.is_cancelled() {
            self.absorb_changes();
            if !self.prepare()? {
                self.serve(POLL)?;
                continue;
            }
            self.gather()?;
            if self.held.is_empty() || self.stop.is_cancelled() {
                continue;
            }
            // Partitions that came or went while gathering are seen to first.
            self.absorb_changes();
            if self.held.is_empty() || self.standing.need().is_some() {
                continue;
            }
            self.waiting = self.step.begin() == Begin::Wait;
            if !self.waiting {
                self.transact()?;
            }
        }
        Ok(())
    }

    /// Takes records in until there are enough for a transaction, or it is time for the next one.
    ///
    /// A record that comes after a quiet moment waits for nothing; while many come, they gather.
    fn gather(&mut self) -> Result<(), Error<S::Error>> {
        while !self.held.is_full(self.config.max_records) && !self.stop.is_cancelled() {
            self.serve(Duration::ZERO)?;
            if self.consumer().context().has_changed() {
                return Ok(());
            }
            let taken = if self.held.is_empty() {
                self.take(1, POLL)?
            } else {
                let next = self.began + self.config.linger;
                let room = self.config.max_records.saturating_sub(self.held.len());
                self.take(room, next.saturating_duration_since(Instant::now()))?
            };
            if taken == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes in up to `most` records, waiting up to `wait` for as many; returns how many came.
    fn take(&mut self, most: usize, wait: Duration) -> Result<usize, Error<S::Error>> {
        let before = self.held.len();
        let (held, mut errors) = (&mut self.held, Vec::new());
        held.next_take();
        self.intake.take(most, wait, |message| match message {
            Ok(message) => held.push(&message),
            Err(error) => errors.push(error),
        });
        errors.into_iter().try_for_each(|it| self.consumer_error(it))?;
        Ok(self.held.len() - before)
    }

    /// Lets librdkafka rebalance and report.
    fn serve(&mut self, wait: Duration) -> Result<(), Error<S::Error>> {
        if let Err(error) = self.intake.serve(wait) {
            self.consumer_error(error)?;
        }
        match self.consumer().context().take_refusal() {
            Some(source) => Err(self.fatal(&self.consuming(), source)),
            None => Ok(()),
        }
    }

    fn consumer(&self) -> &GroupConsumer {
        self.intake.consumer()
    }

    /// Handles the partitions that came and went in polls.
    fn absorb_changes(&mut self) {
        for change in self.consumer().context().take_changes() {
            self.joined = true;
            match change {
                Change::Assigned { partitions, positioned } => {
                    self.standing.assigned(partitions, positioned);
                }
                Change::Revoked(partitions) => {
                    self.held.remove(&partitions);
                    self.refusals.clear();
                    self.standing.revoked(&partitions);
                    self.step.revoked(&partitions);
                }
            }
        }
    }

    /// Processes what is held and commits it.
    fn transact(&mut self) -> Result<(), Error<S::Error>> {
        let started = Instant::now();
        self.began = started;
        self.out.clear();
        let (step, out) = (&mut self.step, &mut self.out);
        let processed = self.held.batches().try_for_each(|batch| step.process(batch, out));
        match processed {
            Ok(()) => {}
            Err(Fault::Final(error)) => return Err(Error::Step(error)),
            Err(Fault::Passing(error)) => {
                self.start_over();
                self.back_off("processing", &error);
                return Ok(());
            }
        }
        if !self.refusals.is_empty() {
            let (dead_letters, service) = (&self.config.dead_letters, self.config.service);
            self.out = self.refusals.replace(&self.out, self.held.batches(), dead_letters, service);
        }
        let Some(group) = self.consumer().group_metadata() else {
            self.start_over();
            self.back_off("reading the group's generation", &KafkaError::NoMessageReceived);
            return Ok(());
        };
        let producer = self.producer.as_ref().expect("`prepare` has started it");
        let (offsets, group) = (self.held.offsets(), Arc::new(group));
        match producer.commit(&self.out, Some((&offsets, &group)), |it| self.refusals.is_suspect(it)) {
            Ok(()) => {
                self.count(started);
                self.held.clear();
                self.refusals.clear();
                self.backoff.reset();
                self.step.committed();
                Ok(())
            }
            Err(failure) => self.fail(failure),
        }
    }

    fn count(&self, started: Instant) {
        self.metrics.transaction_duration.observe(started.elapsed().as_secs_f64());
        self.outcome("committed").inc();
        for batch in self.held.batches() {
            let label = TopicLabel { topic: batch.topic().to_string() };
            self.metrics.records_in.get_or_create(&label).inc_by(batch.len() as u64);
        }
        let mut run: Option<(&str, u64)> = None;
        let add = |(topic, records): (&str, u64)| {
            let label = TopicLabel { topic: topic.to_owned() };
            self.metrics.records_out.get_or_create(&label).inc_by(records);
            if topic == self.config.dead_letters {
                self.metrics.dead_letters.inc_by(records);
            }
        };
        for record in self.out.records() {
            match &mut run {
                Some((topic, records)) if *topic == record.topic() => *records += 1,
                other => {
                    if let Some(ended) = other.replace((record.topic(), 1)) {
                        add(ended);
                    }
                }
            }
        }
        run.into_iter().for_each(add);
    }

    fn outcome(
        &self,
        outcome: &'static str,
    ) -> impl std::ops::Deref<Target = prometheus_client::metrics::counter::Counter> {
        self.metrics.transactions.get_or_create(&OutcomeLabel { outcome })
    }
}
