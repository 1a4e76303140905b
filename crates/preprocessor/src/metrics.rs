//! What the preprocessor counts besides what the loop counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Label: why records were set aside.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: &'static str,
}

/// Label: a window table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TableLabel {
    pub(crate) table: String,
}

/// The preprocessor's own metrics; clones share their values.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Records set aside, by reason; counted once they are committed.
    pub(crate) rejected: Family<ReasonLabel, Counter>,
    /// Readings too late for their window, by table; they were delivered all the same.
    pub(crate) late: Family<TableLabel, Counter>,
    /// Counts in memory.
    pub(crate) open_windows: Gauge,
    /// Time to compute a batch, in seconds.
    pub(crate) batch_duration: Histogram,
    /// Time to read the state of partitions back, in seconds.
    pub(crate) restore_duration: Histogram,
    /// Records found in tables that are none of their rows.
    pub(crate) foreign_rows: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            rejected: Family::default(),
            late: Family::default(),
            open_windows: Gauge::default(),
            batch_duration: Histogram::new([0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5]),
            restore_duration: Histogram::new([0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0]),
            foreign_rows: Counter::default(),
        };
        registry.register("rejected", "Records set aside, by reason", metrics.rejected.clone());
        registry.register(
            "late_readings",
            "Readings delivered but too late for their window",
            metrics.late.clone(),
        );
        registry.register("open_windows", "Counts of open windows in memory", metrics.open_windows.clone());
        let (batch, restore) = (metrics.batch_duration.clone(), metrics.restore_duration.clone());
        registry.register("batch_duration_seconds", "Time to compute a batch", batch);
        registry.register("restore_duration_seconds", "Time to read the state of partitions back", restore);
        registry.register(
            "foreign_rows",
            "Records in tables that are no rows of theirs",
            metrics.foreign_rows.clone(),
        );
        metrics
    }
}
