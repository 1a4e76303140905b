//! What the loop counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::TopicPartition;

/// Label: a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TopicLabel {
    /// Name of the topic.
    pub topic: String,
}

/// Label: how something ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// `committed` or `aborted`.
    pub outcome: &'static str,
}

/// The loop's metrics; clones share their values.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Records whose transaction was committed, by source topic.
    pub records_in: Family<TopicLabel, Counter>,
    /// Records written by committed transactions, by target topic; dead letters too.
    pub records_out: Family<TopicLabel, Counter>,
    /// Dead letters written by committed transactions.
    pub dead_letters: Counter,
    /// Transactions, by outcome.
    pub transactions: Family<OutcomeLabel, Counter>,
    /// Producers that were rebuilt because the outcome of a transaction was in doubt, or their connection ended.
    pub rebuilds: Counter,
    /// Time from the beginning of a transaction to its commit, in seconds.
    pub transaction_duration: Histogram,
    /// Records not consumed yet, by source topic, over the partitions of this process.
    pub lag: Family<TopicLabel, Gauge>,
    lags: Arc<Mutex<HashMap<TopicPartition, i64>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let bounds = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
        Self {
            records_in: Family::default(),
            records_out: Family::default(),
            dead_letters: Counter::default(),
            transactions: Family::default(),
            rebuilds: Counter::default(),
            transaction_duration: Histogram::new(bounds),
            lag: Family::default(),
            lags: Arc::default(),
        }
    }
}

impl Metrics {
    /// Makes the metrics and enters them into `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("records_in", "Records committed, by source topic", metrics.records_in.clone());
        registry.register("records_out", "Records written, by target topic", metrics.records_out.clone());
        registry.register("dead_letters", "Records set aside as dead letters", metrics.dead_letters.clone());
        registry.register("transactions", "Transactions, by outcome", metrics.transactions.clone());
        registry.register(
            "producer_rebuilds",
            "Producers rebuilt after a doubtful outcome or the end of their connection",
            metrics.rebuilds.clone(),
        );
        let (duration, lag) = (metrics.transaction_duration.clone(), metrics.lag.clone());
        registry.register("transaction_duration_seconds", "Time of a committed transaction", duration);
        registry.register("lag_records", "Records not consumed yet, by source topic", lag);
        metrics
    }

    /// Takes in how far behind each of a worker's partitions is.
    pub(super) fn set_lag(&self, of: impl IntoIterator<Item = (TopicPartition, i64)>) {
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.extend(of);
        self.publish(&lags);
    }

    /// Forgets partitions that another process reads from now on.
    pub(super) fn forget_lag(&self, partitions: &[TopicPartition]) {
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in partitions {
            // The topic stays, so that its gauge goes to 0 and not just stale.
            if let Some(lag) = lags.get_mut(partition) {
                *lag = 0;
            }
        }
        self.publish(&lags);
    }

    fn publish(&self, lags: &HashMap<TopicPartition, i64>) {
        let mut sums: HashMap<&str, i64> = HashMap::new();
        for (partition, lag) in lags {
            *sums.entry(&partition.topic).or_default() += lag;
        }
        for (topic, sum) in sums {
            self.lag.get_or_create(&TopicLabel { topic: topic.to_owned() }).set(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_sum_over_partitions_held() {
        let metrics = Metrics::default();
        let at = |partition| TopicPartition { topic: "cars".into(), partition };
        metrics.set_lag([(at(0), 5), (at(1), 7)]);
        metrics.set_lag([(at(1), 8)]);
        let lag = || metrics.lag.get_or_create(&TopicLabel { topic: "cars".to_owned() }).get();
        assert_eq!(lag(), 13);
        metrics.forget_lag(&[at(0)]);
        assert_eq!(lag(), 8);
    }
}
