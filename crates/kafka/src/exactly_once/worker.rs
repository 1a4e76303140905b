//! One worker: gather, process, commit, and the way back from everything that can go wrong.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use telltale_records::Outgoing;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::assignment::{Change, GroupConsumer, at, committed, join};
use super::held::Held;
use super::metrics::{OutcomeLabel, TopicLabel};
use super::refusals::Refusals;
use super::{Begin, Error, Fault, Health, LoopConfig, Metrics, Step};
use crate::TopicPartition;
use crate::backoff::Backoff;
use crate::client::{self, REQUEST};
use crate::config::KafkaConfig;
use crate::transaction::{Failure, TransactionalProducer};

/// Longest time in one poll: how late a stop or a new model may be noticed.
const POLL: Duration = Duration::from_millis(50);

/// How long one attempt to start the producer may keep the consumer from being polled.
const INITIALISE: Duration = Duration::from_secs(5);

/// Runs worker `index` until `stop`.
pub(super) fn run<S: Step>(
    index: usize,
    config: &LoopConfig,
    kafka: &KafkaConfig,
    stop: &CancellationToken,
    metrics: &Metrics,
    step: S,
) -> Result<(), Error<S::Error>> {
    let consumer = join(index, config, kafka, metrics)?;
    let mut worker = Worker {
        transactional_id: format!("{}-{index}", config.identity),
        index,
        config,
        kafka,
        metrics,
        step,
        consumer,
        producer: None,
        partitions: Vec::new(),
        unprepared: Vec::new(),
        positioned: true,
        joined: false,
        waiting: true,
        paused: None,
        held: Held::default(),
        out: Outgoing::new(),
        refusals: Refusals::default(),
        backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
        retry_at: Instant::now(),
        health: None,
    };
    worker.work(stop)
}

struct Worker<'a, S> {
    transactional_id: String,
    index: usize,
    config: &'a LoopConfig,
    kafka: &'a KafkaConfig,
    metrics: &'a Metrics,
    step: S,
    consumer: GroupConsumer,
    /// `None` after a doubtful outcome: the next one settles it.
    producer: Option<TransactionalProducer>,
    /// The partitions held.
    partitions: Vec<TopicPartition>,
    /// Those whose state the step must rebuild first.
    unprepared: Vec<TopicPartition>,
    /// Whether the consumer stands where the group's offsets say.
    positioned: bool,
    /// Whether the group has answered, if only with no partition.
    joined: bool,
    /// Whether the step asked to wait.
    waiting: bool,
    /// Whether the partitions are paused; `None` after an assignment, when librdkafka may have changed it.
    paused: Option<bool>,
    held: Held,
    out: Outgoing,
    refusals: Refusals,
    backoff: Backoff,
    retry_at: Instant,
    /// What the step was told last: `Some("")` is ready.
    health: Option<String>,
}

