//! What a check found: figures of each topic, and each violation of the delivery contract with where it lies.

use std::collections::BTreeMap;
use std::fmt;

use super::sequence::Fault;
use super::windows::Miscount;

/// Violations kept in full; beyond it they are only counted.
pub(super) const SHOWN: usize = 50;

/// One fault found, with where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A record whose offset is committed, or that later ones overtook, has no outcome.
    Lost {
        /// Topic and partition of the record.
        source: String,
        /// First offset without outcome.
        from: i64,
        /// Last offset without outcome, all between being without, too.
        to: i64,
    },
    /// A record has more than one outcome.
    Duplicated {
        /// `src` of the outcomes.
        source: String,
        /// Where the outcome after the first one lies.
        at: String,
    },
    /// An outcome names a record that is not there.
    OfNothing {
        /// `src` of the outcome.
        source: String,
        /// Where the outcome lies.
        at: String,
    },
    /// An outcome stands behind the outcome of a later record of its partition.
    OutOfOrder {
        /// `src` of the outcome.
        source: String,
        /// Where the outcome lies.
        at: String,
        /// Offset whose outcome came before.
        after: i64,
    },
    /// A prediction was made by an older model than one before it in its partition.
    VersionFell {
        /// Where the prediction lies.
        at: String,
        /// Version before.
        from: i64,
        /// Version of this prediction.
        to: i64,
    },
    /// A record that must say where it came from does not.
    NoSource {
        /// Where the record lies.
        at: String,
        /// What is wrong with its header.
        found: String,
    },
    /// A record whose outcome is there is not committed: it would be processed again.
    NotCommitted {
        /// Topic and partition of the record.
        source: String,
        /// Next offset that the group would read.
        committed: i64,
        /// Last offset that has an outcome.
        answered: i64,
    },
    /// A record of the raw topic is out of the order of its device.
    Sequence {
        /// Where it lies.
        at: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A reading lies in the raw topic with other bytes than its device sent.
    Altered {
        /// Where it lies.
        at: String,
    },
    /// A row of the table of counts is not what a recount gives.
    Miscounted(Miscount),
    /// A prediction is not what its model makes of its reading.
    Recomputed {
        /// Where the prediction lies.
        at: String,
        /// Where the reading lies.
        source: String,
        /// The prediction, in words.
        stored: String,
        /// What the model makes of the reading, in words.
        again: String,
    },
    /// A prediction names a model that nobody published, or that no scorer may use.
    ByNoModel {
        /// Where the prediction lies.
        at: String,
        /// The model's name and version.
        model: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A reading the device side holds a PUBACK for is not in the raw topic.
    AcknowledgedMissing {
        /// Which readings, in words.
        what: String,
        /// How many of them.
        count: u64,
    },
}

impl Violation {
    /// Every kind there is: the values of the label `kind` of `violations_total`.
    pub const KINDS: [&str; 16] = [
        "lost",
        "duplicated",
        "of-nothing",
        "out-of-order",
        "version-fell",
        "no-source",
        "not-committed",
        "changed",
        "backwards",
        "torn-replay",
        "long-replay",
        "altered",
        "miscounted",
        "recomputed",
        "by-no-model",
        "acknowledged-missing",
    ];

    /// Which kind it is, in a word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Lost { .. } => "lost",
            Self::Duplicated { .. } => "duplicated",
            Self::OfNothing { .. } => "of-nothing",
            Self::OutOfOrder { .. } => "out-of-order",
            Self::VersionFell { .. } => "version-fell",
            Self::NoSource { .. } => "no-source",
            Self::NotCommitted { .. } => "not-committed",
            Self::Sequence { fault: Fault::Changed, .. } => "changed",
            Self::Sequence { fault: Fault::Backwards, .. } => "backwards",
            Self::Sequence { fault: Fault::TornReplay, .. } => "torn-replay",
            Self::Sequence { fault: Fault::LongReplay { .. }, .. } => "long-replay",
            Self::Altered { .. } => "altered",
            Self::Miscounted(_) => "miscounted",
            Self::Recomputed { .. } => "recomputed",
            Self::ByNoModel { .. } => "by-no-model",
            Self::AcknowledgedMissing { .. } => "acknowledged-missing",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { source, from, to } if from == to => {
                write!(f, "lost: {source}-{from} has no outcome")
            }
            Self::Lost { source, from, to } => {
                write!(f, "lost: {source}-{from} to {source}-{to} have no outcome")
            }
            Self::Duplicated { source, at } => write!(f, "duplicated: {at} is one more outcome of {source}"),
            Self::OfNothing { source, at } => {
                write!(f, "of nothing: {at} is the outcome of {source}, which holds no record")
            }
            Self::OutOfOrder { source, at, after } => {
                write!(
                    f,
                    "out of order: {at} is the outcome of {source}, behind the outcome of offset {after}"
                )
            }
            Self::VersionFell { at, from, to } => {
                write!(f, "version fell: {at} is by model version {to}, behind one by version {from}")
            }
            Self::NoSource { at, found } => write!(f, "no source: {at} {found}"),
            Self::NotCommitted { source, committed, answered } => {
                write!(
                    f,
                    "not committed: {source}-{answered} has its outcome, but the group would go on at {committed}"
                )
            }
            Self::Sequence { at, fault } => write!(f, "out of sequence: {at} {fault}"),
            Self::Altered { at } => write!(f, "altered: {at} has other bytes than its device sent"),
            Self::Miscounted(miscount) => write!(f, "miscounted: {miscount}"),
            Self::Recomputed { at, source, stored, again } => {
                write!(f, "recomputed: {at} says of {source}: {stored}; its model says: {again}")
            }
            Self::ByNoModel { at, model, problem } => {
                write!(f, "by no model: {at} is by model {model}, {problem}")
            }
            Self::AcknowledgedMissing { what, count } => {
                write!(f, "acknowledged and not in the log: {count} readings of {what}")
            }
        }
    }
}

/// What became of the records of one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicBalance {
    /// Name of the topic.
    pub topic: String,
    /// Records in the topic when the check began.
    pub records: u64,
    /// Records with at least one outcome.
    pub answered: u64,
    /// Records still on their way: nothing behind them is answered or committed.
    pub pending: u64,
    /// Records without outcome that should have one.
    pub lost: u64,
    /// Outcomes beyond the first of a record.
    pub duplicated: u64,
}

/// The result: figures of each topic, and the faults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Figures of each source topic.
    pub topics: Vec<TopicBalance>,
    /// The first faults of each kind.
    pub violations: Vec<Violation>,
    /// Number of faults, those not shown included.
    pub faults: u64,
    /// Number of faults by [`Violation::kind`].
    pub kinds: BTreeMap<&'static str, u64>,
}

impl Report {
    /// Records lost, over all topics.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.topics.iter().map(|it| it.lost).sum()
    }

    /// Outcomes too many, over all topics.
    #[must_use]
    pub fn duplicated(&self) -> u64 {
        self.topics.iter().map(|it| it.duplicated).sum()
    }

    /// Adds a fault that was found elsewhere and stands for `count` records.
    pub fn add(&mut self, violation: Violation) {
        self.faults += 1;
        *self.kinds.entry(violation.kind()).or_default() += 1;
        if self.violations.len() < SHOWN {
            self.violations.push(violation);
        }
    }
}
