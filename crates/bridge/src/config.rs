//! The settings of the bridge.

use std::num::{NonZeroU8, NonZeroU16};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Parser;
use serde::Deserialize;
use telltale_kafka::KafkaConfig;
use telltale_mqtt::MqttConfig;
use telltale_records::topics::DEAD_LETTERS;

use crate::mapping::{KafkaTopic, Mapping};
use crate::sessions::{Plan, plan};

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
    /// number of a level from 1, `topic` or `none`. Braces in a filter name several: `fleet/{0..3}/+` is four filters,
    /// `{eu,us}/+` two. Each filter has an MQTT session of its own; within one, messages keep their order.
    /// [default: vehicles/sensor/data/+=sensor-data and vehicles/truth/+=fleet-truth]
    #[arg(long = "map", env = "MAP", value_name = "FILTER=TOPIC[:KEY]", value_delimiter = ' ')]
    pub map: Vec<Mapping>,

    /// File with mappings: a TOML table `[[mapping]]` each, with `filter`, `topic` and `key`
    #[arg(long, env = "MAPPINGS", value_name = "FILE", conflicts_with = "map")]
    pub mappings: Option<PathBuf>,

    /// Group of shared subscriptions ($share): lets several sessions, also of several bridges, take one filter's messages
    ///
    /// The broker gives each message to any of them, so messages of one device may change places. Where order matters,
    /// give a session its own devices instead: a level of the MQTT topic that divides them, and a filter for each.
    #[arg(long, env = "SHARE", value_name = "GROUP")]
    pub share: Option<Group>,

    /// MQTT sessions for each filter, 1 to 64; more than one need --share
    ///
    /// A session moves at most its window per delivery time of Kafka: HiveMQ Community Edition sends a session 50 messages
    /// and waits until all are acknowledged, whatever --receive-maximum says. Divide what you need by what
    /// one session moves on your machines (metric `delivery_duration`), and take twice as many.
    #[arg(long, env = "SESSIONS", default_value = "1", value_name = "NUMBER")]
    pub sessions: NonZeroU8,

    /// Topic where the broker tells how many messages it has dropped; empty for none
    ///
    /// Seen in the metric `broker_dropped_messages`, and in a warning when it rises. mosquitto has this topic, and so has HiveMQ as
    /// `make up` starts it; elsewhere watch HiveMQ's own metric com.hivemq.messages.dropped.count.
    #[arg(
        long,
        env = "DROPPED_TOPIC",
        value_name = "TOPIC",
        default_value = "$SYS/broker/publish/messages/dropped"
    )]
    pub dropped_topic: String,

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
    ///
    /// Where the broker's window is small (HiveMQ Community Edition: 50), longer means fewer messages a second; 0ms takes twice the CPU.
    #[arg(long, env = "LINGER", default_value = "1ms", value_name = "DURATION")]
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
    /// More sessions than tokens can name.
    #[error("{count} MQTT sessions are more than the {most} that one bridge takes; run several bridges")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// The same messages would be written to the same topic twice.
    #[error("{one} and {other} take in the same MQTT topics, whose messages would be in {topic} twice")]
    Overlap {
        /// A filter.
        one: String,
        /// Another filter.
        other: String,
        /// The Kafka topic of both.
        topic: String,
    },
    /// Several sessions without a shared subscription would each receive every message.
    #[error(
        "--sessions {sessions} needs --share GROUP, which gives up the order of a device's messages; to keep it, name \
         several filters that have no topic in common instead, such as fleet/{{0..3}}/+: each has a session of its own"
    )]
    Unshared {
        /// How many were asked for.
        sessions: u8,
    },
    /// The linger would hold acknowledgements back for too long.
    #[error("--linger {0} is longer than 1s")]
    Linger(humantime::Duration),
}

/// Name of a group of shared subscriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group(String);

impl Group {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains(['/', '+', '#', '\0']) {
            return Err(format!("{text:?} is not the name of a group: any text without /, + and #"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Config {
    /// The sessions, and everything that no single setting can check.
    pub(crate) fn check(&self) -> Result<Vec<Plan>, ConfigError> {
        if self.linger.as_secs_f64() > 1.0 {
            return Err(ConfigError::Linger(self.linger));
        }
        let mappings = match &self.mappings {
            Some(path) => read(path)?,
            None if self.map.is_empty() => Mapping::defaults(),
            None => self.map.clone(),
        };
        plan(self, mappings)
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
        let plans = config.check();
        plans.map(|it| it.into_iter().map(|it| it.mapping).collect()).map_err(|it| match it.source() {
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
            (&["--map", "a=x", "--map", "a=x:1"], "a and a take in the same MQTT topics"),
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
