//! Records in, records out: what tests write to topics, and what they find there.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use telltale_kafka::producer::{NewRecord, ProducerConfig, SendError};
use telltale_kafka::{Isolation, KafkaConfig, Producer, Reader};
use telltale_records::{Record, Source};
use tokio_util::sync::CancellationToken;

use crate::{PATIENCE, wait_until};

/// Writes records; each must be taken by Kafka.
#[derive(Debug)]
pub struct Writer(Producer);

impl Writer {
    /// A writer for the Kafka of `kafka`.
    ///
    /// # Panics
    ///
    /// Panics when the settings cannot be used.
    #[must_use]
    pub fn new(kafka: &KafkaConfig) -> Self {
        let delivered = |_, outcome: Result<_, _>| _ = outcome.expect("Kafka takes the record");
        Self(
            Producer::new(kafka, &ProducerConfig::default(), delivered)
                .expect("the settings of Kafka can be used"),
        )
    }

    /// Hands a record over, as soon as there is room.
    ///
    /// # Panics
    ///
    /// Panics when the record can never be sent.
    pub fn send(&self, record: NewRecord<'_>) {
        loop {
            match self.0.send(record, 0) {
                Ok(()) => return,
                Err(SendError::Full) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until Kafka has everything.
    ///
    /// # Panics
    ///
    /// Panics when that takes too long.
    pub fn flush(&self) {
        self.0.flush(PATIENCE).expect("Kafka takes the records");
    }
}

/// A record that was found in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Where it lies.
    pub source: Source,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its time stamp.
    pub timestamp_ms: Option<i64>,
    /// Its headers as text; one without a value is empty.
    pub headers: BTreeMap<String, String>,
}

impl Written {
    fn of(record: Record<'_>) -> Self {
        let text = |it: Option<&[u8]>| String::from_utf8_lossy(it.unwrap_or_default()).into_owned();
        Self {
            source: record.source(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            timestamp_ms: record.timestamp_ms(),
            headers: record.headers().map(|(name, value)| (name.to_owned(), text(value))).collect(),
        }
    }

    /// The text of a header; empty without it.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// What the record answers for.
    #[must_use]
    pub fn src(&self) -> &str {
        self.header("src")
    }

    /// Its value; empty without one.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }
}

/// Everything committed to `topic`, partition by partition, in order.
///
/// # Panics
///
/// Panics when the topic cannot be read.
#[must_use]
pub fn written(kafka: &KafkaConfig, topic: &str) -> Vec<Written> {
    let mut reader = open(kafka);
    let stop = CancellationToken::new();
    let mut found = Vec::new();
    for partition in reader.partitions(topic).expect("the topic is there") {
        let range = reader.watermarks(topic, partition).expect("the partition is there");
        let read = reader.read(topic, partition, range, &stop, |batch| {
            found.extend(batch.records().map(Written::of));
            ControlFlow::Continue(())
        });
        read.expect("the partition can be read");
    }
    found
}

/// About how many records are committed to `topic`: the offsets they take up, markers of transactions too.
///
/// # Panics
///
/// Panics when the topic cannot be asked about.
#[must_use]
pub fn extent(kafka: &KafkaConfig, topic: &str) -> i64 {
    let reader = open(kafka);
    let partitions = reader.partitions(topic).expect("the topic is there").into_iter();
    let ranges = partitions.map(|it| reader.watermarks(topic, it).expect("the partition is there"));
    ranges.map(|it| it.end - it.start).sum()
}

/// The outcomes of all records of `source` in `targets`, by what they answer for: topic, and what was written there.
///
/// Waits until each record has one.
///
/// # Panics
///
/// Panics when a record stays without outcome, or has two.
#[must_use]
pub fn outcomes(
    kafka: &KafkaConfig,
    source: &str,
    targets: &[&'static str],
) -> BTreeMap<String, (&'static str, Written)> {
    let sources = written(kafka, source);
    let all = || {
        let of = |&topic| written(kafka, topic).into_iter().map(move |it| (topic, it));
        targets.iter().flat_map(of).collect::<Vec<(&'static str, Written)>>()
    };
    wait_until("each record has an outcome", || all().len() >= sources.len());
    let mut by_source = BTreeMap::new();
    for (topic, written) in all() {
        let before = by_source.insert(written.src().to_owned(), (topic, written));
        assert!(before.is_none(), "two outcomes of one record: {before:?}");
    }
    for record in &sources {
        assert!(by_source.contains_key(&record.source.to_string()), "{} was lost", record.source);
    }
    assert_eq!(by_source.len(), sources.len());
    by_source
}

fn open(kafka: &KafkaConfig) -> Reader {
    Reader::open(kafka, Isolation::Committed).expect("the settings of Kafka can be used")
}
