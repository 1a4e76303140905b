//! What the live view shows: plain values, filled in by whoever watches the topics.

use std::time::Duration;

/// What the demo is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Engines and services start.
    #[default]
    Starting,
    /// Cars connect, readings flow, no model yet.
    Learning,
    /// Readings are scored.
    Scoring,
    /// The cars have stopped; the services finish what is on its way.
    Draining,
    /// The topics are read back and checked.
    Verifying,
}

impl Phase {
    /// The phase in one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Learning => "learning",
            Self::Scoring => "scoring",
            Self::Draining => "draining",
            Self::Verifying => "verifying",
        }
    }

    /// The phase in words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Learning => "waiting for the first model",
            Self::Scoring => "scoring",
            Self::Draining => "cars stopped, finishing what is on its way",
            Self::Verifying => "reading everything back to verify it",
        }
    }
}

/// One stage of the way of the data.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StageLine {
    /// Who works there.
    pub stage: &'static str,
    /// What it writes, in words.
    pub writes: &'static str,
    /// Records so far.
    pub records: u64,
    /// Records in the last second.
    pub per_second: f64,
    /// Records it has yet to work off; `None` where it has no input to lag behind.
    pub lag: Option<u64>,
}

/// A model that is or was in force.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelInForce {
    /// Version.
    pub version: u64,
    /// SHA-256 of the artifact in hexadecimal digits.
    pub sha256: String,
    /// Readings it learnt from.
    pub rows: u64,
    /// Duration of the training.
    pub training: Duration,
    /// Score above which a reading is an anomaly.
    pub threshold: f64,
    /// Time since the start at which the first prediction by it was committed.
    pub since: Duration,
}

/// What the truth says of a car that gave alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is failing, in this way.
    Right(String),
    /// It has hardly begun to fail, in this way: the alarm is early.
    Early(String),
    /// It was failing until a moment ago, in this way.
    Repaired(String),
    /// It is healthy.
    Wrong,
}

/// A car that stands out.
#[derive(Debug, Clone, PartialEq)]
pub struct WorstCar {
    /// The car.
    pub car: String,
    /// Its score as a multiple of the threshold, averaged over its last readings.
    pub times_threshold: f64,
    /// Sensors that contribute most, each with its share of the score.
    pub sensors: Vec<(String, f64)>,
    /// Whether the alarm is right.
    pub verdict: Verdict,
}

/// The whole view.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Screen {
    /// Cars of the fleet.
    pub cars: u64,
    /// Cars connected now.
    pub connected: u64,
    /// Readings a second of each car.
    pub rate: f64,
    /// Seed of the fleet.
    pub seed: u64,
    /// Time since the start.
    pub elapsed: Duration,
    /// How long the demo runs; `None` until Ctrl-C.
    pub length: Option<Duration>,
    /// What the demo is doing.
    pub phase: Phase,
    /// The stages, in the order of the data.
    pub stages: Vec<StageLine>,
    /// Latency from publishing to the committed prediction over the last second: p50 and p99 in ms.
    pub latency_ms: Option<(u64, u64)>,
    /// p99 of the last seconds, oldest first, in ms.
    pub latency_history: Vec<u64>,
    /// Models that are or were in force, newest first.
    pub models: Vec<ModelInForce>,
    /// The cars that stand out most, worst first.
    pub worst: Vec<WorstCar>,
    /// Readings over the threshold that were right, early or late by a moment, and wrong.
    pub alarms: (u64, u64, u64),
    /// Processor time in seconds used in the last second, so 1 is one core busy.
    pub cores_busy: Option<f64>,
    /// Resident memory in MB.
    pub memory_mb: Option<f64>,
    /// Where everything can be reached.
    pub addresses: String,
    /// Latest warnings of the services, oldest first.
    pub warnings: Vec<String>,
}

impl Screen {
    /// The model in force.
    #[must_use]
    pub fn model(&self) -> Option<&ModelInForce> {
        self.models.first()
    }
}

#[cfg(test)]
pub(crate) fn example() -> Screen {
    let stage = |stage, writes, records, lag| StageLine { stage, writes, records, per_second: 1000.0, lag };
    Screen {
        cars: 1000,
        connected: 1000,
        rate: 1.0,
        seed: 7,
        elapsed: Duration::from_secs(42),
        length: Some(Duration::from_secs(60)),
        phase: Phase::Scoring,
        stages: vec![
            stage("cars", "published by MQTT", 41_000, None),
            stage("bridge", "sensor-data", 40_998, Some(2)),
            stage("preprocessor", "SENSOR_DATA_S_AVRO", 40_990, Some(8)),
            stage("scorer", "model-predictions", 40_980, Some(10)),
        ],
        latency_ms: Some((31, 74)),
        latency_history: vec![40, 50, 74],
        models: vec![
            ModelInForce {
                version: 2,
                sha256: "0123456789abcdef".into(),
                rows: 35_000,
                training: Duration::from_millis(1_840),
                threshold: 2.5,
                since: Duration::from_secs(40),
            },
            ModelInForce { version: 1, since: Duration::from_secs(8), ..ModelInForce::default() },
        ],
        worst: vec![
            WorstCar {
                car: "car-000123".into(),
                times_threshold: 12.1,
                sensors: vec![("TIRE_PRESSURE11".into(), 0.61), ("SPEED".into(), 0.2)],
                verdict: Verdict::Right("tyre-leak".into()),
            },
            WorstCar {
                car: "car-000007".into(),
                times_threshold: 1.2,
                sensors: vec![],
                verdict: Verdict::Wrong,
            },
        ],
        alarms: (312, 20, 4),
        cores_busy: Some(0.74),
        memory_mb: Some(312.0),
        addresses: "MQTT 127.0.0.1:1883  Kafka 127.0.0.1:9092".into(),
        warnings: vec![],
    }
}
