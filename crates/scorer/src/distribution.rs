//! How scores are distributed: a histogram that costs a reading a few comparisons and a transaction one lock.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Upper bounds of the buckets, in thresholds. The one at 1 parts the verdicts: what lies above it is an anomaly.
const BOUNDS: [f64; 14] = [0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 10.0, 30.0, 100.0];

/// Scores of a transaction, counted by the worker that has it in hand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// One for each bound, and one for what lies above them all; not cumulative.
    buckets: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Counts {
    /// Counts a score as a share of `threshold`, so that scores of different models compare. Models have thresholds above 0.
    pub(crate) fn observe(&mut self, score: f64, threshold: f64) {
        let ratio = score / threshold;
        self.buckets[BOUNDS.partition_point(|bound| *bound < ratio)] += 1;
        self.sum += ratio;
    }
}

/// Scores whose transactions were committed; clones share their values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Distribution {
    committed: Arc<Mutex<Counts>>,
}

impl Distribution {
    /// Adds the scores of a transaction.
    pub(crate) fn add(&self, counts: &Counts) {
        let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        for (total, more) in committed.buckets.iter_mut().zip(counts.buckets) {
            *total += more;
        }
        committed.sum += counts.sum;
    }
}

impl EncodeMetric for Distribution {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        let committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(committed.buckets).collect();
        let count = committed.buckets.iter().sum();
        encoder.encode_histogram::<NoLabelSet>(committed.sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::*;

    fn encoded(distribution: &Distribution) -> String {
        let mut registry = Registry::default();
        registry.register("ratio", "Scores", distribution.clone());
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn counts_committed_scores_in_buckets() {
        let distribution = Distribution::default();
        let mut counts = Counts::default();
        for score in [0.0, 0.031_25, 0.5, 1000.0] {
            counts.observe(score, 2.0);
        }
        assert!(encoded(&distribution).contains("ratio_count 0\n"), "nothing is committed yet");
        distribution.add(&counts);
        distribution.add(&counts);
        let text = encoded(&distribution);
        for line in [
            "# TYPE ratio histogram",
            "ratio_bucket{le=\"0.01\"} 2",
            "ratio_bucket{le=\"0.2\"} 4",
            "ratio_bucket{le=\"0.3\"} 6",
            "ratio_bucket{le=\"100.0\"} 6",
            "ratio_bucket{le=\"+Inf\"} 8",
            "ratio_count 8",
            "ratio_sum 1000.53125",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is missing:\n{text}");
        }
    }

    #[test]
    fn the_bucket_at_one_parts_the_verdicts() {
        let one = BOUNDS.iter().position(|it| *it == 1.0).unwrap();
        // The score is an f32, and the next one above the threshold is an anomaly.
        for threshold in [f32::MIN_POSITIVE, 1e-3, 0.1, 0.3, 7.0, f32::MAX / 2.0] {
            for (score, bucket) in [(threshold, one), (threshold.next_up(), one + 1)] {
                let mut counts = Counts::default();
                counts.observe(f64::from(score), f64::from(threshold));
                assert_eq!(counts.buckets[bucket], 1, "{score} of {threshold}: {counts:?}");
            }
        }
    }
}
