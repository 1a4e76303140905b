//! What the simulator says about itself: a line each second, and the figures at the end.

use std::time::{Duration, Instant};

use serde::Serialize;
use telltale_service::Service;
use tracing::{info, warn};

use crate::counters::{Counters, quantile};
use crate::scenario::Plan;

const EVERY: Duration = Duration::from_secs(1);

/// Reports once a second.
#[derive(Debug)]
pub(crate) struct Reporter {
    next: Instant,
    waited: Vec<u64>,
    published: u64,
    at: Instant,
}

impl Reporter {
    pub(crate) fn new(counters: &Counters) -> Self {
        let now = Instant::now();
        Self { next: now + EVERY, waited: counters.waited.counts(), published: 0, at: now }
    }

    /// Reports if it is time; `cars` should be connected now.
    pub(crate) fn tick(&mut self, counters: &Counters, service: &Service, cars: usize) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        let connected = counters.connected.get();
        if connected >= cars as i64 {
            service.ready("fleet");
        } else {
            service.not_ready("fleet", &format!("{connected} of {cars} cars are connected"));
        }
        let waited = counters.waited.counts();
        let latest: Vec<u64> = waited.iter().zip(&self.waited).map(|(now, then)| now - then).collect();
        let published = counters.published.get();
        let a_second = (published - self.published) as f64 / (now - self.at).as_secs_f64();
        info!(
            connected,
            published,
            acknowledged = counters.acknowledged.get(),
            refused = counters.refused.get(),
            skipped = counters.skipped.get(),
            a_second = a_second.round(),
            p50_ms = quantile(&latest, 0.5),
            p99_ms = quantile(&latest, 0.99),
            "fleet"
        );
        if let Some(fault) = counters.take_fault() {
            warn!(fault, disconnects = counters.disconnects.get(), "connections ended");
        }
        *self = Self { next: (self.next + EVERY).max(now), waited, published, at: now };
    }
}

/// The figures at the end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The most cars at a time.
    pub cars: u32,
    /// Readings a second from each car, in the last stage.
    pub rate: f64,
    /// Seed of the fleet.
    pub seed: u64,
    /// Time of publishing, without the wait for the last acknowledgements.
    pub seconds: f64,
    /// Readings that were published, each counted once.
    pub published: u64,
    /// Readings that the broker acknowledged.
    pub acknowledged: u64,
    /// Readings of QoS 1 and 2 that were published and not acknowledged.
    pub failed: u64,
    /// Of these, readings that were refused for good.
    pub refused: u64,
    /// Readings that were not made, since the window of their car was full or there was no connection.
    pub skipped: u64,
    /// Truths about failures that the broker acknowledged.
    pub truths: u64,
    /// Connections that ended, or did not come about.
    pub disconnects: u64,
    /// Time from publish to acknowledgement.
    pub puback_ms: Milliseconds,
}

/// A distribution of durations in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Milliseconds {
    /// Half are at most this.
    pub p50: f64,
    /// 99 in 100 are at most this.
    pub p99: f64,
}

impl Summary {
    pub(crate) fn new(plan: &Plan, counters: &Counters, seconds: f64) -> Self {
        let waited = counters.waited.counts();
        let published = counters.published.get();
        Self {
            cars: plan.most_cars(),
            rate: plan.stages.last().map_or(0.0, |it| it.rate.get()),
            seed: plan.seed,
            seconds: (seconds * 1000.0).round() / 1000.0,
            published,
            acknowledged: counters.acknowledged.get(),
            failed: counters.refused.get() + counters.unsettled.get(),
            refused: counters.refused.get(),
            skipped: counters.skipped.get(),
            truths: counters.truths.get(),
            disconnects: counters.disconnects.get(),
            puback_ms: Milliseconds { p50: quantile(&waited, 0.5), p99: quantile(&waited, 0.99) },
        }
    }
}
