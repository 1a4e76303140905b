//! The records a worker has gathered and not yet committed: one batch a partition.

use std::sync::Arc;

use rdkafka::Message as _;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::message::BorrowedMessage;
use telltale_records::Batch;

use crate::TopicPartition;

/// Most bytes of one transaction; a record that is larger goes alone.
const MOST_BYTES: usize = 16 << 20;

/// Batches of the partitions that a worker holds; their memory is used again.
#[derive(Debug, Default)]
pub(super) struct Held {
    batches: Vec<Batch>,
    /// Batch of the newest record: the next is most often of the same partition.
    last: usize,
    records: usize,
    bytes: usize,
}

impl Held {
    /// Takes a message in.
    pub(super) fn push(&mut self, message: &BorrowedMessage<'_>) {
        let (topic, partition) = (message.topic(), message.partition());
        let is_its = |it: &Batch| it.partition() == partition && &**it.topic() == topic;
        if !self.batches.get(self.last).is_some_and(is_its) {
            self.last = self.batches.iter().position(is_its).unwrap_or_else(|| {
                self.batches.push(Batch::new(Arc::from(topic), partition));
                self.batches.len() - 1
            });
        }
        let batch = &mut self.batches[self.last];
        let before = batch.bytes();
        crate::client::push(batch, message);
        self.records += 1;
        self.bytes += batch.bytes() - before;
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
        self.last = 0;
        self.records = self.batches.iter().map(Batch::len).sum();
        self.bytes = self.batches.iter().map(Batch::bytes).sum();
    }
}
