//! What a follower saw of commits, and what it says about new models in between.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Commits at the beginning that do not count: the first fetch, the first schema, the first allocations.
const WARM_UP: usize = 5;

/// A transaction as a reader of committed records saw it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commit {
    /// When its first record was there.
    pub(super) at: Instant,
    /// Version of the model of all its predictions.
    pub(super) version: i64,
}

/// Transactions in the order of the one partition they were written to.
#[derive(Debug, Default)]
pub(super) struct Commits {
    commits: Vec<Commit>,
    /// Offset of the newest prediction.
    offset: Option<i64>,
    /// Offset of the reading that it answers for.
    source: Option<i64>,
    /// Predictions so far.
    pub(super) predictions: u64,
    /// Predictions of another model than the others of their transaction.
    pub(super) mixed: u64,
    /// Transactions with an older model than the one before.
    pub(super) back: u64,
    /// Predictions for a reading that is not behind the one before: a second one, or one out of order.
    pub(super) again: u64,
}

impl Commits {
    /// Takes a prediction in: where it lies, what it answers for, what it was made by.
    pub(super) fn take(&mut self, offset: i64, source: i64, version: i64) {
        self.predictions += 1;
        // Between two transactions lies the end of the first, which takes an offset.
        let begins = self.offset.is_none_or(|it| offset != it + 1);
        if begins {
            self.back += u64::from(self.commits.last().is_some_and(|it| version < it.version));
            self.commits.push(Commit { at: Instant::now(), version });
        } else {
            self.mixed += u64::from(self.commits.last().is_some_and(|it| version != it.version));
        }
        self.again += u64::from(self.source.is_some_and(|it| source <= it));
        (self.offset, self.source) = (Some(offset), Some(source));
    }

    /// What the times between the commits say.
    pub(super) fn pauses(&self) -> Option<Pauses> {
        Pauses::of(self.commits.get(WARM_UP..)?)
    }
}

/// Times between commits, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Times {
    /// How many there were.
    pub(super) count: usize,
    /// Half were no longer.
    pub(super) p50: f64,
    /// 99 of 100 were no longer.
    pub(super) p99: f64,
    /// The longest.
    pub(super) most: f64,
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let ms = |it: &Duration| it.as_secs_f64() * 1000.0;
        let most = ms(times.last()?);
        let rank = |hundredths: usize| ms(&times[(times.len() * hundredths).div_ceil(100).max(1) - 1]);
        Some(Self { count: times.len(), p50: rank(50), p99: rank(99), most })
    }
}

/// Times from one commit to the next.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Pauses {
    /// With the same model on both sides.
    pub(super) usual: Times,
    /// With the first commit of a new model at the end; `None` where there was no new one.
    pub(super) new_model: Option<Times>,
}

impl Pauses {
    fn of(commits: &[Commit]) -> Option<Self> {
        let between = |new: bool| {
            let pairs = commits.windows(2).filter(|it| (it[0].version != it[1].version) == new);
            pairs.map(|it| it[1].at.saturating_duration_since(it[0].at)).collect::<Vec<_>>()
        };
        Some(Self { usual: Times::of(between(false))?, new_model: Times::of(between(true)) })
    }

    /// What a new model adds to the time between two commits, in ms: the middle one and the longest against the middle of the usual.
    pub(super) fn beyond(&self) -> Option<(f64, f64)> {
        self.new_model.map(|it| (it.p50 - self.usual.p50, it.most - self.usual.p50))
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} {:>8.2} {:>8.2} {:>8.2}", self.count, self.p50, self.p99, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_ends_where_an_offset_is_missing() {
        let mut commits = Commits::default();
        // offset, source, version: three transactions, the third of a new model.
        for (offset, source, version) in [(0, 0, 1), (1, 1, 1), (3, 2, 1), (5, 3, 2), (6, 4, 2)] {
            commits.take(offset, source, version);
        }
        assert_eq!((commits.commits.len(), commits.predictions), (3, 5));
        assert_eq!((commits.mixed, commits.back, commits.again), (0, 0, 0));
        commits.take(7, 5, 1);
        commits.take(9, 5, 1);
        assert_eq!((commits.mixed, commits.back, commits.again), (1, 1, 1));
    }

    #[test]
    fn the_time_before_a_new_model_is_told_from_the_others() {
        let began = Instant::now();
        let at = |ms, version| Commit { at: began + Duration::from_millis(ms), version };
        let pauses =
            Pauses::of(&[at(0, 1), at(10, 1), at(20, 1), at(33, 2), at(43, 2), at(55, 3), at(65, 3)])
                .unwrap();
        assert_eq!((pauses.usual.count, pauses.usual.p50, pauses.usual.most), (4, 10.0, 10.0));
        let new = pauses.new_model.unwrap();
        assert_eq!((new.count, new.p50, new.most), (2, 12.0, 13.0));
        assert_eq!(pauses.beyond(), Some((2.0, 3.0)));
        assert_eq!(Pauses::of(&[at(0, 1), at(10, 1)]).unwrap().beyond(), None);
        assert_eq!(Pauses::of(&[at(0, 1)]), None);
        assert!(Commits::default().pauses().is_none());
    }
}
