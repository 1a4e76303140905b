//! The demo: engines and services in this process, everything between them over the sockets. The engines may be real ones.
//!
//! ```text
//! simulator ═MQTT═▶ broker ═MQTT═▶ bridge ═▶ log ═▶ preprocessor ═▶ log ═▶ trainer ═▶ log ═▶ scorer ═▶ log
//!                                                                                              watch ◀═╝ ─▶ view
//! stop: simulator, bridge, preprocessor, trainer, scorer, each once the one before it has nothing left
//! ```

mod drain;
pub mod folder;
mod metrics;
mod pipeline;
mod reach;
pub mod seen;
mod show;
pub mod signals;
pub mod warnings;
pub mod watch;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use telltale_service::{Address, LogFormat, ProcessConfig, Telemetry};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::cli::{DemoArgs, EnginesKind, HERE};
use crate::clock::now_ms;
use crate::commands::{Error, engines, keys};
use crate::output::Output;
use crate::ports::{self, Wanted};
use crate::process::Usage;
use crate::simulator_files::{Ledgers, Run};
use crate::summary::{self, LatencyMs, ModelLine, Summary};
use crate::verify::checks::Checks;
use crate::verify::read::{Check, Ends, Found};
use crate::view::balance;
use crate::view::screen::Phase;

use drain::Drained;
use folder::Folder;
use pipeline::Pipeline;
use show::Show;
use warnings::Warnings;
use watch::{Progress, Watch};

/// Consumer group of the preprocessor.
pub const PREPROCESSOR_GROUP: &str = "telltale-preprocessor";
/// Consumer group of the scorer.
pub const SCORER_GROUP: &str = "telltale-scorer";

