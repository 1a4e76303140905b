//! Reads the topics in rounds and hands every record to the checks.
//!
//! ```text
//! moment   where the groups are; then where every topic ends, targets first, records of open transactions counted
//! round    raw, clean, predictions, dead letters, table: each up to where it ends
//! settled  once the targets were read up to that moment's ends, which is when the transactions of then have ended:
//!          what the groups had committed has its outcomes there
//! ```
//!
//! A group's offset and the outcomes of a transaction become visible one after the other; that is why ends are those of all
//! records and not of the committed ones.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::ControlFlow;

use telltale_kafka::{Group, Isolation, KafkaConfig, Reader};
use telltale_records::Record;
use telltale_records::prediction::Prediction;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Error;
use super::balance::Place;
use super::checker::{CLEAN, Checker, DEAD_LETTERS, NAMES, PREDICTIONS, RAW, TABLE};
use super::checks::Checks;

/// The order in which records are read: sources before what may be their outcomes.
const ORDER: [usize; 5] = [RAW, CLEAN, PREDICTIONS, DEAD_LETTERS, TABLE];
/// The order in which ends are asked for: an outcome that is counted has a source that is counted.
const ENDS: [usize; 5] = [PREDICTIONS, DEAD_LETTERS, TABLE, CLEAN, RAW];

/// Offsets behind the last record of each partition, by topic and partition.
pub type Ends = BTreeMap<(&'static str, i32), i64>;

/// Where to begin.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// At the first records there are.
    Beginning,
    /// Where the services are now.
    Now,
    /// At these offsets, as far as they are still there.
    At(&'a Ends),
}

/// What a round came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// Records that were read.
    pub records: u64,
    /// Whether what the groups had committed at some moment was settled.
    pub settled: bool,
}

/// A moment and what has to be read until it is judged.
#[derive(Debug)]
struct Moment {
    committed: BTreeMap<Place, i64>,
    ends: BTreeMap<Place, i64>,
}

/// Readers with their positions.
#[derive(Debug)]
pub struct Tail {
    reader: Reader,
    /// Sees records of open transactions, too.
    all: Reader,
    groups: [(usize, Group); 2],
    next: BTreeMap<Place, i64>,
    moment: Option<Moment>,
    committed: BTreeMap<Place, i64>,
    stop: CancellationToken,
}

impl Tail {
    /// Begins at `start` and declares the sources to `checker`.
    ///
    /// # Errors
    ///
    /// Returns an error when a topic is missing or Kafka cannot be asked.
    pub fn open(
        checks: &Checks,
        kafka: &KafkaConfig,
        start: Start<'_>,
        checker: &mut Checker,
        stop: &CancellationToken,
    ) -> Result<Self, Error> {
        let mut tail = Self {
            reader: Reader::open(kafka, Isolation::Committed)?,
            all: Reader::open(kafka, Isolation::Uncommitted)?,
            groups: [
                (RAW, Group::open(kafka, &checks.preprocessor_group)?),
                (CLEAN, Group::open(kafka, &checks.scorer_group)?),
            ],
            next: BTreeMap::new(),
            moment: None,
            committed: BTreeMap::new(),
            stop: stop.clone(),
        };
        // Outcomes of what is not committed yet lie behind what is committed now, so ends come first.
        let mut there = BTreeMap::new();
        for topic in ENDS {
            for partition in tail.reader.partitions(NAMES[topic])? {
                let range = tail.reader.watermarks(NAMES[topic], partition)?;
                there.insert(Place { topic, partition }, range);
            }
        }
        let committed = tail.committed()?;
        for (place, range) in there {
            let at = |ends: &Ends| ends.get(&(NAMES[place.topic], place.partition)).copied();
            let (next, source) = match start {
                Start::Beginning => (range.start, range.start),
                Start::At(ends) => {
                    let at = at(ends).unwrap_or(range.start).clamp(range.start, range.end);
                    (at, at)
                }
                Start::Now => match committed.get(&place) {
                    Some(&committed) => (committed.clamp(range.start, range.end), committed),
                    None if place.topic == RAW => (range.start, range.start),
                    None => (range.end, range.start),
                },
            };
            // The scorer has not begun: everything clean is still to be scored.
            let next = if place.topic == CLEAN { next.min(source.max(range.start)) } else { next };
            tail.next.insert(place, next);
            if next > 0 {
                checker.join(place);
            }
            if [RAW, CLEAN].contains(&place.topic) {
                checker.source(place, source.max(range.start));
            }
        }
        Ok(tail)
    }

