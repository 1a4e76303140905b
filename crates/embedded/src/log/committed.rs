//! The offsets that groups have committed, and those that wait for the end of a transaction. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A committed position in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
}

/// The offsets of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    committed: BTreeMap<String, BTreeMap<i32, Committed>>,
    /// By producer, because a producer has one transaction at a time.
    pending: BTreeMap<i64, Vec<Committed>>,
}

impl Offsets {
    /// Takes committed offsets over those before.
    pub(crate) fn commit(&mut self, offsets: impl IntoIterator<Item = Committed>) {
        for offset in offsets {
            self.committed.entry(offset.topic.clone()).or_default().insert(offset.partition, offset);
        }
    }

    /// Keeps offsets until the producer's transaction ends.
    pub(crate) fn stage(&mut self, producer_id: i64, offsets: Vec<Committed>) {
        self.pending.entry(producer_id).or_default().extend(offsets);
    }

    /// Ends a producer's transaction: what it staged counts now, or never did.
    pub(crate) fn end(&mut self, producer_id: i64, committed: bool) {
        let staged = self.pending.remove(&producer_id).unwrap_or_default();
        if committed {
            self.commit(staged);
        }
    }

    /// The committed offset of a partition.
    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<&Committed> {
        self.committed.get(topic)?.get(&partition)
    }

    /// Whether a transaction that is still open will decide about the partition.
    pub(crate) fn is_unstable(&self, topic: &str, partition: i32) -> bool {
        self.pending.values().flatten().any(|it| it.topic == topic && it.partition == partition)
    }

    /// Every committed offset.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Committed> {
        self.committed.values().flat_map(BTreeMap::values)
    }

    /// Every staged offset with its producer.
    pub(crate) fn staged(&self) -> impl Iterator<Item = (i64, &[Committed])> {
        self.pending.iter().map(|(producer_id, offsets)| (*producer_id, offsets.as_slice()))
    }

    /// The partitions that have an offset, committed or staged.
    pub(crate) fn partitions(&self) -> BTreeSet<(&str, i32)> {
        self.all()
            .chain(self.pending.values().flatten())
            .map(|it| (it.topic.as_str(), it.partition))
            .collect()
    }

    /// Forgets a partition.
    pub(crate) fn forget(&mut self, topic: &str, partition: i32) -> bool {
        let Some(partitions) = self.committed.get_mut(topic) else {
            return false;
        };
        let known = partitions.remove(&partition).is_some();
        if partitions.is_empty() {
            self.committed.remove(topic);
        }
        known
    }

    /// Forgets a topic that is deleted.
    pub(crate) fn forget_topic(&mut self, topic: &str) {
        self.committed.remove(topic);
        for staged in self.pending.values_mut() {
            staged.retain(|it| it.topic != topic);
        }
    }

    /// Whether nothing is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32, offset: i64) -> Committed {
        Committed { topic: "t".to_owned(), partition, offset, leader_epoch: -1, metadata: String::new() }
    }

    #[test]
    fn staged_offsets_count_only_after_a_commit() {
        let mut offsets = Offsets::default();
        offsets.commit([at(0, 5)]);
        offsets.stage(9, vec![at(0, 8), at(1, 3)]);
        assert_eq!(offsets.get("t", 0), Some(&at(0, 5)));
        assert!(offsets.is_unstable("t", 1) && !offsets.is_unstable("t", 2));
        let mut aborted = offsets.clone();
        aborted.end(9, false);
        assert_eq!((aborted.get("t", 0), aborted.get("t", 1)), (Some(&at(0, 5)), None));
        offsets.end(9, true);
        assert_eq!((offsets.get("t", 0), offsets.get("t", 1)), (Some(&at(0, 8)), Some(&at(1, 3))));
        assert!(!offsets.is_unstable("t", 1));
    }

    #[test]
    fn a_deleted_topic_leaves_nothing() {
        let mut offsets = Offsets::default();
        offsets.commit([at(0, 5), at(1, 6)]);
        assert!(offsets.forget("t", 1) && !offsets.forget("t", 1));
        offsets.forget_topic("t");
        assert!(offsets.is_empty());
    }
}
