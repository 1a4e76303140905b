//! Counts the clean readings per device and window once more, by the book, and holds the table against it.
//!
//! Pure: it is handed the records of each partition in order.

use std::collections::{BTreeMap, BTreeSet};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use telltale_records::schema::{EVENTS_PER_5MIN, Schema};
use telltale_records::{Record, framing};

/// Length of a window in ms, as the table's name says.
const SIZE_MS: i64 = 300_000;

/// How far a device's clock may run ahead: what was counted in a window before a partition was joined nobody knows.
const AHEAD_MS: i64 = 3_600_000;

/// A row of the table that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miscount {
    /// Partition of both topics.
    pub partition: i32,
    /// The device.
    pub car: String,
    /// Start of the window in ms since 1970.
    pub start_ms: i64,
    /// What the table says; `None` where it has no row.
    pub table: Option<i64>,
    /// What was counted.
    pub counted: i64,
    /// Offset of the row in the table.
    pub offset: Option<i64>,
}

/// Partition, start, device.
type Window = (i32, i64, String);

/// The recount.
#[derive(Debug)]
pub struct Windows {
    grace_ms: i64,
    /// Start of the newest window that counted a reading, by partition.
    newest: BTreeMap<i32, i64>,
    counted: BTreeMap<Window, i64>,
    table: BTreeMap<Window, (i64, i64)>,
    /// Windows that counted since they were last marked.
    touched: BTreeSet<Window>,
    /// Counts that the table must have reached, and the newest window of each partition when that was said.
    marked: Option<(BTreeMap<Window, i64>, BTreeMap<i32, i64>)>,
    /// Partitions that are not read from their first reading on.
    joined: BTreeSet<i32>,
    /// Start of the newest window that is not judged, by partition: it is older than the check, or closed and compared.
    done: BTreeMap<i32, i64>,
    unreadable: u64,
    schema: Schema,
}

impl Windows {
    /// Counts as the preprocessor does that keeps windows open for so long after their end.
    #[must_use]
    pub fn new(grace_ms: i64) -> Self {
        let schema = Schema::parse(EVENTS_PER_5MIN).expect("the schema in this program is valid");
        Self {
            grace_ms,
            newest: BTreeMap::new(),
            counted: BTreeMap::new(),
            table: BTreeMap::new(),
            touched: BTreeSet::new(),
            marked: None,
            joined: BTreeSet::new(),
            done: BTreeMap::new(),
            unreadable: 0,
            schema,
        }
    }

    /// Says that a partition is not read from its first reading on: windows that may hold earlier ones are not judged.
    pub fn join(&mut self, partition: i32) {
        self.joined.insert(partition);
    }

    /// Takes in a clean reading: its key is the device, its time stamp the event time.
    pub fn reading(&mut self, record: Record<'_>) {
        let (Some(time), Some(car)) = (record.timestamp_ms(), record.key()) else { return };
        let start = time.div_euclid(SIZE_MS) * SIZE_MS;
        let partition = record.partition();
        let newest = self.newest.entry(partition).or_insert(start);
        // A window closes when one that begins the grace after its end has counted.
        if start + SIZE_MS + self.grace_ms <= *newest {
            return;
        }
        *newest = (*newest).max(start);
        if self.joined.remove(&partition) {
            self.done.insert(partition, start + AHEAD_MS);
        }
        if self.is_done(partition, start) {
            return;
        }
        let window = (partition, start, String::from_utf8_lossy(car).into_owned());
        *self.counted.entry(window.clone()).or_default() += 1;
        self.touched.insert(window);
    }

    /// Takes in a row of the table.
    pub fn row(&mut self, record: Record<'_>) {
        let Some(value) = record.value() else { return };
        let Some((car, start, count)) = self.read(value) else {
            self.unreadable += 1;
            return;
        };
        let partition = record.partition();
        if !self.joined.contains(&partition) && !self.is_done(partition, start) {
            self.table.insert((partition, start, car), (count, record.offset()));
        }
    }

    fn is_done(&self, partition: i32, start: i64) -> bool {
        self.done.get(&partition).is_some_and(|done| start <= *done)
    }

    fn read(&self, value: &[u8]) -> Option<(String, i64, i64)> {
        let (_, mut payload) = framing::split(value)?;
        let reader = GenericDatumReader::builder(self.schema.avro()).build().ok()?;
        let Value::Record(fields) = reader.read_value(&mut payload).ok()? else { return None };
        let long = |name: &str| match fields.iter().find(|(it, _)| it == name)?.1 {
            Value::Long(value) => Some(value),
            _ => None,
        };
        let car = fields.iter().find_map(|(name, value)| match value {
            Value::String(car) if name == "CAR" => Some(car.clone()),
            _ => None,
        })?;
        (long("WINDOW_END")? - long("WINDOW_START")? == SIZE_MS).then_some((
            car,
            long("WINDOW_START")?,
            long("EVENT_COUNT")?,
        ))
    }

