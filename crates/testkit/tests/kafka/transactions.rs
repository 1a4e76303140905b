//! Transactions as librdkafka's producer makes them: all of it or nothing, whoever dies in between.

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{Offset, TopicPartitionList};
use telltale_testkit::engines::{wait_at_most, wait_until};

use crate::clients::{PATIENCE, Record, Reports, config, producer, send, send_all, values};
use crate::members::committed;
use crate::support::{Kafka, kafka};

/// A transactional producer.
pub(crate) struct Transactional(BaseProducer<Reports>);

impl Transactional {
    /// Takes the transactional id over.
    pub(crate) fn begin(kafka: &Kafka, id: &str, settings: &[(&str, &str)]) -> Self {
        let id = if id.starts_with("test-") { id.to_owned() } else { kafka.name(id) };
        let mut all = vec![("transactional.id", id.as_str()), ("linger.ms", "0")];
        all.extend_from_slice(settings);
        let producer = producer(&kafka.servers(), &all);
        producer.init_transactions(PATIENCE).unwrap();
        Self(producer)
    }

    /// Begins a transaction and writes to it.
    pub(crate) fn write(&self, topic: &str, records: &[Record]) -> &Self {
        self.0.begin_transaction().unwrap();
        send_all(&self.0, topic, records);
        self
    }

    pub(crate) fn commit(&self) {
        self.0.commit_transaction(PATIENCE).unwrap();
    }

    pub(crate) fn abort(&self) {
        self.0.abort_transaction(PATIENCE).unwrap();
    }

    /// Puts the position of a consumer into the transaction.
    fn stage(&self, consumer: &BaseConsumer, topic: &str, offset: i64) -> Result<(), KafkaError> {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
        let group = consumer.group_metadata().unwrap();
        self.0.send_offsets_to_transaction(&offsets, &group, PATIENCE)
    }
}

/// Waits until a consumer of an isolation level sees exactly these: markers are written after the answer.
fn await_values(kafka: &Kafka, topic: &str, isolation: &str, expected: &[&str]) {
    wait_until(&format!("{isolation} sees {expected:?}"), || {
        values(&kafka.servers(), topic, isolation) == expected
    });
}

/// A consumer of a group that no longer is or never was a member.
fn outsider(kafka: &Kafka, group: &str) -> BaseConsumer {
    let settings = [("group.id", group), ("enable.auto.commit", "false")];
    config(&kafka.servers(), &settings).create().unwrap()
}

#[test]
fn records_count_from_the_commit_on_and_never_after_an_abort() {
    let kafka = kafka();
    let topic = kafka.topic("committed", &[]);
    let transactional = Transactional::begin(&kafka, "tx", &[]);
    transactional.write(&topic, &[Record::of("a"), Record::of("b")]);
    assert_eq!(values(&kafka.servers(), &topic, "read_uncommitted"), ["a", "b"]);
    assert_eq!(values(&kafka.servers(), &topic, "read_committed"), Vec::<String>::new());
    transactional.commit();
    await_values(&kafka, &topic, "read_committed", &["a", "b"]);
    transactional.write(&topic, &[Record::of("c")]).abort();
    transactional.write(&topic, &[Record::of("d")]).commit();
    await_values(&kafka, &topic, "read_committed", &["a", "b", "d"]);
    await_values(&kafka, &topic, "read_uncommitted", &["a", "b", "c", "d"]);
}

#[test]
fn a_transaction_spans_topics_and_partitions() {
    let kafka = kafka();
    let (one, two) = (kafka.topic_of("one", 3, &[]), kafka.topic("two", &[]));
    let transactional = Transactional::begin(&kafka, "tx", &[]);
    let spread =
        |value: &str| (0..3).map(|partition| Record { partition, ..Record::of(value) }).collect::<Vec<_>>();
    for (value, commits) in [("lost", false), ("kept", true)] {
        transactional.write(&one, &spread(value));
        send_all(&transactional.0, &two, &[Record::of(value)]);
        if commits { transactional.commit() } else { transactional.abort() }
    }
    await_values(&kafka, &one, "read_committed", &["kept", "kept", "kept"]);
    await_values(&kafka, &two, "read_committed", &["kept"]);
}

#[test]
fn an_open_transaction_hides_what_others_write_behind_it() {
    let kafka = kafka();
    let topic = kafka.topic("open", &[]);
    let transactional = Transactional::begin(&kafka, "tx", &[]);
    transactional.write(&topic, &[Record::of("open")]);
    send_all(&producer(&kafka.servers(), &[]), &topic, &[Record::of("other")]);
    assert_eq!(values(&kafka.servers(), &topic, "read_committed"), Vec::<String>::new());
    let fetched = kafka.connect().fetch(&topic, 0, true, 0);
    assert_eq!((fetched.last_stable_offset, fetched.high_watermark), (0, 2));
    transactional.abort();
    await_values(&kafka, &topic, "read_committed", &["other"]);
}

#[test]
fn a_newer_producer_fences_the_older_one_and_aborts_what_it_left_open() {
    let kafka = kafka();
    let topic = kafka.topic("fenced", &[]);
    let id = kafka.name("tx");
    let old = Transactional::begin(&kafka, &id, &[]);
    old.write(&topic, &[Record::of("left open")]);
    let new = Transactional::begin(&kafka, &id, &[]);
    let late = send(&old.0, &topic, &[Record::of("too late")]);
    assert!(late[0].is_err(), "{late:?}");
    let error = old.0.commit_transaction(PATIENCE).unwrap_err();
    let code = error.rdkafka_error_code();
    assert!(matches!(code, Some(RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced)), "{error}");
    assert!(old.0.client().fatal_error().is_some(), "it cannot go on");
    new.write(&topic, &[Record::of("new")]).commit();
    await_values(&kafka, &topic, "read_committed", &["new"]);
}

