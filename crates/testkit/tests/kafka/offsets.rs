//! Finding a place in the log: by offset, by time, from the first record, from the last one.

use kafka_protocol::ResponseError::UnknownTopicOrPartition;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{ListOffsetsRequest, OffsetForLeaderEpochRequest};
use kafka_protocol::records::Compression;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use telltale_testkit::engines::wait_until;
use telltale_testkit::wire::{ANYBODY, batch, topic_name};

use crate::clients::{PATIENCE, Record, config, owned, producer, read_from, send_all};
use crate::support::{Kafka, kafka};

/// A topic with the values 0 to 99, at the times 100,000, 101,000 and so on, some to a batch.
fn filled(kafka: &Kafka) -> String {
    let topic = kafka.topic("filled", &[]);
    let records: Vec<_> =
        (0..100).map(|it| Record { timestamp: 100_000 + 1_000 * it, ..Record::of(it.to_string()) }).collect();
    let producer = producer(&kafka.servers(), &[("linger.ms", "0"), ("batch.num.messages", "7")]);
    send_all(&producer, &topic, &records);
    topic
}

/// A consumer at the begin of partition 0.
fn consumer(kafka: &Kafka, topic: &str, settings: &[(&str, &str)]) -> BaseConsumer {
    let mut all = vec![("group.id", "seeker"), ("enable.auto.commit", "false")];
    all.extend_from_slice(settings);
    let consumer: BaseConsumer = config(&kafka.servers(), &all).create().unwrap();
    let mut start = TopicPartitionList::new();
    start.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&start).unwrap();
    consumer
}

/// The next record.
fn next(consumer: &BaseConsumer) -> Record {
    let mut found = None;
    wait_until("a record comes", || {
        let polled = consumer.poll(PATIENCE / 60);
        found = polled.and_then(Result::ok).map(|it| owned(&it));
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn a_consumer_seeks_forth_and_back() {
    let kafka = kafka();
    let topic = filled(&kafka);
    let consumer = consumer(&kafka, &topic, &[]);
    assert_eq!(next(&consumer).text(), "0");
    for offset in [50, 99, 3, 51, 0] {
        consumer.seek(&topic, 0, Offset::Offset(offset), PATIENCE).unwrap();
        let found = next(&consumer);
        assert_eq!(
            (found.offset, found.text()),
            (offset, offset.to_string()),
            "also in the middle of a batch"
        );
    }
    consumer.seek(&topic, 0, Offset::OffsetTail(2), PATIENCE).unwrap();
    assert_eq!(next(&consumer).offset, 98);
    consumer.seek(&topic, 0, Offset::Beginning, PATIENCE).unwrap();
    assert_eq!(next(&consumer).offset, 0);
}

#[test]
fn an_offset_is_found_by_time() {
    let kafka = kafka();
    let topic = filled(&kafka);
    let consumer: BaseConsumer = config(&kafka.servers(), &[("group.id", "times")]).create().unwrap();
    let at = |time: i64| {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(&topic, 0, Offset::Offset(time)).unwrap();
        let found = consumer.offsets_for_times(asked, PATIENCE).unwrap();
        found.elements()[0].offset()
    };
    for (time, offset) in
        [(0, 0), (100_000, 0), (100_001, 1), (150_000, 50), (150_500, 51), (198_001, 99), (199_000, 99)]
    {
        assert_eq!(at(time), Offset::Offset(offset), "at {time}");
    }
    assert_eq!(at(199_001), Offset::End, "behind the last record");
}

#[test]
fn the_first_the_last_and_the_newest_have_names() {
    let kafka = kafka();
    let topic = kafka.topic("named", &[]);
    let mut client = kafka.connect();
    for empty in [-1, -2] {
        assert_eq!(client.offset_at(&topic, empty), (-1, 0));
    }
    assert_eq!(client.offset_at(&topic, -3), (-1, -1), "no record is the newest");
    assert_eq!(client.offset_at(&topic, 0), (-1, -1));
    client.produce(&topic, batch(ANYBODY, Compression::Lz4, &["a", "b", "c"]));
    client.produce(&topic, batch(ANYBODY, Compression::None, &["d"]));
    assert_eq!(client.offset_at(&topic, -2), (-1, 0), "the first");
    assert_eq!(client.offset_at(&topic, -1), (-1, 4), "behind the last");
    assert_eq!(client.offset_at(&topic, -3), (1002, 2), "the newest by time, inside a compressed batch");
    assert_eq!(client.offset_at(&topic, 1001), (1001, 1));
    assert_eq!(client.offset_at(&topic, 1003), (-1, -1), "nothing is that young");
}

#[test]
fn partitions_that_do_not_exist_have_no_offsets() {
    let kafka = kafka();
    let topic = kafka.topic("one", &[]);
    let mut client = kafka.connect();
    for (name, partition) in [(topic.as_str(), 9), (kafka.name("none").as_str(), 0)] {
        let partition = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(-1);
        let asked = ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(vec![partition]);
        let answer = client.call(7, &ListOffsetsRequest::default().with_topics(vec![asked]));
        let found = &answer.topics[0].partitions[0];
        assert_eq!((found.error_code, found.offset), (UnknownTopicOrPartition.code(), -1));
    }
}

#[test]
fn a_consumer_without_a_place_begins_where_its_setting_says() {
    let kafka = kafka();
    let topic = filled(&kafka);
    for (reset, first) in [("earliest", 0), ("latest", 100)] {
        let consumer = consumer(&kafka, &topic, &[("auto.offset.reset", reset)]);
        next(&consumer);
        // Beyond the end: OFFSET_OUT_OF_RANGE makes librdkafka reset.
        consumer.seek(&topic, 0, Offset::Offset(5_000), PATIENCE).unwrap();
        let mut value = -1;
        wait_until("the consumer begins again", || {
            // What is written after the reset comes to the one that waits at the end.
            let record = Record { timestamp: 200_000, ..Record::of("more") };
            send_all(&producer(&kafka.servers(), &[]), &topic, &[record]);
            let polled = consumer.poll(PATIENCE / 60).and_then(Result::ok).map(|it| it.offset());
            value = polled.unwrap_or(value);
            polled.is_some()
        });
        assert!(if reset == "earliest" { value == first } else { value >= first }, "{reset}: {value}");
    }
}

#[test]
fn reading_from_the_middle_gives_the_rest() {
    let kafka = kafka();
    let topic = filled(&kafka);
    let read = read_from(&kafka.servers(), &topic, Offset::Offset(93), &[]);
    let values: Vec<_> = read.iter().map(Record::text).collect();
    assert_eq!(values, ["93", "94", "95", "96", "97", "98", "99"]);
}

#[test]
fn the_leaders_epoch_ends_at_the_end_of_the_log() {
    let kafka = kafka();
    let topic = filled(&kafka);
    let mut client = kafka.connect();
    let partition = OffsetForLeaderPartition::default().with_leader_epoch(0);
    let asked =
        OffsetForLeaderTopic::default().with_topic(topic_name(&topic)).with_partitions(vec![partition]);
    let answer = client.call(4, &OffsetForLeaderEpochRequest::default().with_topics(vec![asked]));
    let found = &answer.topics[0].partitions[0];
    assert_eq!((found.error_code, found.leader_epoch, found.end_offset), (0, 0, 100));
}
