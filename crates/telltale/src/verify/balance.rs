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
            Self::Lost { source, from, to } if from == to => write!(f, "lost: {source}-{from} has no outcome"),
            Self::Lost { source, from, to } => write!(f, "lost: {source}-{from} to {source}-{to} have no outcome"),
            Self::Duplicated { source, at } => write!(f, "duplicated: {at} is one more outcome of {source}"),
            Self::OfNothing { source, at } => write!(f, "of nothing: {at} is the outcome of {source}, which holds no record"),
            Self::OutOfOrder { source, at, after } => {
                write!(f, "out of order: {at} is the outcome of {source}, behind the outcome of offset {after}")
            }
            Self::VersionFell { at, from, to } => {
                write!(f, "version fell: {at} is by model version {to}, behind one by version {from}")
            }
            Self::NoSource { at, found } => write!(f, "no source: {at} {found}"),
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
            None => return,
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
            for offset in source.answered.difference(&source.present) {
                let violation = Violation::OfNothing { source: self.name(*place, offset), at: "a record".to_owned() };
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
mod tests {
    use super::*;

    const RAW: Place = Place { topic: 0, partition: 2 };
    const CLEAN: Place = Place { topic: 1, partition: 2 };
    const DEAD: Place = Place { topic: 2, partition: 0 };

    fn balance(present: &[i64], committed: Option<i64>) -> Balance {
        let mut balance = Balance::new(vec!["raw".into(), "clean".into(), "dead".into()]);
        balance.source(RAW, 10..20, committed);
        for &offset in present {
            balance.present(RAW, offset);
        }
        balance
    }

    fn texts(report: &Report) -> Vec<String> {
        report.violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_record_with_one_outcome_is_a_clean_balance() {
        let mut balance = balance(&[10, 11, 13], None);
        balance.outcome(RAW, 10, (CLEAN, 0));
        balance.outcome(RAW, 11, (DEAD, 0));
        balance.outcome(RAW, 13, (CLEAN, 1));
        let report = balance.finish(true);
        assert_eq!(texts(&report), [""; 0]);
        let topic =
            TopicBalance { topic: "raw".into(), records: 3, answered: 3, pending: 0, lost: 0, duplicated: 0 };
        assert_eq!(report.topics, [topic]);
    }

    #[test]
    fn a_dead_letter_besides_an_outcome_is_one_too_many() {
        let mut balance = balance(&[10], None);
        balance.outcome(RAW, 10, (CLEAN, 0));
        balance.outcome(RAW, 10, (DEAD, 4));
        let report = balance.finish(true);
        assert_eq!(texts(&report), ["duplicated: dead-0-4 is one more outcome of raw-2-10"]);
        assert_eq!((report.duplicated(), report.lost()), (1, 0));
    }

    #[test]
    fn what_later_records_overtook_is_lost_and_what_is_behind_them_is_pending() {
        let mut balance = balance(&[10, 11, 12, 13, 14, 15], None);
        balance.outcome(RAW, 10, (CLEAN, 0));
        balance.outcome(RAW, 13, (CLEAN, 1));
        let report = balance.finish(false);
        assert_eq!(texts(&report), ["lost: raw-2-11 to raw-2-12 have no outcome"]);
        assert_eq!((report.topics[0].lost, report.topics[0].pending), (2, 2));
    }

    #[test]
    fn a_committed_offset_without_outcome_is_lost() {
        let report = balance(&[10, 11, 12], Some(11)).finish(false);
        assert_eq!(texts(&report), ["lost: raw-2-10 has no outcome"]);
        assert_eq!(report.topics[0].pending, 2);
    }

    #[test]
    fn nothing_may_be_pending_once_drained() {
        let report = balance(&[10, 12], None).finish(true);
        assert_eq!(texts(&report), ["lost: raw-2-10 has no outcome", "lost: raw-2-12 has no outcome"]);
    }

    #[test]
    fn outcomes_of_other_topics_and_of_expired_or_newer_records_are_left_aside() {
        let mut balance = balance(&[10], None);
        balance.outcome(RAW, 10, (CLEAN, 1));
        balance.outcome(RAW, 9, (CLEAN, 0));
        balance.outcome(RAW, 20, (CLEAN, 2));
        balance.outcome(Place { topic: 7, partition: 0 }, 3, (CLEAN, 3));
        assert_eq!(texts(&balance.finish(true)), [""; 0]);
    }

    #[test]
    fn an_outcome_of_a_hole_is_a_fault() {
        let mut balance = balance(&[10], None);
        balance.outcome(RAW, 10, (CLEAN, 0));
        balance.outcome(RAW, 11, (CLEAN, 1));
        let report = balance.finish(true);
        assert_eq!(texts(&report), ["of nothing: a record is the outcome of raw-2-11, which holds no record"]);
    }

    #[test]
    fn outcomes_change_their_order_within_a_target_only_as_a_fault() {
        let mut balance = balance(&[10, 11, 12], None);
        balance.outcome(RAW, 11, (CLEAN, 0));
        balance.outcome(RAW, 10, (DEAD, 0));
        balance.outcome(RAW, 12, (DEAD, 1));
        assert_eq!(texts(&balance.finish(true)), [""; 0], "two targets have no order between them");
        let mut balance = super::tests::balance(&[10, 11], None);
        balance.outcome(RAW, 11, (CLEAN, 0));
        balance.outcome(RAW, 10, (CLEAN, 1));
        let expected = "out of order: clean-2-1 is the outcome of raw-2-10, behind the outcome of offset 11";
        assert_eq!(texts(&balance.finish(true)), [expected]);
    }

    #[test]
    fn versions_only_rise_within_a_partition() {
        let mut balance = balance(&[], None);
        for (place, offset, version) in [(CLEAN, 0, 1), (CLEAN, 1, 3), (DEAD, 0, 1), (CLEAN, 2, 2), (CLEAN, 3, 2)] {
            balance.version((place, offset), version, |_, _| false);
        }
        balance.version((CLEAN, 4), 1, |from, to| (from, to) == (2, 1));
        assert_eq!(
            texts(&balance.finish(true)),
            ["version fell: clean-2-2 is by model version 2, behind one by version 3"]
        );
    }

    #[test]
    fn faults_beyond_the_shown_ones_are_counted() {
        let mut balance = Balance::new(vec!["raw".into()]);
        let place = Place { topic: 0, partition: 0 };
        balance.source(place, 0..1000, None);
        (0..1000).step_by(2).for_each(|it| balance.present(place, it));
        let report = balance.finish(true);
        assert_eq!((report.violations.len(), report.faults, report.lost()), (SHOWN, 500, 500));
    }
}
