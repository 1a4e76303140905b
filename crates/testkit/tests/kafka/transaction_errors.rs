//! Every error of a transaction that a producer acts upon, request by request.

use kafka_protocol::ResponseError::{
    InvalidProducerEpoch, InvalidProducerIdMapping, InvalidRequest, InvalidTransactionTimeout,
    InvalidTxnState, ProducerFenced, TransactionalIdNotFound, UnknownTopicOrPartition, UnstableOffsetCommit,
};
use kafka_protocol::messages::{
    DescribeTransactionsRequest, InitProducerIdRequest, ListTransactionsRequest, ProducerId,
};
use telltale_testkit::engines::{wait_at_most, wait_until};
use telltale_testkit::wire::{Client, Coordinates, transactional_id};

use crate::clients::PATIENCE;
use crate::support::{Kafka, kafka};
use crate::wire_transaction::{RawProducer, stable_offset, try_init};

/// A producer and its topic.
fn started(kafka: &Kafka) -> RawProducer {
    let topic = kafka.topic("written", &[]);
    RawProducer::begin(kafka, &kafka.name("tx"), &topic, 60_000)
}

fn committed_values(kafka: &Kafka, topic: &str) -> Vec<String> {
    kafka.connect().read(topic, true).into_iter().map(|it| it.1).collect()
}

#[test]
fn records_and_offsets_are_undecided_until_the_end() {
    let kafka = kafka();
    let mut producer = started(&kafka);
    let group = kafka.name("group");
    let topic = producer.topic.clone();
    assert_eq!(producer.write("too early"), Some(InvalidTxnState), "the partition was not added");
    let rounds: [(&str, bool, &[&str]); 3] =
        [("a", true, &["a"]), ("b", false, &["a"]), ("c", true, &["a", "c"])];
    let mut before: &[&str] = &[];
    for (value, committed, after) in rounds {
        assert_eq!(producer.add_partition(), 0);
        assert_eq!(producer.write(value), None);
        assert_eq!(producer.add_group(&group), 0);
        assert_eq!(producer.stage(&group, producer.sequence.into()), 0);
        assert_eq!(committed_values(&kafka, &topic), before, "{value} is not decided");
        assert_eq!(stable_offset(&kafka, &group, &topic), Err(UnstableOffsetCommit.code()));
        assert_eq!(producer.end(committed), 0);
        // Kafka answers first and writes the markers then.
        wait_until("the transaction has ended", || {
            stable_offset(&kafka, &group, &topic).is_ok() && committed_values(&kafka, &topic) == after
        });
        before = after;
    }
    assert_eq!(stable_offset(&kafka, &group, &topic), Ok(3));
}

#[test]
fn ending_again_is_a_retry_and_ending_otherwise_an_error() {
    let kafka = kafka();
    let mut producer = started(&kafka);
    for committed in [true, false] {
        assert_eq!(producer.add_partition(), 0);
        assert_eq!(producer.write("a"), None);
        assert_eq!([producer.end(committed), producer.end(committed)], [0, 0], "a retry");
        assert_eq!(producer.end(!committed), InvalidTxnState.code());
    }
}

#[test]
fn what_was_replaced_is_fenced() {
    let kafka = kafka();
    let mut old = started(&kafka);
    let group = kafka.name("group");
    assert_eq!((old.add_partition(), old.write("left open")), (0, None));
    let mut new = RawProducer::begin(&kafka, &old.name, &old.topic, 60_000);
    assert_eq!(new.id, old.id);
    assert!(new.epoch > old.epoch);
    assert_eq!(old.write("too late"), Some(InvalidProducerEpoch));
    let fenced = ProducerFenced.code();
    assert_eq!([old.add_partition(), old.add_group(&group), old.end(true)], [fenced; 3]);
    assert_eq!(try_init(&mut old.client, &old.name, 60_000, (old.id, old.epoch)).error_code, fenced);
    assert_eq!((new.add_partition(), new.write("new"), new.end(true)), (0, None, 0));
    wait_until("only the new one's is committed", || committed_values(&kafka, &new.topic) == ["new"]);
}

