//! The order of each device in the raw topic: times rise, and what comes again is a replay.
//!
//! ```text
//! a b c d e        as sent
//! a b c d c d e    what was under way when a connection ended comes again: from one of the last readings on, each in
//!         ───      order, with equal bytes, up to the last one, before anything new
//! ```
//!
//! Pure: it is handed the records of each partition in order. Records of `telltale load` and replayed dead letters are left
//! out, for they may be of any time; so are records without an event time.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use telltale_records::Record;
use telltale_records::source::SOURCE_HEADER;

use super::ledger::event_time;
use crate::load::send::FILE_HEADER;

/// Readings of a device that are remembered: more than are ever under way at once.
const WINDOW: usize = 64;

/// What is wrong with a record's place among those of its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It has the time of an earlier reading, but other bytes.
    Changed,
    /// It is older than those before it, and none of the last ones.
    Backwards,
    /// A replay was not finished when it came.
    TornReplay,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Changed => "has the event time of an earlier reading of its device, but other bytes",
            Self::Backwards => {
                "is older than readings of its device before it, and no replay of the last ones"
            }
            Self::TornReplay => "is new although a replay before it stopped half-way",
        })
    }
}

/// The last readings of each device.
#[derive(Debug, Default)]
pub struct Sequences {
    devices: HashMap<(i32, Box<[u8]>), Device>,
    replayed: u64,
}

#[derive(Debug, Default)]
struct Device {
    /// Event time and hash of the last readings, oldest first.
    last: VecDeque<(u64, u64)>,
    /// Index of the next reading of a replay, while there is one.
    replay: Option<usize>,
}

impl Sequences {
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
        let key = (record.source().partition, Box::from(record.key()?));
        let device = self.devices.entry(key).or_default();
        let Some(&(newest, _)) = device.last.back() else {
            device.last.push_back((time, hash));
            return None;
        };
        if time > newest {
            let torn = device.replay.take().is_some();
            if device.last.len() == WINDOW {
                device.last.pop_front();
            }
            device.last.push_back((time, hash));
            return torn.then_some(Fault::TornReplay);
        }
        let Ok(index) = device.last.binary_search_by_key(&time, |it| it.0) else {
            return Some(Fault::Backwards);
        };
        if device.last[index].1 != hash {
            return Some(Fault::Changed);
        }
        self.replayed += 1;
        // A replay that is cut off itself begins again further back.
        let skipped = device.replay.is_some_and(|expected| index > expected);
        device.replay = Some(index + 1).filter(|it| *it < device.last.len());
        skipped.then_some(Fault::TornReplay)
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
        let mut sequences = Sequences::default();
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
        let cases: [Case; 8] = [
            ("as sent", &[A, B, C, D], &[]),
            ("a replay", &[A, B, C, B, C, D], &[]),
            ("the last one again, twice", &[A, B, B, B, C], &[]),
            ("a replay of a replay", &[A, B, C, B, A, B, C, D], &[]),
            ("other bytes", &[A, B, (2, 'x'), C], &[(2, Fault::Changed)]),
            ("one late", &[A, C, B, D], &[(2, Fault::Backwards)]),
            ("a replay with a gap", &[A, B, C, A, C, D], &[(4, Fault::TornReplay)]),
            ("a replay that stops", &[A, B, C, A, D], &[(4, Fault::TornReplay)]),
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
        let mut sequences = Sequences::default();
        assert!(batch.records().all(|it| sequences.take(it).is_none()));
    }

    #[test]
    fn memory_of_a_device_is_bounded() {
        let mut sequences = Sequences::default();
        let mut batch = Batch::new(topics::SENSOR_DATA.into(), 0);
        for time in 0..1000 {
            let value = format!("{{\"event_time\":{time}}}");
            batch.push(time, None, Some(b"car-1"), Some(value.as_bytes()), []);
        }
        assert!(batch.records().all(|it| sequences.take(it).is_none()));
        assert!(sequences.devices.values().all(|it| it.last.len() == WINDOW));
    }
}
