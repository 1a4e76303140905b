//! When the next version is due: a decision apart from its effect.

use std::time::Duration;

/// What decides when a version is due.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    /// Offsets that the first version waits for.
    pub(crate) first_rows: i64,
    /// Factor by which the offsets to learn from must have grown.
    pub(crate) growth: f64,
    /// New offsets after which a version is due; 0 for never.
    pub(crate) every_rows: i64,
    /// Time after which a version is due, if there is anything new.
    pub(crate) interval: Duration,
    /// Shortest time between versions.
    pub(crate) min_interval: Duration,
}

/// The training run before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    /// Where the log ended, summed over the partitions.
    pub(crate) end: i64,
    /// Offsets that were read.
    pub(crate) read: i64,
    /// Time since it began.
    pub(crate) age: Duration,
}

impl Schedule {
    /// Whether a version is due now: the log ends at `end` (summed), and `available` offsets would be read.
    pub(crate) fn is_due(&self, available: i64, end: i64, before: Option<Before>) -> bool {
        let Some(before) = before else { return available >= self.first_rows };
        let new = end - before.end;
        if new <= 0 || available < self.first_rows || before.age < self.min_interval {
            return false;
        }
        let grown = available as f64 >= before.read as f64 * self.growth;
        grown || before.age >= self.interval || (self.every_rows > 0 && new >= self.every_rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_due_when_there_is_enough_new() {
        let seconds = Duration::from_secs;
        let schedule = Schedule {
            first_rows: 1000,
            growth: 3.0,
            every_rows: 50_000,
            interval: seconds(60),
            min_interval: seconds(10),
        };
        let before = |end, read, age| Some(Before { end, read, age: seconds(age) });
        let cases = [
            // name, available, end, before, due
            ("too few for the first", 999, 999, None, false),
            ("enough for the first", 1000, 1000, None, true),
            ("grown, but too soon", 3000, 3000, before(1000, 1000, 9), false),
            ("grown", 3000, 3000, before(1000, 1000, 10), true),
            ("not grown enough", 2999, 2999, before(1000, 1000, 59), false),
            ("an interval later", 2999, 2999, before(1000, 1000, 60), true),
            ("an interval later, nothing new", 1000, 1000, before(1000, 1000, 600), false),
            ("many new, window full", 9000, 60_000, before(10_000, 9000, 11), true),
            ("some new, window full", 9000, 59_999, before(10_000, 9000, 11), false),
            ("most of it was deleted meanwhile", 500, 5000, before(1000, 1000, 600), false),
        ];
        for (name, available, end, before, due) in cases {
            assert_eq!(schedule.is_due(available, end, before), due, "{name}");
        }
    }
}
