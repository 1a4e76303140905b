//! Where a worker stands, as a state machine without I/O: what it must put right before it may process.
//!
//! ```text
//! producer ─▶ positions ─▶ state ─▶ process
//!    ▲ doubt      ▲ doubt     ▲ abort, doubt, new partitions
//! ```
//!
//! The order matters: only a new producer settles what an earlier one left in doubt, only then the group's offsets are final,
//! and only at them the state of a partition can be rebuilt.

use crate::TopicPartition;

/// What to put right next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// A producer that has settled what the one before left open.
    Producer,
    /// The group's offsets: the consumer may stand elsewhere.
    Positions,
    /// The step's state of the partitions that it does not know (any more).
    State,
}

/// The partitions of a worker and what is known about them.
#[derive(Debug)]
pub(super) struct Standing {
    partitions: Vec<TopicPartition>,
    /// Those whose state the step must rebuild first.
    unprepared: Vec<TopicPartition>,
    /// Whether there is a producer and it has settled everything.
    settled: bool,
    /// Whether the consumer stands where the group's offsets say.
    positioned: bool,
}

impl Standing {
    /// Without partitions and without a producer.
    pub(super) fn new() -> Self {
        Self { partitions: Vec::new(), unprepared: Vec::new(), settled: false, positioned: true }
    }

    /// What must be put right first; `None` when records may be processed.
    pub(super) fn need(&self) -> Option<Need> {
        match self {
            Self { settled: false, .. } => Some(Need::Producer),
            Self { positioned: false, .. } => Some(Need::Positions),
            Self { unprepared, .. } if !unprepared.is_empty() => Some(Need::State),
            _ => None,
        }
    }

    /// The partitions held.
    pub(super) fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// The partitions whose state the step must rebuild.
    pub(super) fn unprepared(&self) -> &[TopicPartition] {
        &self.unprepared
    }

    /// Whether the consumer stands where the group's offsets say.
    pub(super) fn is_positioned(&self) -> bool {
        self.positioned
    }

    /// Partitions came; `positioned` says whether their offsets could be read.
    pub(super) fn assigned(&mut self, partitions: Vec<TopicPartition>, positioned: bool) {
        self.positioned &= positioned;
        self.unprepared.extend(partitions.iter().cloned());
        self.partitions.extend(partitions);
    }

    /// Partitions went.
    pub(super) fn revoked(&mut self, partitions: &[TopicPartition]) {
        self.partitions.retain(|it| !partitions.contains(it));
        self.unprepared.retain(|it| !partitions.contains(it));
        if self.partitions.is_empty() {
            self.positioned = true;
        }
    }

    /// The producer cannot be used for another transaction; what it has written is decided.
    pub(super) fn without_producer(&mut self) {
        self.settled = false;
    }

    /// There is a producer, and nothing of an earlier one is open.
    pub(super) fn settled(&mut self) {
        self.settled = true;
    }

    /// The consumer was put where the group's offsets say.
    pub(super) fn positioned(&mut self) {
        self.positioned = true;
    }

    /// The step has rebuilt its state.
    pub(super) fn prepared(&mut self) {
        self.unprepared.clear();
    }

    /// What was processed was not committed: the step's state is of no use.
    pub(super) fn aborted(&mut self) {
        self.unprepared.clone_from(&self.partitions);
    }

    /// Nobody here knows whether what was processed was committed.
    pub(super) fn in_doubt(&mut self) {
        self.aborted();
        self.settled = false;
        self.positioned = false;
    }
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
