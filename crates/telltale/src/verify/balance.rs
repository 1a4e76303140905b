//! Proves from the headers `src` that each record of a topic has exactly one outcome.
//!
//! ```text
//! source topic ──▶ present (offsets that hold a record) ─┐
//!                                                        ├─▶ lost, doubled, out of order, of nothing
//! target topics ─▶ outcome (src of each record) ─────────┘
//! ```
//!
//! Pure: it is told what lies where, in the order of each partition, and reads no topic itself. It needs
//! two bits for each offset, however many records there are.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use super::offsets::Offsets;
use super::sequence::Fault;
use super::windows::Miscount;

/// Violations kept in full; beyond it they are only counted.
const SHOWN: usize = 50;

/// A partition of a topic, by the index of its topic in [`Balance::new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Index of the topic.
    pub topic: usize,
    /// Partition of the topic.
    pub partition: i32,
}

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
    /// A reading the device side holds a PUBACK for is not in the raw topic.
    AcknowledgedMissing {
        /// Which readings, in words.
        what: String,
        /// How many of them.
        count: u64,
    },
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
        if self.violations.len() < SHOWN {
            self.violations.push(violation);
        }
    }
}

#[derive(Debug)]
struct Source {
    range: Range<i64>,
    /// Next offset to be read by the consuming group, where known.
    committed: Option<i64>,
    present: Offsets,
    answered: Offsets,
    duplicated: u64,
    /// Highest offset answered so far, by target.
    newest: BTreeMap<Place, i64>,
}

/// Takes in what lies in the topics and says what became of each record.
#[derive(Debug)]
pub struct Balance {
    topics: Vec<String>,
    sources: BTreeMap<Place, Source>,
    versions: BTreeMap<Place, i64>,
    report: Report,
}

impl Balance {
    /// Makes an empty balance of `topics`, which are named by their index from here on.
    #[must_use]
    pub fn new(topics: Vec<String>) -> Self {
        Self { topics, sources: BTreeMap::new(), versions: BTreeMap::new(), report: Report::default() }
    }

    /// Index of the topic called `name`.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<usize> {
        self.topics.iter().position(|it| it == name)
    }

    /// Declares a partition whose records must have outcomes: the offsets of `range` that hold a record.
    ///
    /// `committed` is the next offset the consuming group will read, taken before any target was read.
    pub fn source(&mut self, place: Place, range: Range<i64>, committed: Option<i64>) {
        let (present, answered) = (Offsets::within(range.clone()), Offsets::within(range.clone()));
        let newest = BTreeMap::new();
        self.sources.insert(place, Source { range, committed, present, answered, duplicated: 0, newest });
    }

    /// Takes in that `offset` of a source holds a record.
    pub fn present(&mut self, place: Place, offset: i64) {
        if let Some(source) = self.sources.get_mut(&place) {
            source.present.insert(offset);
        }
    }

    /// Takes in that the record `at` is an outcome of the record `offset` of `source`.
    ///
    /// Whatever is outside the range of the source is left aside: retention may have removed the record,
    /// or it is newer than the check.
    pub fn outcome(&mut self, source: Place, offset: i64, at: (Place, i64)) {
        let Some(state) = self.sources.get_mut(&source) else { return };
        let (target, at_offset) = at;
        match state.answered.insert(offset) {
            None => {}
            Some(true) => {
                let newest = state.newest.entry(target).or_insert(i64::MIN);
                if offset < *newest {
                    let after = *newest;
                    let (source, at) = (self.name(source, offset), self.name(target, at_offset));
                    self.report.add(Violation::OutOfOrder { source, at, after });
                } else {
                    *newest = offset;
                }
            }
            Some(false) => {
                state.duplicated += 1;
                let (source, at) = (self.name(source, offset), self.name(target, at_offset));
                self.report.add(Violation::Duplicated { source, at });
            }
        }
    }

    /// Takes in that the record `at` was made by model `version`; `rolled_back` says whether somebody went back
    /// from one version to another.
    pub fn version(&mut self, at: (Place, i64), version: i64, rolled_back: impl Fn(i64, i64) -> bool) {
        let before = self.versions.insert(at.0, version).unwrap_or(version);
        if version < before && !rolled_back(before, version) {
            let at = self.name(at.0, at.1);
            self.report.add(Violation::VersionFell { at, from: before, to: version });
        }
    }

    /// Takes in that the record `at` does not say where it came from.
    pub fn no_source(&mut self, at: (Place, i64), found: String) {
        let at = self.name(at.0, at.1);
        self.report.add(Violation::NoSource { at, found });
    }

    /// The result; `drained` says that nothing was on its way any more, so that nothing may be pending.
    #[must_use]
    pub fn finish(mut self, drained: bool) -> Report {
        let sources = std::mem::take(&mut self.sources);
        let mut topics: BTreeMap<usize, TopicBalance> = BTreeMap::new();
        for (place, source) in &sources {
            let balance = topics.entry(place.topic).or_default();
            balance.topic.clone_from(&self.topics[place.topic]);
            balance.records += source.present.len();
            balance.answered += source.answered.len();
            balance.duplicated += source.duplicated;
            let settled = settled(source, drained);
            let mut run: Option<Range<i64>> = None;
            for offset in source.present.difference(&source.answered) {
                if offset >= settled {
                    balance.pending += 1;
                    continue;
                }
                balance.lost += 1;
                match &mut run {
                    Some(run) if run.end == offset => run.end += 1,
                    _ => {
                        self.lost(*place, run.replace(offset..offset + 1));
                    }
                }
            }
            self.lost(*place, run);
            if let (true, Some(committed), Some(answered)) =
                (drained, source.committed, source.answered.last())
                && committed <= answered
            {
                let source = format!("{}-{}", self.topics[place.topic], place.partition);
                self.report.add(Violation::NotCommitted { source, committed, answered });
            }
            for offset in source.answered.difference(&source.present) {
                let violation =
                    Violation::OfNothing { source: self.name(*place, offset), at: "a record".to_owned() };
                self.report.add(violation);
            }
        }
        self.report.topics = topics.into_values().collect();
        self.report
    }

    fn lost(&mut self, place: Place, run: Option<Range<i64>>) {
        if let Some(run) = run {
            let source = format!("{}-{}", self.topics[place.topic], place.partition);
            self.report.add(Violation::Lost { source, from: run.start, to: run.end - 1 });
        }
    }

    fn name(&self, place: Place, offset: i64) -> String {
        format!("{}-{}-{offset}", self.topics[place.topic], place.partition)
    }
}

/// The offset below which every record must have its outcome.
fn settled(source: &Source, drained: bool) -> i64 {
    if drained {
        return source.range.end;
    }
    // A partition is worked in order: what lies below an answered offset was passed by.
    let passed = source.answered.last().map_or(source.range.start, |it| it + 1);
    passed.max(source.committed.unwrap_or(i64::MIN))
}

#[cfg(test)]
mod tests;