    /// Where the groups are.
    #[must_use]
    pub fn last_committed(&self) -> BTreeMap<Place, i64> {
        self.committed.clone()
    }

    /// Reads what has come, up to where the topics end now; `seen` is shown each record once it was taken in.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka or the registry cannot be asked; the next round goes on where this one ended.
    pub fn round(
        &mut self,
        checker: &mut Checker,
        mut seen: impl FnMut(usize, Record<'_>, Option<&Prediction<'_>>),
    ) -> Result<Round, Error> {
        let ends = match &self.moment {
            Some(_) => self.ends(checker)?,
            None => {
                checker.mark();
                self.committed = self.committed()?;
                let ends = self.ends(checker)?;
                self.moment = Some(Moment { committed: self.committed.clone(), ends: ends.clone() });
                ends
            }
        };
        let mut round = Round::default();
        for topic in ORDER {
            for (&place, &end) in ends.iter().filter(|(it, _)| it.topic == topic) {
                round.records += self.read(place, end, checker, &mut seen)?;
            }
        }
        let reached = |moment: &mut Moment| {
            moment.ends.iter().all(|(it, end)| it.topic == RAW || self.next.get(it) >= Some(end))
        };
        if !self.stop.is_cancelled()
            && let Some(moment) = self.moment.take_if(reached)
        {
            checker.settle(moment.committed)?;
            round.settled = true;
        }
        Ok(round)
    }

    /// Reads a partition up to `end`, or as far as transactions have ended.
    fn read(
        &mut self,
        place: Place,
        end: i64,
        checker: &mut Checker,
        seen: &mut impl FnMut(usize, Record<'_>, Option<&Prediction<'_>>),
    ) -> Result<u64, Error> {
        let Place { topic, partition } = place;
        let there = self.reader.watermarks(NAMES[topic], partition)?;
        let mut next = *self.next.entry(place).or_insert(there.start);
        if next < there.start {
            self.overtaken(place, next, there.start, checker);
            next = there.start;
        }
        let to = end.min(there.end);
        let (mut records, mut failed) = (0, None);
        if next < to {
            let position = self.next.entry(place).or_insert(next);
            let reached = self.reader.read(NAMES[topic], partition, next..to, &self.stop, |batch| {
                for record in batch.records() {
                    match checker.take(topic, record) {
                        Ok(prediction) => seen(topic, record, prediction.as_ref()),
                        Err(error) => {
                            failed.get_or_insert(error);
                        }
                    }
                    records += 1;
                    *position = record.offset() + 1;
                }
                if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if failed.is_none() {
                *position = reached;
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        checker.read(place, self.next.get(&place).copied().unwrap_or(next));
        Ok(records)
    }

    /// Records were deleted before they were read.
    fn overtaken(&mut self, place: Place, next: i64, first: i64, checker: &mut Checker) {
        let (topic, partition) = (NAMES[place.topic], place.partition);
        warn!(topic, partition, from = next, to = first, "records were deleted before they were checked");
        self.next.insert(place, first);
        checker.deleted(place, first);
        if ![RAW, TABLE].contains(&place.topic) {
            // Outcomes were among them: of what is committed by now, nothing can be said.
            for (&source, &committed) in &self.committed {
                checker.deleted(source, committed);
            }
        }
    }

    fn committed(&self) -> Result<BTreeMap<Place, i64>, Error> {
        let mut all = BTreeMap::new();
        for (topic, group) in &self.groups {
            let committed = group.committed(NAMES[*topic])?.into_iter();
            all.extend(committed.map(|(partition, it)| (Place { topic: *topic, partition }, it)));
        }
        Ok(all)
    }

    /// Where each partition ends, open transactions included. Those that were added are read from their first record on.
    fn ends(&mut self, checker: &mut Checker) -> Result<BTreeMap<Place, i64>, Error> {
        let mut ends = BTreeMap::new();
        for topic in ENDS {
            for partition in self.all.partitions(NAMES[topic])? {
                let place = Place { topic, partition };
                let there = self.all.watermarks(NAMES[topic], partition)?;
                if let Entry::Vacant(new) = self.next.entry(place) {
                    new.insert(there.start);
                    if [RAW, CLEAN].contains(&topic) {
                        checker.source(place, there.start);
                    }
                }
                ends.insert(place, there.end);
            }
        }
        Ok(ends)
    }
}
