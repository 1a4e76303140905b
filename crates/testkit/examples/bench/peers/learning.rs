//! Learning from a topic: our trainer beside Keras, with as many passes over the rows and steps of as many.

use anyhow::{Context as _, Result, anyhow};

use super::{SCRIPTS, TURNS, installed, start};
use crate::figures::{Job, Sample};
use crate::filled::Filled;
use crate::place::Place;
use crate::rounds::learned;

/// The shipped schemas.
const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas");
/// Rows of one step: as the program that tensorflow-io's authors show, and as suits Keras best.
const BATCHES: [(Job, u32); 5] = [
    (Job::LearnSmall, 100),
    (Job::Tensorflow, 100),
    (Job::LearnLarge, 1024),
    (Job::Fastavro, 1024),
    (Job::Keras, 1024),
];
/// Share of the rows that our trainer holds back, the least it takes; they are read but not learned from.
const HELD_BACK: f64 = 0.05;

/// Our trainer on as many rows and passes as a peer, with its batch; rows count once a pass, those held back never.
pub(super) fn trainer(place: &mut Place, job: Job, round: u32, source: &Filled) -> Result<Sample> {
    let (rows, passes) = (place.settings.peers.rows, place.settings.peers.passes());
    let name = format!("learn-{}-{round}", batch(job));
    let mut flags: Vec<String> = [
        ("--kafka", place.kafka.bootstrap.clone()),
        ("--registry", place.registry.url.clone()),
        ("--readings", source.topic.clone()),
        ("--model", format!("{}-{}", place.id, batch(job))),
        ("--signing-key", place.path("signing-key.pem")),
        ("--last", rows.to_string()),
        ("--capacity", rows.to_string()),
        ("--batch", batch(job).to_string()),
        ("--epochs", (passes / TURNS).to_string()),
        ("--patience", passes.to_string()),
        ("--visits", (rows * u64::from(passes)).to_string()),
        ("--held-back", HELD_BACK.to_string()),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect();
    flags.push("--once".to_owned());
    let process = place.service("trainer", &name, flags, true)?;
    let [_, whole] = learned(place, process)?;
    let log = std::fs::read_to_string(place.path(&format!("{name}.log"))).unwrap_or_default();
    let records = visits(&log, passes).with_context(|| format!("what {name} says of its rows"))?;
    Ok(Sample { records, ..whole })
}

/// The rows of a step.
pub(super) fn batch(job: Job) -> u32 {
    BATCHES.iter().find(|it| it.0 == job).map_or(0, |it| it.1)
}

/// How many rows a trainer has learned from, each once a pass, by what it logged when its model was published. Rows that were
/// left out as unwell are taken off as if none of them had been held back.
fn visits(log: &str, passes: u32) -> Option<u64> {
    let line = log.lines().rfind(|it| it.contains("model published"))?;
    let number = |name: &str| {
        let (_, value) =
            line.split_ascii_whitespace().find_map(|it| it.split_once('=').filter(|it| it.0 == name))?;
        value.parse::<u64>().ok()
    };
    let learned = (number("rows")? as f64 * (1.0 - HELD_BACK)) as u64;
    Some(learned.saturating_sub(number("trimmed_rows")?) * u64::from(passes))
}

/// What reading took, and reading and learning together; rows count once a pass.
pub(super) fn keras(
    place: &Place,
    job: Job,
    reader: &str,
    rows: u64,
    round: u32,
    source: &Filled,
) -> Result<[Sample; 2]> {
    let process = start(
        place,
        &format!("{reader}-{round}"),
        &[
            &installed(place, "python/bin/python"),
            &format!("{SCRIPTS}/keras/train.py"),
            "--kafka",
            &place.kafka.bootstrap,
            "--topic",
            &source.topic,
            "--schema",
            &format!("{SCHEMAS}/sensor-data-s-avro.avsc"),
            "--reader",
            reader,
            "--rows",
            &rows.min(source.records).to_string(),
            "--epochs",
            &place.settings.peers.passes().to_string(),
            "--batch",
            &batch(job).to_string(),
        ],
    )?;
    both(&place.finish(process)?)
}

/// The two samples that a process says.
fn both(log: &str) -> Result<[Sample; 2]> {
    let samples: Vec<Sample> = log.lines().filter_map(|it| serde_json::from_str(it).ok()).collect();
    let found = samples.len();
    <[Sample; 2]>::try_from(samples).map_err(|_| anyhow!("{found} lines of figures and not 2 in {log:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_count_once_a_pass_and_those_held_back_or_unwell_never() {
        let line = "2026-01-01T00:00:00Z  INFO model published model=\"a\" version=1 rows=2000 trimmed_rows=100 seconds=1.5";
        assert_eq!(visits(&format!("starting rows=7\n{line}\nbye\n"), 20), Some((1900 - 100) * 20));
        assert_eq!(visits("starting rows=7\n", 20), None);
    }

    #[test]
    fn what_reads_and_learns_says_both() {
        let line = |records| {
            let sample = Sample { records, seconds: 1.5, cpu_seconds: 0.25, peak_rss_kb: 7, load: 0.5 };
            serde_json::to_string(&sample).unwrap()
        };
        let [reading, whole] = both(&format!("a warning\n{}\n{{1\n{}\n", line(5), line(50))).unwrap();
        assert_eq!((reading.records, whole.records), (5, 50));
        assert!(both(&line(5)).unwrap_err().to_string().starts_with("1 lines"));
    }
}
