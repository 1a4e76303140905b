//! Copies in steps: what the next process finds, whatever became of the one before.

mod common;

use common::{PATIENCE, engine};
use telltale_kafka::{Error, Isolation, Position, Progress, PublishError, Reader};
use telltale_records::{Destination, Outgoing};
use tokio_util::sync::CancellationToken;

fn step(topic: &str, values: &[&str]) -> Outgoing {
    let mut records = Outgoing::new();
    let to = Destination { topic: records.topic(topic), partition: Some(1), timestamp_ms: None };
    values.iter().for_each(|it| records.push(to, Some(b"key"), Some(it.as_bytes()), None, &[]));
    records
}

fn values(engine: &common::Engine, topic: &str) -> Vec<String> {
    let mut reader = Reader::open(&engine.kafka(), Isolation::Committed).unwrap();
    let range = reader.watermarks(topic, 1).unwrap();
    let mut values = Vec::new();
    let stop = CancellationToken::new();
    reader
        .read(topic, 1, range, &stop, |batch| {
            values.extend(batch.records().map(|it| String::from_utf8(it.value().unwrap().to_vec()).unwrap()));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    values
}

#[test]
fn the_next_owner_goes_on_where_the_last_step_ended() {
    let engine = engine();
    let [topic] = engine.topics(2);
    let stop = CancellationToken::new();
    let open = || Progress::open(&engine.kafka(), "copy-1", topic, PATIENCE, &stop).unwrap();
    let mut first = open();
    assert_eq!(first.position().unwrap(), None);
    let position = Position { done: 2, note: "shift 5".to_owned() };
    first.publish(&step(topic, &["a", "b"]), &position, &stop).unwrap();

    let mut second = open();
    assert_eq!(second.position().unwrap(), Some(position));
    let fenced = first.publish(&step(topic, &["c"]), &Position { done: 3, note: String::new() }, &stop);
    assert!(matches!(fenced, Err(PublishError::Ended(Error::Fenced { .. }))), "{fenced:?}");
    second.publish(&step(topic, &["c"]), &Position { done: 3, note: String::new() }, &stop).unwrap();
    assert_eq!(values(&engine, topic), ["a", "b", "c"]);
    let other = Progress::open(&engine.kafka(), "copy-2", topic, PATIENCE, &stop).unwrap();
    assert_eq!(other.position().unwrap(), None, "each name has its own position");
}

#[test]
fn a_topic_that_is_not_there_is_named_at_once() {
    let engine = engine();
    let stop = CancellationToken::new();
    let error = Progress::open(&engine.kafka(), "copy-3", "nowhere", PATIENCE, &stop).unwrap_err();
    assert!(error.to_string().contains("topic nowhere does not exist"), "{error}");
}
