//! What is there after the broker was stopped, or killed, and started again.

use kafka_protocol::records::Compression;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::BaseProducer;
use rdkafka::{Offset, TopicPartitionList};
use telltale_testkit::engines::{Engine, wait_at_most, wait_until};
use telltale_testkit::wire::{Client, Coordinates, Writer, batch_at};

use crate::clients::{PATIENCE, Record, Reports, config, producer, read_all, send, send_all, values};
use crate::members::{Member, await_shared, committed};
use crate::support::{Kafka, kafka_alone, now};
use crate::wire_transaction::{RawProducer, stable_offset};

#[test]
fn everything_is_there_after_an_orderly_restart_and_clients_go_on() {
    everything_is_there_after(|kafka| kafka.restart_kafka());
}

#[test]
fn everything_acknowledged_is_there_after_a_kill_and_clients_go_on() {
    everything_is_there_after(|kafka| {
        kafka.kill_kafka();
        kafka.start_again(Engine::Kafka);
    });
}

fn everything_is_there_after(restart: impl FnOnce(&mut Kafka)) {
    let mut kafka = kafka_alone();
    let stored = Stored::before(&kafka);
    let running = Running::before(&kafka);
    let sequences = Sequences::before(&kafka);
    let transactions = Transactions::before(&kafka);
    restart(&mut kafka);
    stored.after(&kafka);
    running.after(&kafka);
    sequences.after(&kafka);
    transactions.after(&kafka);
}

/// Records, a topic's partitions and settings, committed offsets, a deleted group.
struct Stored {
    topic: String,
    group: String,
    deleted: String,
    sent: Vec<String>,
}

impl Stored {
    fn before(kafka: &Kafka) -> Self {
        let topic = kafka.topic_of("stored", 3, &[("max.message.bytes", "5000")]);
        let (group, deleted) = (kafka.name("group"), kafka.name("deleted"));
        let records: Vec<_> =
            (0..300).map(|it| Record { partition: it % 3, ..Record::of(format!("{it:03}")) }).collect();
        send_all(&producer(&kafka.servers(), &[("compression.type", "zstd")]), &topic, &records);
        for (group, offset) in [(&group, 40), (&deleted, 50)] {
            let consumer: BaseConsumer = config(&kafka.servers(), &[("group.id", group)]).create().unwrap();
            let mut offsets = TopicPartitionList::new();
            offsets.add_partition_offset(&topic, 1, Offset::Offset(offset)).unwrap();
            consumer.commit(&offsets, CommitMode::Sync).unwrap();
        }
        crate::admin::delete_group(kafka, &deleted);
        Self { topic, group, deleted, sent: records.iter().map(Record::text).collect() }
    }

    fn after(&self, kafka: &Kafka) {
        kafka.connect().await_topic(&self.topic, 3);
        let mut read: Vec<_> =
            read_all(&kafka.servers(), &self.topic, &[]).iter().map(Record::text).collect();
        read.sort();
        assert!(read == self.sent, "{} of {} records", read.len(), self.sent.len());
        assert_eq!(committed(kafka, &self.group, &self.topic, 3), [-1, 40, -1]);
        assert_eq!(committed(kafka, &self.deleted, &self.topic, 3), [-1, -1, -1]);
        let large = [Record::of(vec![b'x'; 6_000])];
        let refused = send(&producer(&kafka.servers(), &[]), &self.topic, &large);
        assert!(refused[0].is_err(), "its settings stay: {refused:?}");
    }
}

/// A member and a producer that know nothing of the restart.
struct Running {
    topic: String,
    member: Member,
    producer: BaseProducer<Reports>,
}

impl Running {
    fn before(kafka: &Kafka) -> Self {
        let topic = kafka.topic_of("running", 2, &[]);
        let member = Member::join(kafka, &kafka.name("group"), &topic, &[]);
        await_shared(&[&member], 2);
        let settings = [("enable.idempotence", "true"), ("message.timeout.ms", "300000")];
        let running = Self { topic, member, producer: producer(&kafka.servers(), &settings) };
        running.send("before");
        running
    }

    fn send(&self, label: &str) {
        let records: Vec<_> =
            (10..30).map(|it| Record { partition: it % 2, ..Record::of(format!("{label}-{it}")) }).collect();
        send_all(&self.producer, &self.topic, &records);
    }

