//! What the bridge counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use telltale_records::Rejection;

/// Label: the Kafka topic of a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TopicLabel {
    topic: String,
}

/// Label: why messages were set aside.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: &'static str,
}

/// The metrics of one mapping; looked up once, so that a message costs no look-up.
#[derive(Debug, Clone)]
pub(crate) struct LaneMetrics {
    pub(crate) messages: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) delivered: Counter,
    pub(crate) dead_letters: Counter,
    pub(crate) acknowledged: Counter,
    pub(crate) best_effort_dropped: Counter,
    pub(crate) passed_over: Counter,
    pub(crate) properties_dropped: Counter,
    pub(crate) disconnects: Counter,
    pub(crate) waiting: Gauge,
    /// Of all mappings together.
    pub(crate) rejected: Family<ReasonLabel, Counter>,
}

impl LaneMetrics {
    /// Counts a message that is in Kafka as a dead letter.
    pub(crate) fn dead_letter(&self, rejection: Option<&Rejection>) {
        self.dead_letters.inc();
        let reason = rejection.expect("a dead letter has a reason").reason.as_str();
        self.rejected.get_or_create(&ReasonLabel { reason }).inc();
    }
}

/// The metrics of the bridge.
#[derive(Debug)]
pub(crate) struct Metrics {
    counters: [(Family<TopicLabel, Counter>, &'static str, &'static str); 9],
    waiting: Family<TopicLabel, Gauge>,
    rejected: Family<ReasonLabel, Counter>,
    pub(crate) delivery: Histogram,
    pub(crate) broker_dropped: BrokerDropped,
}

/// What the MQTT broker tells of messages it dropped.
#[derive(Debug, Clone)]
pub(crate) struct BrokerDropped(Gauge);

impl BrokerDropped {
    /// Sets the count; returns the one before, -1 where there was none.
    pub(crate) fn set(&self, count: i64) -> i64 {
        self.0.set(count)
    }
}

impl Metrics {
    /// Makes the metrics and registers them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let counters = [
            ("messages", "MQTT messages received, by the Kafka topic they are mapped to"),
            ("duplicates", "MQTT messages that the broker had sent before"),
            ("records_delivered", "Records that all in-sync replicas have"),
            ("dead_letters", "Messages that went to the topic of dead letters"),
            ("acknowledged", "MQTT messages acknowledged to the broker"),
            ("best_effort_dropped", "MQTT messages of quality of service 0 dropped for want of room"),
            ("passed_over", "MQTT messages left to the broker for want of room, to be sent again"),
            ("properties_dropped", "MQTT user properties that did not fit into the headers of a record"),
            ("disconnects", "Connections to the MQTT broker that ended or did not come about"),
        ]
        .map(|(name, help)| (Family::<TopicLabel, Counter>::default(), name, help));
        for (family, name, help) in &counters {
            registry.register(*name, *help, family.clone());
        }
        let waiting = Family::<TopicLabel, Gauge>::default();
        registry.register("waiting_messages", "Messages received and not yet in Kafka", waiting.clone());
        let rejected = Family::default();
        registry.register("rejected", "Messages set aside, by reason", rejected.clone());
        let bounds = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0];
        let delivery = Histogram::new(bounds);
        let help = "Time from a message's receipt to Kafka's report that it is delivered";
        registry.register_with_unit("delivery_duration", help, Unit::Seconds, delivery.clone());
        let broker_dropped = BrokerDropped(Gauge::default());
        broker_dropped.set(-1);
        let help = "Messages that the MQTT broker has dropped since its start, for any client; -1 while it has told nothing";
        registry.register("broker_dropped_messages", help, broker_dropped.0.clone());
        Self { counters, waiting, rejected, delivery, broker_dropped }
    }

    /// The metrics of the mapping to `topic`.
    pub(crate) fn of(&self, topic: &str) -> LaneMetrics {
        let label = TopicLabel { topic: topic.to_owned() };
        let [
            messages,
            duplicates,
            delivered,
            dead_letters,
            acknowledged,
            best_effort_dropped,
            passed_over,
            properties_dropped,
            disconnects,
        ] = [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|it: usize| self.counters[it].0.get_or_create_owned(&label));
        let waiting = self.waiting.get_or_create_owned(&label);
        LaneMetrics {
            messages,
            duplicates,
            delivered,
            dead_letters,
            acknowledged,
            best_effort_dropped,
            passed_over,
            properties_dropped,
            disconnects,
            waiting,
            rejected: self.rejected.clone(),
        }
    }
}
