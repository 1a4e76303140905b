//! A topic that was filled: how many records it holds, and how many of them a group has done.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anyhow::{Result, ensure};
use telltale_kafka::{Isolation, KafkaConfig, Reader};
use tokio_util::sync::CancellationToken;

/// A topic to which nothing more is written.
#[derive(Debug)]
pub(crate) struct Filled {
    /// Its name.
    pub(crate) topic: String,
    /// Records that a reader of committed ones sees.
    pub(crate) records: u64,
    partitions: BTreeMap<i32, Partition>,
}

/// Offsets of a partition. Some hold no record but the end of a transaction, so offsets alone do not count records.
#[derive(Debug, Default)]
struct Partition {
    first: i64,
    records: u64,
    /// Offsets without a record, ascending; those behind the last record do not count.
    holes: Vec<i64>,
}

impl Filled {
    /// Reads all of `topic` once and counts.
    pub(crate) fn count(kafka: &KafkaConfig, topic: &str, stop: &CancellationToken) -> Result<Self> {
        let mut reader = Reader::open(kafka, Isolation::Committed)?;
        let mut filled = Self { topic: topic.to_owned(), records: 0, partitions: BTreeMap::new() };
        for number in reader.partitions(topic)? {
            let range = reader.watermarks(topic, number)?;
            let mut partition = Partition { first: range.start, ..Partition::default() };
            let mut next = range.start;
            reader.read(topic, number, range, stop, |batch| {
                for record in batch.records() {
                    partition.holes.extend(next..record.offset());
                    next = record.offset() + 1;
                }
                partition.records += batch.len() as u64;
                ControlFlow::Continue(())
            })?;
            filled.records += partition.records;
            filled.partitions.insert(number, partition);
        }
        ensure!(!stop.is_cancelled(), "stopped");
        Ok(filled)
    }

    /// How many records lie before the offsets that a group has committed.
    pub(crate) fn done(&self, committed: &BTreeMap<i32, i64>) -> u64 {
        let before =
            |(number, &offset): (&i32, &i64)| self.partitions.get(number).map_or(0, |it| it.before(offset));
        committed.iter().map(before).sum()
    }
}

impl Partition {
    fn before(&self, offset: i64) -> u64 {
        let holes = self.holes.partition_point(|it| *it < offset) as u64;
        let offsets = u64::try_from(offset - self.first).unwrap_or(0);
        offsets.saturating_sub(holes).min(self.records)
    }
}

#[cfg(test)]
mod tests {
    use telltale_testkit::{Engines, Writer};

    use super::*;

    #[test]
    fn ends_of_transactions_are_no_records() {
        // Records at 10, 11, 13, 14, 15; transactions ended at 12 and 16.
        let partition = Partition { first: 10, records: 5, holes: vec![12] };
        let cases = [(9, 0), (10, 0), (11, 1), (12, 2), (13, 2), (14, 3), (16, 5), (17, 5)];
        for (offset, records) in cases {
            assert_eq!(partition.before(offset), records, "{offset}");
        }
    }

    #[test]
    fn what_was_written_is_counted_and_what_a_group_has_done_too() {
        let engines = Engines::start();
        let topic = engines.name("filled");
        let topics = telltale_kafka::topics::Topics::open(&engines.kafka()).unwrap();
        let name: &'static str = topic.clone().leak();
        let spec = telltale_records::topics::TopicSpec { name, partitioned: true, config: &[] };
        topics.create(&spec, 2, 1).unwrap();
        let writer = Writer::new(&engines.kafka());
        for number in 0..30 {
            let partition = Some(i32::from(number % 3 == 0));
            let value = Some(&b"it"[..]);
            writer.send(telltale_kafka::producer::NewRecord {
                topic: &topic,
                partition,
                value,
                ..Default::default()
            });
        }
        writer.flush();
        let filled = Filled::count(&engines.kafka(), &topic, &CancellationToken::new()).unwrap();
        assert_eq!(filled.records, 30);
        assert_eq!(filled.done(&BTreeMap::from([(0, 5), (1, 10)])), 15);
        assert_eq!(filled.done(&BTreeMap::new()), 0);
    }
}