impl<S: Step> Worker<'_, S> {
    fn work(&mut self, stop: &CancellationToken) -> Result<(), Error<S::Error>> {
        self.not_ready("joining the group");
        while !stop.is_cancelled() {
            self.absorb_changes();
            if !self.prepare()? {
                self.pause();
                self.poll(POLL)?;
                continue;
            }
            self.resume();
            self.gather(stop)?;
            if self.held.is_empty() || stop.is_cancelled() {
                continue;
            }
            // Partitions that came or went while gathering are seen to first.
            self.absorb_changes();
            if self.held.is_empty() || !self.unprepared.is_empty() || !self.positioned {
                continue;
            }
            self.waiting = self.step.begin() == Begin::Wait;
            if !self.waiting {
                self.transact()?;
            }
        }
        Ok(())
    }

    /// Does what must be done before records may be processed; returns whether all of it is.
    fn prepare(&mut self) -> Result<bool, Error<S::Error>> {
        if Instant::now() < self.retry_at {
            return Ok(false);
        }
        if !self.start_producer()? || !self.find_positions() || !self.prepare_state()? {
            return Ok(false);
        }
        if self.waiting {
            self.waiting = self.step.begin() == Begin::Wait;
        }
        if !self.joined {
            return Ok(!self.waiting);
        }
        if self.consumer.context().is_reachable() {
            self.ready();
        } else {
            self.not_ready(&format!("no connection to Kafka at {}", self.kafka.bootstrap));
        }
        Ok(!self.waiting)
    }

    fn start_producer(&mut self) -> Result<bool, Error<S::Error>> {
        let producer = match &mut self.producer {
            Some(producer) => producer,
            none => none.insert(TransactionalProducer::new(
                self.kafka.client()?,
                &self.transactional_id,
                self.config.transaction_timeout,
            )?),
        };
        match producer.initialise(INITIALISE) {
            Ok(()) => Ok(true),
            Err(Failure::Fatal(source)) => Err(self.fatal("starting the transactional producer", source)),
            Err(failure) => {
                if let Some(source) = producer.take_refusal() {
                    return Err(self.fatal("starting the transactional producer", source));
                }
                self.back_off("starting the transactional producer", failure.source());
                Ok(false)
            }
        }
    }

    /// After a doubtful outcome: reads where the group stands and goes there.
    fn find_positions(&mut self) -> bool {
        if self.positioned {
            return true;
        }
        let found = committed(&self.consumer, &self.partitions, REQUEST)
            .and_then(|positions| self.consumer.assign(&positions).map(|()| positions));
        match found {
            Ok(positions) => {
                debug!(worker = self.index, ?positions, "positions read again");
                // What is held may be committed already; what is not comes again.
                self.held.clear();
                self.refusals.clear();
                self.paused = None;
                self.positioned = true;
                true
            }
            Err(error) => {
                self.back_off("reading the group's offsets", &error);
                false
            }
        }
    }

    fn prepare_state(&mut self) -> Result<bool, Error<S::Error>> {
        if self.unprepared.is_empty() {
            return Ok(true);
        }
        match self.step.assigned(&self.unprepared) {
            Ok(()) => {
                self.unprepared.clear();
                Ok(true)
            }
            Err(Fault::Passing(error)) => {
                self.step.revoked(&self.unprepared);
                self.back_off("taking over partitions", &error);
                Ok(false)
            }
            Err(Fault::Final(error)) => Err(Error::Step(error)),
        }
    }

    /// Takes records in until there are enough for a transaction, or none came for a while.
    fn gather(&mut self, stop: &CancellationToken) -> Result<(), Error<S::Error>> {
        let mut deadline = None;
        while !self.held.is_full(self.config.max_records) && !stop.is_cancelled() {
            let wait = match deadline {
                None if self.held.is_empty() => POLL,
                None => self.config.linger,
                // Whole milliseconds: rdkafka spins through the rest of one.
                Some(deadline) => {
                    let left = Instant::saturating_duration_since(&deadline, Instant::now());
                    Duration::from_millis(left.as_micros().div_ceil(1000).try_into().unwrap_or(u64::MAX))
                }
            };
            let before = self.held.len();
            self.poll(wait)?;
            if self.held.len() == before {
                // Nothing, or a rebalance: the caller looks.
                return Ok(());
            }
            deadline.get_or_insert_with(|| Instant::now() + self.config.linger);
        }
        Ok(())
    }

    /// Polls once: takes a record in, or lets librdkafka rebalance.
    fn poll(&mut self, wait: Duration) -> Result<(), Error<S::Error>> {
        match self.consumer.poll(wait) {
            None => {}
            Some(Ok(message)) => self.held.push(&message),
            Some(Err(error)) => return self.consumer_error(error),
        }
        match self.consumer.context().take_refusal() {
            Some(source) => Err(self.fatal("consuming", source)),
            None => Ok(()),
        }
    }

    fn consumer_error(&mut self, error: KafkaError) -> Result<(), Error<S::Error>> {
        match &error {
            KafkaError::MessageConsumptionFatal(_) => Err(self.fatal("consuming", error)),
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) if self.positioned => {
                Err(self
                    .out_of_range()
                    .unwrap_or(crate::Error::Fatal { attempt: "reading".to_owned(), source: error }))?
            }
            KafkaError::MessageConsumption(code) if !crate::error::passing(*code) => {
                Err(self.fatal("consuming", error))
            }
            _ => {
                warn!(worker = self.index, %error, "consuming");
                Ok(())
            }
        }
    }

    /// Says which position Kafka no longer has; `None` when all are there (again).
    fn out_of_range(&self) -> Option<crate::Error> {
        let positions = self.consumer.position().ok()?;
        let committed = committed(&self.consumer, &self.partitions, REQUEST).ok()?;
        for element in committed.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let consumed = positions.find_partition(topic, partition).map(|it| it.offset());
            let position = match (consumed, element.offset()) {
                (Some(Offset::Offset(offset)), _) | (_, Offset::Offset(offset)) => offset,
                _ => continue,
            };
            let there =
                client::watermarks(self.consumer.client(), &self.kafka.bootstrap, topic, partition).ok()?;
            if position < there.start || position > there.end {
                return Some(crate::Error::OffsetOutOfRange {
                    group: self.config.group.clone(),
                    topic: topic.to_owned(),
                    partition,
                    position,
                    first: there.start,
                    end: there.end,
                });
            }
        }
        None
    }

    /// Handles the partitions that came and went in polls.
    fn absorb_changes(&mut self) {
        for change in self.consumer.context().take_changes() {
            self.joined = true;
            match change {
                Change::Assigned { partitions, positioned } => {
                    self.positioned &= positioned;
                    self.paused = None;
                    self.unprepared.extend(partitions.iter().cloned());
                    self.partitions.extend(partitions);
                }
                Change::Revoked(partitions) => {
                    self.held.remove(&partitions);
                    self.refusals.clear();
                    self.partitions.retain(|it| !partitions.contains(it));
                    self.unprepared.retain(|it| !partitions.contains(it));
                    if self.partitions.is_empty() {
                        self.positioned = true;
                    }
                    self.step.revoked(&partitions);
                }
            }
        }
    }

    /// Processes what is held and commits it.
    fn transact(&mut self) -> Result<(), Error<S::Error>> {
        let started = Instant::now();
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
        let Some(group) = self.consumer.group_metadata() else {
            self.back_off("reading the group's generation", &KafkaError::NoMessageReceived);
            return Ok(());
        };
        let producer = self.producer.as_ref().expect("`prepare` has started it");
        let offsets = self.held.offsets();
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

    /// Finds the way back from a transaction that was not committed.
    fn fail(&mut self, failure: Failure) -> Result<(), Error<S::Error>> {
        self.outcome("aborted").inc();
        self.start_over();
        let failure = match failure {
            Failure::Abort(error) => match self.producer.as_ref().expect("it has just failed").abort() {
                Ok(refused) if refused.is_empty() => {
                    self.back_off("committing a transaction", &error);
                    return Ok(());
                }
                Ok(refused) => {
                    warn!(worker = self.index, records = refused.len(), %error, "records refused");
                    self.refusals.learn(&self.out, &refused, &self.config.dead_letters)?;
                    return Ok(());
                }
                Err(of_abort) => of_abort,
            },
            other => other,
        };
        match failure {
            Failure::Fatal(source) => return Err(self.fatal("committing a transaction", source)),
            // An abort that must be aborted: as good as unknown.
            Failure::Abort(error) | Failure::Doubt(error) => {
                self.metrics.rebuilds.inc();
                self.producer = None;
                self.positioned = false;
                self.back_off("committing a transaction, outcome unknown", &error);
            }
        }
        Ok(())
    }

    /// Makes the step forget what it learnt from records that were not committed.
    fn start_over(&mut self) {
        self.step.revoked(&self.partitions);
        self.unprepared.clone_from(&self.partitions);
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

    /// Waits before the next attempt, longer each time; the consumer is polled meanwhile.
    fn back_off(&mut self, attempt: &str, error: &dyn std::error::Error) {
        let wait = self.backoff.next();
        self.retry_at = Instant::now() + wait;
        let reason = format!("{attempt}: {}", chain(error));
        warn!(worker = self.index, group = self.config.group, reason, ?wait, "trying again");
        self.not_ready(&reason);
    }

    fn pause(&mut self) {
        if self.paused != Some(true) {
            self.switch("pause", |consumer, partitions| consumer.pause(partitions));
            self.paused = Some(true);
        }
    }

    fn resume(&mut self) {
        if self.paused != Some(false) {
            self.switch("resume", |consumer, partitions| consumer.resume(partitions));
            self.paused = Some(false);
        }
    }

    fn switch(
        &self,
        what: &str,
        switch: impl Fn(&GroupConsumer, &TopicPartitionList) -> Result<(), KafkaError>,
    ) {
        if self.partitions.is_empty() {
            return;
        }
        if let Err(error) = switch(&self.consumer, &at(&self.partitions, |_| Offset::Invalid)) {
            warn!(worker = self.index, %error, "cannot {what} partitions");
        }
    }

    fn ready(&mut self) {
        if self.health.as_deref() != Some("") {
            info!(worker = self.index, group = self.config.group, "worker ready");
            self.health = Some(String::new());
            self.step.health(Health::Ready);
        }
    }

    fn not_ready(&mut self, reason: &str) {
        if self.health.as_deref() != Some(reason) {
            self.step.health(Health::NotReady(reason));
            self.health = Some(reason.to_owned());
        }
    }

    fn fatal(&self, attempt: &str, source: KafkaError) -> Error<S::Error> {
        crate::transactional::fatal(&self.transactional_id, attempt, source).into()
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
