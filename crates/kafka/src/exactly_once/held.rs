//! The records a worker has gathered and not yet committed: one batch a partition.

use std::sync::Arc;

use rdkafka::{Offset, TopicPartitionList};
use telltale_records::Batch;

use crate::TopicPartition;
use crate::intake::{Message, Place};

/// Most bytes of one transaction; a record that is larger goes alone.
const MOST_BYTES: usize = 16 << 20;

/// Batches of the partitions that a worker holds; their memory is used again.
#[derive(Debug, Default)]
pub(super) struct Held {
    batches: Vec<Batch>,
    /// Place and batch of the newest record of a take: the next is most often of the same partition.
    last: Option<(Place, usize)>,
    records: usize,
    bytes: usize,
}

impl Held {
    /// Takes a message in; [`Held::next_take`] goes before the first of each take.
    pub(super) fn push(&mut self, message: &Message<'_>) {
        let place = message.place();
        let index = match self.last {
            Some((last, index)) if last == place => index,
            _ => self.index(message.topic(), message.partition()),
        };
        self.last = Some((place, index));
        let batch = &mut self.batches[index];
        let before = batch.bytes();
        crate::client::push(batch, message);
        self.records += 1;
        self.bytes += batch.bytes() - before;
    }

    /// Forgets places, which are good for one take.
    pub(super) fn next_take(&mut self) {
        self.last = None;
    }

    fn index(&mut self, topic: &str, partition: i32) -> usize {
        let is_its = |it: &Batch| it.partition() == partition && &**it.topic() == topic;
        self.batches.iter().position(is_its).unwrap_or_else(|| {
            self.batches.push(Batch::new(Arc::from(topic), partition));
            self.batches.len() - 1
        })
    }

    /// The batches that are not empty.
    pub(super) fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter().filter(|it| !it.is_empty())
    }

    /// Number of records.
    pub(super) fn len(&self) -> usize {
        self.records
    }

    /// Whether there are no records.
    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Whether another record should wait for the next transaction.
    pub(super) fn is_full(&self, most_records: usize) -> bool {
        self.records >= most_records || self.bytes >= MOST_BYTES
    }

    /// The offsets to commit with the records.
    pub(super) fn offsets(&self) -> TopicPartitionList {
        crate::client::positions(self.batches().filter_map(|it| {
            let next = it.last_offset()? + 1;
            Some((&**it.topic(), it.partition(), Offset::Offset(next)))
        }))
    }

    /// Forgets the records, which are committed or will be read again.
    pub(super) fn clear(&mut self) {
        for batch in &mut self.batches {
            batch.clear();
        }
        (self.records, self.bytes) = (0, 0);
    }

    /// Forgets the records of partitions that were taken away.
    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) {
        self.batches.retain(|it| {
            !partitions.iter().any(|other| other.partition == it.partition() && other.topic == *it.topic())
        });
        self.last = None;
        self.records = self.batches.iter().map(Batch::len).sum();
        self.bytes = self.batches.iter().map(Batch::bytes).sum();
    }
}
