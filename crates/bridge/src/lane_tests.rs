//! Steps of a lane against a Kafka that is a list.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use prometheus_client::registry::Registry;
use telltale_mqtt::subscriber::{Options, open};
use telltale_mqtt::{Endpoint, Qos, Version};

use super::*;
use crate::metrics::{Metrics, ReasonLabel};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    topic: String,
    key: Option<String>,
    bytes: usize,
    reason: Option<String>,
    token: u64,
}

/// Takes records of up to `largest` bytes while there is `room`.
struct List {
    room: Cell<usize>,
    largest: usize,
    sent: RefCell<Vec<Sent>>,
}

impl List {
    fn new(room: usize, largest: usize) -> Self {
        Self { room: Cell::new(room), largest, sent: RefCell::default() }
    }

    fn sent(&self) -> Vec<Sent> {
        self.sent.borrow().clone()
    }
}

impl Kafka for List {
    fn send(&self, record: NewRecord<'_>, token: u64) -> Result<(), SendError> {
        let bytes = record.value.map_or(0, <[u8]>::len);
        if bytes > self.largest {
            return Err(SendError::TooLarge { topic: record.topic.to_owned(), bytes });
        }
        let Some(room) = self.room.get().checked_sub(1) else { return Err(SendError::Full) };
        self.room.set(room);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let reason = record.headers.iter().find(|(name, _)| *name == "reason").map(|(_, value)| text(value));
        let (topic, key) = (record.topic.to_owned(), record.key.map(text));
        self.sent.borrow_mut().push(Sent { topic, key, bytes, reason, token });
        Ok(())
    }
}

fn lane(mapping: &str, limits: Limits) -> Lane {
    let endpoint = Endpoint::plain("127.0.0.1:1".parse().unwrap(), Version::V5);
    let options = Options {
        client_id: "bridge".into(),
        filters: vec!["#".into()],
        session_expiry: Duration::ZERO,
        receive_maximum: 10,
        max_packet_bytes: 1000,
    };
    let (acks, _session) = open(&endpoint, options);
    let metrics = Metrics::register(&mut Registry::default()).of("readings");
    let (mapping, name) = (mapping.parse().unwrap(), "readings".to_owned());
    let plan = Plan { mapping, subscription: "#".into(), client_id: "bridge".into(), name };
    Lane::new(3, plan, "dead".into(), acks, limits, metrics)
}

const WIDE: Limits = Limits { bytes: 100_000_000, messages: 100 };

fn message(topic: &str, bytes: usize) -> [Box<Message>; 1] {
    [Box::new(Message {
        topic: topic.to_owned().into(),
        payload: vec![b'x'; bytes].into(),
        qos: Qos::AtMostOnce,
        retain: false,
        duplicate: false,
        user_properties: Vec::new(),
        receipt: None,
    })]
}

fn ok() -> Result<Delivered, SendError> {
    Ok(Delivered { partition: 0, offset: 0 })
}

