//! Reader, producers and topics against a broker.

mod common;

use std::ops::ControlFlow;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{PATIENCE, numbered, produce, read_all, wait_until};
use telltale_kafka::producer::{NewRecord, ProducerConfig, SendError};
use telltale_kafka::reader::{Followed, Start};
use telltale_kafka::topics::{Created, Topics};
use telltale_kafka::{
    Compression, Error, Isolation, KafkaConfig, Producer, PublishError, Reader, Transactional,
};
use telltale_records::topics::TopicSpec;
use telltale_records::{Destination, Outgoing};
use tokio_util::sync::CancellationToken;

/// Offsets of `topic`-0 in `range`, and the offset reached.
fn read(reader: &mut Reader, topic: &str, range: std::ops::Range<i64>) -> Result<(Vec<i64>, i64), Error> {
    let mut offsets = Vec::new();
    let reached = reader.read(topic, 0, range, &CancellationToken::new(), |batch| {
        offsets.extend(batch.records().map(|it| it.offset()));
        ControlFlow::Continue(())
    })?;
    Ok((offsets, reached))
}

fn outgoing(topic: &str, values: &[&[u8]]) -> Outgoing {
    let mut out = Outgoing::new();
    let to = Destination { topic: out.topic(topic), partition: Some(0), timestamp_ms: Some(1_000) };
    values.iter().for_each(|it| out.push(to, Some(b"key"), Some(it), None, &[("name", b"value")]));
    out
}

fn transactional(kafka: &KafkaConfig, id: &str) -> Transactional {
    Transactional::open(kafka, id, PATIENCE, &CancellationToken::new()).unwrap()
}

#[test]
fn compressed_records_read_as_they_were_written_and_take_fewer_bytes() {
    let written = [Compression::None, Compression::Lz4, Compression::Zstd].map(|compression| {
        let engine = common::lasting_engine();
        let kafka = KafkaConfig { compression, ..engine.kafka() };
        let [topic, committed] = engine.topics(1);
        produce(&kafka, topic, numbered(5_000));
        let values: Vec<Vec<u8>> = numbered(5_000).map(|(_, value)| value).collect();
        let borrowed: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let stop = CancellationToken::new();
        transactional(&kafka, "writer").publish_together(&outgoing(committed, &borrowed), &stop).unwrap();
        for topic in [topic, committed] {
            let read: Vec<Vec<u8>> = read_all(&kafka, topic).into_iter().map(|it| it.value).collect();
            assert!(read == values, "{compression:?}");
        }
        engine.bytes()
    });
    let [none, lz4, zstd] = written;
    assert!(lz4 < none / 2 && zstd < lz4, "{none} bytes, {lz4} with lz4, {zstd} with zstd");
}

#[test]
fn a_range_is_read_exactly_and_control_records_are_passed_over() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [topic] = engine.topics(1);
    produce(&kafka, topic, numbered(10));
    // 10, 11 and a control record at 12; then 13 and one at 14.
    let mut writer = transactional(&kafka, topic);
    writer.publish(&outgoing(topic, &[b"a", b"b"]), &CancellationToken::new()).unwrap();
    writer.publish(&outgoing(topic, &[b"c"]), &CancellationToken::new()).unwrap();
    let mut reader = Reader::open(&kafka, Isolation::Committed).unwrap();
    assert_eq!(reader.watermarks(topic, 0).unwrap(), 0..15);
    let cases: [(std::ops::Range<i64>, Vec<i64>); 6] = [
        (0..15, (0..12).chain([13]).collect()),
        (3..5, vec![3, 4]),
        (9..12, vec![9, 10, 11]),
        (12..13, vec![]),
        (14..15, vec![]),
        (7..7, vec![]),
    ];
    for (range, expected) in cases {
        assert_eq!(read(&mut reader, topic, range.clone()).unwrap(), (expected, range.end), "{range:?}");
    }
}

#[test]
fn a_range_that_is_not_there_is_refused_with_what_is_there() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [topic] = engine.topics(1);
    produce(&kafka, topic, numbered(20));
    common::delete_records(&kafka, topic, 5);
    let mut reader = Reader::open(&kafka, Isolation::Committed).unwrap();
    let cases = [
        (4..10, "offset 4 of TOPIC-0 is gone: the first record there is now 5"),
        (5..21, "offset 21 of TOPIC-0 is not there yet: committed records end at 20"),
        (std::ops::Range { start: 9, end: 8 }, "the range 9..8 of TOPIC-0 ends before it begins"),
    ];
    for (range, expected) in cases {
        let error = read(&mut reader, topic, range).unwrap_err().to_string();
        assert!(error.contains(&expected.replace("TOPIC", topic)), "{error}");
    }
    let stop = CancellationToken::new();
    let error = reader.read(topic, 3, 0..1, &stop, |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.to_string(), format!("topic {topic} has no partition 3, it has 1"));
    let error = reader.read("nowhere", 0, 0..1, &stop, |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, Error::MissingTopic { .. }), "{error}");
}

