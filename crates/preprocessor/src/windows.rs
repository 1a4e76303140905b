//! Counts per key and tumbling window, as a state machine without I/O.
//!
//! ```text
//! readings (key, event time), in the partition's order ─▶ count ─▶ changed windows, each once
//! rows of the table, in its partition's order ──────────▶ restore
//! ```
//!
//! Invariant: what is counted depends only on the readings and their order, never on how they were cut into
//! batches or whether the process was started again between them. Therefore a window closes by the *start of
//! the newest window* of its partition, which is in the table, and not by the newest event time, which is
//! not.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The open windows of one partition.
#[derive(Debug)]
pub struct Windows {
    size_ms: i64,
    grace_ms: i64,
    /// Start of the newest window that counted a reading.
    newest: Option<i64>,
    open: BTreeMap<i64, HashMap<Box<str>, Count>>,
    /// Number of the batch in hand, to tell which counts it changed.
    batch: u64,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    events: i64,
    /// The batch that changed it last, and the place among that batch's updates.
    batch: u64,
    update: usize,
}

/// A count as a batch left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update<'a> {
    /// The key that is counted.
    pub key: &'a str,
    /// Start of the window, in ms since 1970.
    pub start_ms: i64,
    /// Readings in the window so far.
    pub events: i64,
    /// Number, in its batch, of the last reading that was counted.
    pub reading: usize,
}

impl Windows {
    /// No windows yet, each `size` long, that count what comes up to `grace` after their end.
    #[must_use]
    pub fn new(size: Duration, grace: Duration) -> Self {
        Self {
            size_ms: milliseconds(size).max(1),
            grace_ms: milliseconds(grace),
            newest: None,
            open: BTreeMap::new(),
            batch: 0,
        }
    }

    /// Counts a batch of readings (key and event time in ms), in order.
    ///
    /// Appends each count that changed to `updates`, once, and returns how many readings came too late for
    /// theirs.
    pub fn count<'a>(
        &mut self,
        readings: impl IntoIterator<Item = (&'a str, i64)>,
        updates: &mut Vec<Update<'a>>,
    ) -> u64 {
        self.batch += 1;
        updates.clear();
        let mut late = 0;
        for (reading, (key, time_ms)) in readings.into_iter().enumerate() {
            let start_ms = self.start_of(time_ms);
            if self.is_closed(start_ms) {
                late += 1;
                continue;
            }
            self.advance(start_ms);
            let window = self.open.entry(start_ms).or_default();
            let batch = self.batch;
            let next = Count { events: 1, batch, update: updates.len() };
            let Some(count) = window.get_mut(key) else {
                window.insert(key.into(), next);
                updates.push(Update { key, start_ms, events: 1, reading });
                continue;
            };
            count.events += 1;
            if count.batch == batch {
                let update = &mut updates[count.update];
                update.events = count.events;
                update.reading = reading;
            } else {
                *count = Count { events: count.events, ..next };
                updates.push(Update { key, start_ms, events: count.events, reading });
            }
        }
        late
    }

    /// Takes in a row of the table; of several for a window, the last one holds.
    pub fn restore(&mut self, key: &str, start_ms: i64, events: i64) {
        // Rows of an earlier window size are of windows that this one does not have.
        if self.start_of(start_ms) != start_ms || self.is_closed(start_ms) {
            return;
        }
        self.advance(start_ms);
        self.open.entry(start_ms).or_default().insert(key.into(), Count { events, batch: 0, update: 0 });
    }

    /// End of the window that begins at `start_ms`, in ms since 1970.
    #[must_use]
    pub fn end_of(&self, start_ms: i64) -> i64 {
        start_ms.saturating_add(self.size_ms)
    }

    /// The earliest window that can be open once the one at `newest_ms` has counted a reading, as its start
    /// in ms.
    #[must_use]
    pub fn earliest_open(&self, newest_ms: i64) -> i64 {
        newest_ms.saturating_sub(self.grace_ms).saturating_sub(self.size_ms).saturating_add(1)
    }

