//! Reading that begins anew, as often as anybody likes.

use std::time::{Duration, Instant};

use rdkafka::consumer::DefaultConsumerContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use telltale_embedded::log::{Log, LogConfig};
use telltale_records::topics::TopicSpec;

use super::Intake;
use crate::KafkaConfig;
use crate::client::positions;
use crate::topics::Topics;

const TOPIC: &str = "numbers";
const PARTITIONS: i32 = 4;
const RECORDS: i64 = 100;
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker with records, and a consumer that reads none of them yet.
fn begin() -> (Log, Intake<DefaultConsumerContext>) {
    let log = Log::start(LogConfig::default()).unwrap();
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", log.addr().to_string())
        .set("group.id", "readers")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "10");
    let topics = Topics::open(&KafkaConfig::at(log.addr().to_string())).unwrap();
    topics.create(&TopicSpec { name: TOPIC, partitioned: true, config: &[] }, PARTITIONS, 1).unwrap();
    let producer: BaseProducer = client.create().unwrap();
    for partition in 0..PARTITIONS {
        for _ in 0..RECORDS {
            let record = BaseRecord::<[u8], [u8]>::to(TOPIC).partition(partition).payload(b"it");
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
    }
    producer.flush(PATIENCE).unwrap();
    (log, Intake::new(client.create().unwrap()))
}

/// Reads until the first record of each partition has come; returns their offsets.
fn first_offsets(intake: &mut Intake<DefaultConsumerContext>) -> Vec<Option<i64>> {
    let mut first = vec![None; PARTITIONS as usize];
    let begun = Instant::now();
    while first.contains(&None) && begun.elapsed() < PATIENCE {
        intake.serve(Duration::ZERO).unwrap();
        intake.next(Duration::from_millis(50), |message| {
            let message = message.unwrap();
            first[message.partition() as usize].get_or_insert(message.offset());
        });
    }
    first
}

fn all_at(offset: i64) -> TopicPartitionList {
    positions((0..PARTITIONS).map(|it| (TOPIC, it, Offset::Offset(offset))))
}

fn all(offset: i64) -> Vec<Option<i64>> {
    vec![Some(offset); PARTITIONS as usize]
}

#[test]
fn partitions_given_up_and_taken_again_at_once_are_read() {
    let (_log, mut intake) = begin();
    for offset in 0..25 {
        intake.assign(&all_at(offset)).unwrap();
        assert_eq!(first_offsets(&mut intake), all(offset));
        intake.unassign().unwrap();
    }
}

#[test]
fn partitions_assigned_over_and_over_are_read() {
    let (_log, mut intake) = begin();
    for offset in (0..25).map(|it| it * 7 % RECORDS) {
        intake.assign(&all_at(offset)).unwrap();
        assert_eq!(first_offsets(&mut intake), all(offset));
    }
}

#[test]
fn reading_goes_on_where_it_is_told_to() {
    let (_log, mut intake) = begin();
    intake.assign(&all_at(0)).unwrap();
    for offset in (0..25).map(|it| it * 7 % RECORDS) {
        intake.seek(all_at(offset)).unwrap();
        assert_eq!(first_offsets(&mut intake), all(offset));
    }
}

#[test]
fn what_is_not_read_is_not_sought() {
    let (_log, intake) = begin();
    let refusal = intake.seek(all_at(3)).unwrap_err();
    assert!(refusal.rdkafka_error_code().is_some(), "{refusal}");
}
