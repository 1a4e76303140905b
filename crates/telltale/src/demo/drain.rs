//! Stops the pipeline in the order of the data, each stage once nothing is left for it.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::metrics;
use super::pipeline::{Pipeline, Stopping};
use super::show::Show;
use crate::commands::Error;

/// Longest time without any progress in working off what is left.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the raw topic must not have grown until nothing is taken to come any more.
const QUIET: Duration = Duration::from_millis(500);

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Every stage has worked off everything.
    Fully,
    /// Something was left: a second signal, or a stage that took too long.
    CutShort,
}

/// Stops the cars, then each service once it has caught up.
pub(crate) fn drain(pipeline: &mut Pipeline, show: &mut Show) -> Result<Drained, Error> {
    let signals = pipeline.signals();
    let mut all = true;
    let mut acknowledged = 0;
    if let Some(simulator) = pipeline.take("simulator") {
        let service = simulator.service().clone();
        stop(simulator, show)?;
        acknowledged = metrics::count(&service, metrics::ACKNOWLEDGED);
    }
    let mut last = (0, Instant::now());
    let taken_over = |show: &mut Show| {
        let raw = show.raw()?;
        if raw != last.0 {
            last = (raw, Instant::now());
        }
        Ok(raw >= acknowledged && last.1.elapsed() >= QUIET)
    };
    all &= wait(pipeline, show, signals, taken_over)?;
    stop_named("bridge", pipeline, show)?;
    all &= wait(pipeline, show, signals, |show| {
        let now = show.progress().offsets()?;
        Ok(now.raw_done >= now.raw_end)
    })?;
    stop_named("preprocessor", pipeline, show)?;
    stop_named("trainer", pipeline, show)?;
    if pipeline.watch().seen().first_prediction().is_some() {
        let never = CancellationToken::new();
        all &= wait(pipeline, show, signals, |show| Ok(show.progress().all_scored(&never)?))?;
    }
    stop_named("scorer", pipeline, show)?;
    Ok(if all { Drained::Fully } else { Drained::CutShort })
}

/// Waits until `done`, showing meanwhile, as long as the stages get on; returns whether it came to that. Kafka may be away for a
/// while, as when one of its brokers dies.
fn wait(
    pipeline: &mut Pipeline,
    show: &mut Show,
    signals: usize,
    mut done: impl FnMut(&mut Show) -> Result<bool, Error>,
) -> Result<bool, Error> {
    let mut latest = (None, Instant::now());
    loop {
        let asked = done(show);
        if let Ok(true) = asked {
            return Ok(true);
        }
        let now = show.progress().offsets().ok();
        if now.is_some() && now != latest.0 {
            latest = (now, Instant::now());
        }
        show.tick()?;
        if let Some(ended) = pipeline.take_ended() {
            return Err(ended.why_ended());
        }
        if latest.1.elapsed() > PATIENCE || pipeline.signals() > signals {
            return asked;
        }
    }
}

fn stop_named(name: &'static str, pipeline: &mut Pipeline, show: &mut Show) -> Result<(), Error> {
    match pipeline.take(name) {
        Some(service) => stop(service, show),
        None => Ok(()),
    }
}

/// Stops a service on a thread of its own, showing meanwhile.
fn stop(service: Stopping, show: &mut Show) -> Result<(), Error> {
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| service.stop());
        while !stopping.is_finished() {
            show.tick()?;
        }
        stopping.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
