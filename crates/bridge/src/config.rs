//! The settings of the bridge.

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde::Deserialize;
use telltale_kafka::KafkaConfig;
use telltale_mqtt::MqttConfig;
use telltale_records::topics::DEAD_LETTERS;

use crate::mapping::{KafkaTopic, Mapping};

/// Moves MQTT messages into Kafka and acknowledges them once Kafka has them.
///
/// Each setting is a flag and an environment variable; `--help` is the reference.
#[derive(Debug, Clone, Parser)]
pub struct Config {
    /// The broker that messages come from.
    #[command(flatten)]
    pub mqtt: MqttConfig,

    /// The Kafka that they go to.
    #[command(flatten)]
    pub kafka: KafkaConfig,

    /// MQTT messages to move, as FILTER=TOPIC or FILTER=TOPIC:KEY; may be repeated
    ///
    /// KEY is what becomes the key of the record: `last` (the last level of the MQTT topic, the default), the
    /// number of a level from 1, `topic` or `none`. Each mapping has an MQTT session of its own; within one,
    /// messages keep their order. [default: vehicles/sensor/data/+=sensor-data and vehicles/truth/+=fleet-truth]
    #[arg(long = "map", env = "MAP", value_name = "FILTER=TOPIC[:KEY]", value_delimiter = ' ')]
    pub map: Vec<Mapping>,

    /// File with mappings: a TOML table `[[mapping]]` each, with `filter`, `topic` and `key`
    #[arg(long, env = "MAPPINGS", value_name = "FILE", conflicts_with = "map")]
    pub mappings: Option<PathBuf>,

    /// Topic for messages that Kafka does not take or that have no key
    #[arg(long, env = "DEAD_LETTERS", value_name = "TOPIC", default_value = DEAD_LETTERS)]
    pub dead_letters: KafkaTopic,

    /// Messages of one session that may be unacknowledged, 1 to 65535
    ///
    /// The broker sends no more until some are in Kafka; so this bounds throughput at this many per delivery
    /// time of Kafka, and memory (MQTT 5; for 3.1.1 set it at the broker).
    #[arg(long, env = "RECEIVE_MAXIMUM", default_value = "1000", value_name = "MESSAGES")]
    pub receive_maximum: NonZeroU16,

    /// Largest MQTT packet to accept, in bytes, 1024 to 67108864
    #[arg(
        long,
        env = "MAX_PACKET_BYTES",
        default_value = "33554432",
        value_name = "BYTES",
        value_parser = clap::value_parser!(u32).range(1024..=67_108_864)
    )]
    pub max_packet_bytes: u32,

    /// Bytes of one session's messages that may wait for Kafka, at least 1048576
    ///
    /// What arrives beyond it is left to the broker, which sends it again once there is room.
    #[arg(
        long,
        env = "MAX_BUFFERED_BYTES",
        default_value = "134217728",
        value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(1_048_576..)
    )]
    pub max_buffered_bytes: u64,

    /// How long the broker keeps messages while the bridge is away (MQTT 5)
    #[arg(long, env = "SESSION_EXPIRY", default_value = "1d", value_name = "DURATION")]
    pub session_expiry: humantime::Duration,

    /// How long records are gathered for one request to Kafka, at most 1s
    #[arg(long, env = "LINGER", default_value = "5ms", value_name = "DURATION")]
    pub linger: humantime::Duration,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file with mappings cannot be read.
    #[error("reading {path:?}, given by --mappings")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system reported.
        source: std::io::Error,
    },
    /// The file with mappings is not what it should be; the source names the line.
    #[error("reading the mappings in {path:?}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser reported.
        source: Box<toml::de::Error>,
    },
    /// The file has no mappings.
    #[error("{path:?} has no [[mapping]]")]
    NoMappings {
        /// The file.
        path: PathBuf,
    },
    /// More mappings than tokens can name.
    #[error("{count} mappings are more than the {most} that one bridge takes; run several bridges")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// The same messages would be written to the same topic twice.
    #[error("{filter} is mapped to {topic} twice")]
    Twice {
        /// The MQTT filter.
        filter: String,
        /// The Kafka topic.
        topic: String,
    },
    /// The linger would hold acknowledgements back for too long.
    #[error("--linger {0} is longer than 1s")]
    Linger(humantime::Duration),
}

