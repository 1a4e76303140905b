//! Retention and compaction: what goes, what stays, and that offsets never change.

use std::collections::BTreeMap;
use std::time::Duration;

use telltale_testkit::engines::wait_at_most;

use crate::clients::{Record, producer, read_all, send_all};
use crate::support::{Kafka, kafka, now};

/// Apache Kafka looks at old segments only once in a while.
const CLEANED: Duration = Duration::from_secs(180);

/// A record of now, which retention by time leaves alone.
fn fresh(key: &str, value: &str) -> Record {
    Record { key: Some(key.into()), timestamp: now(), ..Record::of(value) }
}

/// Writes and reads until `holds` of all that is there; segments end only when something is written behind them.
fn write_until(kafka: &Kafka, topic: &str, what: &str, holds: impl Fn(&[Record]) -> bool) -> Vec<Record> {
    let producer = producer(&kafka.servers(), &[]);
    let mut read = Vec::new();
    wait_at_most(CLEANED, what, || {
        send_all(&producer, topic, &[fresh("tick", "tick")]);
        read = read_all(&kafka.servers(), topic, &[]);
        holds(&read)
    });
    read
}

#[test]
fn retention_by_time_deletes_old_segments_and_moves_the_start() {
    let kafka = kafka();
    let topic = kafka.topic("time", &[("retention.ms", "5000"), ("segment.ms", "100")]);
    // From 1970, so they are old as soon as they are written.
    let old: Vec<_> = (0..10).map(|it| Record::of(format!("old {it}"))).collect();
    send_all(&producer(&kafka.servers(), &[]), &topic, &old);
    let left = write_until(&kafka, &topic, "the old records are gone", |it| {
        !it.iter().any(|it| it.text().starts_with("old"))
    });
    assert!(left.iter().all(|it| it.offset >= 10 && it.text() == "tick"), "{left:?}");
    let (_, start) = kafka.connect().offset_at(&topic, -2);
    assert!(start >= 10, "the start of the log has moved to {start}");
    assert_eq!(kafka.connect().fetch(&topic, 0, false, 0).error_code, 1, "offset out of range");
}

#[test]
fn retention_by_size_keeps_the_newest() {
    let kafka = kafka();
    let topic = kafka.topic("size", &[("retention.bytes", "3000000"), ("segment.bytes", "1048576")]);
    let large = "x".repeat(100_000);
    let records: Vec<_> = (0..100).map(|_| fresh("k", &large)).collect();
    send_all(&producer(&kafka.servers(), &[("compression.type", "none")]), &topic, &records);
    let left = write_until(&kafka, &topic, "the oldest are gone", |it| it[0].offset >= 50);
    let bytes: usize = left.iter().filter_map(|it| it.value.as_ref()).map(Vec::len).sum();
    assert!(bytes >= 1_900_000, "no more than a segment too many: {bytes}");
}

/// The newest value of each key; a key whose newest record has no value is not there.
fn table(records: &[Record]) -> BTreeMap<String, String> {
    let mut table = BTreeMap::new();
    for record in records {
        let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
        match &record.value {
            Some(_) => drop(table.insert(key, record.text())),
            None => drop(table.remove(&key)),
        }
    }
    table
}

#[test]
fn compaction_keeps_the_newest_of_each_key_at_its_offset() {
    let kafka = kafka();
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("delete.retention.ms", "0"),
        ("max.compaction.lag.ms", "100"),
    ];
    let topic = kafka.topic("compact", &settings);
    let mut sent = Vec::new();
    for round in 0..20 {
        sent.extend((0..5).map(|key| fresh(&format!("key-{key}"), &format!("{round}"))));
    }
    sent.push(Record { value: None, ..fresh("key-4", "") });
    send_all(&producer(&kafka.servers(), &[("compression.type", "lz4")]), &topic, &sent);
    let before = table(&sent);
    let left = write_until(&kafka, &topic, "one record per key is left", |it| {
        it.iter().filter(|it| it.text() != "tick").count() <= 4
    });
    let mut after = table(&left);
    assert!(after.remove("tick").is_some());
    assert_eq!(after, before, "nothing of value is lost");
    for record in left.iter().filter(|it| it.text() != "tick") {
        assert!((95..99).contains(&record.offset), "offsets stay: {record:?}");
    }
    assert_eq!(kafka.connect().offset_at(&topic, -2).1, 0, "compaction moves no start");
}

#[test]
fn compaction_drops_aborted_records_and_keeps_committed_ones() {
    let kafka = kafka();
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "100"),
    ];
    let topic = kafka.topic("aborted", &settings);
    let transactional = crate::transactions::Transactional::begin(&kafka, "t", &[]);
    transactional.write(&topic, &[fresh("a", "kept"), fresh("b", "kept")]).commit();
    transactional.write(&topic, &[fresh("a", "aborted"), fresh("c", "aborted")]).abort();
    transactional.write(&topic, &[fresh("b", "newer")]).commit();
    let expected = [("a".to_owned(), "kept".to_owned()), ("b".to_owned(), "newer".to_owned())];
    // `read_uncommitted` sees aborted records until compaction takes them.
    let left = write_until(&kafka, &topic, "aborted records are gone", |it| {
        !it.iter().any(|it| it.text() == "aborted")
    });
    let mut after = table(&left);
    after.remove("tick");
    assert_eq!(after.into_iter().collect::<Vec<_>>(), expected);
    let committed = read_all(&kafka.servers(), &topic, &[("isolation.level", "read_committed")]);
    let mut after = table(&committed);
    after.remove("tick");
    assert_eq!(after.into_iter().collect::<Vec<_>>(), expected);
}
