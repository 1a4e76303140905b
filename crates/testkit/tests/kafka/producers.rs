//! Idempotent producers: nothing twice, nothing with a gap, nothing of a producer that was replaced.

use kafka_protocol::ResponseError::{
    self, InvalidProducerEpoch, InvalidProducerIdMapping, InvalidTxnState, OutOfOrderSequenceNumber,
    TransactionalIdAuthorizationFailed,
};
use kafka_protocol::messages::InitProducerIdRequest;
use kafka_protocol::records::Compression;
use telltale_testkit::wire::{Client, Writer, batch, refused};

use crate::clients::{Record, producer, read_all, send_all};
use crate::support::kafka;

/// A producer id of its own, in epoch 0.
fn new_producer(client: &mut Client) -> i64 {
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    client.call_until(1, &request, |it| it.error_code == 0).producer_id.0
}

/// Sends a batch of two records; the offset of the first, or the error.
fn send(client: &mut Client, topic: &str, writer: Writer) -> Result<i64, ResponseError> {
    let answer = client.produce(topic, batch(writer, Compression::None, &["a", "b"]));
    refused(&answer).map_or(Ok(answer.base_offset), Err)
}

#[test]
fn a_retry_is_recognised_and_a_gap_refused() {
    let kafka = kafka();
    let topic = kafka.topic("idempotence", &[]);
    let mut client = kafka.connect();
    let producer_id = new_producer(&mut client);
    let mut at = |sequence| {
        send(&mut client, &topic, Writer { producer_id, epoch: 0, sequence, transactional: false })
    };
    assert_eq!(at(0), Ok(0));
    assert_eq!(at(2), Ok(2));
    assert_eq!(at(0), Ok(0), "a retry is answered as the first time");
    assert_eq!(at(6), Err(OutOfOrderSequenceNumber), "a gap");
    for sequence in [4, 6, 8, 10] {
        assert_eq!(at(sequence), Ok(sequence.into()));
    }
    assert_eq!(at(2), Ok(2), "the fifth last batch is remembered");
    assert_eq!(at(0), Err(OutOfOrderSequenceNumber), "the sixth last is not");
    assert_eq!(at(12), Ok(12), "refusals change nothing");
    assert_eq!(client.read(&topic, false).len(), 14);
}

#[test]
fn a_newer_epoch_replaces_the_older_one() {
    let kafka = kafka();
    let topic = kafka.topic("epochs", &[]);
    let mut client = kafka.connect();
    let producer_id = new_producer(&mut client);
    let mut at = |epoch, sequence| {
        send(&mut client, &topic, Writer { producer_id, epoch, sequence, transactional: false })
    };
    assert_eq!(at(0, 0), Ok(0));
    assert_eq!(at(1, 2), Err(OutOfOrderSequenceNumber), "a new epoch begins at 0");
    assert_eq!(at(1, 0), Ok(2));
    assert_eq!(at(0, 2), Err(InvalidProducerEpoch));
    assert_eq!(at(1, 2), Ok(4));
}

#[test]
fn a_producer_that_the_partition_does_not_know_may_begin_anywhere() {
    let kafka = kafka();
    let topic = kafka.topic("stranger", &[]);
    let mut client = kafka.connect();
    let producer_id = new_producer(&mut client);
    let writer = Writer { producer_id, epoch: 0, sequence: 77, transactional: false };
    assert_eq!(send(&mut client, &topic, writer), Ok(0));
}

#[test]
fn ids_are_never_given_twice() {
    let kafka = kafka();
    let mut client = kafka.connect();
    let mut ids: Vec<_> = (0..50).map(|_| new_producer(&mut client)).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 50);
}

#[test]
fn a_transactional_batch_needs_a_name_and_a_transaction() {
    let kafka = kafka();
    let topic = kafka.topic("no-transaction", &[]);
    let mut client = kafka.connect();
    let producer_id = new_producer(&mut client);
    let writer = Writer { producer_id, epoch: 0, sequence: 0, transactional: true };
    assert_eq!(send(&mut client, &topic, writer), Err(TransactionalIdAuthorizationFailed), "no name");
    let name = kafka.name("nobody");
    let mut send_as = |writer| {
        let records = batch(writer, Compression::None, &["a", "b"]);
        refused(&client.produce_as(Some(&name), &topic, records)).unwrap()
    };
    let error = send_as(writer);
    assert!(matches!(error, InvalidTxnState | InvalidProducerIdMapping), "{error:?}: no transaction");
    assert_eq!(client.read(&topic, false), []);
}

#[test]
fn librdkafka_as_our_services_set_it_delivers_once_and_in_order() {
    let kafka = kafka();
    let topic = kafka.topic("librdkafka", &[]);
    let settings = [("enable.idempotence", "true"), ("acks", "all"), ("compression.type", "lz4")];
    let sent: Vec<_> = (0..5_000).map(|it| Record::of(format!("{it}"))).collect();
    for half in sent.chunks(2_500) {
        send_all(&producer(&kafka.servers(), &settings), &topic, half);
    }
    let read: Vec<_> = read_all(&kafka.servers(), &topic, &[]).iter().map(Record::text).collect();
    assert!(read == sent.iter().map(Record::text).collect::<Vec<_>>());
}
