//! The consumer of a worker: which partitions it holds, and where it stands in them.
//!
//! Partitions come and go inside `poll` only. What happened is noted here and handled by the worker
//! afterwards, between transactions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rdkafka::bindings::rd_kafka_resp_err_t;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};
use tracing::{info, warn};

use super::{LoopConfig, Metrics};
use crate::TopicPartition;
use crate::client::{Log, REQUEST};
use crate::config::KafkaConfig;
use crate::error::Error;
use crate::intake::{Intake, Queue};

/// A worker's consumer.
pub(super) type GroupConsumer = BaseConsumer<Membership>;

/// A worker's consumer, for its messages.
pub(super) type GroupIntake = Intake<Membership>;

/// What happened to the worker's partitions inside a poll.
#[derive(Debug)]
pub(super) enum Change {
    /// These are the worker's from now on; `positioned` says whether their positions could be read.
    Assigned { partitions: Vec<TopicPartition>, positioned: bool },
    /// These are another's from now on.
    Revoked(Vec<TopicPartition>),
}

/// Notes what librdkafka reports about a consumer.
#[derive(Debug)]
pub(super) struct Membership {
    log: Log,
    metrics: Metrics,
    group: String,
    changes: Mutex<Vec<Change>>,
    reachable: AtomicBool,
    /// Where reading began, unless at the first record there is: the position until one is taken.
    begun: Mutex<HashMap<TopicPartition, i64>>,
    /// Where messages wait; set before anything is polled.
    queue: OnceLock<Weak<Queue>>,
}

impl Membership {
    /// What happened since the last call, oldest first.
    pub(super) fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether partitions came or went since [`Membership::take_changes`].
    pub(super) fn has_changed(&self) -> bool {
        !self.changes.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether a connection to Kafka stood a moment ago.
    pub(super) fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// An error that waiting will not mend.
    pub(super) fn take_refusal(&self) -> Option<KafkaError> {
        self.log.take_refusal()
    }

    /// Reading begins `at` these positions.
    pub(super) fn begins(&self, at: &TopicPartitionList) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.clear();
        begun.extend(at.elements().iter().filter_map(|it| match it.offset() {
            Offset::Offset(offset) => Some((place(it), offset)),
            _ => None,
        }));
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, at: &TopicPartitionList) -> KafkaResult<()> {
        self.begins(at);
        match self.queue.get().and_then(Weak::upgrade) {
            Some(queue) => queue.assign(consumer, at),
            // The consumer is being dropped, and nothing is read any more.
            None => consumer.assign(at),
        }
    }

    fn note(&self, change: Change) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let up = statistics.brokers.values().any(|it| it.nodeid >= 0 && it.state == "UP");
        self.reachable.store(up, Ordering::Relaxed);
        let mut lags = Vec::new();
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in statistics.topics.values() {
            let name: Arc<str> = topic.topic.as_str().into();
            for partition in topic.partitions.values().filter(|it| it.desired && it.ls_offset >= 0) {
                let place = TopicPartition { topic: Arc::clone(&name), partition: partition.partition };
                let at = match (partition.fetchq_cnt, partition.app_offset) {
                    // The next offset to fetch lies behind control records, which the application never sees.
                    (0, at) => partition.next_offset.max(at),
                    (_, ..0) => begun.get(&place).copied().unwrap_or(partition.lo_offset),
                    (_, at) => at,
                };
                if at >= 0 {
                    lags.push((place, (partition.ls_offset - at).max(0)));
                }
            }
        }
        self.metrics.set_lag(lags);
    }
}