/// Sessions that one bridge may have.
const MOST_MAPPINGS: usize = 64;

impl Config {
    /// The mappings, and everything that no single setting can check.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the settings.
    pub fn check(&self) -> Result<Vec<Mapping>, ConfigError> {
        if self.linger.as_secs_f64() > 1.0 {
            return Err(ConfigError::Linger(self.linger));
        }
        let mappings = match &self.mappings {
            Some(path) => read(path)?,
            None if self.map.is_empty() => Mapping::defaults(),
            None => self.map.clone(),
        };
        if mappings.len() > MOST_MAPPINGS {
            return Err(ConfigError::TooMany { count: mappings.len(), most: MOST_MAPPINGS });
        }
        for (index, it) in mappings.iter().enumerate() {
            if mappings[..index].iter().any(|other| other.filter == it.filter && other.topic == it.topic) {
                let (filter, topic) = (it.filter.as_str().to_owned(), it.topic.as_str().to_owned());
                return Err(ConfigError::Twice { filter, topic });
            }
        }
        Ok(mappings)
    }
}

fn read(path: &Path) -> Result<Vec<Mapping>, ConfigError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Mappings {
        #[serde(default)]
        mapping: Vec<Mapping>,
    }
    let path = || path.to_owned();
    let text =
        std::fs::read_to_string(path()).map_err(|source| ConfigError::Read { path: path(), source })?;
    let parse = |source| ConfigError::Parse { path: path(), source: Box::new(source) };
    let mappings: Mappings = toml::from_str(&text).map_err(parse)?;
    if mappings.mapping.is_empty() {
        return Err(ConfigError::NoMappings { path: path() });
    }
    Ok(mappings.mapping)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Key;
    use clap::CommandFactory;
    use std::error::Error as _;

    fn check(flags: &[&str]) -> Result<Vec<Mapping>, String> {
        let all = ["telltale-bridge"].iter().chain(flags);
        let config = Config::try_parse_from(all).map_err(|it| it.to_string())?;
        config.check().map_err(|it| match it.source() {
            Some(source) => format!("{it}: {source}"),
            None => it.to_string(),
        })
    }

    #[test]
    fn the_command_line_is_sound() {
        Config::command().debug_assert();
    }

    #[test]
    fn mappings_come_from_flags_or_a_file_or_the_defaults() {
        let defaults = check(&[]).unwrap();
        assert_eq!(defaults[0].topic.as_str(), "sensor-data");
        let flags = check(&["--map", "a/+=x:1", "--map", "b/#=y:none"]).unwrap();
        assert_eq!((flags[0].key, flags[1].key), (Key::Level(1), Key::Nothing));
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let text = "[[mapping]]\nfilter = \"a/+\"\ntopic = \"x\"\nkey = 2\n[[mapping]]\nfilter = \"b\"\ntopic = \"y\"\n";
        std::fs::write(file.path(), text).unwrap();
        let mappings = check(&["--mappings", path]).unwrap();
        assert_eq!((mappings[0].key, mappings[1].key), (Key::Level(2), Key::Last));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let in_file = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            check(&["--mappings", &path]).unwrap_err()
        };
        let broken = in_file("[[mapping]]\nfilter = \"a/#/b\"\ntopic = \"x\"\n");
        assert!(broken.contains("line 2") && broken.contains("is not an MQTT filter"), "{broken}");
        let unknown = in_file("[[mapping]]\nfilter = \"a\"\ntopic = \"x\"\nkeys = 1\n");
        assert!(unknown.contains("unknown field `keys`"), "{unknown}");
        assert!(in_file("").contains("has no [[mapping]]"));
        let cases: [(&[&str], &str); 6] = [
            (&["--mappings", "no-such-file"], "reading \"no-such-file\", given by --mappings"),
            (&["--map", "a=x", "--map", "a=x:1"], "a is mapped to x twice"),
            (&["--map", "a"], "is not FILTER=TOPIC"),
            (&["--linger", "2s"], "--linger 2s is longer than 1s"),
            (&["--receive-maximum", "0"], "--receive-maximum"),
            (&["--max-packet-bytes", "10"], "--max-packet-bytes"),
        ];
        for (flags, expected) in cases {
            let message = check(flags).unwrap_err();
            assert!(message.contains(expected), "{flags:?}: {message}");
        }
    }
}