#[test]
fn records_keep_their_order_while_kafka_is_full() {
    let (lane, kafka) = (lane("a/+=readings", WIDE), List::new(1, 1000));
    for bytes in 1..=4 {
        lane.accept(&kafka, message("a/car", bytes)).unwrap();
    }
    assert_eq!(kafka.sent().len(), 1);
    kafka.room.set(2);
    assert!(lane.delivered(&kafka, kafka.sent()[0].token, ok()).unwrap().is_some());
    kafka.room.set(5);
    lane.accept(&kafka, message("a/car", 5)).unwrap();
    let sent = kafka.sent();
    assert_eq!(sent.iter().map(|it| it.bytes).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(sent.iter().all(|it| it.topic == "readings" && it.key.as_deref() == Some("car")));
    assert!(sent.iter().all(|it| lane_of(it.token) == 3));
    for it in &sent[1..] {
        lane.delivered(&kafka, it.token, ok()).unwrap();
    }
    assert_eq!((lane.waiting().0, lane.metrics.delivered.get(), lane.metrics.waiting.get()), (0, 5, 0));
}

#[test]
fn what_kafka_refuses_and_what_has_no_key_becomes_a_dead_letter() {
    let (lane, kafka) = (lane("a/+=readings", WIDE), List::new(10, 1000));
    lane.accept(&kafka, message("a/", 7)).unwrap();
    lane.accept(&kafka, message("a/car", 8)).unwrap();
    let refused = SendError::TooLarge { topic: "readings".into(), bytes: 8 };
    lane.delivered(&kafka, kafka.sent()[1].token, Err(refused)).unwrap();
    let sent = kafka.sent();
    let dead = |it: &Sent| (it.topic.clone(), it.key.clone(), it.bytes, it.reason.clone());
    assert_eq!(dead(&sent[0]), ("dead".into(), None, 7, Some("bad-key".into())));
    assert_eq!(dead(&sent[2]), ("dead".into(), Some("car".into()), 8, Some("too-large".into())));
    assert_eq!(lane.waiting().0, 2);
    lane.delivered(&kafka, sent[0].token, ok()).unwrap();
    lane.delivered(&kafka, sent[2].token, ok()).unwrap();
    assert_eq!((lane.waiting().0, lane.metrics.dead_letters.get(), lane.metrics.delivered.get()), (0, 2, 0));
    let rejected = |reason| lane.metrics.rejected.get_or_create(&ReasonLabel { reason }).get();
    assert_eq!(["bad-key", "too-large", "refused"].map(rejected), [1, 1, 0]);
}

#[test]
fn a_dead_letter_that_is_too_large_goes_in_parts() {
    let (lane, kafka) = (lane("a/+=readings", WIDE), List::new(3, 1_000_000));
    lane.accept(&kafka, message("a/car", 10_000_000)).unwrap();
    assert_eq!(kafka.sent().len(), 3);
    kafka.room.set(100);
    lane.proceed(&kafka).unwrap();
    let sent = kafka.sent();
    assert_eq!((sent.len(), sent.iter().map(|it| it.bytes).sum::<usize>()), (12, 10_000_000));
    assert!(sent.iter().all(|it| it.topic == "dead" && it.reason.as_deref() == Some("too-large")));
    for it in sent.iter().rev() {
        assert_eq!(lane.waiting().0, 1);
        lane.delivered(&kafka, it.token, ok()).unwrap();
    }
    assert_eq!((lane.waiting().0, lane.metrics.dead_letters.get()), (0, 1));
}

#[test]
fn a_record_that_is_lost_on_the_way_ends_the_bridge_unacknowledged() {
    let (lane, kafka) = (lane("a/+=readings", WIDE), List::new(10, 1000));
    lane.accept(&kafka, message("a/car", 1)).unwrap();
    let error = lane.delivered(&kafka, kafka.sent()[0].token, Err(SendError::Full)).unwrap_err();
    assert!(matches!(error, SendError::Full));
    assert_eq!((lane.waiting().0, lane.metrics.acknowledged.get()), (1, 0));
}

#[test]
fn memory_is_bounded_and_what_is_dropped_is_counted() {
    let limits = Limits { bytes: 2000, messages: 3 };
    let (lane, kafka) = (lane("a/+=readings", limits), List::new(0, 100_000));
    for bytes in [10_000, 1, 1] {
        lane.accept(&kafka, message("a/car", bytes)).unwrap();
    }
    assert_eq!((lane.waiting().0, lane.metrics.best_effort_dropped.get()), (1, 2));
    lane.close();
    lane.accept(&kafka, message("a/car", 1)).unwrap();
    assert_eq!((lane.waiting().0, lane.metrics.best_effort_dropped.get()), (1, 3));
}

#[test]
fn a_token_names_its_lane_and_its_job() {
    for kind in [Kind::Record, Kind::DeadLetter, Kind::Part(0), Kind::Part(5000)] {
        let job = Job { number: 123_456_789_012, kind };
        assert_eq!((Job::of(job.token(63)), lane_of(job.token(63))), (job, 63));
    }
}
