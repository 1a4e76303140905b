//! What the scorer counts beside its loop.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::distribution::Distribution;

/// Label: what became of something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabel {
    pub(crate) outcome: &'static str,
}

/// Label: why readings were set aside.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: &'static str,
}

/// The scorer's metrics; clones share their values.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Predictions whose transaction was committed.
    pub(crate) predictions: Counter,
    /// Anomalies among them.
    pub(crate) anomalies: Counter,
    /// Readings set aside, by reason; counted once they are committed.
    pub(crate) rejected: Family<ReasonLabel, Counter>,
    /// Scores of the predictions, as shares of their thresholds.
    pub(crate) scores: Distribution,
    /// Version of the model in force, 0 while there is none.
    pub(crate) model_version: Gauge,
    /// Generation of the model in force.
    pub(crate) model_generation: Gauge,
    /// Models put in force, the first included.
    pub(crate) swaps: Counter,
    /// Models refused.
    pub(crate) rejected_models: Counter,
    /// Time to decode and score one batch, in seconds.
    pub(crate) batch_duration: Histogram,
    /// Alerts, by what became of them: `acknowledged`, `refused` or `dropped`.
    pub(crate) alerts: Family<OutcomeLabel, Counter>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let bounds = [0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];
        let metrics = Self {
            predictions: Counter::default(),
            anomalies: Counter::default(),
            rejected: Family::default(),
            scores: Distribution::default(),
            model_version: Gauge::default(),
            model_generation: Gauge::default(),
            swaps: Counter::default(),
            rejected_models: Counter::default(),
            batch_duration: Histogram::new(bounds),
            alerts: Family::default(),
        };
        registry.register("predictions", "Predictions committed", metrics.predictions.clone());
        registry.register("anomalies", "Anomalies among the predictions", metrics.anomalies.clone());
        registry.register("rejected", "Readings set aside, by reason", metrics.rejected.clone());
        registry.register(
            "score_to_threshold_ratio",
            "Scores of the predictions as shares of the model's threshold; above 1 is an anomaly",
            metrics.scores.clone(),
        );
        registry.register(
            "model_version",
            "Version of the model in force, or 0",
            metrics.model_version.clone(),
        );
        registry.register(
            "model_generation",
            "Generation of the model in force, or 0",
            metrics.model_generation.clone(),
        );
        registry.register("model_swaps", "Models put in force", metrics.swaps.clone());
        registry.register("rejected_models", "Models refused", metrics.rejected_models.clone());
        registry.register(
            "batch_duration_seconds",
            "Time to decode and score one batch",
            metrics.batch_duration.clone(),
        );
        registry.register("alerts", "Alerts by what became of them", metrics.alerts.clone());
        metrics
    }

    pub(crate) fn alert(&self, outcome: &'static str) {
        self.alerts.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}