impl ConsumerContext for Membership {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: rd_kafka_resp_err_t,
        list: &mut TopicPartitionList,
    ) {
        let partitions = named(list);
        let listed: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        if code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let mut positioned = true;
            let at = committed(consumer, &partitions, REQUEST).unwrap_or_else(|error| {
                warn!(group = self.group, %error, "cannot read the group's offsets, will try again");
                positioned = false;
                at(&partitions, |_| Offset::Beginning)
            });
            if let Err(error) = self.assign(consumer, &at) {
                warn!(group = self.group, %error, "cannot take over partitions, will try again");
                positioned = false;
            }
            // The group's answer has just come; the statistics, which tell from then on, may not have come at all yet.
            self.reachable.store(true, Ordering::Relaxed);
            info!(group = self.group, partitions = ?listed, "partitions assigned");
            self.note(Change::Assigned { partitions, positioned });
        } else {
            let lost = consumer.assignment_lost();
            if let Err(error) = consumer.unassign() {
                warn!(group = self.group, %error, "cannot give up partitions");
            }
            info!(group = self.group, partitions = ?listed, lost, "partitions revoked");
            self.metrics.forget_lag(&partitions);
            self.note(Change::Revoked(partitions));
        }
    }
}

/// Makes the consumer of worker `index` and joins the group.
pub(super) fn join(
    index: usize,
    config: &LoopConfig,
    kafka: &KafkaConfig,
    metrics: &Metrics,
) -> Result<GroupIntake, Error> {
    let mut client = kafka.client()?;
    let milliseconds = |it: Duration| it.as_millis().to_string();
    client
        .set("group.id", &config.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A position that Kafka no longer has is a loss that a person must hear of, not a reason to skip.
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("allow.auto.create.topics", "false")
        .set("partition.assignment.strategy", "range")
        .set("session.timeout.ms", milliseconds(config.session_timeout))
        .set("heartbeat.interval.ms", milliseconds((config.session_timeout / 10).min(Duration::from_secs(3))))
        .set("max.poll.interval.ms", milliseconds(config.max_poll_interval.max(config.session_timeout)))
        .set("queued.min.messages", "20000")
        .set("queued.max.messages.kbytes", "16384")
        // What to wait when the queue is full or a fetch failed: 1 s and 0.5 s by default, far too long here.
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.error.backoff.ms", "100")
        .set("statistics.interval.ms", "1000");
    if config.static_member {
        client.set("group.instance.id", format!("{}-{index}", config.identity));
    }
    let membership = Membership {
        log: Log::default(),
        metrics: metrics.clone(),
        group: config.group.clone(),
        changes: Mutex::default(),
        reachable: AtomicBool::new(false),
        begun: Mutex::default(),
        queue: OnceLock::new(),
    };
    let consumer: GroupConsumer = client
        .create_with_context(membership)
        .map_err(|source| Error::Client { purpose: "group consumer", source })?;
    let intake = Intake::new(consumer);
    intake.consumer().context().queue.get_or_init(|| intake.queue());
    let topics: Vec<&str> = config.topics.iter().map(String::as_str).collect();
    let subscribed = intake.consumer().subscribe(&topics);
    subscribed.map_err(|source| Error::Client { purpose: "subscribing", source })?;
    Ok(intake)
}

/// Where the group stands in `partitions`: behind its last commit, or at the first record there is.
pub(super) fn committed(
    consumer: &GroupConsumer,
    partitions: &[TopicPartition],
    timeout: Duration,
) -> KafkaResult<TopicPartitionList> {
    if partitions.is_empty() {
        return Ok(TopicPartitionList::new());
    }
    let list = consumer.committed_offsets(at(partitions, |_| Offset::Invalid), timeout)?;
    let mut offsets = HashMap::new();
    for element in list.elements() {
        element.error()?;
        offsets.insert((element.topic().to_owned(), element.partition()), element.offset());
    }
    Ok(at(partitions, |it| match offsets.get(&(it.topic.to_string(), it.partition)) {
        Some(&Offset::Offset(offset)) => Offset::Offset(offset),
        _ => Offset::Beginning,
    }))
}

/// The partitions with the offset that `offset` says.
pub(super) fn at(
    partitions: &[TopicPartition],
    offset: impl Fn(&TopicPartition) -> Offset,
) -> TopicPartitionList {
    crate::client::positions(partitions.iter().map(|it| (&*it.topic, it.partition, offset(it))))
}

fn named(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(place).collect()
}

fn place(element: &TopicPartitionListElem<'_>) -> TopicPartition {
    TopicPartition { topic: element.topic().into(), partition: element.partition() }
}
