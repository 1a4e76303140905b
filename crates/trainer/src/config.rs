//! Settings of the trainer.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use clap::Parser;
use telltale_features::Specification;
use telltale_kafka::{KafkaConfig, RegistryConfig};
use telltale_model::TrainingConfig;
use telltale_model::trainer::LEAST_ROWS;
use telltale_records::{manifest, topics};

use crate::error::Error;
use crate::ranges::Bound;

/// Trains models on the clean readings in the log and publishes them.
///
/// Without `--once` it goes on: a first version as soon as there are enough readings, then a new one whenever
/// there are several times as many, and at least once an interval. Each setting is a flag and an environment
/// variable; `--help` is the reference.
#[derive(Debug, Clone, Parser)]
pub struct Config {
    /// Where Kafka is.
    #[command(flatten)]
    pub kafka: KafkaConfig,

    /// Where the schema registry is.
    #[command(flatten)]
    pub registry: RegistryConfig,

    /// Topic of the clean readings: the key is the device, the time stamp the event time
    #[arg(long, env = "READINGS_TOPIC", value_name = "TOPIC", default_value = topics::CLEAN)]
    pub readings: String,

    /// Name of the model, which its versions share
    #[arg(long, env = "MODEL", value_name = "NAME", default_value = "cars")]
    pub model: String,

    /// File with the private key (PEM) that signs models; `telltale keys generate` makes one
    #[arg(long, env = "SIGNING_KEY", value_name = "FILE")]
    pub signing_key: PathBuf,

    /// File with the public key (PEM) of an earlier signing key, whose version numbers count too; repeatable
    #[arg(long, env = "TRUSTED_KEY", value_name = "FILE", value_delimiter = ',')]
    pub trusted_key: Vec<PathBuf>,

    /// File that says which columns the model sees and how (TOML); the car default if absent
    #[arg(long, env = "FEATURES", value_name = "FILE")]
    pub features: Option<PathBuf>,

    /// Seed: the same readings, settings and seed give the same model, byte for byte
    #[arg(long, env = "SEED", value_name = "NUMBER", default_value = "1")]
    pub seed: u64,

    /// How the model is trained.
    #[command(flatten)]
    pub training: TrainingFlags,

    /// Train one version, publish it and end
    #[arg(long, env = "ONCE")]
    pub once: bool,

    /// First offset to read of a partition, as PARTITION:OFFSET; repeatable; the first there is if absent
    #[arg(
        long,
        env = "READ_FROM",
        value_name = "P:OFFSET",
        value_delimiter = ',',
        requires = "once",
        conflicts_with = "last"
    )]
    pub from: Vec<Bound>,

    /// Offset of a partition to end before, as PARTITION:OFFSET; repeatable; the end if absent
    #[arg(
        long,
        env = "READ_TO",
        value_name = "P:OFFSET",
        value_delimiter = ',',
        requires = "once",
        conflicts_with = "last"
    )]
    pub to: Vec<Bound>,

    /// Offsets to read before the end, over all partitions together; 200000 where no range is given
    #[arg(long, env = "READ_LAST", value_name = "COUNT")]
    pub last: Option<NonZeroUsize>,

    /// Readings that the first version waits for
    #[arg(long, env = "FIRST_ROWS", value_name = "COUNT", default_value = "4000")]
    pub first_rows: usize,

    /// A new version is trained when there are this many times the readings of the one before, at least 1.1
    #[arg(long, env = "GROWTH", value_name = "FACTOR", default_value = "3")]
    pub growth: f64,

    /// A new version is trained after this many new readings; 0 for never
    #[arg(long, env = "EVERY_ROWS", value_name = "COUNT", default_value = "2000000")]
    pub every_rows: u64,

    /// A new version is trained after this time, if there are new readings
    #[arg(long, env = "INTERVAL", value_name = "DURATION", default_value = "45s")]
    pub interval: humantime::Duration,

    /// Shortest time between two versions
    #[arg(long, env = "MIN_INTERVAL", value_name = "DURATION", default_value = "10s")]
    pub min_interval: humantime::Duration,

    /// Threads that read and decode partitions
    #[arg(long, env = "READERS", value_name = "COUNT", default_value = "2")]
    pub readers: NonZeroUsize,
}

/// How a model is trained.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Training")]
pub struct TrainingFlags {
    /// Share of healthy readings that may score above the threshold, 0.00001 to 0.2
    #[arg(long, env = "FALSE_ALARM_RATE", value_name = "SHARE", default_value_t = DEFAULT.false_alarm_rate)]
    pub false_alarm_rate: f64,

    /// Widths of the hidden layers, separated by commas
    #[arg(long, env = "HIDDEN", value_name = "WIDTHS", value_delimiter = ',', default_value = "24,12,24")]
    pub hidden: Vec<usize>,

    /// Most passes over the readings
    #[arg(long, env = "EPOCHS", value_name = "COUNT", default_value_t = DEFAULT.epochs)]
    pub epochs: u32,

    /// Most readings visited in all passes together: bounds the time that training takes
    #[arg(long, env = "VISITS", value_name = "COUNT", default_value_t = DEFAULT.visits)]
    pub visits: u64,

    /// Readings of one step, 1 to 65536
    #[arg(long, env = "BATCH", value_name = "COUNT", default_value_t = DEFAULT.batch)]
    pub batch: usize,

    /// Step size at the start, above 0
    #[arg(long, env = "LEARNING_RATE", value_name = "SIZE", default_value_t = DEFAULT.learning_rate)]
    pub learning_rate: f32,

