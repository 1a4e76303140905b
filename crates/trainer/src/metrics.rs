//! What the trainer counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The trainer's metrics; clones share their values.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Records read from the log, each time they are read.
    pub(crate) records: Counter,
    /// Records that are no readings.
    pub(crate) rejected: Counter,
    /// Versions published.
    pub(crate) models: Counter,
    /// The version published last.
    pub(crate) version: Gauge,
    /// 1 while a pinned version holds new ones back.
    pub(crate) pinned: Gauge,
    /// Time to read one training run's records, in seconds.
    pub(crate) read_duration: Histogram,
    /// Time to learn from them, in seconds.
    pub(crate) training_duration: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let bounds = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];
        let metrics = Self {
            records: Counter::default(),
            rejected: Counter::default(),
            models: Counter::default(),
            version: Gauge::default(),
            pinned: Gauge::default(),
            read_duration: Histogram::new(bounds),
            training_duration: Histogram::new(bounds),
        };
        registry.register("records", "Records read from the log", metrics.records.clone());
        registry.register("rejected_records", "Records that are no readings", metrics.rejected.clone());
        registry.register("models", "Versions published", metrics.models.clone());
        registry.register("model_version", "The version published last", metrics.version.clone());
        registry.register("pinned", "1 while a pinned version holds new ones back", metrics.pinned.clone());
        let (read, training) = (metrics.read_duration.clone(), metrics.training_duration.clone());
        registry.register("read_duration_seconds", "Time to read the records of a training run", read);
        registry.register("training_duration_seconds", "Time to learn from them", training);
        metrics
    }
}
