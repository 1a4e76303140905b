//! The settings of the simulator.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use clap::Parser;
use serde::{Deserialize, Deserializer};
use telltale_mqtt::{MqttConfig, Qos};
use telltale_service::Share;

use crate::fleet::Mode;

/// Publishes a seeded fleet of cars, each over its own MQTT connection.
///
/// The readings of a car are a function of the seed, its number and the time alone, so that several
/// simulators with the same seed and different cars are one fleet.
#[derive(Debug, Clone, Parser)]
pub struct Config {
    /// The broker.
    #[command(flatten)]
    pub mqtt: MqttConfig,

    /// Number of cars
    #[arg(long, env = "CARS", default_value = "1000")]
    pub cars: NonZeroU32,

    /// Number of the first car; car 1 is car-000001
    #[arg(long, env = "FIRST_CAR", default_value = "1", value_name = "NUMBER")]
    pub first_car: u32,

    /// Number of this simulator among several that share a fleet, from 0: its cars follow those of the one before
    ///
    /// So simulators with the same settings and the shards 0, 1, 2, … are one fleet of as many times the cars.
    #[arg(long, env = "SHARD", default_value = "0", value_name = "NUMBER")]
    pub shard: u32,

    /// Readings a second from each car, above 0 and at most 1000
    #[arg(long, env = "RATE", default_value = "1")]
    pub rate: PerSecond,

    /// Time over which the cars connect, evenly
    #[arg(long, env = "RAMP_UP", default_value = "2s", value_name = "DURATION")]
    pub ramp_up: humantime::Duration,

    /// Quality of service of the readings: 0, 1 or 2
    #[arg(long, env = "QOS", default_value = "1")]
    pub qos: Qos,

    /// Time to publish for [default: until stopped]
    #[arg(long, env = "DURATION", value_name = "DURATION")]
    pub duration: Option<humantime::Duration>,

    /// Readings from each car [default: no limit]
    ///
    /// With a count no reading is skipped: a car whose window is full waits.
    #[arg(long, env = "COUNT")]
    pub count: Option<NonZeroU64>,

    /// Seed of the fleet
    #[arg(long, env = "SEED", default_value = "7")]
    pub seed: u64,

    /// When the fleet's time begins: `now`, or a time such as 2026-05-04T10:00:00Z
    #[arg(long, env = "START", default_value = "now", value_name = "TIME")]
    pub start: Start,

    /// Share of the cars that are failing at any time, 0 to 0.3
    #[arg(long, env = "FAILURE_SHARE", default_value = "0.02", value_name = "SHARE")]
    pub failure_share: Share,

    /// How cars fail, separated by commas [default: in each way]
    #[arg(long, env = "FAILURE_MODES", value_enum, value_delimiter = ',', value_name = "MODE")]
    pub failure_modes: Vec<Mode>,

    /// Shortest and longest time from the beginning of a failure to its repair, 1s to 365days
    #[arg(long, env = "FAILURE_TIME", default_value = "20s..120s", value_name = "FROM..TO")]
    pub failure_time: FailureTime,

    /// MQTT topic of the readings; {car} stands for the car's name, {digit} for its last digit
    ///
    /// A level {digit} divides the fleet: a bridge can take each tenth of it by a filter, and so by an MQTT session, of its own.
    #[arg(long, env = "TOPIC", default_value = "vehicles/sensor/data/{car}")]
    pub topic: String,

    /// MQTT topic of the truth about failures; `off` for none
    #[arg(long, env = "TRUTH_TOPIC", default_value = "vehicles/truth/{car}", value_name = "TOPIC")]
    pub truth_topic: String,

    /// Readings of a car that may be unacknowledged
    #[arg(long, env = "WINDOW", default_value = "20")]
    pub window: NonZeroU16,

    /// TOML file with stages that run one after the other; a stage sets what differs from the flags
    ///
    /// Example: `[[stage]]` with name = "rush hour", duration = "30s", cars = 2000, rate = 5, ramp_up = "5s",
    /// failure_share = 0.1, failure_modes = ["tyre-leak"], failure_time = "20s..40s", qos = 1, count = 100.
    /// Before the first stage there may be seed = 7, first_car = 1 and mqtt_version = "5".
    #[arg(long, env = "SCENARIO", value_name = "FILE", conflicts_with_all = ["duration", "count"])]
    pub scenario: Option<PathBuf>,