#[test]
fn a_zombie_whose_time_is_over_cannot_commit() {
    let kafka = kafka();
    let topic = kafka.topic("zombie", &[]);
    let settings = [("transaction.timeout.ms", "10000"), ("message.timeout.ms", "10000")];
    let zombie = Transactional::begin(&kafka, "tx", &settings);
    zombie.write(&topic, &[Record::of("too slow")]);
    let mut client = kafka.connect();
    wait_at_most(2 * PATIENCE, "its transaction is aborted", || {
        let fetched = client.fetch(&topic, 0, true, 0);
        fetched.last_stable_offset == fetched.high_watermark
    });
    let error = zombie.0.commit_transaction(PATIENCE).unwrap_err();
    let code = error.rdkafka_error_code();
    assert!(
        matches!(
            code,
            Some(
                RDKafkaErrorCode::Fenced
                    | RDKafkaErrorCode::ProducerFenced
                    | RDKafkaErrorCode::InvalidProducerEpoch
            )
        ),
        "{error}"
    );
    await_values(&kafka, &topic, "read_committed", &[]);
}

#[test]
fn offsets_are_committed_with_the_transaction_or_not_at_all() {
    let kafka = kafka();
    let (source, sink) = (kafka.topic("source", &[]), kafka.topic("sink", &[]));
    let group = kafka.name("group");
    let consumer = outsider(&kafka, &group);
    let transactional = Transactional::begin(&kafka, "tx", &[]);
    transactional.write(&sink, &[Record::of("a")]);
    transactional.stage(&consumer, &source, 5).unwrap();
    transactional.commit();
    wait_until("the offset is committed", || committed(&kafka, &group, &source, 1) == [5]);
    transactional.write(&sink, &[Record::of("b")]);
    transactional.stage(&consumer, &source, 9).unwrap();
    transactional.abort();
    // Waits while the transaction decides, then sees the earlier one.
    assert_eq!(committed(&kafka, &group, &source, 1), [5]);
    await_values(&kafka, &sink, "read_committed", &["a"]);
    // Offsets alone make a transaction too.
    transactional.0.begin_transaction().unwrap();
    transactional.stage(&consumer, &source, 7).unwrap();
    transactional.commit();
    wait_until("the offset is committed", || committed(&kafka, &group, &source, 1) == [7]);
}

#[test]
fn a_member_of_an_older_generation_cannot_commit_in_a_transaction() {
    let kafka = kafka();
    let topic = kafka.topic_of("generations", 2, &[]);
    let group = kafka.name("group");
    let settings =
        [("group.id", group.as_str()), ("enable.auto.commit", "false"), ("heartbeat.interval.ms", "200")];
    let zombie: BaseConsumer = config(&kafka.servers(), &settings).create().unwrap();
    zombie.subscribe(&[&topic]).unwrap();
    wait_until("the group has a member", || {
        zombie.poll(PATIENCE / 600);
        zombie.assignment().unwrap().count() == 2
    });
    let metadata = zombie.group_metadata().unwrap();
    drop(zombie); // leaves: its generation is over
    let member = crate::members::Member::join(&kafka, &group, &topic, &[]);
    crate::members::await_shared(&[&member], 2);
    let transactional = Transactional::begin(&kafka, "tx", &[]);
    transactional.0.begin_transaction().unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&topic, 0, Offset::Offset(1)).unwrap();
    let error = transactional.0.send_offsets_to_transaction(&offsets, &metadata, PATIENCE).unwrap_err();
    let code = error.rdkafka_error_code();
    assert!(
        matches!(code, Some(RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::IllegalGeneration)),
        "{error}"
    );
    transactional.abort();
    assert_eq!(committed(&kafka, &group, &topic, 2), [-1, -1]);
}

#[test]
fn two_producers_with_names_of_their_own_do_not_disturb_each_other() {
    let kafka = kafka();
    let topic = kafka.topic("two", &[]);
    let (one, two) = (Transactional::begin(&kafka, "one", &[]), Transactional::begin(&kafka, "two", &[]));
    one.write(&topic, &[Record::of("one")]);
    two.write(&topic, &[Record::of("two")]);
    two.commit();
    assert_eq!(
        values(&kafka.servers(), &topic, "read_committed"),
        Vec::<String>::new(),
        "the older one is open"
    );
    one.commit();
    await_values(&kafka, &topic, "read_committed", &["one", "two"]);
}

#[test]
fn many_transactions_in_a_row_keep_their_order() {
    let kafka = kafka();
    let topic = kafka.topic("row", &[]);
    let transactional = Transactional::begin(&kafka, "tx", &[]);
    let mut expected = Vec::new();
    for round in 0..30 {
        let records: Vec<_> = (0..10).map(|it| Record::of(format!("{round}-{it}"))).collect();
        transactional.write(&topic, &records);
        if round % 3 == 2 {
            transactional.abort();
        } else {
            transactional.commit();
            expected.extend(records.iter().map(Record::text));
        }
    }
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    await_values(&kafka, &topic, "read_committed", &expected);
}
