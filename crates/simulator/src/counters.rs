//! What has become of the readings.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Figures of a running simulator, shared with whoever shows them.
#[derive(Debug)]
pub struct Counters {
    /// Connections that stand.
    pub connected: Gauge,
    /// Connections that ended, or did not come about.
    pub disconnects: Counter,
    /// Readings that a session has taken; each is counted once, however often it is sent.
    pub published: Counter,
    /// Readings that the broker has acknowledged.
    pub acknowledged: Counter,
    /// Readings that the broker, or the session for it, has refused for good.
    pub refused: Counter,
    /// Readings that were not made, since the car's window was full or, at QoS 0, there was no connection.
    pub skipped: Counter,
    /// Readings that were still unacknowledged when the simulator ended.
    pub unsettled: Counter,
    /// Truths about failures that the broker has acknowledged.
    pub truths: Counter,
    /// Time from publish to acknowledgement.
    pub waited: Latency,
    waited_seconds: Histogram,
    last_fault: Mutex<Option<String>>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            connected: Gauge::default(),
            disconnects: Counter::default(),
            published: Counter::default(),
            acknowledged: Counter::default(),
            refused: Counter::default(),
            skipped: Counter::default(),
            unsettled: Counter::default(),
            truths: Counter::default(),
            waited: Latency::default(),
            waited_seconds: Histogram::new(exponential_buckets(0.000_5, 2.0, 16)),
            last_fault: Mutex::default(),
        }
    }
}

impl Counters {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let counters = [
            ("disconnects", "Connections that ended or did not come about", &self.disconnects),
            ("readings_published", "Readings that a session has taken", &self.published),
            ("readings_acknowledged", "Readings that the broker has acknowledged", &self.acknowledged),
            ("readings_refused", "Readings that were refused for good", &self.refused),
            ("readings_skipped", "Readings that were not made for want of room", &self.skipped),
            ("readings_unsettled", "Readings unacknowledged at the end", &self.unsettled),
            ("truths_acknowledged", "Truths about failures that the broker has acknowledged", &self.truths),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("cars_connected", "Connections that stand", self.connected.clone());
        let help = "Time from publish to acknowledgement";
        registry.register("acknowledgement_seconds", help, self.waited_seconds.clone());
    }

    pub(crate) fn acknowledge(&self, waited: Duration) {
        self.acknowledged.inc();
        self.waited.observe(waited);
        self.waited_seconds.observe(waited.as_secs_f64());
    }

    pub(crate) fn note_fault(&self, text: String) {
        *self.last_fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    /// The last fault since this was asked before.
    pub(crate) fn take_fault(&self) -> Option<String> {
        self.last_fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Eight buckets for each doubling, so a quantile is right within 9 %.
const PER_DOUBLING: usize = 8;
/// From 1 µs to over an hour.
const BUCKETS: usize = 32 * PER_DOUBLING;

/// Distribution of durations.
#[derive(Debug)]
pub struct Latency {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Latency {
    fn observe(&self, duration: Duration) {
        let doublings = (duration.as_secs_f64() * 1e6).max(1.0).log2();
        let bucket = ((doublings * PER_DOUBLING as f64) as usize).min(BUCKETS - 1);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// What was observed so far; [`quantile`] reads it.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        self.buckets.iter().map(|it| it.load(Ordering::Relaxed)).collect()
    }
}

/// The duration in milliseconds that the share `quantile` of `counts` does not exceed; 0 of nothing.
pub(crate) fn quantile(counts: &[u64], quantile: f64) -> f64 {
    let all: u64 = counts.iter().sum();
    let wanted = (all as f64 * quantile).ceil().max(1.0) as u64;
    let mut seen = 0;
    let bucket = counts.iter().position(|count| {
        seen += count;
        seen >= wanted
    });
    let milliseconds = |bucket| ((bucket as f64 + 0.5) / PER_DOUBLING as f64).exp2() / 1000.0;
    bucket.map_or(0.0, |it| (milliseconds(it) * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_a_tenth() {
        let latency = Latency::default();
        assert!(quantile(&latency.counts(), 0.5).abs() < f64::EPSILON);
        for milliseconds in 1..=1000 {
            latency.observe(Duration::from_millis(milliseconds));
        }
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0), (0.001, 1.0)] {
            let found = quantile(&latency.counts(), share);
            assert!((found / expected - 1.0).abs() < 0.1, "{share}: {found} instead of {expected}");
        }
    }
}