    /// File for the truth about failures, one JSON object a line
    #[arg(long, env = "TRUTH_FILE", value_name = "FILE")]
    pub truth_file: Option<PathBuf>,

    /// File for each reading's car, event time, SHA-256 of the payload, and whether it was acknowledged, as CSV
    #[arg(long, env = "LEDGER", value_name = "FILE")]
    pub ledger: Option<PathBuf>,

    /// File for the figures at the end, as JSON
    #[arg(long, env = "SUMMARY", value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

/// A rate above 0 and at most 1000 a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerSecond(f64);

impl PerSecond {
    /// The rate as a number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for PerSecond {
    type Error = String;

    fn try_from(rate: f64) -> Result<Self, String> {
        if rate > 0.0 && rate <= 1000.0 {
            return Ok(Self(rate));
        }
        Err(format!("{rate} is not a rate above 0 and at most 1000 a second"))
    }
}

impl FromStr for PerSecond {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rate: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
        Self::try_from(rate)
    }
}

impl<'de> Deserialize<'de> for PerSecond {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}

/// The shortest and the longest time from the beginning of a failure to its repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureTime {
    /// The shortest time.
    pub shortest: Duration,
    /// The longest time.
    pub longest: Duration,
}

impl FromStr for FailureTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = |text: &str| humantime::parse_duration(text.trim());
        let both = text.split_once("..").and_then(|(from, to)| Some((time(from).ok()?, time(to).ok()?)));
        match both {
            Some((shortest, longest)) => Ok(Self { shortest, longest }),
            None => Err(format!("{text:?} is not two durations such as 20s..120s or 2h..3days")),
        }
    }
}

impl fmt::Display for FailureTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) =
            (humantime::format_duration(self.shortest), humantime::format_duration(self.longest));
        write!(f, "{from}..{to}")
    }
}

/// When the fleet's time begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the wall clock's time.
    Now,
    /// At this time, in milliseconds since 1970.
    At(i64),
}

impl Start {
    /// The fleet's time at its beginning, in milliseconds since 1970.
    #[expect(
        clippy::disallowed_methods,
        reason = "here event time begins: a device's clock is the wall clock"
    )]
    pub(crate) fn resolve(self) -> i64 {
        match self {
            Self::At(time) => time,
            Self::Now => milliseconds(SystemTime::now()),
        }
    }
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "now" {
            return Ok(Self::Now);
        }
        let time = humantime::parse_rfc3339_weak(text);
        let wrong =
            |error| format!("{text:?} is neither `now` nor a time such as 2026-05-04T10:00:00Z: {error}");
        time.map(|it| Self::At(milliseconds(it))).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Config::command().debug_assert();
        telltale_service::command::<Config>("simulator").debug_assert();
    }

    #[test]
    fn settings_are_parsed_or_explained() {
        let parse = |args: &[&str]| {
            Config::try_parse_from(["simulator"].iter().chain(args)).map_err(|it| it.to_string())
        };
        let config =
            parse(&["--failure-time", "2h..3days", "--failure-modes", "tyre-leak,overheating"]).unwrap();
        assert_eq!(config.failure_time.to_string(), "2h..3days");
        assert_eq!(config.failure_modes, [Mode::TyreLeak, Mode::Overheating]);
        let at = parse(&["--start", "1970-01-01T00:00:01Z"]).unwrap().start;
        assert_eq!(at, Start::At(1000));
        let wrong = [
            (["--rate", "0"], "0 is not a rate above 0"),
            (["--rate", "NaN"], "NaN is not a rate"),
            (["--cars", "0"], "'--cars <CARS>'"),
            (["--failure-time", "1h"], "such as 20s..120s"),
            (["--failure-modes", "rust"], "[possible values: tyre-leak, shock-absorber"),
            (["--start", "noon"], "neither `now` nor a time"),
            (["--qos", "3"], "'--qos <QOS>'"),
        ];
        for (args, text) in wrong {
            let message = parse(&args).unwrap_err();
            assert!(message.contains(text), "{message}");
        }
    }
}
