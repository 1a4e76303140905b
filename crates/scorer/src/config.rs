//! Settings of the scorer, and why it stops.

use std::path::PathBuf;

use clap::Parser;
use telltale_kafka::exactly_once::{self, LoopFlags};
use telltale_kafka::{KafkaConfig, RegistryConfig, RegistryError};
use telltale_model::KeyError;
use telltale_mqtt::MqttConfig;
use telltale_records::topics;

/// Scores every clean reading with the newest model, exactly once.
///
/// Each setting is a flag and an environment variable; `--help` is the reference.
#[derive(Debug, Clone, Parser)]
pub struct Config {
    /// Where Kafka is.
    #[command(flatten)]
    pub kafka: KafkaConfig,

    /// Where the schema registry is.
    #[command(flatten)]
    pub registry: RegistryConfig,

    /// Topic of the clean readings, keyed by device, with the event time as time stamp
    #[arg(long, env = "READINGS_TOPIC", value_name = "TOPIC", default_value = topics::CLEAN)]
    pub readings: String,

    /// Topic to write predictions to
    #[arg(long, env = "PREDICTIONS_TOPIC", value_name = "TOPIC", default_value = topics::PREDICTIONS)]
    pub predictions: String,

    /// Name of the model to score with
    #[arg(long, env = "MODEL", value_name = "NAME", default_value = "cars")]
    pub model: String,

    /// File with a public key (PEM) that may sign models; several times for several keys
    #[arg(long, env = "TRUSTED_KEY", value_name = "FILE", required = true, value_delimiter = ',')]
    pub trusted_key: Vec<PathBuf>,

    /// Consumer group: its members share the partitions
    #[arg(long, env = "GROUP", value_name = "NAME", default_value = "telltale-scorer")]
    pub group: String,

    /// Name of this instance, different from every other of the group and the same after a restart
    #[arg(long, env = "IDENTITY", value_name = "NAME", default_value = "scorer")]
    pub identity: String,

    /// How partitions are shared and transactions cut.
    #[command(flatten)]
    pub work: LoopFlags,

    /// Tell each anomaly to the MQTT topic `alerts/<device>`, best effort
    #[arg(long, env = "ALERTS")]
    pub alerts: bool,

    /// Where alerts go.
    #[command(flatten)]
    pub mqtt: MqttConfig,
}

/// Why the scorer stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name cannot be one of a model.
    #[error("--model {name:?} is no model name: 1 to 64 letters, digits, dots, dashes or underscores")]
    ModelName {
        /// The name.
        name: String,
    },
    /// The trusted keys could not be read.
    #[error("reading the keys of --trusted-key")]
    Keys(#[from] KeyError),
    /// The MQTT settings cannot be used.
    #[error(transparent)]
    Mqtt(#[from] telltale_mqtt::ConfigError),
    /// The registry's settings cannot be used, or it refuses the schema of predictions.
    #[error("registering the schema of predictions")]
    Registry(#[from] RegistryError),
    /// Kafka could not be used.
    #[error(transparent)]
    Kafka(#[from] telltale_kafka::Error),
    /// A worker failed.
    #[error(transparent)]
    Worker(#[from] exactly_once::Error<StepError>),
}

/// What scoring a batch waits for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The registry did not say what a reading was written with.
    #[error("looking up the schema of a reading")]
    Registry(#[source] RegistryError),
    /// There was a batch, but no model.
    #[error("there is no model to score with")]
    NoModel,
}

impl Config {
    /// Checks what no single setting can.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !telltale_records::manifest::is_name(&self.model) {
            return Err(Error::ModelName { name: self.model.clone() });
        }
        self.work.check()?;
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
    fn wrong_settings_are_named() {
        let parse = |flags: &[&str]| {
            let config =
                Config::try_parse_from([&["scorer", "--trusted-key", "key.pem"], flags].concat()).unwrap();
            config.check().unwrap_err().to_string()
        };
        assert!(parse(&["--model", "a/b"]).starts_with("--model \"a/b\" is no model name"));
        assert_eq!(parse(&["--linger", "11s"]), "--linger 11s is longer than 10s");
        assert!(Config::try_parse_from(["scorer"]).unwrap_err().to_string().contains("--trusted-key"));
        assert!(Config::try_parse_from(["scorer", "--trusted-key", "k", "--workers", "0"]).is_err());
    }
}