#[test]
fn only_the_uncommitted_reader_sees_what_is_not_committed() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [topic] = engine.topics(1);
    let mut writer = transactional(&kafka, topic);
    // Too large for the topic: the first record is written, the transaction is aborted.
    let large = vec![b'x'; 2 << 20];
    let error = writer.publish(&outgoing(topic, &[b"small", &large]), &CancellationToken::new()).unwrap_err();
    assert!(matches!(error, PublishError::Refused { bytes: 2_097_155, .. }), "{error}");
    let seen = |isolation| {
        let mut reader = Reader::open(&kafka, isolation).unwrap();
        let there = reader.watermarks(topic, 0).unwrap();
        read(&mut reader, topic, there).unwrap().0.len()
    };
    assert_eq!((seen(Isolation::Committed), seen(Isolation::Uncommitted)), (0, 1));
    // librdkafka left a gap in its sequence, which the next transaction may find and have to be aborted for.
    let mut again = || writer.publish(&outgoing(topic, &[b"next"]), &CancellationToken::new());
    let outcome = again().or_else(|error| {
        assert!(matches!(error, PublishError::Aborted { .. }), "{error:?}");
        again()
    });
    outcome.unwrap();
    assert_eq!(seen(Isolation::Committed), 1, "the producer goes on after an abort");
}

#[test]
fn a_follower_gets_what_was_there_and_what_comes() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [topic] = engine.topics(3);
    produce(&kafka, topic, numbered(60));
    let (events, seen) = mpsc::sync_channel(1000);
    let stop = CancellationToken::new();
    thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let mut reader = Reader::open(&kafka, Isolation::Committed).unwrap();
            reader.follow(topic, Start::Beginning, &stop, |followed| {
                events
                    .send(match followed {
                        Followed::Record(record) => Some(record.value().unwrap().to_vec()),
                        Followed::CaughtUp => None,
                    })
                    .unwrap();
                ControlFlow::Continue(())
            })
        });
        let until_caught_up = || {
            let mut values = Vec::new();
            while let Some(value) = seen.recv_timeout(PATIENCE).unwrap() {
                values.push(value);
            }
            values
        };
        let first = until_caught_up();
        assert_eq!(first.len(), 60);
        produce(&kafka, topic, [("car-1".to_owned(), b"new".to_vec())]);
        let mut then = until_caught_up();
        while then.is_empty() {
            then = until_caught_up();
        }
        assert_eq!(then, [b"new".to_vec()]);
        stop.cancel();
        follower.join().unwrap().unwrap();
    });
}

#[test]
fn a_time_is_found() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [topic] = engine.topics(1);
    transactional(&kafka, topic).publish(&outgoing(topic, &[b"a"]), &CancellationToken::new()).unwrap();
    let reader = Reader::open(&kafka, Isolation::Committed).unwrap();
    assert_eq!(reader.offset_at(topic, 0, 1_000).unwrap(), Some(0));
    // Later than the control record behind it, too.
    assert_eq!(reader.offset_at(topic, 0, 4_000_000_000_000).unwrap(), None);
}

#[test]
fn records_of_a_key_arrive_in_the_order_they_were_sent_and_are_reported_each() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [topic] = engine.topics(4);
    let (reports, outcomes) = mpsc::sync_channel(10_000);
    // A queue that is often full.
    let config = ProducerConfig { most_records: 100, ..ProducerConfig::default() };
    let producer =
        Producer::new(&kafka, &config, move |token, it| reports.send((token, it)).unwrap()).unwrap();
    let mut full = 0;
    for (token, (key, value)) in numbered(5_000).enumerate() {
        let record =
            NewRecord { topic, key: Some(key.as_bytes()), value: Some(&value), ..NewRecord::default() };
        while let Err(error) = producer.send(record, token as u64) {
            assert!(matches!(error, SendError::Full), "{error}");
            full += 1;
            thread::sleep(Duration::from_millis(1));
        }
    }
    producer.flush(PATIENCE).unwrap();
    assert!(full > 0);
    let mut tokens: Vec<u64> = outcomes.try_iter().map(|(token, it)| it.map(|_| token).unwrap()).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..5_000).collect::<Vec<_>>());
    let mut newest = std::collections::HashMap::new();
    for seen in read_all(&kafka, topic) {
        let number: usize = String::from_utf8(seen.value).unwrap()["reading ".len()..].parse().unwrap();
        assert!(
            newest.insert(seen.key, number).is_none_or(|before| before < number),
            "out of order: {number}"
        );
    }
}

#[test]
fn a_record_too_large_for_its_topic_is_reported_as_that() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [topic] = engine.topics(1);
    let (reports, outcomes) = mpsc::sync_channel(10);
    let producer = Producer::new(&kafka, &ProducerConfig::default(), move |token, it| {
        reports.send((token, it)).unwrap()
    })
    .unwrap();
    let value = vec![b'x'; 3 << 20];
    producer.send(NewRecord { topic, value: Some(&value), ..NewRecord::default() }, 7).unwrap();
    let (token, outcome) = outcomes.recv_timeout(PATIENCE).unwrap();
    assert!(
        matches!(outcome, Err(SendError::TooLarge { bytes: 3_145_728, .. })) && token == 7,
        "{outcome:?}"
    );
    let value = vec![b'x'; 65 << 20];
    let error =
        producer.send(NewRecord { topic, value: Some(&value), ..NewRecord::default() }, 8).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { .. }), "{error}");
}

