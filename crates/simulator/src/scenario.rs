//! What is published when: the stages of a scenario, from the flags or from a TOML file.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Deserializer};
use telltale_mqtt::topic::{TopicError, check_topic};
use telltale_mqtt::{Qos, Version};

use crate::config::{Config, FailureTime, PerSecond};
use crate::fleet::{Fleet, Mode, Settings, SettingsError, car_id};

/// Everything that is to be published.
#[derive(Debug)]
pub struct Plan {
    /// Seed of the fleet.
    pub seed: u64,
    /// Number of the first car.
    pub first_car: u32,
    /// Version of MQTT.
    pub version: Version,
    /// The fleet's time at the beginning, in milliseconds since 1970.
    pub start_ms: i64,
    /// Topic of the readings of a car, in which `{car}` stands for its name and `{digit}` for the last digit of it.
    pub topic: String,
    /// Topic of the truth, if it is published.
    pub truth_topic: Option<String>,
    /// The stages, at least one.
    pub stages: Vec<Stage>,
}

/// One stage of a scenario.
#[derive(Debug)]
pub struct Stage {
    /// Name in logs.
    pub name: String,
    /// How long it takes; without it, until the count is reached or the service stops.
    pub duration: Option<Duration>,
    /// Readings from each car in this stage.
    pub count: Option<NonZeroU64>,
    /// Cars that publish.
    pub cars: NonZeroU32,
    /// Readings a second from each car.
    pub rate: PerSecond,
    /// Time over which cars that are not connected yet connect.
    pub ramp_up: Duration,
    /// Quality of service of the readings.
    pub qos: Qos,
    /// The cars.
    pub fleet: Fleet,
}

/// Why there is no such scenario.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("reading the scenario {path:?} (--scenario)")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system reported.
        source: std::io::Error,
    },
    /// The file is not a scenario.
    #[error("the scenario {path:?} cannot be understood")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// Nothing would happen.
    #[error("the scenario {path:?} has no [[stage]]")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The stage would never end and those after it never begin.
    #[error("stage {stage:?} needs a duration or a count, since another stage follows it")]
    Endless {
        /// Name of the stage.
        stage: String,
    },
    /// The fleet of a stage makes no sense.
    #[error("stage {stage:?} cannot be simulated")]
    Fleet {
        /// Name of the stage.
        stage: String,
        /// Why.
        source: SettingsError,
    },
    /// Car numbers end.
    #[error(
        "{cars} cars in shard {shard} of those from number {first} on exceed the largest number, {}",
        u32::MAX
    )]
    Cars {
        /// How many cars.
        cars: u32,
        /// Number of the first shard's first car.
        first: u32,
        /// Number of the shard.
        shard: u32,
    },
    /// Cars would share a topic.
    #[error("the topic {topic:?} ({flag}) does not contain {{car}}")]
    SharedTopic {
        /// The setting.
        flag: &'static str,
        /// The topic.
        topic: String,
    },
    /// The topic is not one.
    #[error("the topic {topic:?} ({flag}) cannot be published to")]
    Topic {
        /// The setting.
        flag: &'static str,
        /// The topic.
        topic: String,
        /// Why.
        source: TopicError,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    seed: Option<u64>,
    first_car: Option<u32>,
    #[serde(default, deserialize_with = "version")]
    mqtt_version: Option<Version>,
    #[serde(default)]
    stage: Vec<FileStage>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileStage {
    name: Option<String>,
    #[serde(default, deserialize_with = "duration")]
    duration: Option<Duration>,
    count: Option<NonZeroU64>,
    cars: Option<NonZeroU32>,
    rate: Option<PerSecond>,
    #[serde(default, deserialize_with = "duration")]
    ramp_up: Option<Duration>,
    #[serde(default, deserialize_with = "qos")]
    qos: Option<Qos>,
    failure_share: Option<f64>,
    failure_modes: Option<Vec<Mode>>,
    #[serde(default, deserialize_with = "failure_time")]
    failure_time: Option<FailureTime>,
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong =
        |error| serde::de::Error::custom(format!("{text:?} is not a duration such as \"30s\": {error}"));
    humantime::parse_duration(&text).map(Some).map_err(wrong)
}

fn qos<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Qos>, D::Error> {
    let number = u8::deserialize(deserializer)?;
    number.to_string().parse().map(Some).map_err(serde::de::Error::custom)
}

fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Version>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Version::from_str(&text, true).map(Some).map_err(serde::de::Error::custom)
}

