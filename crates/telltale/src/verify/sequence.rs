//! The order of each device in the raw topic: times rise, and what comes again is a replay.
//!
//! ```text
//! a b c d e        as sent
//! a b c d c d e    what was under way when a connection ended comes again: from one of the last readings on, each in
//!         ───      order, with equal bytes, up to the last one, before anything new
//! ```
//!
//! A replay reaches back at most the in-flight window: no more readings than that are under way without an acknowledgement, so
//! no reconnect can bring more again.
//!
//! Pure: it is handed the records of each partition in order. Records of `telltale load` and replayed dead letters are left
//! out, for they may be of any time; so are records without an event time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use telltale_records::Record;
use telltale_records::source::SOURCE_HEADER;

use super::ledger::event_time;
use crate::load::send::FILE_HEADER;

/// Readings of a device that are remembered beyond the window, to tell a replay that is too long from what is no replay.
const BEYOND: usize = 16;
/// Readings that are remembered of all devices together, sixteen bytes each; a device of a large fleet has its share of the
/// window at most.
const REMEMBERED: usize = 4 << 20;
/// Readings of a device that are remembered however many devices there are.
const LEAST: usize = 64;

/// What is wrong with a record's place among those of its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It has the time of an earlier reading, but other bytes.
    Changed,
    /// It is older than those before it, and none of the last ones.
    Backwards,
    /// A replay was not finished when it came.
    TornReplay,
    /// A replay begins with it that brings more readings again than can have been under way.
    LongReplay {
        /// Readings from this one to the newest.
        readings: usize,
        /// The in-flight window.
        window: usize,
    },
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Changed => {
                f.write_str("has the event time of an earlier reading of its device, but other bytes")
            }
            Self::Backwards => {
                f.write_str("is older than readings of its device before it, and no replay of the last ones")
            }
            Self::TornReplay => f.write_str("is new although a replay before it stopped half-way"),
            Self::LongReplay { readings, window } => {
                write!(f, "begins a replay of {readings} readings, the in-flight window is {window}")
            }
        }
    }
}

/// The last readings of each device.
#[derive(Debug)]
pub struct Sequences {
    /// Readings of one device that can be under way at once.
    window: usize,
    devices: HashMap<(i32, Box<[u8]>), Device>,
    /// Partitions that are not read from their first record on.
    joined: BTreeSet<i32>,
    replayed: u64,
}

#[derive(Debug, Default)]
struct Device {
    /// Event time and hash of the last readings, oldest first.
    last: VecDeque<(u64, u64)>,
    /// Index of the next reading of a replay, while there is one.
    replay: Option<usize>,
    /// Whether older readings were remembered once.
    forgot: bool,
}

impl Sequences {
    /// Starts without devices, of each of which at most `window` readings are under way.
    #[must_use]
    pub fn new(window: usize) -> Self {
        Self { window, devices: HashMap::new(), joined: BTreeSet::new(), replayed: 0 }
    }

    /// Says that a partition is not read from its first record on: what comes again may have come before that.
    pub fn join(&mut self, partition: i32) {
        self.joined.insert(partition);
    }

    /// Takes in the next record of a partition; says what is wrong with its place.
    pub fn take(&mut self, record: Record<'_>) -> Option<Fault> {
        if record.header(FILE_HEADER).is_some() || record.header(SOURCE_HEADER).is_some() {
            return None;
        }
        let value = record.value()?;
        let time = event_time(value)?;
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        let hash = hasher.finish();
        let partition = record.partition();
        let remembered = (REMEMBERED / self.devices.len().max(1)).max(LEAST).min(self.window) + BEYOND;
        let device = self.devices.entry((partition, Box::from(record.key()?))).or_default();
        let Some(&(newest, _)) = device.last.back() else {
            device.last.push_back((time, hash));
            return None;
        };
        if time > newest {
            let torn = device.replay.take().is_some();
            while device.last.len() >= remembered {
                device.last.pop_front();
                device.forgot = true;
            }
            device.last.push_back((time, hash));
            return torn.then_some(Fault::TornReplay);
        }
        let Ok(index) = device.last.binary_search_by_key(&time, |it| it.0) else {
            let oldest = device.last.front().is_some_and(|it| time < it.0);
            let unknown = oldest && !device.forgot && self.joined.contains(&partition);
            return (!unknown).then_some(Fault::Backwards);
        };
        if device.last[index].1 != hash {
            return Some(Fault::Changed);
        }
        self.replayed += 1;
        // A replay that is cut off itself begins again further back.
        let previous = device.replay;
        let skipped = previous.is_some_and(|expected| index > expected);
        device.replay = Some(index + 1).filter(|it| *it < device.last.len());
        if skipped {
            return Some(Fault::TornReplay);
        }
        let readings = device.last.len() - index;
        let begins = previous != Some(index);
        (begins && readings > self.window).then_some(Fault::LongReplay { readings, window: self.window })
    }