#[test]
fn a_producer_may_begin_again_with_its_own_identity() {
    let kafka = kafka();
    let mut producer = started(&kafka);
    assert_eq!((producer.add_partition(), producer.write("dropped")), (0, None));
    let claimed = (producer.id, producer.epoch);
    let again = try_init(&mut producer.client, &producer.name, 60_000, claimed);
    assert_eq!((again.error_code, again.producer_id), (0, producer.id));
    assert!(again.producer_epoch > producer.epoch);
    (producer.epoch, producer.sequence) = (again.producer_epoch, 0);
    assert_eq!((producer.add_partition(), producer.write("kept"), producer.end(true)), (0, None, 0));
    wait_until("the first was aborted", || committed_values(&kafka, &producer.topic) == ["kept"]);
}

#[test]
fn a_transaction_whose_time_is_over_is_aborted_and_its_producer_fenced() {
    let kafka = kafka();
    let topic = kafka.topic("slow", &[]);
    let mut producer = RawProducer::begin(&kafka, &kafka.name("tx"), &topic, 10_000);
    assert_eq!((producer.add_partition(), producer.write("too slow")), (0, None));
    let mut client = kafka.connect();
    wait_at_most(2 * PATIENCE, "it is aborted", || {
        let fetched = client.fetch(&topic, 0, true, 0);
        fetched.last_stable_offset == 2 && fetched.high_watermark == 2
    });
    assert_eq!(committed_values(&kafka, &topic), Vec::<String>::new());
    assert_eq!(producer.end(true), ProducerFenced.code());
    assert_eq!(producer.write("still here"), Some(InvalidProducerEpoch));
}

#[test]
fn strangers_and_wrong_numbers_are_refused() {
    let kafka = kafka();
    let mut producer = started(&kafka);
    let group = kafka.name("group");
    assert_eq!(producer.add(&kafka.name("none"), 0), UnknownTopicOrPartition.code());
    let topic = producer.topic.clone();
    assert_eq!(producer.add(&topic, 7), UnknownTopicOrPartition.code());
    assert_eq!(producer.end(true), InvalidTxnState.code(), "nothing was begun");
    let right = std::mem::replace(&mut producer.id, ProducerId(987_654_321));
    let mapping = InvalidProducerIdMapping.code();
    assert_eq!([producer.add_partition(), producer.add_group(&group), producer.end(true)], [mapping; 3]);
    producer.id = right;
    let right = std::mem::replace(&mut producer.name, kafka.name("nobody"));
    assert_eq!([producer.add_partition(), producer.add_group(&group), producer.end(true)], [mapping; 3]);
    producer.name = right;
    for timeout_ms in [0, -1, 900_001] {
        let answer = try_init(&mut producer.client, &producer.name, timeout_ms, (ProducerId(-1), -1));
        assert_eq!(answer.error_code, InvalidTransactionTimeout.code(), "{timeout_ms} ms");
    }
    let nameless = InitProducerIdRequest::default()
        .with_transactional_id(Some(transactional_id("")))
        .with_transaction_timeout_ms(60_000);
    assert_eq!(producer.client.call(4, &nameless).error_code, InvalidRequest.code());
}

#[test]
fn a_transaction_is_described_and_listed_as_it_is() {
    let kafka = kafka();
    let mut producer = started(&kafka);
    let (name, id, epoch, topic) =
        (producer.name.clone(), producer.id, producer.epoch, producer.topic.clone());
    let mut client = Client::coordinator(kafka.servers(), Coordinates::Transaction, &name);
    let mut describe = |name: &str| {
        let request =
            DescribeTransactionsRequest::default().with_transactional_ids(vec![transactional_id(name)]);
        client.call(0, &request).transaction_states.remove(0)
    };
    assert_eq!(describe(&kafka.name("none")).error_code, TransactionalIdNotFound.code());
    assert_eq!(describe(&name).transaction_state.as_str(), "Empty");
    assert_eq!((producer.add_partition(), producer.write("a")), (0, None));
    let open = describe(&name);
    assert_eq!((open.transaction_state.as_str(), open.transaction_timeout_ms), ("Ongoing", 60_000));
    assert_eq!((open.producer_id, open.producer_epoch), (id, epoch));
    assert_eq!((open.topics[0].topic.as_str(), &open.topics[0].partitions[..]), (topic.as_str(), &[0][..]));
    let listed = kafka.connect().call(0, &ListTransactionsRequest::default()).transaction_states;
    let mine = listed.iter().find(|it| it.transactional_id.as_str() == name).unwrap();
    assert_eq!((mine.transaction_state.as_str(), mine.producer_id), ("Ongoing", id));
    assert_eq!(producer.end(false), 0);
    wait_until("it has ended", || describe(&name).transaction_state.as_str() == "CompleteAbort");
}
