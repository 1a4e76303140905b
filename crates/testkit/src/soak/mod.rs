//! The fault machine: every service as a process of its own, a seeded schedule of faults, and proof that nothing was lost.
//!
//! ```text
//! seed ─▶ plan ─▶ faults, each in its time ─▶ pipeline: processes, links, engines
//!                         │                        │ outputs
//!                         ▼                        ▼
//!                  watch: how long until      telltale verify, poison, count ─▶ report: table and JSON
//!                  predictions flow again
//! ```
//!
//! The cars are never killed: what the broker acknowledged to them is in their ledger, and everything is held against it.
//! What violates the contract fails the soak; how often processes end and how long recovery takes is only told.

pub mod commands;
pub mod count;
pub mod engines;
pub mod link;
pub mod pipeline;
pub mod plan;
pub mod poison;
pub mod ports;
pub mod process;
pub mod random;
pub mod report;
pub mod scenario;
pub mod settings;
pub mod trouble;
pub mod usage;
pub mod watch;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use telltale_kafka::{Isolation, KafkaConfig, Reader};
use telltale_records::topics;
use tokio_util::sync::CancellationToken;

use pipeline::Pipeline;
use plan::{Kind, Planned, Service};
pub use report::{Faults, Report};
use scenario::{Scenario, judge_deleted, judge_outage, judge_retention};
pub use settings::Settings;
use usage::Courses;
use watch::Watch;

/// Time between two looks at the clock.
const TICK: Duration = Duration::from_millis(20);
/// Time between two looks at what processes hold.
const SAMPLE: Duration = Duration::from_secs(1);
/// Longest time after the last fault until predictions flow in every partition.
const RECOVERY: Duration = Duration::from_secs(180);
/// When nothing was written for so long, nothing is on its way: what is missing then is lost.
const QUIET: Duration = Duration::from_secs(20);

/// Runs a soak and writes its report beside its logs.
///
/// # Errors
///
/// Returns what could not be started, found or read, and that it was stopped. Violations are no error but in the report.
///
/// # Panics
///
/// Panics when topics cannot be read although the engines run.
pub fn run(settings: &Settings, stop: &CancellationToken) -> Result<Report> {
    let plan = settings.scenario.plan(settings);
    println!("{}", command(settings));
    if settings.plan {
        plan.iter().for_each(|it| println!("{it}"));
        return Ok(Report::default());
    }
    ensure!(settings.program.is_file(), "{} is not there: make build", settings.program.display());
    let mut pipeline = Pipeline::start(settings, stop)?;
    let kafka = pipeline.kafka();
    pipeline.until("predictions flow", stop, |_| crate::extent(&kafka, topics::PREDICTIONS) > 0)?;
    println!("predictions flow; faults begin, for {}", settings.length);

    let watch = Watch::start(kafka.clone(), settings.partitions);
    let mut courses = Courses::default();
    let began = Instant::now();
    let struck = suffer(&mut pipeline, &plan, &watch, &mut courses, stop)?;
    let seconds = began.elapsed().as_secs_f64();
    println!("faults are over; waiting until predictions flow in every partition");
    pipeline.clear();
    let (recoveries, mut violations) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| watch.finish(RECOVERY, stop));
        while !waiting.is_finished() {
            pipeline.supervise()?;
            pipeline.sample(&mut courses);
            std::thread::sleep(10 * TICK);
        }
        Ok::<_, anyhow::Error>(waiting.join().unwrap_or_default())
    })?;
    ensure!(!stop.is_cancelled(), "stopped");
    if let Err(error) = pipeline.end_cars() {
        violations.push(format!("{error:#}"));
    }
    println!("the cars have ended; proving");
    let (mut proved, said) = prove(settings, &mut pipeline, stop)?;
    match settings.scenario {
        Scenario::Mix | Scenario::Zombies => {}
        Scenario::Outage => violations.extend(courses.0.get("bridge").and_then(judge_outage)),
        Scenario::TopicDeleted => {
            let logs = [Service::Scorer(1), Service::Scorer(2)].map(|it| (it, pipeline.log(it)));
            proved = judge_deleted(pipeline.deleted, proved, &said, &logs);
        }
        Scenario::Retention => proved = judge_retention(pipeline.deleted, proved),
    }
    violations.extend(proved);
    let (poison, wrong) = pipeline.check_poison();
    violations.extend(wrong);
    let count = count::count(&pipeline.ledgers(), &kafka, stop)?;
    let starts =
        pipeline.services().map(|(service, process)| (service.to_string(), process.starts)).collect();
    let mut ended_themselves = pipeline.ended_themselves();
    ended_themselves.extend(pipeline.end_services());
    let mut faults: BTreeMap<String, Faults> = BTreeMap::new();
    for planned in &struck {
        faults.entry(planned.kind.name()).or_default().count += 1;
    }
    for (kind, (recovered, worst)) in recoveries {
        let it = faults.entry(kind.name()).or_default();
        (it.recovered, it.worst_recovery_seconds) = (recovered, worst.as_secs_f64());
    }
    let usage = courses.0;
    let command = command(settings);
    let report =
        Report { command, seconds, count, poison, faults, starts, ended_themselves, usage, violations };
    let path = settings.dir.join(format!("{}.json", name(settings)));
    std::fs::write(&path, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("writing {}", path.display()))?;
    println!("\n{report}\nwritten to {}", path.display());
    Ok(report)
}

