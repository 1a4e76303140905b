//! The verifier as a service: `telltale verify --follow`.
//!
//! ```text
//! topics ─▶ rounds of the same checks as `telltale verify` ─┬▶ verified_records_total{hop}
//!                                                           └▶ violations_total{kind}, log with the records
//! ```
//!
//! It writes nothing and is a member of no group, so it may run, stop and be doubled without touching what it watches.

use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use telltale_kafka::{KafkaConfig, RegistryConfig};
use telltale_service::Service;
use tracing::{error, info, warn};

use crate::verify::checker::Checker;
use crate::verify::checks::Checks;
use crate::verify::report::{Report, Violation};
use crate::verify::tail::{Start, Tail};
use crate::verify::{Error, show};

/// What `/readyz` says of the topics.
const TOPICS: &str = "topics";

/// Checks all the time that no record is lost, doubled or reordered, and counts what is
///
/// The same checks as `telltale verify`, made as the records come. What cannot be known yet is judged once the services have
/// committed past it. It writes nothing and joins no group; from its start on it remembers only what is on its way.
///
/// Each setting is a flag and an environment variable; `--help` is the reference.
#[derive(Debug, Clone, Parser)]
pub struct Config {
    /// Where Kafka is.
    #[command(flatten)]
    pub kafka: KafkaConfig,

    /// Where the schema registry is.
    #[command(flatten)]
    pub registry: RegistryConfig,

    /// What is checked.
    #[command(flatten)]
    pub checks: Checks,

    /// Where to begin: where the services are now, or at the first record there is
    #[arg(long, env = "FROM", value_enum, default_value_t = From::Now)]
    pub from: From,

    /// Time between two rounds of reading, 100ms to 10m
    #[arg(long, env = "INTERVAL", value_name = "DURATION", default_value = "1s", value_parser = interval)]
    pub interval: humantime::Duration,

    /// How long nothing must have moved until what has an outcome must be committed, too
    #[arg(long, env = "QUIET", value_name = "DURATION", default_value = "1m")]
    pub quiet: humantime::Duration,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// Where the services' groups are
    Now,
    /// At the first record of each topic
    Beginning,
}

fn interval(text: &str) -> Result<humantime::Duration, String> {
    let interval: humantime::Duration = text.parse().map_err(|it| format!("{it}"))?;
    let allowed = Duration::from_millis(100)..=Duration::from_secs(600);
    if allowed.contains(&*interval) { Ok(interval) } else { Err(format!("{text} is not from 100ms to 10m")) }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Hop {
    hop: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, Default)]
struct Metrics {
    verified: Family<Hop, Counter>,
    violations: Family<Kind, Counter>,
    waiting: Family<Hop, Gauge>,
    last_settled: Gauge,
}

impl Metrics {
    fn register(service: &Service) -> Self {
        let metrics = Self::default();
        let mut registry = service.registry();
        registry.register(
            "verified_records",
            "Records that were found to be as the delivery contract says",
            metrics.verified.clone(),
        );
        registry.register(
            "violations",
            "Breaches of the delivery contract, by kind",
            metrics.violations.clone(),
        );
        registry.register("waiting_records", "Records without outcome yet", metrics.waiting.clone());
        registry.register(
            "last_settled_timestamp_seconds",
            "When everything that was committed was last judged",
            metrics.last_settled.clone(),
        );
        // An alert on what has never happened needs a series that is there.
        for kind in Violation::KINDS {
            drop(metrics.violations.get_or_create(&Kind { kind }));
        }
        metrics
    }

    fn verified(&self, hop: &'static str, records: u64) {
        self.verified.get_or_create(&Hop { hop }).inc_by(records);
    }
}

