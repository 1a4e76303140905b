//! Figures of rounds: what a job did in one, and what several say together.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Job {
    /// librdkafka reads the JSON readings and does nothing with them
    ConsumeJson,
    /// librdkafka copies the JSON readings in transactions
    CopyJson,
    /// JSON to Avro and counts per window, exactly once
    Preprocessor,
    /// librdkafka reads the Avro readings and does nothing with them
    ConsumeAvro,
    /// librdkafka copies the Avro readings in transactions
    CopyAvro,
    /// A prediction for each Avro reading, exactly once
    Scorer,
    /// The trainer until it has read and decoded all
    TrainerReads,
    /// The trainer from the first reading to the published model
    Trainer,
    /// rumqttc receives QoS 1 messages and does nothing with them
    Receive,
    /// librdkafka writes the JSON readings, idempotently
    Produce,
    /// MQTT QoS 1 to Kafka, acknowledged once Kafka has them
    Bridge,
    /// Publish to committed prediction at half load
    Latency,
    /// A peer: JSON to Avro in Kafka Streams, exactly once
    StreamsConvert,
    /// A peer: predictions in Kafka Streams with ONNX Runtime, exactly once
    StreamsScore,
    /// A peer: MQTT QoS 1 to Kafka in Telegraf
    Telegraf,
    /// The trainer as TensorFlow I/O is asked to learn: the same passes and batch
    LearnSmall,
    /// A peer: Keras, from tensorflow-io's reading and decoding
    Tensorflow,
    /// The same until one pass is read
    TensorflowReads,
    /// The trainer as Keras is asked to learn: the same rows, passes and batch
    LearnLarge,
    /// A peer: Keras, from tensorflow-io's reading and fastavro's decoding
    Fastavro,
    /// A peer: Keras, from rows that fastavro decoded once
    Keras,
    /// The same until the rows are read
    KerasReads,
}

impl Job {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ConsumeJson => "librdkafka reads JSON",
            Self::CopyJson => "librdkafka copies JSON, transactions",
            Self::Preprocessor => "preprocessor, JSON to Avro",
            Self::ConsumeAvro => "librdkafka reads Avro",
            Self::CopyAvro => "librdkafka copies Avro, transactions",
            Self::Scorer => "scorer",
            Self::TrainerReads => "trainer, reading",
            Self::Trainer => "trainer, reading and learning",
            Self::Receive => "rumqttc receives, QoS 1",
            Self::Produce => "librdkafka writes JSON, idempotent",
            Self::Bridge => "bridge, QoS 1 to acks=all",
            Self::Latency => "whole pipeline",
            Self::StreamsConvert => "Kafka Streams, JSON to Avro",
            Self::StreamsScore => "Kafka Streams + ONNX, scoring",
            Self::Telegraf => "Telegraf, QoS 1 to acks=all",
            Self::LearnSmall => "trainer, rows of passes, batch 100",
            Self::Tensorflow => "TensorFlow I/O + Keras, the same",
            Self::TensorflowReads => "TensorFlow I/O, reading",
            Self::LearnLarge => "trainer, rows of passes, batch 1024",
            Self::Fastavro => "KafkaDataset + fastavro + Keras",
            Self::Keras => "Keras on an array, the same",
            Self::KerasReads => "fastavro into an array, reading",
        }
    }
}

/// What a process did between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Records that came out, or were read where nothing comes out.
    pub(crate) records: u64,
    /// Time between the moments.
    pub(crate) seconds: f64,
    /// CPU time of the process between them, user and system.
    pub(crate) cpu_seconds: f64,
    /// The most memory the process ever held.
    pub(crate) peak_rss_kb: u64,
    /// The machine's load average over a minute at the end.
    pub(crate) load: f64,
}

impl Sample {
    /// Records a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.records as f64 / self.seconds
    }

    /// Records a second of CPU time.
    pub(crate) fn per_cpu_second(&self) -> f64 {
        // Never less than a tick: a job too small for its clock must not look infinitely fast.
        self.records as f64 / self.cpu_seconds.max(0.01)
    }
}

/// What several rounds say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The middle one; of an even number the mean of the middle two.
    pub(crate) median: f64,
    /// The least.
    pub(crate) least: f64,
    /// The most.
    pub(crate) most: f64,
    /// How many rounds there were.
    pub(crate) rounds: usize,
}

impl Spread {
    /// The spread of `values`; `None` of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&least, &most) = (values.first()?, values.last()?);
        let (below, above) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { median: f64::midpoint(below, above), least, most, rounds: values.len() })
    }
}

/// How long readings took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Latency {
    /// How many there were.
    pub(crate) readings: usize,
    /// Half took no longer.
    pub(crate) p50: i64,
    /// 99 of 100 took no longer.
    pub(crate) p99: i64,
    /// 999 of 1,000 took no longer.
    pub(crate) p999: i64,
    /// The longest.
    pub(crate) most: i64,
}

impl Latency {
    /// The quantiles of `times`; `None` of nothing.
    pub(crate) fn of(mut times: Vec<i64>) -> Option<Self> {
        times.sort_unstable();
        let most = *times.last()?;
        // Nearest rank: a time that was measured, never one between two.
        let rank = |thousandths: usize| times[(times.len() * thousandths).div_ceil(1000).max(1) - 1];
        Some(Self { readings: times.len(), p50: rank(500), p99: rank(990), p999: rank(999), most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_the_ends() {
        assert_eq!(Spread::of([]), None);
        let odd = Spread::of([3.0, 1.0, 20.0]).unwrap();
        assert_eq!((odd.median, odd.least, odd.most, odd.rounds), (3.0, 1.0, 20.0, 3));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 100.0]).unwrap().median, 3.0);
    }

    #[test]
    fn quantiles_are_times_that_were_measured() {
        assert_eq!(Latency::of(Vec::new()), None);
        let one = Latency::of(vec![7]).unwrap();
        assert_eq!((one.p50, one.p99, one.p999, one.most), (7, 7, 7, 7));
        let thousand = Latency::of((1..=1000).rev().collect()).unwrap();
        assert_eq!((thousand.p50, thousand.p99, thousand.p999, thousand.most), (500, 990, 999, 1000));
    }

    #[test]
    fn a_job_without_a_tick_of_cpu_time_is_not_infinitely_fast() {
        let sample = Sample { records: 100, seconds: 2.0, cpu_seconds: 0.0, peak_rss_kb: 0, load: 0.0 };
        assert_eq!((sample.per_second(), sample.per_cpu_second()), (50.0, 10_000.0));
    }
}