fn failure_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<FailureTime>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(serde::de::Error::custom)
}

impl Plan {
    /// Reads and checks the scenario; without a file it is one stage.
    ///
    /// # Errors
    ///
    /// Returns what cannot be read or makes no sense.
    pub fn new(config: &Config) -> Result<Self, ScenarioError> {
        let topic = check("--topic", &config.topic)?;
        let truth = Some(&config.truth_topic).filter(|it| *it != "off");
        let truth_topic = truth.map(|it| check("--truth-topic", it)).transpose()?;
        let (mut seed, mut first_car, mut version) =
            (config.seed, config.first_car, config.mqtt.mqtt_version);
        let mut stages = Vec::new();
        if let Some(path) = &config.scenario {
            let file = read(path)?;
            seed = file.seed.unwrap_or(seed);
            first_car = file.first_car.unwrap_or(first_car);
            version = file.mqtt_version.unwrap_or(version);
            for (index, it) in file.stage.iter().enumerate() {
                let name = it.name.clone().unwrap_or_else(|| format!("stage {}", index + 1));
                stages.push(stage(config, seed, name, it)?);
            }
        } else {
            stages.push(stage(config, seed, "fleet".to_owned(), &FileStage::from_flags(config))?);
        }
        let ending = stages.len() - 1;
        if let Some(endless) = stages[..ending].iter().find(|it| it.duration.is_none() && it.count.is_none())
        {
            return Err(ScenarioError::Endless { stage: endless.name.clone() });
        }
        let start_ms = config.start.resolve();
        let mut plan = Self { seed, first_car, version, start_ms, topic, truth_topic, stages };
        let cars = plan.most_cars();
        let first = config.shard.checked_mul(cars).and_then(|it| it.checked_add(first_car));
        match first.and_then(|first| first.checked_add(cars).map(|_| first)) {
            Some(first) => {
                plan.first_car = first;
                Ok(plan)
            }
            None => Err(ScenarioError::Cars { cars, first: first_car, shard: config.shard }),
        }
    }

    /// The most cars of any stage.
    #[must_use]
    pub fn most_cars(&self) -> u32 {
        self.stages.iter().map(|it| it.cars.get()).max().unwrap_or(0)
    }
}

impl FileStage {
    fn from_flags(config: &Config) -> Self {
        Self {
            name: None,
            duration: config.duration.map(|it| *it),
            count: config.count,
            cars: None,
            rate: None,
            ramp_up: None,
            qos: None,
            failure_share: None,
            failure_modes: None,
            failure_time: None,
        }
    }
}