    /// Rows of another shape than the cars' pipeline writes: where there are any, nothing is compared.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Marks what was counted up to now, unless something is marked: where the table ends from now on, it must have it.
    pub fn mark(&mut self) {
        if self.marked.is_none() {
            let touched = std::mem::take(&mut self.touched);
            let counts = touched.into_iter().filter_map(|it| self.counted.get(&it).map(|&count| (it, count)));
            self.marked = Some((counts.collect(), self.newest.clone()));
        }
    }

    /// The rows that are behind what was marked, now that the table was read far enough; windows that were closed then are
    /// compared and forgotten. Returns with them how many rows were looked at.
    pub fn settle(&mut self) -> (Vec<Miscount>, u64) {
        let Some((marked, newest)) = self.marked.take() else { return (Vec::new(), 0) };
        let mut wrong = Vec::new();
        let mut rows = marked.len() as u64;
        for (partition, newest) in newest {
            let closed = newest.saturating_sub(SIZE_MS + self.grace_ms);
            if self.is_done(partition, closed) {
                continue;
            }
            // Nothing counts in them any more, so that the table has to be equal.
            let range =
                (partition, i64::MIN, String::new())..(partition, closed.saturating_add(1), String::new());
            for (window, counted) in self.counted.extract_if(range.clone(), |_, _| true) {
                rows += 1;
                let table = self.table.remove(&window);
                if table.is_none_or(|(it, _)| it != counted) {
                    wrong.push(miscount(window, table, counted));
                }
            }
            let table_only = self.table.extract_if(range, |_, _| true);
            wrong.extend(table_only.map(|(window, row)| miscount(window, Some(row), 0)));
            self.done.insert(partition, closed);
        }
        for (window, counted) in marked {
            if !self.is_done(window.0, window.1) {
                let table = self.table.get(&window).copied();
                if table.is_none_or(|(it, _)| it < counted) {
                    wrong.push(miscount(window, table, counted));
                }
            }
        }
        if self.unreadable > 0 {
            return (Vec::new(), 0);
        }
        (wrong, rows)
    }

    /// The rows that are wrong, now that nothing is on its way any more.
    #[must_use]
    pub fn finish(mut self) -> Vec<Miscount> {
        if self.unreadable > 0 {
            return Vec::new();
        }
        let mut wrong = Vec::new();
        for (window, counted) in std::mem::take(&mut self.counted) {
            let table = self.table.remove(&window);
            if table.is_none_or(|(it, _)| it != counted) {
                wrong.push(miscount(window, table, counted));
            }
        }
        let joined = self.joined;
        let table_only = self.table.into_iter().filter(|((partition, ..), _)| !joined.contains(partition));
        wrong.extend(table_only.map(|(window, row)| miscount(window, Some(row), 0)));
        wrong
    }
}

fn miscount((partition, start_ms, car): Window, table: Option<(i64, i64)>, counted: i64) -> Miscount {
    Miscount { partition, car, start_ms, table: table.map(|it| it.0), counted, offset: table.map(|it| it.1) }
}