    fn after(&self, kafka: &Kafka) {
        self.send("after");
        let mut sent: Vec<_> = ["before", "after"]
            .iter()
            .flat_map(|label| (10..30).map(move |it| format!("{label}-{it}")))
            .collect();
        sent.sort();
        wait_at_most(3 * PATIENCE, "the member has read everything", || {
            let mut seen = self.member.history().values;
            seen.sort();
            seen.dedup();
            seen == sent
        });
        let mut stored = values(&kafka.servers(), &self.topic, "read_committed");
        stored.sort();
        assert_eq!(stored, sent, "nothing is stored twice");
    }
}

/// An idempotent producer, request by request.
struct Sequences {
    topic: String,
}

impl Sequences {
    fn send(&self, kafka: &Kafka, sequence: i32) -> (i16, i64) {
        let writer = Writer { producer_id: 77_777, epoch: 0, sequence, transactional: false };
        // Of now: Kafka forgets a producer whose records are older than a day, even if it has just sent them.
        let records = batch_at(now(), writer, Compression::Lz4, &["a", "b"]);
        let answer = kafka.connect().produce(&self.topic, records);
        (answer.error_code, answer.base_offset)
    }

    fn before(kafka: &Kafka) -> Self {
        let it = Self { topic: kafka.topic("sequences", &[]) };
        assert_eq!([it.send(kafka, 0), it.send(kafka, 2)], [(0, 0), (0, 2)]);
        it
    }

    fn after(&self, kafka: &Kafka) {
        kafka.connect().await_topic(&self.topic, 1);
        assert_eq!(self.send(kafka, 8).0, 45, "a gap");
        assert_eq!(self.send(kafka, 2), (0, 2), "a retry");
        assert_eq!(self.send(kafka, 4), (0, 4));
    }
}

/// A transaction that ended and one that is open, with offsets.
struct Transactions {
    topic: String,
    group: String,
    producer: RawProducer,
    /// Has committed, and wants to know what became of it.
    ended: RawProducer,
}

impl Transactions {
    fn before(kafka: &Kafka) -> Self {
        let (topic, name, group) = (kafka.topic("open", &[]), kafka.name("tx"), kafka.name("group"));
        let mut producer = RawProducer::begin(kafka, &name, &topic, 600_000);
        assert_eq!((producer.add_partition(), producer.write("aborted"), producer.end(false)), (0, None, 0));
        assert_eq!((producer.add_partition(), producer.write("open")), (0, None));
        assert_eq!((producer.add_group(&group), producer.stage(&group, 7)), (0, 0));
        let mut ended = RawProducer::begin(kafka, &kafka.name("ended"), &kafka.topic("ended", &[]), 60_000);
        assert_eq!((ended.add_partition(), ended.write("kept"), ended.end(true)), (0, None, 0));
        Self { topic, group, producer, ended }
    }

    fn after(mut self, kafka: &Kafka) {
        let Self { topic, group, producer, ended } = &mut self;
        let committed =
            || -> Vec<String> { kafka.connect().read(topic, true).into_iter().map(|it| it.1).collect() };
        kafka.connect().await_topic(topic, 1);
        assert_eq!(committed(), Vec::<String>::new());
        assert_eq!(stable_offset(kafka, group, topic), Err(88), "undecided");
        producer.client = Client::coordinator(kafka.servers(), Coordinates::Transaction, &producer.name);
        wait_until("the coordinator has loaded", || producer.add_partition() == 0);
        assert_eq!((producer.write("still open"), producer.end(true)), (None, 0));
        wait_until("it is committed", || committed() == ["open", "still open"]);
        wait_until("so is the offset", || stable_offset(kafka, group, topic) == Ok(7));
        ended.client = Client::coordinator(kafka.servers(), Coordinates::Transaction, &ended.name);
        wait_until("the end is still known", || ended.end(true) == 0);
        assert_eq!(ended.end(false), 48, "it was committed");
        let next = RawProducer::begin(kafka, &producer.name, topic, 60_000);
        assert_eq!((next.id, next.epoch > producer.epoch), (producer.id, true), "epochs go on");
    }
}
