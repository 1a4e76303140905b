//! Proves from the headers `src` that each record of a topic has exactly one outcome.
//!
//! ```text
//! source topic ──▶ present (offsets that hold a record) ─┐
//!                                                        ├─▶ lost, doubled, out of order, of nothing
//! target topics ─▶ outcome (src of each record) ─────────┘
//! ```
//!
//! Pure: it is told what lies where, in the order of each partition, sources before targets, and reads no topic itself.
//! It needs two bits for each offset that is not settled: whose outcome is not known to be there or not.

use std::collections::BTreeMap;

use super::offsets::Offsets;
use super::report::{Report, TopicBalance, Violation};

/// A partition of a topic, by the index of its topic in [`Balance::new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Index of the topic.
    pub topic: usize,
    /// Partition of the topic.
    pub partition: i32,
}

#[derive(Debug)]
struct Source {
    /// First offset that is looked at: what lies below was there before the check.
    start: i64,
    /// Offset behind the last one of which it is known whether it holds a record.
    read: i64,
    /// Offset below which every record had to have its outcome.
    settled: i64,
    present: Offsets,
    answered: Offsets,
    lost: u64,
    /// Records of which nothing can be said: their outcomes were deleted before they were read.
    given_up: u64,
    duplicated: u64,
    /// Highest offset answered so far, by target.
    newest: BTreeMap<Place, i64>,
}

impl Source {
    fn waiting(&self) -> u64 {
        self.present.len().saturating_sub(self.answered.len() + self.lost + self.given_up)
    }
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

    /// Declares a partition whose records from `start` on must have outcomes.
    pub fn source(&mut self, place: Place, start: i64) {
        let (present, answered) = (Offsets::starting_at(start), Offsets::starting_at(start));
        let state = Source {
            start,
            read: start,
            settled: start,
            present,
            answered,
            lost: 0,
            given_up: 0,
            duplicated: 0,
            newest: BTreeMap::new(),
        };
        self.sources.insert(place, state);
    }

    /// Takes in that `offset` of a source holds a record.
    pub fn present(&mut self, place: Place, offset: i64) {
        if let Some(source) = self.sources.get_mut(&place) {
            source.present.insert(offset);
            source.read = source.read.max(offset + 1);
        }
    }

    /// Takes in that a source holds no records up to `end` but those that were named.
    pub fn read(&mut self, place: Place, end: i64) {
        if let Some(source) = self.sources.get_mut(&place) {
            source.read = source.read.max(end);
        }
    }

    /// Takes in that records of a source below `first`, or outcomes of theirs, were deleted before they were read: nothing is
    /// known of them.
    pub fn deleted(&mut self, place: Place, first: i64) {
        if let Some(source) = self.sources.get_mut(&place) {
            let unsettled = source.settled..first.max(source.settled);
            source.given_up += source.present.difference(&source.answered, unsettled).count() as u64;
            source.start = source.start.max(first);
            source.read = source.read.max(first);
            source.settled = source.settled.max(first);
            source.present.forget(first);
            source.answered.forget(first);
        }
    }

    /// Takes in that the record `at` is an outcome of the record `offset` of `source`.
    ///
    /// Whatever lies before the start of the source is left aside. The sources were read beyond every record that a target
    /// can be the outcome of. Returns whether it is the first outcome of a record.
    pub fn outcome(&mut self, source: Place, offset: i64, at: (Place, i64)) -> bool {
        let Some(state) = self.sources.get_mut(&source) else { return false };
        if offset < state.start {
            return false;
        }
        let known = offset < state.settled || state.present.contains(offset);
        let new = known && offset >= state.settled && state.answered.insert(offset);
        state.duplicated += u64::from(known && !new);
        let newest = state.newest.entry(at.0).or_insert(i64::MIN);
        let after = *newest;
        if new {
            *newest = after.max(offset);
        }
        let names = || (self.name(source, offset), self.name(at.0, at.1));
        let violation = match (known, new) {
            (true, true) if offset >= after => return true,
            (true, true) => {
                let (source, at) = names();
                Violation::OutOfOrder { source, at, after }
            }
            (true, false) => {
                let (source, at) = names();
                Violation::Duplicated { source, at }
            }
            (false, _) => {
                let (source, at) = names();
                Violation::OfNothing { source, at }
            }
        };
        self.report.add(violation);
        new
    }

    /// The version of the model that made the prediction before `at`, if `version` is below it.
    pub fn fell(&mut self, at: (Place, i64), version: i64) -> Option<i64> {
        let before = self.versions.insert(at.0, version)?;
        (version < before).then_some(before)
    }

    /// Takes in a violation that was found elsewhere.
    pub fn add(&mut self, violation: Violation) {
        self.report.add(violation);
    }

    /// What was found since this was last asked; the figures of the topics come with [`Balance::finish`].
    #[must_use]
    pub fn take_report(&mut self) -> Report {
        std::mem::take(&mut self.report)
    }

    /// Says that the targets hold every outcome that the records of a source below `end` will ever have; returns how many
    /// records that settles.
    pub fn settle(&mut self, place: Place, end: i64) -> u64 {
        let Some(source) = self.sources.get_mut(&place) else { return 0 };
        let range = source.settled..end.min(source.read);
        if range.is_empty() {
            return 0;
        }
        let mut runs: Vec<(i64, i64)> = Vec::new();
        for offset in source.present.difference(&source.answered, range.clone()) {
            source.lost += 1;
            match runs.last_mut() {
                Some((_, to)) if *to + 1 == offset => *to = offset,
                _ => runs.push((offset, offset)),
            }
        }
        let records = source.present.count_in(range.clone());
        source.settled = range.end;
        source.present.forget(range.end);
        source.answered.forget(range.end);
        let name = format!("{}-{}", self.topics[place.topic], place.partition);
        for (from, to) in runs {
            self.report.add(Violation::Lost { source: name.clone(), from, to });
        }
        records
    }

    /// Says that a quiet moment has come, and where the group of a source would go on.
    pub fn quiet(&mut self, place: Place, committed: i64) {
        let Some(source) = self.sources.get(&place) else { return };
        if let Some(answered) = source.answered.last().filter(|it| committed <= *it) {
            let source = format!("{}-{}", self.topics[place.topic], place.partition);
            self.report.add(Violation::NotCommitted { source, committed, answered });
        }
    }

    /// Records of a topic that have no outcome yet and are not settled.
    #[must_use]
    pub fn waiting(&self, topic: usize) -> u64 {
        let sources = self.sources.iter().filter(|(place, _)| place.topic == topic);
        sources.map(|(_, it)| it.waiting()).sum()
    }

    /// The result; `drained` says that nothing was on its way any more, so that nothing may be pending.
    #[must_use]
    pub fn finish(mut self, drained: bool) -> Report {
        let places: Vec<Place> = self.sources.keys().copied().collect();
        if drained {
            for place in places {
                self.settle(place, i64::MAX);
            }
        }
        let mut topics: BTreeMap<usize, TopicBalance> = BTreeMap::new();
        for (place, source) in &self.sources {
            let balance = topics.entry(place.topic).or_default();
            balance.topic.clone_from(&self.topics[place.topic]);
            balance.records += source.present.len();
            balance.answered += source.answered.len();
            balance.duplicated += source.duplicated;
            balance.lost += source.lost;
            balance.pending += source.waiting();
        }
        self.report.topics = topics.into_values().collect();
        self.report
    }

    fn name(&self, place: Place, offset: i64) -> String {
        format!("{}-{}-{offset}", self.topics[place.topic], place.partition)
    }
}

#[cfg(test)]
mod tests;
