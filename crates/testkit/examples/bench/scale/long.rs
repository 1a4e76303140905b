//! Memory over a long log: filled, made clean at the same time, learnt from, scored. Topics that were used up are deleted.

use std::fmt;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use telltale_kafka::{Compression, Group};
use telltale_testkit::soak::process::Supervised;

use super::fill::{Shape, write};
use super::memory::{Memory, Watched};
use super::pipelines;
use crate::commands::{self, Preprocessor, Scorer};
use crate::figures::Sample;
use crate::filled::Filled;
use crate::measure::{Moment, committed};
use crate::place::{PLAIN, Place, alive};
use crate::report::Goal;

/// Bytes of a reading on its way, compressed: JSON and Avro at once, then Avro and its prediction.
const BYTES: u64 = 330;
/// What must stay free on the disk, in GB.
const SPARE_GB: u64 = 5;
/// Memory in the last quarter of the time against that in the second.
const GOAL: Goal = Goal::AtMost(1.05);

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Long {
    services: Vec<Service>,
    goal: Goal,
}

#[derive(Debug, Serialize)]
struct Service {
    service: &'static str,
    sample: Sample,
    memory: Memory,
    growth: f64,
    reached: bool,
}

/// Goes through a log of `place.settings.readings`.
pub(super) fn measure(place: &mut Place) -> Result<Long> {
    let readings = place.settings.readings;
    let free = free_gb(&place.folder.display().to_string())?;
    let needed = readings * BYTES / 1_000_000_000 + SPARE_GB;
    ensure!(free >= needed, "{readings} readings need {needed} GB of disk, and {free} are free");
    // As who keeps a long log would.
    place.kafka.compression = Compression::Lz4;
    place.work = vec!["--kafka-compression=lz4".to_owned()];
    let mut services = Vec::new();
    let clean = preprocessor(place, &mut services)?;
    trainer(place, &clean, &mut services)?;
    scorer(place, &clean, &mut services)?;
    place.delete(&clean.topic)?;
    Ok(Long { services, goal: GOAL })
}

fn preprocessor(place: &mut Place, services: &mut Vec<Service>) -> Result<Filled> {
    let raw = place.topic("long", PLAIN)?;
    let mut it = Preprocessor::of(place, "preprocessor", &raw, true, pipelines::shipped)?;
    place.ready(&mut it.process)?;
    let watch = Watch::start(&it.process)?;
    write(place, &raw, place.settings.cars, Shape::AsSent)?;
    let (group, readings) = (Group::open(&place.kafka, &it.group)?, place.settings.readings);
    // Nobody wrote to it in transactions: each offset is a reading.
    place.until("all readings are clean", || {
        alive(&mut it.process)?;
        let done: i64 = committed(&group, &raw)?.into_values().sum();
        Ok((done >= i64::try_from(readings)?).then_some(()))
    })?;
    services.push(watch.end("preprocessor", &it.process, readings)?);
    place.end(it.process)?;
    place.delete(&raw)?;
    place.delete(&it.windows)?;
    let clean = Filled::count(&place.kafka, &it.clean, &place.stop)?;
    ensure!(clean.records == readings, "{} of {readings} readings are clean", clean.records);
    Ok(clean)
}

fn trainer(place: &mut Place, clean: &Filled, services: &mut Vec<Service>) -> Result<()> {
    let mut process = commands::trainer(place, "trainer", &clean.topic, clean.records)?;
    let watch = Watch::start(&process)?;
    let mut last = watch.began;
    place.until("the model is published", || {
        let moment = Moment::of(&process)?;
        last = moment.holding_at_least(&last);
        Ok(moment.ended.then_some(()))
    })?;
    let status = place.until("the trainer is gone", || Ok(process.try_end()))?;
    ensure!(status.success(), "the trainer ended badly: {}", process.last_words());
    services.push(watch.end_at("trainer", &last, clean.records)?);
    Ok(())
}

fn scorer(place: &mut Place, clean: &Filled, services: &mut Vec<Service>) -> Result<()> {
    let mut it = Scorer::start(place, "scorer", &clean.topic, true)?;
    place.ready(&mut it.process)?;
    let watch = Watch::start(&it.process)?;
    let group = Group::open(&place.kafka, &it.group)?;
    place.until("all readings are scored", || {
        alive(&mut it.process)?;
        Ok((clean.done(&committed(&group, &clean.topic)?) >= clean.records).then_some(()))
    })?;
    services.push(watch.end("scorer", &it.process, clean.records)?);
    place.end(it.process)?;
    crate::rounds::check(place, &it.predictions, clean.records)?;
    place.delete(&it.predictions)
}

/// A process from one moment on.
struct Watch {
    began: Moment,
    watched: Watched,
}

impl Watch {
    fn start(process: &Supervised) -> Result<Self> {
        let pid = process.pid().context("the process has ended")?;
        Ok(Self { began: Moment::of(process)?, watched: Watched::start(pid)? })
    }

    fn end(self, service: &'static str, process: &Supervised, records: u64) -> Result<Service> {
        let now = Moment::of(process)?;
        self.end_at(service, &now, records)
    }

    fn end_at(self, service: &'static str, end: &Moment, records: u64) -> Result<Service> {
        let memory = self.watched.end()?;
        let growth = memory.growth();
        let service = Service {
            service,
            sample: self.began.until(end, records),
            growth,
            reached: GOAL.is_reached(growth),
            memory,
        };
        println!("{service}");
        Ok(service)
    }
}

/// Free room of the disk that holds `folder`.
fn free_gb(folder: &str) -> Result<u64> {
    let output = Command::new("df").args(["--block-size=1000000000", "--output=avail", folder]).output();
    let text = String::from_utf8_lossy(&output.context("running df")?.stdout).into_owned();
    let last = text.lines().last().and_then(|it| it.trim().parse().ok());
    last.with_context(|| format!("df said {text:?}"))
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Memory { early_mb, late_mb, most_mb, .. } = self.memory;
        write!(
            f,
            "{:<14} {:>10} records, {:>8.0} a second, {:>8.0} per CPU second; {early_mb:.0} MB early, {late_mb:.0} late, {most_mb:.0} at most",
            self.service,
            self.sample.records,
            self.sample.per_second(),
            self.sample.per_cpu_second()
        )
    }
}

impl fmt::Display for Long {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for service in &self.services {
            let word = if service.reached { "reached" } else { "missed" };
            writeln!(f, "{service}; late / early {:.2}, {}: {word}", service.growth, self.goal)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_says_what_is_free() {
        assert!(free_gb(".").is_ok());
        assert!(free_gb("/nowhere/at/all").is_err());
    }
}
