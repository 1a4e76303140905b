//! The topics services meet at: names, keys and configuration.

/// Readings as the devices sent them.
pub const SENSOR_DATA: &str = "sensor-data";
/// Clean readings as Avro, keyed by car.
pub const CLEAN: &str = "SENSOR_DATA_S_AVRO";
/// Readings counted per car and five minutes.
pub const EVENTS_PER_5MIN: &str = "SENSOR_DATA_EVENTS_PER_5MIN_T";
/// Models in force: manifests and chunks.
pub const MODELS: &str = "models";
/// Every manifest, promotion, rollback and rejection ever.
pub const MODELS_AUDIT: &str = "models-audit";
/// One prediction for each clean reading.
pub const PREDICTIONS: &str = "model-predictions";
/// Training curves, evaluations, drift.
pub const MODEL_METRICS: &str = "model-metrics";
/// Records that could not go on.
pub const DEAD_LETTERS: &str = "dead-letters";
/// What the simulator did to which car: for evaluation only, no service reads it.
pub const TRUTH: &str = "fleet-truth";

/// A topic as `telltale topics create` makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name of the topic.
    pub name: &'static str,
    /// Whether the topic has as many partitions as the fleet's data is split into; else it has one.
    pub partitioned: bool,
    /// Kafka topic configuration other than the defaults.
    pub config: &'static [(&'static str, &'static str)],
}

const SEVEN_DAYS: (&str, &str) = ("retention.ms", "604800000");
const FOURTEEN_DAYS: (&str, &str) = ("retention.ms", "1209600000");
const DELETE: (&str, &str) = ("cleanup.policy", "delete");
const COMPACT: (&str, &str) = ("cleanup.policy", "compact");
/// What Kafka takes as a record by default, and room for the headers that say why it is a dead letter.
const WITH_REASON: (&str, &str) = ("max.message.bytes", "2097152");
const FOR_EVER: (&str, &str) = ("retention.ms", "-1");

/// Every topic of the design.
///
/// The partitioned ones must keep equal partition counts: a window's count is written to the partition
/// its readings came from.
pub const ALL: &[TopicSpec] = &[
    TopicSpec { name: SENSOR_DATA, partitioned: true, config: &[DELETE, SEVEN_DAYS] },
    TopicSpec { name: CLEAN, partitioned: true, config: &[DELETE, SEVEN_DAYS] },
    TopicSpec { name: EVENTS_PER_5MIN, partitioned: true, config: &[COMPACT] },
    TopicSpec { name: MODELS, partitioned: false, config: &[COMPACT] },
    TopicSpec { name: MODELS_AUDIT, partitioned: false, config: &[DELETE, FOR_EVER] },
    TopicSpec { name: PREDICTIONS, partitioned: true, config: &[DELETE, SEVEN_DAYS] },
    TopicSpec { name: MODEL_METRICS, partitioned: false, config: &[DELETE, SEVEN_DAYS] },
    TopicSpec { name: DEAD_LETTERS, partitioned: false, config: &[DELETE, FOURTEEN_DAYS, WITH_REASON] },
    TopicSpec { name: TRUTH, partitioned: false, config: &[DELETE, SEVEN_DAYS] },
];
