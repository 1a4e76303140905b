//! What the tests share: topics of their own, records in, outcomes out.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this module")]

use std::collections::BTreeMap;
use std::future::Future as _;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use telltale_embedded::log::{Log, LogConfig};
use telltale_kafka::exactly_once::{Begin, Fault, LoopConfig, Step};
use telltale_kafka::producer::{NewRecord, ProducerConfig, SendError};
use telltale_kafka::topics::Topics;
use telltale_kafka::{Isolation, KafkaConfig, Producer, Reader};
use telltale_records::topics::TopicSpec;
use telltale_records::{Batch, Destination, Outgoing};
use tokio_util::sync::CancellationToken;

/// Longest wait for a state; far longer than a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A broker, and topics that no other test uses.
pub struct Engine {
    address: SocketAddr,
    /// `None` while it is stopped.
    log: Option<Log>,
    data: Option<tempfile::TempDir>,
}

/// Starts a broker for one test.
pub fn engine() -> Engine {
    start(None)
}

/// Starts a broker that keeps its records over a restart.
pub fn lasting_engine() -> Engine {
    start(Some(tempfile::tempdir().unwrap()))
}

fn start(data: Option<tempfile::TempDir>) -> Engine {
    // Shown with a test that fails; a second call changes nothing.
    tracing_subscriber::fmt().with_test_writer().try_init().ok();
    let mut config = LogConfig::default();
    config.data = data.as_ref().map(|it| it.path().to_owned());
    let log = Log::start(config).unwrap();
    Engine { address: log.addr(), log: Some(log), data }
}

impl Engine {
    /// The settings that lead to the broker.
    pub fn kafka(&self) -> KafkaConfig {
        KafkaConfig::at(self.address.to_string())
    }

    /// Bytes of the files that a lasting broker keeps.
    pub fn bytes(&self) -> u64 {
        fn of(folder: &std::path::Path) -> u64 {
            let entries = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap());
            entries
                .map(|it| match it.metadata().unwrap() {
                    inside if inside.is_dir() => of(&it.path()),
                    file => file.len(),
                })
                .sum()
        }
        of(self.data.as_ref().expect("a lasting broker").path())
    }

    /// Stops the broker; clients lose their connections.
    pub fn stop(&mut self) {
        self.log = None;
    }

    /// Starts the broker again at the same address with what it had.
    pub fn start_again(&mut self) {
        let mut config = LogConfig::default();
        config.listen = self.address;
        config.data = self.data.as_ref().map(|it| it.path().to_owned());
        self.log = Some(Log::start(config).unwrap());
    }

    /// Makes topics.
    pub fn topics<const N: usize>(&self, partitions: i32) -> [&'static str; N] {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let topics = Topics::open(&self.kafka()).unwrap();
        std::array::from_fn(|_| {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            // A name lives as long as the test process.
            let name = format!("test-{}-{number}", std::process::id()).leak();
            let spec = TopicSpec { name, partitioned: true, config: &[] };
            topics.create(&spec, partitions, 1).unwrap();
            spec.name
        })
    }
}

/// Writes `records` of (key, value) and waits for Kafka to have them.
pub fn produce(kafka: &KafkaConfig, topic: &str, records: impl IntoIterator<Item = (String, Vec<u8>)>) {
    let (reports, outcomes) = mpsc::sync_channel(1_000_000);
    let producer =
        Producer::new(kafka, &ProducerConfig::default(), move |_, outcome| reports.send(outcome).unwrap())
            .unwrap();
    let mut sent = 0;
    for (key, value) in records {
        let record =
            NewRecord { topic, key: Some(key.as_bytes()), value: Some(&value), ..NewRecord::default() };
        while let Err(error) = producer.send(record, sent) {
            assert!(matches!(error, SendError::Full), "{error}");
            std::thread::sleep(Duration::from_millis(1));
        }
        sent += 1;
    }
    producer.flush(PATIENCE).unwrap();
    for _ in 0..sent {
        outcomes.recv().unwrap().unwrap();
    }
}

/// Readings of 50 keys: `count` of them, numbered.
pub fn numbered(count: usize) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..count).map(|it| (format!("car-{}", it % 50), format!("reading {it}").into_bytes()))
}

