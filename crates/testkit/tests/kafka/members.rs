//! Members of consumer groups, each librdkafka's consumer on a thread of its own.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientContext, Message, TopicPartitionList};
use telltale_testkit::engines::wait_until;

use crate::clients::{PATIENCE, config, is_passing};
use crate::support::Kafka;

/// What a member has gone through.
#[derive(Debug, Default, Clone)]
pub(crate) struct History {
    /// The partitions it has now.
    pub(crate) assigned: BTreeSet<i32>,
    /// Partitions given, call by call.
    pub(crate) gains: Vec<BTreeSet<i32>>,
    /// Partitions taken away, call by call.
    pub(crate) losses: Vec<BTreeSet<i32>>,
    /// Values read, in their order.
    pub(crate) values: Vec<String>,
    /// The error that ended it.
    pub(crate) fatal: Option<RDKafkaErrorCode>,
}

/// Writes down rebalances.
#[derive(Debug, Default, Clone)]
struct Diary(Arc<Mutex<History>>);

impl ClientContext for Diary {}

impl ConsumerContext for Diary {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let mut history = self.0.lock().unwrap();
        match rebalance {
            Rebalance::Assign(list) => {
                history.gains.push(list.elements().iter().map(|it| it.partition()).collect());
            }
            Rebalance::Revoke(list) => {
                history.losses.push(list.elements().iter().map(|it| it.partition()).collect());
            }
            Rebalance::Error(_) => {}
        }
    }
}

/// A member that polls and commits until it is told to leave, or dropped.
pub(crate) struct Member {
    diary: Diary,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    /// Lets a member join that commits each record it has read.
    pub(crate) fn join(kafka: &Kafka, group: &str, topic: &str, settings: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("session.timeout.ms", "45000"),
            ("heartbeat.interval.ms", "200"),
        ];
        all.extend_from_slice(settings);
        let diary = Diary::default();
        let consumer: BaseConsumer<Diary> =
            config(&kafka.servers(), &all).create_with_context(diary.clone()).unwrap();
        consumer.subscribe(&[topic]).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (written, stopped) = (diary.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || poll_until_told(&consumer, &written, &stopped));
        Self { diary, stop, thread: Some(thread) }
    }

    /// What it has gone through until now.
    pub(crate) fn history(&self) -> History {
        self.diary.0.lock().unwrap().clone()
    }

    /// The partitions it has now.
    pub(crate) fn assigned(&self) -> BTreeSet<i32> {
        self.history().assigned
    }

    /// Closes the consumer: it leaves the group, unless it is a static member. What it has gone through.
    pub(crate) fn leave(mut self) -> History {
        self.end();
        self.history()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("a member panicked");
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.end();
    }
}

fn poll_until_told(consumer: &BaseConsumer<Diary>, diary: &Diary, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        let polled = consumer.poll(Duration::from_millis(20));
        match polled {
            None => {}
            Some(Ok(message)) => {
                // A rebalance may have taken the partition away; the next owner reads the record again.
                let _ = consumer.commit_message(&message, CommitMode::Sync);
                let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                diary.0.lock().unwrap().values.push(value);
            }
            Some(Err(KafkaError::MessageConsumption(code))) if is_passing(code) => {}
            Some(Err(error)) => {
                diary.0.lock().unwrap().fatal = error.rdkafka_error_code();
                if consumer.client().fatal_error().is_some() {
                    diary.0.lock().unwrap().fatal = consumer.client().fatal_error().map(|it| it.0);
                    return;
                }
            }
        }
        let assigned =
            consumer.assignment().map(|it| it.elements().iter().map(|it| it.partition()).collect());
        if let Ok(assigned) = assigned {
            diary.0.lock().unwrap().assigned = assigned;
        }
    }
}

/// Waits until the members share `partitions` evenly: each partition has one owner.
pub(crate) fn await_shared(members: &[&Member], partitions: i32) {
    let all: BTreeSet<i32> = (0..partitions).collect();
    let least = all.len() / members.len();
    wait_until("the members share the partitions", || {
        let owned: Vec<_> = members.iter().map(|it| it.assigned()).collect();
        let together: BTreeSet<i32> = owned.iter().flatten().copied().collect();
        let sum: usize = owned.iter().map(BTreeSet::len).sum();
        together == all && sum == all.len() && owned.iter().all(|it| it.len() >= least)
    });
}

/// The offsets a group has committed, by partition; -1 where there is none.
pub(crate) fn committed(kafka: &Kafka, group: &str, topic: &str, partitions: i32) -> Vec<i64> {
    let consumer: BaseConsumer = config(&kafka.servers(), &[("group.id", group)]).create().unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(topic, 0, partitions - 1);
    let mut found = TopicPartitionList::new();
    wait_until("the coordinator tells the offsets", || {
        use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
        match consumer.committed_offsets(asked.clone(), PATIENCE) {
            Ok(offsets) => {
                found = offsets;
                true
            }
            Err(error) => {
                // It has just started and reads what it knew.
                let code = error.rdkafka_error_code();
                let loads = [CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator];
                assert!(code.is_some_and(|it| loads.contains(&it) || is_passing(it)), "{error}");
                false
            }
        }
    });
    found.elements().iter().map(|it| it.offset().to_raw().filter(|it| *it >= 0).unwrap_or(-1)).collect()
}