    /// Standard deviation of the noise added while learning, in normalised units, 0 to 10
    #[arg(long, env = "NOISE", value_name = "SIZE", default_value_t = DEFAULT.noise)]
    pub noise: f32,

    /// Share of devices held back to stop early and to set the threshold, 0.05 to 0.5
    #[arg(long, env = "HELD_BACK", value_name = "SHARE", default_value_t = DEFAULT.held_back)]
    pub held_back: f64,

    /// Passes without improvement before training stops
    #[arg(long, env = "PATIENCE", value_name = "COUNT", default_value_t = DEFAULT.patience)]
    pub patience: u32,

    /// Most readings kept in memory, 1000 to 10000000; of more, whole minutes of devices are chosen by hash
    #[arg(long, env = "CAPACITY", value_name = "COUNT", default_value_t = DEFAULT.capacity)]
    pub capacity: usize,
}

/// What `--help` shows and what is taken where a flag is left out.
static DEFAULT: LazyLock<TrainingConfig> = LazyLock::new(TrainingConfig::default);

impl TrainingFlags {
    /// The settings as the model's code knows them.
    #[must_use]
    pub fn config(&self) -> TrainingConfig {
        TrainingConfig {
            hidden: self.hidden.clone(),
            epochs: self.epochs,
            visits: self.visits,
            batch: self.batch,
            learning_rate: self.learning_rate,
            noise: self.noise,
            held_back: self.held_back,
            patience: self.patience,
            false_alarm_rate: self.false_alarm_rate,
            capacity: self.capacity,
        }
    }
}

impl Config {
    /// Offsets to read before the end where no range is given.
    const LAST: usize = 200_000;

    /// Offsets to read before the end, over all partitions.
    pub(crate) fn last_offsets(&self) -> usize {
        self.last.map_or(Self::LAST, NonZeroUsize::get)
    }

    /// What the model sees of a reading.
    pub(crate) fn specification(&self) -> Result<Specification, Error> {
        self.features.as_deref().map_or_else(|| Ok(Specification::cars()), |it| Ok(Specification::read(it)?))
    }

    /// Checks what no single setting can.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |flag: &str, value: String, expected: &str| {
            Err(Error::Setting { flag: String::from(flag), value, expected: expected.to_owned() })
        };
        if !manifest::is_name(&self.model) {
            return wrong(
                "--model",
                self.model.clone(),
                "1 to 64 letters, digits, dots, dashes or underscores",
            );
        }
        if self.first_rows < LEAST_ROWS {
            return wrong("--first-rows", self.first_rows.to_string(), "at least 200");
        }
        if !(self.growth >= 1.1 && self.growth.is_finite()) {
            return wrong("--growth", self.growth.to_string(), "at least 1.1");
        }
        if self.interval.is_zero() {
            return wrong("--interval", self.interval.to_string(), "longer than 0s");
        }
        if Duration::from(self.min_interval) > Duration::from(self.interval) {
            let value = self.min_interval.to_string();
            return wrong("--min-interval", value, &format!("at most --interval, {}", self.interval));
        }
        self.training.config().check().map_err(|it| Error::Setting {
            // Each of its settings is a flag of the same name.
            flag: format!("--{}", it.field.replace('_', "-")),
            value: it.value,
            expected: it.expected,
        })?;
        self.kafka.check()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Config::command().debug_assert();
    }

    #[test]
    fn left_out_settings_are_the_defaults_and_help_shows_them() {
        let parsed = Config::try_parse_from(["trainer", "--signing-key", "key.pem"]).unwrap();
        assert_eq!(parsed.training.config(), TrainingConfig::default());
        let help = Config::command().render_long_help().to_string();
        let training = help.split("Training:").nth(1).unwrap();
        for shown in ["[default: 0.005]", "[default: 24,12,24]", "[default: 200000]", "[default: 0.3]"] {
            assert!(training.contains(shown), "{shown}: {training}");
        }
    }

    #[test]
    fn wrong_settings_are_named() {
        let cases: [(&[&str], &str); 7] = [
            (&["--model", "a/b"], "--model is a/b, but must be"),
            (&["--first-rows", "10"], "--first-rows is 10, but must be at least 200"),
            (&["--growth", "NaN"], "--growth is NaN"),
            (&["--interval", "5s"], "--min-interval is 10s, but must be at most --interval, 5s"),
            (&["--false-alarm-rate", "0.9"], "--false-alarm-rate is 0.9, but must be 0.00001 to 0.2"),
            (&["--hidden", "0"], "--hidden is [0]"),
            (&["--kafka-ca", "ca.pem"], "--kafka-security tls"),
        ];
        for (flags, expected) in cases {
            let flags = [&["trainer", "--signing-key", "key.pem"], flags].concat();
            let error = Config::try_parse_from(&flags).unwrap().check().unwrap_err();
            assert!(error.to_string().contains(expected), "{flags:?}: {error}");
        }
    }

    #[test]
    fn ranges_need_one_version_and_no_count() {
        let parse =
            |more: &[&str]| Config::try_parse_from([&["trainer", "--signing-key", "key.pem"], more].concat());
        assert!(parse(&["--from", "0:5"]).unwrap_err().to_string().contains("--once"));
        assert!(parse(&["--once", "--from", "0:5", "--last", "7"]).is_err());
        assert!(parse(&["--once", "--from", "0"]).unwrap_err().to_string().contains("PARTITION:OFFSET"));
        assert_eq!(parse(&["--once", "--from", "0:5,1:7"]).unwrap().from.len(), 2);
    }
}