/// Lets the faults happen, each in its time; returns those that did, for an engine that has not started again is not struck.
fn suffer(
    pipeline: &mut Pipeline,
    plan: &[Planned],
    watch: &Watch,
    courses: &mut Courses,
    stop: &CancellationToken,
) -> Result<Vec<Planned>> {
    let began = Instant::now();
    let mut struck = Vec::new();
    let mut coming = plan.iter().peekable();
    let mut lasting: Vec<Planned> = Vec::new();
    let mut sampled: Option<Instant> = None;
    while coming.peek().is_some() || !lasting.is_empty() {
        ensure!(!stop.is_cancelled(), "stopped");
        let now = began.elapsed();
        while let Some(planned) = coming.next_if(|it| it.at <= now) {
            if pipeline.is_too_early(planned.fault) {
                println!("{planned}: left out, engines have not started again");
                continue;
            }
            match pipeline.takes_turn(planned.fault) {
                Some(broker) => println!("{planned}, {broker}"),
                None => println!("{planned}"),
            }
            struck.push(*planned);
            if planned.kind == Kind::Outage {
                // What it takes from here on is held against what it takes now.
                courses.0.clear();
                pipeline.sample(courses);
            }
            pipeline.begin(planned.fault).with_context(|| format!("beginning: {planned}"))?;
            lasting.push(*planned);
        }
        let (over, still) = lasting.into_iter().partition(|it| it.end() <= now);
        lasting = still;
        let over: Vec<Planned> = over;
        for planned in over {
            pipeline.end(planned.fault).with_context(|| format!("ending: {planned}"))?;
            watch.over(planned.kind);
        }
        pipeline.supervise()?;
        if sampled.is_none_or(|it| it.elapsed() >= SAMPLE) {
            pipeline.sample(courses);
            sampled = Some(Instant::now());
        }
        std::thread::sleep(TICK);
    }
    Ok(struck)
}

/// Asks `telltale verify` until all is there, or nothing moves any more; returns what is wrong then, and all it said.
fn prove(
    settings: &Settings,
    pipeline: &mut Pipeline,
    stop: &CancellationToken,
) -> Result<(Vec<String>, String)> {
    let kafka = pipeline.kafka();
    let (mut moved, mut extents) = (Instant::now(), Vec::new());
    loop {
        ensure!(!stop.is_cancelled(), "stopped");
        pipeline.supervise()?;
        let output = Command::new(&settings.program)
            .args([
                "verify",
                "--drained",
                "--kafka",
                &kafka.bootstrap,
                "--registry",
                &pipeline.registry().url,
                "--ledger",
            ])
            .arg(pipeline.ledgers())
            .output()
            .context("running telltale verify")?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        std::fs::write(pipeline.folder().join("verify.txt"), &text)?;
        if output.status.success() {
            println!("{}", text.trim_end());
            return Ok((Vec::new(), text));
        }
        let now = ends(&kafka).unwrap_or_default();
        if now != extents {
            (moved, extents) = (Instant::now(), now);
        } else if moved.elapsed() > QUIET {
            println!("{}", text.trim_end());
            let wrong = |it: &&str| VIOLATION.iter().any(|word| it.trim_start().starts_with(word));
            let mut violations: Vec<String> = text.lines().filter(wrong).map(str::to_owned).collect();
            if violations.is_empty() {
                violations.push(format!(
                    "telltale verify, {}: {}",
                    output.status,
                    text.lines().last().unwrap_or_default()
                ));
            }
            return Ok((violations, text));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Where the partitions of all topics end.
fn ends(kafka: &KafkaConfig) -> Result<Vec<i64>> {
    let reader = Reader::open(kafka, Isolation::Committed)?;
    let mut ends = Vec::new();
    for topic in topics::ALL {
        for partition in reader.partitions(topic.name)? {
            ends.push(reader.watermarks(topic.name, partition)?.end);
        }
    }
    Ok(ends)
}

/// How lines of `telltale verify` begin that name a violation.
const VIOLATION: [&str; 13] = [
    "lost:",
    "duplicated:",
    "of nothing:",
    "out of order:",
    "version fell:",
    "no source:",
    "not committed:",
    "out of sequence:",
    "altered:",
    "miscounted:",
    "acknowledged and not",
    "recomputed:",
    "by no model:",
];

/// Name of a run's folder and report.
fn name(settings: &Settings) -> String {
    settings.folder().file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The command that does the same again.
fn command(settings: &Settings) -> String {
    use clap::ValueEnum as _;
    let mut text = format!("make soak ARGS=\"--for {} --seed {}", settings.length, settings.seed);
    if settings.scenario != Scenario::Mix {
        let name =
            settings.scenario.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default();
        text += &format!(" --scenario {name}");
    }
    let kinds: Vec<String> = settings.faults.iter().map(|it| it.name()).collect();
    if !kinds.is_empty() {
        text += &format!(" --faults {}", kinds.join(","));
    }
    if let Some(bridge) = &settings.bridge {
        text += &format!(" --bridge {}", bridge.display());
    }
    if settings.brokers > 1 {
        text += &format!(" --brokers {}", settings.brokers);
    }
    let engines = settings.engines.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default();
    format!("{text} --engines {engines} --cars {} --rate {}\"", settings.cars, settings.rate)
}