    /// How many counts are in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.values().map(HashMap::len).sum()
    }

    /// Whether no window is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn start_of(&self, time_ms: i64) -> i64 {
        time_ms.saturating_sub(time_ms.rem_euclid(self.size_ms))
    }

    fn is_closed(&self, start_ms: i64) -> bool {
        self.newest.is_some_and(|newest| start_ms < self.earliest_open(newest))
    }

    fn advance(&mut self, start_ms: i64) {
        if self.newest.is_none_or(|it| it < start_ms) {
            self.newest = Some(start_ms);
            let earliest = self.earliest_open(start_ms);
            while self.open.first_key_value().is_some_and(|(start, _)| *start < earliest) {
                self.open.pop_first();
            }
        }
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed, TestRunner};

    use super::*;

    const SIZE: Duration = Duration::from_millis(10);
    const GRACE: Duration = Duration::from_millis(15);

    /// The table: the last count written for each key and window.
    type Table = BTreeMap<(String, i64), i64>;

    fn run(
        windows: &mut Windows,
        readings: &[(String, i64)],
        table: &mut Table,
        log: &mut Vec<(String, i64, i64)>,
    ) -> u64 {
        let mut updates = Vec::new();
        let late = windows.count(readings.iter().map(|(key, time)| (key.as_str(), *time)), &mut updates);
        for update in updates {
            table.insert((update.key.to_owned(), update.start_ms), update.events);
            log.push((update.key.to_owned(), update.start_ms, update.events));
            assert_eq!(readings[update.reading].0, update.key);
        }
        late
    }

    /// The same by the book: one reading after the other, all of them kept.
    fn recount(readings: &[(String, i64)]) -> (Table, u64) {
        let (mut table, mut late, mut newest) = (Table::new(), 0, i64::MIN);
        for (key, time) in readings {
            let start = time.div_euclid(10) * 10;
            if newest != i64::MIN && start + 10 + 15 <= newest {
                late += 1;
                continue;
            }
            newest = newest.max(start);
            *table.entry((key.clone(), start)).or_default() += 1;
        }
        (table, late)
    }

    fn readings() -> impl Strategy<Value = Vec<(String, i64)>> {
        let reading = ((0..5_u8).prop_map(|it| format!("car{it}")), -30..200_i64);
        prop_oneof![
            prop::collection::vec(reading.clone(), 0..200),
            // Mostly in order, as a fleet sends.
            prop::collection::vec(reading, 0..200).prop_map(|it| {
                it.into_iter()
                    .enumerate()
                    .map(|(index, (key, time))| (key, index as i64 + time / 8))
                    .collect()
            }),
        ]
    }

    proptest! {
        #[test]
        fn counts_equal_a_recount_in_any_batching(readings in readings(), cuts in prop::collection::vec(1..40_usize, 1..20)) {
            let mut windows = Windows::new(SIZE, GRACE);
            let (mut table, mut log, mut late) = (Table::new(), Vec::new(), 0);
            let (mut rest, mut cuts) = (readings.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (batch, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                let before = log.len();
                late += run(&mut windows, batch, &mut table, &mut log);
                let mut changed: Vec<_> = log[before..].iter().map(|(key, start, _)| (key, start)).collect();
                changed.sort();
                changed.dedup();
                prop_assert_eq!(changed.len(), log.len() - before, "a key was written twice for a batch");
                rest = after;
            }
            prop_assert_eq!((table, late), recount(&readings));
        }

        #[test]
        fn a_restart_changes_nothing(readings in readings(), cut in 0..200_usize, compacted: bool) {
            let (before, after) = readings.split_at(cut.min(readings.len()));
            let (mut table, mut log) = (Table::new(), Vec::new());
            let mut first = Windows::new(SIZE, GRACE);
            let mut late = run(&mut first, before, &mut table, &mut log);

            let mut second = restored(&log, compacted);
            prop_assert_eq!(second.len(), first.len());
            late += run(&mut second, after, &mut table, &mut log);
            prop_assert_eq!((table, late), recount(&readings));
        }
    }

    #[test]
    fn windows_beyond_grace_leave_the_memory() {
        let mut windows = Windows::new(SIZE, GRACE);
        let mut updates = Vec::new();
        for time in 0..100_000 {
            windows.count([("car", time)], &mut updates);
            assert!(windows.len() <= 4, "{} windows at {time}", windows.len());
        }
    }

    #[test]
    fn extreme_times_do_no_harm() {
        let mut windows = Windows::new(SIZE, GRACE);
        let mut updates = Vec::new();
        for time in [i64::MIN, i64::MAX, 0, -1, i64::MIN + 1] {
            windows.count([("car", time)], &mut updates);
        }
        assert_eq!(windows.len(), 1);
    }

    /// Batches and restarts in any order: a long run, given again by `PROPTEST_RNG_SEED` and made longer by `PROPTEST_CASES`.
    #[test]
    fn counts_equal_a_recount_however_often_it_is_started_again() {
        let mut config = Config { failure_persistence: None, ..Config::default() };
        if config.rng_seed == RngSeed::Random {
            config.rng_seed = RngSeed::Fixed(1);
        }
        println!("windows: {} cases of about 1000 readings, {:?}", config.cases, config.rng_seed);
        // `None` is a restart without, `Some` one with compaction before.
        let batch = prop::collection::vec(((0..5_u8).prop_map(|it| format!("car{it}")), -30..60_i64), 0..40);
        let step = prop_oneof![9 => batch.prop_map(Ok), 1 => any::<bool>().prop_map(Err)];
        let result = TestRunner::new(config).run(&prop::collection::vec(step, 55), |steps| {
            let (mut windows, mut all) = (Windows::new(SIZE, GRACE), Vec::new());
            let (mut table, mut log, mut late) = (Table::new(), Vec::new(), 0);
            for step in steps {
                match step {
                    Ok(batch) => {
                        // The fleet's time goes on, about a window a batch.
                        let time = all.len() as i64 / 2;
                        let batch: Vec<_> = batch.into_iter().map(|(key, it)| (key, time + it)).collect();
                        late += run(&mut windows, &batch, &mut table, &mut log);
                        all.extend(batch);
                    }
                    Err(compacted) => windows = restored(&log, compacted),
                }
            }
            prop_assert_eq!((table, late), recount(&all));
            Ok(())
        });
        result.unwrap();
    }

    /// Windows read back from the rows in `log`, as the service does: from the earliest that can be open, as the last row tells it.
    fn restored(log: &[(String, i64, i64)], compacted: bool) -> Windows {
        let mut windows = Windows::new(SIZE, GRACE);
        let from = log.last().map_or(i64::MIN, |(_, start, _)| windows.earliest_open(*start));
        for (index, (key, start, events)) in log.iter().enumerate() {
            let overwritten = || log[index + 1..].iter().any(|it| (&it.0, it.1) == (key, *start));
            if *start >= from && !(compacted && overwritten()) {
                windows.restore(key, *start, *events);
            }
        }
        windows
    }
}