/// What the tests look at of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    pub value: Vec<u8>,
    pub headers: BTreeMap<String, String>,
}

/// Every committed record of `topic`, by partition and offset.
pub fn read_all(kafka: &KafkaConfig, topic: &str) -> Vec<Seen> {
    let mut reader = Reader::open(kafka, Isolation::Committed).unwrap();
    let stop = CancellationToken::new();
    let mut seen = Vec::new();
    for partition in reader.partitions(topic).unwrap() {
        let there = reader.watermarks(topic, partition).unwrap();
        let take = |batch: &Batch| {
            for record in batch.records() {
                let text = |it: Option<&[u8]>| String::from_utf8_lossy(it.unwrap_or_default()).into_owned();
                seen.push(Seen {
                    partition,
                    offset: record.offset(),
                    key: text(record.key()),
                    value: record.value().unwrap_or_default().to_vec(),
                    headers: record.headers().map(|(name, value)| (name.to_owned(), text(value))).collect(),
                });
            }
            ControlFlow::Continue(())
        };
        reader.read(topic, partition, there, &stop, take).unwrap();
    }
    seen
}

/// Waits until `done` says so.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A fault that a test asked for.
#[derive(Debug, thiserror::Error)]
#[error("asked for by the test")]
pub struct Asked;

/// Copies records to another topic, key, value and partition as they are.
pub struct Copy<F> {
    pub target: &'static str,
    /// Called before each batch.
    pub before: F,
}

impl<F: FnMut(&Batch) -> Result<(), Fault<Asked>>> Step for Copy<F> {
    type Error = Asked;

    fn begin(&mut self) -> Begin {
        Begin::Go
    }

    fn process(&mut self, batch: &Batch, out: &mut Outgoing) -> Result<(), Fault<Asked>> {
        (self.before)(batch)?;
        let topic = out.topic(self.target);
        for record in batch.records() {
            let partition = Some(batch.partition());
            let to = Destination { topic, partition, timestamp_ms: record.timestamp_ms() };
            out.push(to, record.key(), record.value(), Some(&record.source()), &[]);
        }
        Ok(())
    }
}

/// A loop from `source` with small transactions, so that there are many.
pub fn small_loop(source: &str, dead_letters: &str, identity: &str) -> LoopConfig {
    let group = format!("group-of-{source}");
    let mut config = LoopConfig::new("test", group, &[source], format!("{identity}-of-{source}"));
    config.dead_letters = dead_letters.to_owned();
    config.max_records = 100;
    config.linger = Duration::from_millis(5);
    config.session_timeout = Duration::from_secs(6);
    config
}

/// Asserts that `target` holds each record of `source` exactly once, in order within each partition.
pub fn assert_exactly_once(kafka: &KafkaConfig, source: &str, target: &str) {
    let (source_records, outcomes) = (read_all(kafka, source), read_all(kafka, target));
    let expected: Vec<_> = source_records
        .iter()
        .map(|it| {
            (
                it.partition,
                format!("{source}-{}-{}", it.partition, it.offset),
                it.key.clone(),
                it.value.clone(),
            )
        })
        .collect();
    let found: Vec<_> = outcomes
        .iter()
        .map(|it| (it.partition, it.headers["src"].clone(), it.key.clone(), it.value.clone()))
        .collect();
    assert_eq!(found.len(), expected.len(), "records in {target} for those in {source}");
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
}

/// Deletes the records of partition 0 of `topic` that lie before `offset`.
pub fn delete_records(kafka: &KafkaConfig, topic: &str, offset: i64) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &kafka.bootstrap).create().unwrap();
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    let options = AdminOptions::new();
    let mut deleting = std::pin::pin!(admin.delete_records(&before, &options));
    let mut context = Context::from_waker(Waker::noop());
    let mut result = None;
    wait_until("the records are deleted", || {
        match deleting.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => result = Some(outcome),
            Poll::Pending => {}
        }
        result.is_some()
    });
    let deleted = result.unwrap().unwrap();
    deleted.elements().iter().for_each(|it| it.error().unwrap());
}