/// Runs the demo.
///
/// The exit code says whether nothing was lost or duplicated.
///
/// # Errors
///
/// Returns why it could not be started, or what ended it early.
pub fn run(args: &DemoArgs) -> Result<ExitCode, Error> {
    let started = Instant::now();
    ports::check(HERE, &wanted(args))?;
    if let Some(path) = &args.summary {
        summary::check(path)?;
    }
    let folder = Folder::take(args.engines.data.as_deref())?;
    let live = !args.plain && io::stdout().is_terminal() && io::stdin().is_terminal();
    let warnings = Warnings::default();
    let telemetry = telemetry(args, live, &warnings)?;
    let mut pipeline = Pipeline::start(args, &folder, started)?;
    let since = pipeline.since().clone();
    let progress = Progress::open(pipeline.kafka())?;
    let mut show = Show::open(args, live, warnings, progress, pipeline.watch().clone(), started)?;
    let outcome = drive(args, &folder, &since, &mut pipeline, &mut show);
    show.close();
    let outcome =
        outcome.map(|(seconds, counts, found)| summarise(args, pipeline.watch(), seconds, counts, found));
    // Its clients would miss the engines.
    drop(show);
    drop(pipeline);
    telemetry.stop();
    let (summary, found) = outcome?;
    Output::standard().text(balance::text(&summary, &found.report))?;
    if let Some(path) = &args.summary {
        summary.write(path)?;
    }
    let clean = summary.lost == 0 && summary.duplicated == 0 && summary.violations == 0;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// From the start of the cars to the verified end; returns how long the cars ran, what they published and
/// got acknowledged, and what was found.
fn drive(
    args: &DemoArgs,
    folder: &Folder,
    since: &Ends,
    pipeline: &mut Pipeline,
    show: &mut Show,
) -> Result<(Duration, (u64, u64), Found), Error> {
    show.addresses(pipeline.addresses())?;
    // A car's first reading may find no bridge: the broker holds it, but nobody needs to wait for that.
    while !pipeline.unready("bridge").is_empty() && pipeline.signals() == 0 {
        show.tick()?;
        if let Some(ended) = pipeline.take_ended() {
            return Err(ended.why_ended());
        }
    }
    pipeline.all_started();
    let began = Instant::now();
    let run = Run::new(&folder.simulator(), now_ms());
    let simulator = pipeline.launch_simulator(args, &run.ledger())?;
    show.simulator(&simulator);
    while pipeline.signals() == 0 && args.length.is_none_or(|it| began.elapsed() < *it) {
        if show.tick()? {
            break;
        }
        if let Some(ended) = pipeline.take_ended() {
            return Err(ended.why_ended());
        }
    }
    let seconds = began.elapsed();
    show.phase(Phase::Draining)?;
    let drained = drain::drain(pipeline, show)?;
    let counts =
        (metrics::count(&simulator, metrics::PUBLISHED), metrics::count(&simulator, metrics::ACKNOWLEDGED));
    show.phase(Phase::Verifying)?;
    if drained == Drained::Fully {
        run.mark_drained()?;
    }
    // Real engines hold what others left, and may have dropped what earlier runs left.
    let only_since = args.kind == EnginesKind::Real;
    let ledgers = Some(if only_since { Ledgers::of(&run)? } else { Ledgers::read(&folder.simulator())? });
    // Without a model every clean record still waits for its prediction, and rightly so.
    let drained = drained == Drained::Fully && pipeline.watch().seen().first_prediction().is_some();
    let (kafka, registry) = (pipeline.kafka().clone(), pipeline.registry().clone());
    let (_, verifying) = keys::take(&folder.keys())?;
    let (checks, stop) =
        (Checks { trusted_key: vec![verifying], ..Checks::default() }, CancellationToken::new());
    let check = Check {
        kafka: &kafka,
        registry: &registry,
        checks: &checks,
        drained,
        ledgers,
        since: Some(since),
        only_since,
        stop: &stop,
    };
    let found = std::thread::scope(|scope| {
        let checking = scope.spawn(|| check.run());
        while !checking.is_finished() {
            show.tick()?;
        }
        Ok::<_, Error>(checking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
    })?;
    Ok((seconds, counts, found))
}

fn summarise(
    args: &DemoArgs,
    watch: &Watch,
    ran: Duration,
    (published, acknowledged): (u64, u64),
    found: Found,
) -> (Summary, Found) {
    let seen = watch.seen();
    let (p50, p99) = seen.latency_ms();
    let mut models = seen.models();
    models.reverse();
    let models = models.into_iter().map(|it| ModelLine {
        version: it.version,
        sha256: it.sha256,
        rows: it.rows,
        seconds: it.training.as_secs_f64(),
        threshold: it.threshold,
    });
    let usage = Usage::of_this_process();
    let summary = Summary {
        cars: args.cars.into(),
        rate: args.rate,
        seed: args.seed,
        seconds: ran.as_secs_f64(),
        published,
        acknowledged,
        raw: found.raw,
        clean: found.clean,
        windows: found.windows,
        predictions: found.predictions,
        dead_letters: found.dead_letters,
        lost: found.lost(),
        duplicated: found.report.duplicated(),
        recomputed: found.recomputed.compared,
        violations: found.report.faults,
        first_prediction_seconds: seen.first_prediction().map(|it| it.as_secs_f64()),
        latency_ms: LatencyMs { p50, p99 },
        models: models.collect(),
        auc: found.evaluation.auc,
        false_alarm_rate: found.evaluation.false_alarm_rate,
        modes: found.evaluation.modes.clone(),
        cpu_seconds: usage.cpu_seconds,
        peak_rss_mb: usage.peak_rss_mb,
    };
    (summary, found)
}

fn telemetry(args: &DemoArgs, live: bool, warnings: &Warnings) -> Result<Telemetry, Error> {
    let process = ProcessConfig {
        check_config: false,
        http: Address::Off,
        log: args.log.clone(),
        log_format: LogFormat::Human,
        otlp_endpoint: None,
        trace_share: "0".parse().expect("0 is a share"),
        drain_timeout: Duration::from_secs(20).into(),
    };
    let warnings = warnings.clone();
    let writer =
        if live { BoxMakeWriter::new(move || warnings.clone()) } else { BoxMakeWriter::new(io::stderr) };
    Telemetry::start_with("demo", &process, writer).map_err(Error::Telemetry)
}

fn wanted(args: &DemoArgs) -> Vec<Wanted> {
    let mut wanted = match args.kind {
        EnginesKind::Embedded => engines::wanted(&args.engines).to_vec(),
        EnginesKind::Real => Vec::new(),
    };
    wanted.push(Wanted { flag: "--http-port", purpose: "probes and metrics", port: args.http_port });
    wanted
}