#[test]
fn a_bounded_delivery_time_ends_in_a_report_while_kafka_is_away() {
    let mut engine = common::lasting_engine();
    let kafka = engine.kafka();
    let [topic] = engine.topics(1);
    let (reports, outcomes) = mpsc::sync_channel(10);
    let config =
        ProducerConfig { delivery_timeout: Some(Duration::from_secs(1)), ..ProducerConfig::default() };
    let producer =
        Producer::new(&kafka, &config, move |token, it| reports.send((token, it)).unwrap()).unwrap();
    engine.stop();
    producer.send(NewRecord { topic, value: Some(b"lost"), ..NewRecord::default() }, 1).unwrap();
    let error = producer.flush(Duration::ZERO).unwrap_err().to_string();
    // librdkafka may count an error that is not reported yet, too.
    assert!(error.contains("delivering the last ") && error.contains("(is Kafka reachable at"), "{error}");
    let (_, outcome) = outcomes.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(outcome, Err(SendError::Undelivered { .. })), "{outcome:?}");
}

#[test]
fn without_a_bound_a_record_waits_until_kafka_is_back() {
    let mut engine = common::lasting_engine();
    let kafka = engine.kafka();
    let [topic] = engine.topics(1);
    let (reports, outcomes) = mpsc::sync_channel(10);
    let producer =
        Producer::new(&kafka, &ProducerConfig::default(), move |_, it| reports.send(it).unwrap()).unwrap();
    engine.stop();
    producer.send(NewRecord { topic, value: Some(b"late"), ..NewRecord::default() }, 1).unwrap();
    assert!(producer.flush(Duration::from_secs(1)).is_err());
    engine.start_again();
    producer.flush(PATIENCE).unwrap();
    outcomes.recv_timeout(PATIENCE).unwrap().unwrap();
}

#[test]
fn the_second_owner_of_a_transactional_id_fences_the_first() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [topic] = engine.topics(1);
    let stop = CancellationToken::new();
    let mut first = transactional(&kafka, "the-id");
    first.publish(&outgoing(topic, &[b"1"]), &stop).unwrap();
    let mut second = transactional(&kafka, "the-id");
    let error = first.publish(&outgoing(topic, &[b"2"]), &stop).unwrap_err();
    assert!(matches!(error, PublishError::Ended(Error::Fenced { .. })), "{error:?}");
    second.publish(&outgoing(topic, &[b"3"]), &stop).unwrap();
    let values: Vec<_> = read_all(&kafka, topic).into_iter().map(|it| it.value).collect();
    assert_eq!(values, [b"1", b"3"]);
}

#[test]
fn a_producer_that_finds_no_kafka_says_so_after_its_patience() {
    let kafka = KafkaConfig::at("127.0.0.1:1");
    let error =
        Transactional::open(&kafka, "id", Duration::ZERO, &CancellationToken::new()).unwrap_err().to_string();
    assert!(error.contains("is Kafka reachable at 127.0.0.1:1? `--kafka` names it"), "{error}");
}

#[test]
fn topics_are_created_once_and_differences_are_told() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let topics = Topics::open(&kafka).unwrap();
    assert!(topics.create_all(3, 1).unwrap().iter().all(|(_, created)| *created == Created::New));
    assert!(topics.create_all(3, 1).unwrap().iter().all(|(_, created)| *created == Created::Same));
    let all: Vec<_> = topics.list().unwrap().into_iter().map(|it| (it.name, it.partitions)).collect();
    assert!(all.contains(&("SENSOR_DATA_S_AVRO".to_owned(), 3)) && all.contains(&("models".to_owned(), 1)));
    assert_eq!(topics.describe("models").unwrap()["cleanup.policy"], "compact");

    let config = &[("cleanup.policy", "delete")][..];
    let other = TopicSpec { name: "models", partitioned: true, config };
    let Created::Differs(differences) = topics.create(&other, 2, 1).unwrap() else { panic!("it differs") };
    let told: Vec<_> = differences.iter().map(|it| (&*it.setting, &*it.wanted, &*it.found)).collect();
    assert_eq!(told, [("partitions", "2", "1"), ("cleanup.policy", "delete", "compact")]);

    topics.delete("fleet-truth").unwrap();
    wait_until("it is gone", || !topics.list().unwrap().iter().any(|it| it.name == "fleet-truth"));
    assert!(matches!(topics.delete("fleet-truth"), Err(Error::MissingTopic { .. })));
    let described = topics.describe("fleet-truth");
    assert!(matches!(described, Err(Error::MissingTopic { .. })), "{described:?}");
}
