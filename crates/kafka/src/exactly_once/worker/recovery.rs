//! A worker's way back from everything that can go wrong, and what must be right before it processes.

use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{debug, info, warn};

use super::super::assignment::committed;
use super::super::standing::Need;
use super::super::{Begin, Error, Fault, Health, Step};
use super::Worker;
use crate::client::{self, REQUEST};
use crate::denial::is_denial;
use crate::transaction::{Failure, TransactionalProducer, is_missing, targets};

/// How long one attempt to start the producer may keep the consumer from being polled.
const INITIALISE: Duration = Duration::from_secs(5);

impl<S: Step> Worker<'_, S> {
    /// Does what must be done before records may be processed; returns whether all of it is.
    pub(super) fn prepare(&mut self) -> Result<bool, Error<S::Error>> {
        if Instant::now() < self.retry_at {
            return Ok(false);
        }
        if self.producer.as_ref().is_some_and(TransactionalProducer::is_cut_off) {
            debug!(worker = self.index, "its connection has ended: the producer is made anew");
            self.give_up_producer();
            self.standing.without_producer();
        }
        while let Some(need) = self.standing.need() {
            let met = match need {
                Need::Producer => self.start_producer()?,
                Need::Positions => self.find_positions(),
                Need::State => self.prepare_state()?,
            };
            if !met {
                return Ok(false);
            }
        }
        if self.waiting {
            self.waiting = self.step.begin() == Begin::Wait;
        }
        if !self.joined {
            return Ok(!self.waiting);
        }
        if self.consumer().context().is_reachable() {
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
                self.kafka.producer()?,
                &self.transactional_id,
                self.config.transaction_timeout,
                self.stop.clone(),
            )?),
        };
        match producer.initialise(INITIALISE) {
            Ok(()) => {
                self.standing.settled();
                Ok(true)
            }
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
        let found = committed(self.consumer(), self.standing.partitions(), REQUEST).and_then(|positions| {
            self.consumer().context().begins(&positions);
            debug!(worker = self.index, ?positions, "positions read again");
            self.intake.seek(positions)
        });
        match found {
            Ok(()) => {
                // What is held may be committed already; what is not comes again.
                self.held.clear();
                self.refusals.clear();
                self.standing.positioned();
                true
            }
            Err(error) => {
                self.back_off("reading the group's offsets", &error);
                false
            }
        }
    }

    fn prepare_state(&mut self) -> Result<bool, Error<S::Error>> {
        match self.step.assigned(self.standing.unprepared()) {
            Ok(()) => {
                self.standing.prepared();
                Ok(true)
            }
            Err(Fault::Passing(error)) => {
                self.step.revoked(self.standing.unprepared());
                self.back_off("taking over partitions", &error);
                Ok(false)
            }
            Err(Fault::Final(error)) => Err(Error::Step(error)),
        }
    }

    pub(super) fn consumer_error(&mut self, error: KafkaError) -> Result<(), Error<S::Error>> {
        match &error {
            KafkaError::MessageConsumptionFatal(_) => Err(self.fatal("consuming", error)),
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset)
                if self.standing.is_positioned() =>
            {
                Err(self
                    .out_of_range()
                    .unwrap_or(crate::Error::Fatal { attempt: "reading".to_owned(), source: error }))?
            }
            KafkaError::MessageConsumption(code) if !crate::error::passing(*code) => {
                Err(self.fatal(&self.consuming(), error))
            }
            _ => {
                warn!(worker = self.index, %error, "consuming");
                Ok(())
            }
        }
    }

    /// What a consumer does, for an error that concerns one of its topics or the group.
    pub(super) fn consuming(&self) -> String {
        format!("consuming {} in group {}", self.config.topics.join(", "), self.config.group)
    }

    /// Says which position Kafka no longer has; `None` when all are there (again).
    fn out_of_range(&self) -> Option<crate::Error> {
        let held = self.held.offsets();
        let committed = committed(self.consumer(), self.standing.partitions(), REQUEST).ok()?;
        for element in committed.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let held = held.find_partition(topic, partition).map(|it| it.offset());
            let position = match (held, element.offset()) {
                (Some(Offset::Offset(offset)), _) | (_, Offset::Offset(offset)) => offset,
                _ => continue,
            };
            let there = client::watermarks(self.consumer().client(), self.kafka, topic, partition).ok()?;
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

    /// Finds the way back from a transaction that was not committed.
    pub(super) fn fail(&mut self, failure: Failure) -> Result<(), Error<S::Error>> {
        self.outcome("aborted").inc();
        self.start_over();
        let failure = match failure {
            Failure::Abort(error) => match self.producer.as_ref().expect("it has just failed").abort() {
                Ok(_) if error.rdkafka_error_code().is_some_and(is_denial) => {
                    return Err(self.fatal("committing a transaction", error));
                }
                Ok(refused) if refused.is_empty() => {
                    match self.missing_topic(&error) {
                        Some(missing) => self.back_off("committing a transaction", &missing),
                        None => self.back_off("committing a transaction", &error),
                    }
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
                self.give_up_producer();
                self.standing.in_doubt();
                self.back_off("committing a transaction, outcome unknown", &error);
            }
        }
        Ok(())
    }

    /// Which topic does not exist, when `error` says that one that was written to does not.
    fn missing_topic(&self, error: &KafkaError) -> Option<crate::Error> {
        error.rdkafka_error_code().filter(|it| is_missing(*it))?;
        let ask = |topic| client::partitions(self.consumer().client(), self.kafka, topic).err();
        targets(&self.out).into_iter().find_map(ask)
    }

    /// Makes the step forget what it learnt from records that were not committed.
    pub(super) fn start_over(&mut self) {
        self.step.revoked(self.standing.partitions());
        self.standing.aborted();
    }

    fn give_up_producer(&mut self) {
        self.metrics.rebuilds.inc();
        self.producer = None;
    }

    /// Waits before the next attempt, longer each time; the consumer is polled meanwhile.
    pub(super) fn back_off(&mut self, attempt: &str, error: &dyn std::error::Error) {
        let wait = self.backoff.next();
        self.retry_at = Instant::now() + wait;
        let reason = format!("{attempt}: {}", chain(error));
        warn!(worker = self.index, group = self.config.group, reason, ?wait, "trying again");
        self.not_ready(&reason);
    }

    fn ready(&mut self) {
        if self.health.as_deref() != Some("") {
            info!(worker = self.index, group = self.config.group, "worker ready");
            self.health = Some(String::new());
            self.step.health(Health::Ready);
        }
    }

    pub(super) fn not_ready(&mut self, reason: &str) {
        if self.health.as_deref() != Some(reason) {
            self.step.health(Health::NotReady(reason));
            self.health = Some(reason.to_owned());
        }
    }

    pub(super) fn fatal(&self, attempt: &str, source: KafkaError) -> Error<S::Error> {
        crate::transactional::fatal(self.kafka, &self.transactional_id, attempt, source).into()
    }
}

/// An error with its causes, as `telltale_service::chain` writes it: neither edge knows the other.
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
