//! CPU a record, as one thing after the other gets larger: cars, workers, partitions, bytes.
//!
//! In each round every size takes its turn, there and back, and is compared with the first size of the same round.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::rc::Rc;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::fill::{Shape, fill};
use super::pipelines::{self, Pipeline, SMALL_SCHEMAS};
use crate::commands::Preprocessor;
use crate::figures::{Sample, Spread};
use crate::filled::Filled;
use crate::measure::transactions;
use crate::place::{Place, write};
use crate::rounds::{check, scorer, trainer};

/// A service in one of its uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Task {
    /// JSON to Avro and counts per window: a second record for each car that a transaction has readings of.
    Preprocessor,
    /// JSON to Avro alone.
    Converter,
    /// A prediction for each reading.
    Scorer,
}

/// One of the sizes.
struct Size {
    value: u64,
    workers: u32,
    partitions: i32,
    pipeline: Pipeline,
    json: Rc<Filled>,
    avro: Option<Rc<Filled>>,
}

/// What is measured of what gets larger.
#[derive(Debug, Serialize)]
pub(super) struct Series {
    what: &'static str,
    points: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct Point {
    task: Task,
    value: u64,
    per_second: Spread,
    per_cpu_second: Spread,
    /// CPU a record against that of the first size, round by round.
    cost: Spread,
    /// Records a second against those of the first size, round by round.
    speed: Spread,
    /// The most memory in any round, in MB.
    peak_rss_mb: f64,
    rounds: Vec<Sample>,
}

/// A hundred cars to a hundred thousand.
pub(super) fn cars(place: &mut Place) -> Result<Series> {
    let mut sizes = Vec::new();
    for cars in [100, 1_000, 10_000, 100_000] {
        let fleet = NonZeroU32::new(cars).context("there are cars")?;
        let json = fill(place, &format!("readings-of-{cars}"), fleet, Shape::AsSent)?;
        let avro = clean(place, &format!("clean-of-{cars}"), &json)?;
        let (partitions, pipeline): (_, Pipeline) = (place.settings.partitions, pipelines::shipped);
        sizes.push(Size {
            value: cars.into(),
            workers: 1,
            partitions,
            pipeline,
            json: json.into(),
            avro: Some(avro.into()),
        });
    }
    measure(place, "cars", &sizes, &[Task::Preprocessor, Task::Converter, Task::Scorer])
}

/// One worker and two, on the same readings.
pub(super) fn workers(place: &mut Place) -> Result<Series> {
    let (cars, partitions) = (place.settings.cars, place.settings.partitions);
    let json = Rc::new(fill(place, "readings", cars, Shape::AsSent)?);
    let avro = Rc::new(clean(place, "clean", &json)?);
    let size = |workers: u32| Size {
        value: workers.into(),
        workers,
        partitions,
        pipeline: pipelines::shipped,
        json: Rc::clone(&json),
        avro: Some(Rc::clone(&avro)),
    };
    measure(place, "workers", &[1, 2].map(size), &[Task::Preprocessor, Task::Scorer])
}

/// One partition to fifty.
pub(super) fn partitions(place: &mut Place) -> Result<Series> {
    let mut sizes = Vec::new();
    for partitions in [1, 4, 50] {
        place.settings.partitions = partitions;
        let cars = place.settings.cars;
        let json = fill(place, &format!("readings-in-{partitions}"), cars, Shape::AsSent)?;
        let avro = clean(place, &format!("clean-in-{partitions}"), &json)?;
        let (value, pipeline): (_, Pipeline) = (u64::from(partitions.unsigned_abs()), pipelines::shipped);
        sizes.push(Size {
            value,
            workers: 1,
            partitions,
            pipeline,
            json: json.into(),
            avro: Some(avro.into()),
        });
    }
    measure(place, "partitions", &sizes, &[Task::Preprocessor, Task::Scorer])
}

/// Readings of 100 bytes to 10,000. The clean ones have their size from the schema, so the scorer sees no difference.
pub(super) fn bytes(place: &mut Place) -> Result<Series> {
    for (name, schema) in SMALL_SCHEMAS {
        write(&place.folder, name, schema)?;
    }
    let shapes: [(u64, Shape, Pipeline); 4] = [
        (540, Shape::AsSent, pipelines::shipped),
        (100, Shape::Small, pipelines::small),
        (2_000, Shape::Padded(2_000), pipelines::shipped),
        (10_000, Shape::Padded(10_000), pipelines::shipped),
    ];
    let (cars, partitions, all) = (place.settings.cars, place.settings.partitions, place.settings.readings);
    let mut sizes = Vec::new();
    for (value, shape, pipeline) in shapes {
        // A tenth of the longest readings is more bytes than all of those that cars send.
        place.settings.readings = if value > 1_000 { all / 5 } else { all };
        let json = fill(place, &format!("readings-of-{value}-bytes"), cars, shape)?;
        sizes.push(Size { value, workers: 1, partitions, pipeline, json: json.into(), avro: None });
    }
    place.settings.readings = all;
    measure(place, "bytes", &sizes, &[Task::Preprocessor])
}

/// Makes Avro of a topic, which stays.
pub(super) fn clean(place: &mut Place, name: &str, json: &Filled) -> Result<Filled> {
    let (_, clean) = convert(place, name, json, pipelines::shipped, true)?;
    Filled::count(&place.kafka, &clean, &place.stop)
}

fn convert(
    place: &mut Place,
    name: &str,
    json: &Filled,
    pipeline: Pipeline,
    keep: bool,
) -> Result<(Sample, String)> {
    let mut it = Preprocessor::of(place, name, &json.topic, false, pipeline)?;
    let sample = transactions(place, &mut it.process, &it.group, json)?;
    place.end(it.process)?;
    check(place, &it.clean, json.records)?;
    if !keep {
        place.delete(&it.clean)?;
    }
    place.delete(&it.windows)?;
    Ok((sample, it.clean))
}

fn measure(place: &mut Place, what: &'static str, sizes: &[Size], tasks: &[Task]) -> Result<Series> {
    if let Some(avro) = sizes.first().and_then(|it| it.avro.as_ref()) {
        trainer(place, "first-trainer", avro)?;
    }
    let mut rounds: BTreeMap<(Task, usize), Vec<Sample>> = BTreeMap::new();
    for round in 1..=place.settings.rounds.get() {
        for &task in tasks {
            let there = 0..sizes.len();
            let order: Vec<usize> = if round % 2 == 0 { there.rev().collect() } else { there.collect() };
            for index in order {
                let sample = once(place, task, &sizes[index], &format!("{what}-{index}-{round}"))?;
                println!(
                    "round {round}: {what} {:>6} {:<14} {:>9.0} records/s {:>9.0} per CPU second, {:>4.0} MB, load {:.1}",
                    sizes[index].value,
                    task.name(),
                    sample.per_second(),
                    sample.per_cpu_second(),
                    sample.peak_rss_kb as f64 * 1024.0 / 1e6,
                    sample.load
                );
                rounds.entry((task, index)).or_default().push(sample);
            }
        }
    }
    Ok(Series { what, points: points(sizes, &rounds) })
}

fn once(place: &mut Place, task: Task, size: &Size, name: &str) -> Result<Sample> {
    place.settings.partitions = size.partitions;
    place.work = vec!["--workers".to_owned(), size.workers.to_string()];
    match task {
        Task::Preprocessor => Ok(convert(place, &format!("p-{name}"), &size.json, size.pipeline, false)?.0),
        Task::Converter => {
            Ok(convert(place, &format!("c-{name}"), &size.json, pipelines::without_counts, false)?.0)
        }
        Task::Scorer => {
            scorer(place, &format!("s-{name}"), size.avro.as_ref().context("there is Avro to score")?)
        }
    }
}

fn points(sizes: &[Size], rounds: &BTreeMap<(Task, usize), Vec<Sample>>) -> Vec<Point> {
    let values: Vec<u64> = sizes.iter().map(|it| it.value).collect();
    rounds
        .iter()
        .filter_map(|((task, index), samples)| {
            point(*task, values[*index], samples, rounds.get(&(*task, 0))?)
        })
        .collect()
}

fn point(task: Task, value: u64, samples: &[Sample], first: &[Sample]) -> Option<Point> {
    let pairs = || samples.iter().zip(first);
    let peak = samples.iter().map(|it| it.peak_rss_kb).max()?;
    Some(Point {
        task,
        value,
        per_second: Spread::of(samples.iter().map(Sample::per_second))?,
        per_cpu_second: Spread::of(samples.iter().map(Sample::per_cpu_second))?,
        cost: Spread::of(pairs().map(|(it, first)| first.per_cpu_second() / it.per_cpu_second()))?,
        speed: Spread::of(pairs().map(|(it, first)| it.per_second() / first.per_second()))?,
        peak_rss_mb: peak as f64 * 1024.0 / 1e6,
        rounds: samples.to_vec(),
    })
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Self::Preprocessor => "preprocessor",
            Self::Converter => "without counts",
            Self::Scorer => "scorer",
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<15} {:>10} {:>28} {:>26} {:>22} {:>22} {:>8}",
            "",
            self.what,
            "records/s",
            "per CPU second",
            "CPU a record, ratio",
            "records/s, ratio",
            "peak MB"
        )?;
        for it in &self.points {
            let whole = |it: &Spread| format!("{:.0} ({:.0} to {:.0})", it.median, it.least, it.most);
            let ratio = |it: &Spread| format!("{:.2} ({:.2} to {:.2})", it.median, it.least, it.most);
            writeln!(
                f,
                "{:<15} {:>10} {:>28} {:>26} {:>22} {:>22} {:>8.0}",
                it.task.name(),
                it.value,
                whole(&it.per_second),
                whole(&it.per_cpu_second),
                ratio(&it.cost),
                ratio(&it.speed),
                it.peak_rss_mb
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_compared_with_the_first_of_its_round() {
        let sample = |records, cpu_seconds, seconds| Sample {
            records,
            seconds,
            cpu_seconds,
            peak_rss_kb: 1000,
            load: 0.0,
        };
        // The machine is half as fast in the second round; the ratio does not mind.
        let first = [sample(100, 1.0, 1.0), sample(100, 2.0, 2.0)];
        let larger = [sample(200, 3.0, 1.0), sample(200, 6.0, 2.0)];
        let point = point(Task::Scorer, 10, &larger, &first).unwrap();
        assert_eq!((point.cost.least, point.cost.most), (1.5, 1.5));
        assert_eq!((point.speed.least, point.speed.most), (2.0, 2.0));
        let text = Series { what: "cars", points: vec![point] }.to_string();
        assert!(text.contains("scorer") && text.contains("1.50 (1.50 to 1.50)"), "{text}");
    }
}
