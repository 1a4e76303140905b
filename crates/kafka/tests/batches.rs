//! What comes out of librdkafka many at a time is what rdkafka hands on one by one.

mod common;

use std::ops::ControlFlow;
use std::time::Duration;

use proptest::prelude::*;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use telltale_kafka::reader::{Followed, Start};
use telltale_kafka::{Isolation, KafkaConfig, Reader};
use telltale_records::{Batch, Record};
use tokio_util::sync::CancellationToken;

const PARTITIONS: i32 = 3;

/// A record as both sides are compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Read {
    partition: i32,
    offset: i64,
    time: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A record to write, and whether its transaction is committed.
#[derive(Debug, Clone)]
struct Written {
    partition: i32,
    time: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn bytes(most: usize) -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![Just(None), prop::collection::vec(any::<u8>(), 0..most).prop_map(Some)]
}

fn written() -> impl Strategy<Value = Written> {
    let headers = prop::collection::vec(("[a-zä]{0,5}", bytes(20)), 0..4);
    (0..PARTITIONS, 0..1_700_000_000_000_i64, bytes(12), bytes(300), headers)
        .prop_map(|(partition, time, key, value, headers)| Written { partition, time, key, value, headers })
}

/// Transactions of records, each committed or aborted.
fn transactions() -> impl Strategy<Value = Vec<(bool, Vec<Written>)>> {
    prop::collection::vec((prop::bool::weighted(0.8), prop::collection::vec(written(), 1..600)), 1..5)
}

fn write(kafka: &KafkaConfig, topic: &str, transactions: &[(bool, Vec<Written>)]) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap)
        .set("transactional.id", format!("writer-of-{topic}"))
        .set("linger.ms", "1")
        .create()
        .unwrap();
    producer.init_transactions(common::PATIENCE).unwrap();
    for (commit, records) in transactions {
        producer.begin_transaction().unwrap();
        for it in records {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &it.headers {
                headers = headers.insert(Header { key, value: value.as_ref() });
            }
            let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(it.partition).timestamp(it.time);
            record.key = it.key.as_deref();
            record.payload = it.value.as_deref();
            producer.send(record.headers(headers)).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(common::PATIENCE).unwrap();
        let end = if *commit {
            producer.commit_transaction(common::PATIENCE)
        } else {
            producer.abort_transaction(common::PATIENCE)
        };
        end.unwrap();
    }
}

/// Reads all partitions as rdkafka does, one message a poll.
fn one_by_one(kafka: &KafkaConfig, topic: &str) -> Vec<Read> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap)
        .set("group.id", "one-by-one")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    (0..PARTITIONS).for_each(|it| list.add_partition_offset(topic, it, Offset::Beginning).unwrap());
    consumer.assign(&list).unwrap();
    let (mut read, mut ended) = (Vec::new(), 0);
    while ended < PARTITIONS {
        match consumer.poll(Duration::from_secs(1)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => panic!("{error}"),
            Some(Ok(it)) => read.push(Read {
                partition: it.partition(),
                offset: it.offset(),
                time: it.timestamp().to_millis(),
                key: it.key().map(<[u8]>::to_vec),
                value: it.payload().map(<[u8]>::to_vec),
                headers: it.headers().map_or_else(Vec::new, |headers| {
                    headers.iter().map(|it| (it.key.to_owned(), it.value.map(<[u8]>::to_vec))).collect()
                }),
            }),
        }
    }
    // Partitions come in any order, each in its own: a stable sort keeps that to be compared.
    read.sort_by_key(|it| it.partition);
    read
}

fn read(record: Record<'_>) -> Read {
    Read {
        partition: record.partition(),
        offset: record.offset(),
        time: record.timestamp_ms(),
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: record.headers().map(|(name, it)| (name.to_owned(), it.map(<[u8]>::to_vec))).collect(),
    }
}

/// Reads range by range.
fn by_ranges(mut reader: Reader, topic: &str) -> Vec<Read> {
    let mut all = Vec::new();
    for partition in 0..PARTITIONS {
        let there = reader.watermarks(topic, partition).unwrap();
        let take = |batch: &Batch| {
            all.extend(batch.records().map(read));
            ControlFlow::Continue(())
        };
        reader.read(topic, partition, there, &CancellationToken::new(), take).unwrap();
    }
    all
}

/// Follows all partitions at once.
fn followed(kafka: &KafkaConfig, topic: &str) -> Vec<Read> {
    let mut reader = Reader::open(kafka, Isolation::Committed).unwrap();
    let mut all = Vec::new();
    let take = |it: Followed<'_>| match it {
        Followed::Record(record) => {
            all.push(read(record));
            ControlFlow::Continue(())
        }
        Followed::CaughtUp => ControlFlow::Break(()),
    };
    reader.follow(topic, Start::Beginning, &CancellationToken::new(), take).unwrap();
    all.sort_by_key(|it| it.partition);
    all
}

#[test]
fn batches_are_what_comes_one_by_one() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let cases = ProptestConfig::with_cases(12);
    proptest!(cases, |(transactions in transactions())| {
        let [topic] = engine.topics(PARTITIONS);
        write(&kafka, topic, &transactions);
        let expected = one_by_one(&kafka, topic);
        let committed = transactions.iter().filter(|it| it.0).map(|it| it.1.len()).sum::<usize>();
        prop_assert_eq!(expected.len(), committed);
        let reader = || Reader::open(&kafka, Isolation::Committed).unwrap();
        prop_assert_eq!(&by_ranges(reader(), topic), &expected);
        prop_assert_eq!(&followed(&kafka, topic), &expected);
        let without_headers: Vec<_> = expected.into_iter().map(|it| Read { headers: Vec::new(), ..it }).collect();
        prop_assert_eq!(by_ranges(reader().without_headers(), topic), without_headers);
    });
}
