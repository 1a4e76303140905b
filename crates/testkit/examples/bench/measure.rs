//! Measures a process from outside, between two moments.
//!
//! What can be seen late counts against the process: its CPU time is taken before the first count and after the last.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use telltale_kafka::{Group, Isolation, Reader};
use telltale_testkit::soak::process::Supervised;

use crate::figures::Sample;
use crate::filled::Filled;
use crate::machine::load;
use crate::place::{Place, alive};
use crate::process::used;

/// Time between two questions to Kafka, which answers them on the same CPUs.
const LOOK: Duration = Duration::from_millis(20);

/// A moment of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    at: Instant,
    cpu: Duration,
    peak_rss_kb: u64,
    /// Whether the process had ended by itself.
    pub(crate) ended: bool,
}

impl Moment {
    /// Now.
    pub(crate) fn of(process: &Supervised) -> Result<Self> {
        let used = used(process.pid().context("the process has ended")?)?;
        Ok(Self { at: Instant::now(), cpu: used.cpu, peak_rss_kb: used.peak_rss_kb, ended: used.ended })
    }

    /// Fails when the process had ended, with what it said.
    pub(crate) fn before_its_end(&self, process: &Supervised) -> Result<()> {
        ensure!(!self.ended, "the process has ended: {}", process.log());
        Ok(())
    }

    /// The same moment with the most memory of both: the kernel forgets it with the process.
    pub(crate) fn holding_at_least(self, other: &Self) -> Self {
        Self { peak_rss_kb: self.peak_rss_kb.max(other.peak_rss_kb), ..self }
    }

    /// What happened from `self` to `end`.
    pub(crate) fn until(&self, end: &Self, records: u64) -> Sample {
        Sample {
            records,
            seconds: (end.at - self.at).as_secs_f64(),
            cpu_seconds: end.cpu.saturating_sub(self.cpu).as_secs_f64(),
            peak_rss_kb: end.peak_rss_kb.max(self.peak_rss_kb),
            load: load(),
        }
    }
}

/// Measures a process from the first record that `done` sees to the last of `all`.
pub(crate) fn until_done(
    place: &Place,
    process: &mut Supervised,
    all: u64,
    mut done: impl FnMut() -> Result<u64>,
) -> Result<Sample> {
    let (begin, before) = place.until_each(LOOK, "the first records came out", || {
        alive(process)?;
        let moment = Moment::of(process)?;
        Ok(Some((moment, done()?)).filter(|(_, done)| *done > 0))
    })?;
    let end = place.until_each(LOOK, "all records came out", || {
        alive(process)?;
        if done()? >= all { Moment::of(process).map(Some) } else { Ok(None) }
    })?;
    Ok(begin.until(&end, all.saturating_sub(before)))
}

/// Measures a process that moves a topic in transactions: by what its group has committed with what came out.
pub(crate) fn transactions(
    place: &Place,
    process: &mut Supervised,
    group: &str,
    source: &Filled,
) -> Result<Sample> {
    let group = Group::open(&place.kafka, group)?;
    until_done(place, process, source.records, || Ok(source.done(&committed(&group, &source.topic)?)))
}

/// The offsets of a group; none while it is being made.
pub(crate) fn committed(group: &Group, topic: &str) -> Result<BTreeMap<i32, i64>> {
    match group.committed(topic) {
        Err(error) if error.is_passing() => Ok(BTreeMap::new()),
        other => Ok(other?),
    }
}

/// Counts what a topic holds that nobody writes to in transactions: there each offset is a record.
pub(crate) struct Extent<'a> {
    reader: Reader,
    topic: &'a str,
}

impl<'a> Extent<'a> {
    /// Of a topic.
    pub(crate) fn of(place: &Place, topic: &'a str) -> Result<Self> {
        Ok(Self { reader: Reader::open(&place.kafka, Isolation::Committed)?, topic })
    }

    /// How many records there are.
    pub(crate) fn records(&self) -> Result<u64> {
        let mut records = 0;
        for partition in self.reader.partitions(self.topic)? {
            let range = self.reader.watermarks(self.topic, partition)?;
            records += u64::try_from(range.end - range.start).unwrap_or(0);
        }
        Ok(records)
    }
}