impl std::fmt::Display for Miscount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = crate::show::time(self.start_ms);
        write!(f, "{} sent {} readings in the window from {start}, ", self.car, self.counted)?;
        match self.table {
            Some(table) => write!(f, "the table says {table}"),
            None => f.write_str("the table has no row"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_records::{Batch, topics};

    const HOUR: i64 = 3_600_000;

    fn row(car: &str, start: i64, count: i64) -> Vec<u8> {
        let mut bytes = Vec::new();
        framing::write_header(1, &mut bytes);
        let long = |value: i64, bytes: &mut Vec<u8>| {
            let mut left = ((value << 1) ^ (value >> 63)) as u64;
            while left >= 0x80 {
                bytes.push(left as u8 | 0x80);
                left >>= 7;
            }
            bytes.push(left as u8);
        };
        long(car.len() as i64, &mut bytes);
        bytes.extend_from_slice(car.as_bytes());
        [start, start + SIZE_MS, count].into_iter().for_each(|it| long(it, &mut bytes));
        bytes
    }

    fn check(times: &[i64], rows: &[(i64, i64)], drained: bool) -> Vec<String> {
        let mut windows = Windows::new(HOUR);
        let mut clean = Batch::new(topics::CLEAN.into(), 0);
        for (offset, time) in times.iter().enumerate() {
            clean.push(offset as i64, Some(*time), Some(b"a"), Some(b"x"), []);
        }
        clean.records().for_each(|it| windows.reading(it));
        let mut table = Batch::new(topics::EVENTS_PER_5MIN.into(), 0);
        for (offset, (start, count)) in rows.iter().enumerate() {
            table.push(offset as i64, None, Some(b"a@0"), Some(&row("a", *start, *count)), []);
        }
        table.records().for_each(|it| windows.row(it));
        assert_eq!(windows.unreadable(), 0);
        windows.mark();
        let mut wrong = windows.settle().0;
        if drained {
            wrong.extend(windows.finish());
        }
        wrong.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_table_is_held_against_the_recount() {
        let none: [&str; 0] = [];
        assert_eq!(check(&[0, 1, 299_999, 300_000], &[(0, 1), (0, 3), (300_000, 1)], true), none);
        let expected = "a sent 2 readings in the window from 1970-01-01T00:00:00.000Z, the table says 1";
        assert_eq!(check(&[0, 1], &[(0, 1)], false), [expected]);
        assert!(check(&[0], &[], true)[0].ends_with("the table has no row"));
        assert!(check(&[0, 1], &[(0, 3)], true)[0].ends_with("the table says 3"));
        assert!(check(&[], &[(0, 1)], true)[0].starts_with("a sent 0 readings"));
        assert_eq!(
            check(&[0], &[(0, 2), (300_000, 1)], false),
            none,
            "the table is ahead while readings flow"
        );
        assert_eq!(check(&[0, 1], &[(0, 1)], false).len(), 1, "it is never behind");
    }

    #[test]
    fn readings_behind_the_grace_are_not_counted() {
        let none: [&str; 0] = [];
        let late = [0, SIZE_MS + HOUR, 1];
        assert_eq!(check(&late, &[(0, 1), (SIZE_MS + HOUR, 1)], true), none);
        let in_time = [0, HOUR, 1];
        assert_eq!(check(&in_time, &[(0, 2), (HOUR, 1)], true), none);
    }

    #[test]
    fn tables_of_other_shapes_are_not_judged() {
        let mut windows = Windows::new(HOUR);
        let mut table = Batch::new(topics::EVENTS_PER_5MIN.into(), 0);
        table.push(0, None, Some(b"a"), Some(b"not avro"), []);
        table.push(1, None, Some(b"a"), None, []);
        table.records().for_each(|it| windows.row(it));
        assert_eq!((windows.unreadable(), windows.finish().len()), (1, 0));
    }

    #[test]
    fn a_window_that_is_closed_is_compared_once_and_forgotten() {
        let mut windows = Windows::new(HOUR);
        let mut settle = |time: i64, rows: &[(i64, i64)]| {
            let mut clean = Batch::new(topics::CLEAN.into(), 0);
            clean.push(0, Some(time), Some(b"a"), Some(b"x"), []);
            clean.records().for_each(|it| windows.reading(it));
            windows.mark();
            let mut table = Batch::new(topics::EVENTS_PER_5MIN.into(), 0);
            for (start, count) in rows {
                table.push(0, None, Some(b"a@0"), Some(&row("a", *start, *count)), []);
            }
            table.records().for_each(|it| windows.row(it));
            let wrong: Vec<_> = windows.settle().0.iter().map(|it| (it.table, it.counted)).collect();
            (wrong, windows.counted.len(), windows.table.len())
        };
        let later = SIZE_MS + HOUR;
        assert_eq!(settle(0, &[(0, 2)]), (vec![], 1, 1), "the table may be ahead");
        assert_eq!(settle(later, &[(later, 1)]), (vec![(Some(2), 1)], 1, 1), "not any more");
        assert_eq!(settle(2 * later, &[(2 * later, 1)]), (vec![], 1, 1));
        assert_eq!(settle(2 * later, &[(SIZE_MS, 1)]), (vec![(Some(1), 2)], 1, 1), "behind");
    }

    #[test]
    fn windows_that_began_before_a_partition_was_joined_are_not_judged() {
        let mut windows = Windows::new(HOUR);
        windows.join(0);
        let mut clean = Batch::new(topics::CLEAN.into(), 0);
        for time in [5 * HOUR, 5 * HOUR + AHEAD_MS, 5 * HOUR + AHEAD_MS + SIZE_MS] {
            clean.push(0, Some(time), Some(b"a"), Some(b"x"), []);
        }
        clean.records().for_each(|it| windows.reading(it));
        let wrong: Vec<_> = windows.finish().iter().map(|it| it.start_ms).collect();
        assert_eq!(wrong, [5 * HOUR + AHEAD_MS + SIZE_MS]);
    }
}