    /// Records that came again.
    #[must_use]
    pub fn replayed(&self) -> u64 {
        self.replayed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_records::{Batch, topics};

    /// Takes in readings of one device, each a time and a letter; says which are wrong.
    fn faults(readings: &[(u64, char)]) -> (Vec<(usize, Fault)>, u64) {
        let mut batch = Batch::new(topics::SENSOR_DATA.into(), 0);
        for (offset, (time, letter)) in readings.iter().enumerate() {
            let value = format!("{{\"letter\":\"{letter}\",\"event_time\":{time}}}");
            batch.push(offset as i64, None, Some(b"car-1"), Some(value.as_bytes()), []);
            let other = format!("{{\"event_time\":{}}}", 1000 + offset);
            batch.push(offset as i64, None, Some(b"car-2"), Some(other.as_bytes()), []);
        }
        let mut sequences = Sequences::new(3);
        let found =
            batch.records().enumerate().filter_map(|(index, it)| Some((index / 2, sequences.take(it)?)));
        (found.collect(), sequences.replayed())
    }

    /// A name, the readings, and the faults that must be found at which of them.
    type Case = (&'static str, &'static [(u64, char)], &'static [(usize, Fault)]);

    #[test]
    fn replays_are_taken_and_anything_else_is_a_fault() {
        const A: (u64, char) = (1, 'a');
        const B: (u64, char) = (2, 'b');
        const C: (u64, char) = (3, 'c');
        const D: (u64, char) = (4, 'd');
        const E: (u64, char) = (5, 'e');
        const LONG: Fault = Fault::LongReplay { readings: 4, window: 3 };
        let cases: [Case; 10] = [
            ("as sent", &[A, B, C, D], &[]),
            ("a replay", &[A, B, C, B, C, D], &[]),
            ("the last one again, twice", &[A, B, B, B, C], &[]),
            ("a replay of a replay", &[A, B, C, B, A, B, C, D], &[]),
            ("other bytes", &[A, B, (2, 'x'), C], &[(2, Fault::Changed)]),
            ("one late", &[A, C, B, D], &[(2, Fault::Backwards)]),
            ("a replay with a gap", &[A, B, C, A, C, D], &[(4, Fault::TornReplay)]),
            ("a replay that stops", &[A, B, C, A, D], &[(4, Fault::TornReplay)]),
            ("a replay of the whole window", &[A, B, C, D, B, C, D, B, C, D, E], &[]),
            ("a replay of more than the window", &[A, B, C, D, A, B, C, D, E], &[(4, LONG)]),
        ];
        for (name, readings, expected) in cases {
            assert_eq!(faults(readings).0, expected, "{name}");
        }
        assert_eq!(faults(&[A, B, C, B, C, D]).1, 2);
    }

    #[test]
    fn what_was_loaded_or_replayed_may_be_of_any_time() {
        let mut batch = Batch::new(topics::SENSOR_DATA.into(), 0);
        let push = |batch: &mut Batch, offset, time: u64, header: Option<&str>| {
            let value = format!("{{\"event_time\":{time}}}");
            let headers = header.map(|it| (it, Some(&b"x"[..])));
            batch.push(offset, None, Some(b"car-1"), Some(value.as_bytes()), headers);
        };
        push(&mut batch, 0, 100, None);
        push(&mut batch, 1, 5, Some(FILE_HEADER));
        push(&mut batch, 2, 6, Some(SOURCE_HEADER));
        push(&mut batch, 3, 101, None);
        let mut sequences = Sequences::new(100);
        assert!(batch.records().all(|it| sequences.take(it).is_none()));
    }

    #[test]
    fn a_partition_that_was_joined_may_bring_again_what_came_before() {
        let mut batch = Batch::new(topics::SENSOR_DATA.into(), 0);
        for (offset, time) in [5, 3, 4, 5, 7, 6, 1].into_iter().enumerate() {
            let value = format!("{{\"event_time\":{time}}}");
            batch.push(offset as i64, None, Some(b"car-1"), Some(value.as_bytes()), []);
        }
        let faults = |joined| {
            let mut sequences = Sequences::new(100);
            if joined {
                sequences.join(0);
            }
            let found = batch.records().filter_map(|it| Some((it.offset(), sequences.take(it)?)));
            found.collect::<Vec<_>>()
        };
        assert_eq!(faults(true), [(5, Fault::Backwards)]);
        assert_eq!(faults(false), [1, 2, 5, 6].map(|it| (it, Fault::Backwards)));
    }

    #[test]
    fn memory_of_a_device_is_bounded() {
        let mut sequences = Sequences::new(100);
        let mut batch = Batch::new(topics::SENSOR_DATA.into(), 0);
        for time in 0..1000 {
            let value = format!("{{\"event_time\":{time}}}");
            batch.push(time, None, Some(b"car-1"), Some(value.as_bytes()), []);
        }
        assert!(batch.records().all(|it| sequences.take(it).is_none()));
        assert!(sequences.devices.values().all(|it| it.last.len() == 100 + BEYOND));
    }
}
