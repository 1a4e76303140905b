//! What errors mean; a transaction that outlives its time.

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use telltale_embedded::log::{Log, LogConfig};
use telltale_records::Destination;
use telltale_records::topics::TopicSpec;

use super::*;
use crate::topics::Topics;
use crate::{Isolation, KafkaConfig, Reader};

/// Longest wait for a state; far longer than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn an_unanswered_request_is_in_doubt() {
    for code in [RDKafkaErrorCode::OperationTimedOut, RDKafkaErrorCode::BrokerTransportFailure] {
        assert!(matches!(classify(KafkaError::Flush(code)), Failure::Doubt(_)), "{code:?}");
    }
}

#[test]
fn a_fenced_producer_is_at_its_end() {
    for code in [RDKafkaErrorCode::Fenced, RDKafkaErrorCode::Fatal] {
        assert!(matches!(classify(KafkaError::Global(code)), Failure::Fatal(_)), "{code:?}");
    }
}

#[test]
fn only_faults_of_the_record_itself_are_refusals() {
    assert!(refused(RDKafkaErrorCode::MessageSizeTooLarge));
    assert!(!refused(RDKafkaErrorCode::MessageTimedOut));
    assert!(!refused(RDKafkaErrorCode::NotEnoughReplicas));
}

/// How the abort of a transaction ends that Kafka has aborted in `meanwhile`, which is told the settings and how to see it.
fn abort_too_late(timeout: Duration, meanwhile: impl FnOnce(&KafkaConfig, &dyn Fn() -> i64)) -> Failure {
    let log = Log::start(LogConfig::default()).unwrap();
    let kafka = KafkaConfig::at(log.addr().to_string());
    let spec = TopicSpec { name: "t", partitioned: true, config: &[("max.message.bytes", "1000")] };
    Topics::open(&kafka).unwrap().create(&spec, 1, 1).unwrap();
    let reader = Reader::open(&kafka, Isolation::Uncommitted).unwrap();
    let producer = owner(&kafka, timeout);
    let mut out = Outgoing::new();
    let to = Destination { topic: out.topic("t"), partition: Some(0), timestamp_ms: Some(0) };
    out.push(to, None, Some(b"taken"), None, &[]);
    out.push(to, None, Some(&[0; 2000]), None, &[]);
    let refused = producer.commit(&out, None, |_| true).unwrap_err();
    assert!(matches!(refused, Failure::Abort(_)), "{refused:?}");
    meanwhile(&kafka, &|| reader.watermarks("t", 0).unwrap().end);
    producer.abort().unwrap_err()
}

/// A producer that has taken over the id.
fn owner(kafka: &KafkaConfig, timeout: Duration) -> TransactionalProducer {
    let client = kafka.client().unwrap();
    let mut producer = TransactionalProducer::new(client, "id", timeout, CancellationToken::new()).unwrap();
    let started = Instant::now();
    while let Err(failure) = producer.initialise(Duration::from_secs(5)) {
        assert!(started.elapsed() < PATIENCE, "{failure:?}");
    }
    producer
}

#[test]
fn a_transaction_that_kafka_ended_after_its_time_is_in_doubt() {
    let failure = abort_too_late(Duration::from_secs(6), |_, end| {
        let started = Instant::now();
        // The record, and the marker that it is aborted.
        while end() < 2 {
            assert!(started.elapsed() < PATIENCE, "Kafka does not abort it");
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert!(matches!(failure, Failure::Doubt(_)), "{failure:?}");
}

#[test]
fn a_transaction_that_another_process_ended_is_the_last() {
    let failure = abort_too_late(Duration::from_secs(600), |kafka, _| drop(owner(kafka, PATIENCE)));
    assert!(matches!(&failure, Failure::Fatal(error) if is_fenced(error)), "{failure:?}");
}

#[test]
fn offsets_that_nobody_answers_for_are_in_doubt() {
    let log = Log::start(LogConfig::default()).unwrap();
    let kafka = KafkaConfig::at(log.addr().to_string());
    let spec = TopicSpec { name: "t", partitioned: true, config: &[] };
    Topics::open(&kafka).unwrap().create(&spec, 1, 1).unwrap();
    let mut client = kafka.client().unwrap();
    let consumer: BaseConsumer = client.set("group.id", "group").create().unwrap();
    let group = Arc::new(consumer.group_metadata().unwrap());
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset("t", 0, Offset::Offset(1)).unwrap();
    let producer = owner(&kafka, Duration::from_secs(6));
    drop(log);
    let failure = producer.commit(&Outgoing::new(), Some((&offsets, &group)), |_| false).unwrap_err();
    assert!(matches!(failure, Failure::Doubt(_)), "{failure:?}");
}