fn read(path: &Path) -> Result<File, ScenarioError> {
    let failed = |source| ScenarioError::Read { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let failed = |source| ScenarioError::Parse { path: path.to_owned(), source: Box::new(source) };
    let file: File = toml::from_str(&text).map_err(failed)?;
    if file.stage.is_empty() {
        return Err(ScenarioError::Empty { path: path.to_owned() });
    }
    Ok(file)
}

/// One stage: what the file says, and the flags for the rest.
fn stage(config: &Config, seed: u64, name: String, file: &FileStage) -> Result<Stage, ScenarioError> {
    let failure_time = file.failure_time.unwrap_or(config.failure_time);
    let modes = file.failure_modes.clone().unwrap_or_else(|| config.failure_modes.clone());
    let settings = Settings {
        failure_share: file.failure_share.unwrap_or(config.failure_share.get()),
        modes: if modes.is_empty() { Mode::ALL.to_vec() } else { modes },
        shortest: failure_time.shortest,
        longest: failure_time.longest,
    };
    let failed = |source| ScenarioError::Fleet { stage: name.clone(), source };
    let fleet = Fleet::new(seed, settings).map_err(failed)?;
    Ok(Stage {
        name,
        duration: file.duration,
        count: file.count,
        cars: file.cars.unwrap_or(config.cars),
        rate: file.rate.unwrap_or(config.rate),
        ramp_up: file.ramp_up.unwrap_or(*config.ramp_up),
        qos: file.qos.unwrap_or(config.qos),
        fleet,
    })
}

/// The topic of the car `name` by a template with `{car}` and perhaps `{digit}`.
pub(crate) fn topic_of(template: &str, name: &str) -> String {
    let digit = name.len().saturating_sub(1);
    template.replace("{car}", name).replace("{digit}", name.get(digit..).unwrap_or_default())
}

fn check(flag: &'static str, topic: &str) -> Result<String, ScenarioError> {
    if !topic.contains("{car}") {
        return Err(ScenarioError::SharedTopic { flag, topic: topic.to_owned() });
    }
    let wrong = |source| ScenarioError::Topic { flag, topic: topic.to_owned(), source };
    check_topic(&topic_of(topic, &car_id(1))).map_err(wrong)?;
    Ok(topic.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn plan(args: &[&str]) -> Result<Plan, ScenarioError> {
        Plan::new(&Config::try_parse_from(["simulator"].iter().chain(args)).unwrap())
    }

    fn with_file(text: &str) -> Result<Plan, ScenarioError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        plan(&["--cars", "50", "--scenario", file.path().to_str().unwrap()])
    }

    #[test]
    fn a_stage_sets_what_differs_from_the_flags() {
        let text = r#"
            seed = 99
            first_car = 500
            mqtt_version = "3.1.1"

            [[stage]]
            name = "calm"
            duration = "30s"
            failure_share = 0

            [[stage]]
            cars = 200
            rate = 2.5
            count = 10
            qos = 0
            failure_modes = ["tyre-leak"]
            failure_time = "1h..2h"
        "#;
        let plan = with_file(text).unwrap();
        assert_eq!((plan.seed, plan.first_car, plan.version), (99, 500, Version::V311));
        let [calm, rush] = &plan.stages[..] else { panic!("{plan:?}") };
        assert_eq!((calm.name.as_str(), calm.cars.get(), calm.rate.get()), ("calm", 50, 1.0));
        assert_eq!(calm.duration, Some(Duration::from_secs(30)));
        assert_eq!((rush.name.as_str(), rush.cars.get(), rush.rate.get()), ("stage 2", 200, 2.5));
        assert_eq!((rush.qos, plan.most_cars()), (Qos::AtMostOnce, 200));
    }

    #[test]
    fn a_wrong_scenario_is_explained() {
        let chain = |text: &str| telltale_service::chain(&with_file(text).unwrap_err());
        assert!(chain("").contains("has no [[stage]]"));
        let message = chain("[[stage]]\nduration = \"30s\"\nspeed = 3");
        assert!(message.contains("line 3") && message.contains("unknown field `speed`"), "{message}");
        assert!(chain("[[stage]]\nduration = 30").contains("line 2"));
        assert!(chain("mqtt_version = \"6\"").contains("line 1"));
        assert!(chain("[[stage]]\nqos = 3").contains("line 2"));
        assert!(chain("[[stage]]\nrate = -1").contains("not a rate above 0"));
        assert!(chain("[[stage]]\n[[stage]]").contains("\"stage 1\" needs a duration or a count"));
        assert!(chain("[[stage]]\nfailure_share = 0.9").contains("0.9 is not from 0 to 0.3"));
        assert!(chain("[[stage]]\nfailure_modes = [\"rust\"]").contains("unknown variant `rust`"));
    }

    #[test]
    fn shards_follow_each_other_without_a_gap() {
        let first = |shard: &str| {
            plan(&["--cars", "20", "--first-car", "101", "--shard", shard]).map(|it| it.first_car)
        };
        assert_eq!((first("0").unwrap(), first("1").unwrap(), first("4").unwrap()), (101, 121, 181));
        let error = first("300000000").unwrap_err().to_string();
        assert!(error.starts_with("20 cars in shard 300000000 of those from number 101 on"), "{error}");
    }

    #[test]
    fn topics_and_car_numbers_are_checked() {
        let text = |args: &[&str]| telltale_service::chain(&plan(args).unwrap_err());
        assert!(text(&["--topic", "fleet"]).contains("(--topic) does not contain {car}"));
        assert!(text(&["--truth-topic", "#/{car}"]).contains("(--truth-topic) cannot be published to"));
        assert!(text(&["--first-car", "4294967295"]).contains("exceed the largest number"));
        assert!(text(&["--scenario", "no-such-file"]).contains("no-such-file"));
        assert!(plan(&["--truth-topic", "off"]).unwrap().truth_topic.is_none());
        assert_eq!(topic_of("v/{digit}/{car}", "car-000123"), "v/3/car-000123");
    }
}