/// Runs until shutdown.
///
/// # Errors
///
/// Returns why it could not start, or why it cannot go on: a missing topic, a wrong password.
pub fn run(config: Config, service: &Service) -> Result<(), Error> {
    config.kafka.check()?;
    let trusted = config.checks.trusted()?;
    telltale_kafka::Registry::new(&config.registry)?;
    if service.only_checks() {
        return Ok(());
    }
    if trusted.is_none() {
        info!("no --trusted-key: signatures of models are not looked at");
    }
    let metrics = Metrics::register(service);
    service.not_ready(TOPICS, "nothing was read yet");
    let mut follower = Follower { config, metrics, service: service.clone(), recomputed: 0, quiet: None };
    let stop = service.shutdown();
    let mut open = None;
    loop {
        let round = match &mut open {
            Some((checker, tail)) => follower.round(checker, tail),
            None => follower.open().map(|it| open = Some(it)),
        };
        match round {
            Ok(()) => {}
            Err(error) if error.is_passing() => {
                let error = telltale_service::chain(&error);
                warn!(error, "reading, will try again");
                follower.service.not_ready(TOPICS, &error);
            }
            Err(error) => return Err(error),
        }
        if stop.sleep(*follower.config.interval) {
            break;
        }
    }
    Ok(())
}

struct Follower {
    config: Config,
    metrics: Metrics,
    service: Service,
    /// Predictions recomputed up to the last round.
    recomputed: u64,
    /// Since when nothing has moved; `None` once that was judged.
    quiet: Option<Instant>,
}

impl Follower {
    fn open(&mut self) -> Result<(Checker, Tail), Error> {
        let Config { kafka, registry, checks, from, .. } = &self.config;
        let stop = self.service.shutdown().token();
        let mut checker = Checker::open(checks, kafka, registry, &stop)?;
        let start = match from {
            From::Now => Start::Now,
            From::Beginning => Start::Beginning,
        };
        let tail = Tail::open(checks, kafka, start, &mut checker, &stop)?;
        info!(?from, "following the topics");
        Ok((checker, tail))
    }

    fn round(&mut self, checker: &mut Checker, tail: &mut Tail) -> Result<(), Error> {
        let before = tail.last_committed();
        let round = tail.round(checker, |_, _, _| {});
        if let Ok(round) = &round {
            let moved = round.records > 0 || tail.last_committed() != before;
            if moved {
                self.quiet = Some(Instant::now());
            } else if self.quiet.is_some_and(|it| it.elapsed() >= *self.config.quiet) {
                self.quiet = None;
                checker.quiet(tail.last_committed());
            }
        }
        self.tell(checker);
        if round?.settled {
            self.service.ready(TOPICS);
            let now = crate::clock::now_ms() / 1000;
            self.metrics.last_settled.set(now);
        }
        Ok(())
    }

    /// Counts what was verified, and logs what was not.
    fn tell(&mut self, checker: &mut Checker) {
        let (report, verified) = checker.take_report();
        let recomputed = checker.recomputed().compared;
        self.metrics.verified("sensor-data", verified.readings);
        self.metrics.verified("clean", verified.preprocessed);
        self.metrics.verified("predictions", verified.scored);
        self.metrics.verified("windows", verified.windows);
        self.metrics.verified("recomputed", recomputed - self.recomputed);
        self.recomputed = recomputed;
        for (hop, waiting) in ["clean", "predictions"].into_iter().zip(checker.waiting()) {
            self.metrics.waiting.get_or_create(&Hop { hop }).set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
        for (&kind, &count) in &report.kinds {
            self.metrics.violations.get_or_create(&Kind { kind }).inc_by(count);
        }
        self.log(&report);
    }

    fn log(&self, report: &Report) {
        let stop = self.service.shutdown().token();
        for violation in &report.violations {
            // One at a time, so that the records stand with what they break.
            let one = Report { violations: vec![violation.clone()], ..Report::default() };
            let records = show::records(&one, &self.config.kafka, &self.config.registry, &stop);
            let records = match records {
                Ok(records) => records.join("\n"),
                Err(error) => format!("cannot be read: {}", telltale_service::chain(&error)),
            };
            error!(kind = violation.kind(), %violation, records, "the delivery contract is broken");
        }
        let more = report.faults - report.violations.len() as u64;
        if more > 0 {
            error!(violations = more, kinds = ?report.kinds, "and more of them, not shown");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Config::command().debug_assert();
        let interval = |it| Config::try_parse_from(["verifier", "--interval", it]).is_ok();
        assert_eq!(["99ms", "100ms", "10m", "11m"].map(interval), [false, true, true, false]);
    }
}
