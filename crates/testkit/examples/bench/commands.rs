//! The command lines of the services under measurement: what users run, with names of this run's own.

use anyhow::{Result, ensure};
use telltale_testkit::soak::process::Supervised;

use crate::place::{PLAIN, Place, TABLE};

/// The cars' pipeline as it is shipped.
const CARS: &str = include_str!("../../../preprocessor/pipeline.toml");

/// The cars' pipeline between other topics.
pub(crate) fn pipeline(source: &str, target: &str, windows: &str) -> Result<String> {
    let mut text = CARS.to_owned();
    let names = [
        ("source = \"sensor-data\"", format!("source = \"{source}\"")),
        ("target = \"SENSOR_DATA_S_AVRO\"", format!("target = \"{target}\"")),
        ("target = \"SENSOR_DATA_EVENTS_PER_5MIN_T\"", format!("target = \"{windows}\"")),
    ];
    for (old, new) in names {
        ensure!(text.matches(old).count() == 1, "the cars' pipeline has not one {old}");
        text = text.replace(old, &new);
    }
    Ok(text)
}

/// Flags with values.
fn flags<const N: usize>(flags: [(&str, &str); N]) -> Vec<String> {
    flags.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect()
}

/// A preprocessor at work, and the topics it writes.
pub(crate) struct Preprocessor {
    /// The process.
    pub(crate) process: Supervised,
    /// Its consumer group.
    pub(crate) group: String,
    /// Where clean readings come out.
    pub(crate) clean: String,
    /// Where counts come out.
    pub(crate) windows: String,
}

impl Preprocessor {
    /// Starts one that reads `source`.
    pub(crate) fn start(place: &mut Place, name: &str, source: &str, http: bool) -> Result<Self> {
        Self::of(place, name, source, http, pipeline)
    }

    /// As [`Preprocessor::start`], with a pipeline of its own.
    pub(crate) fn of(
        place: &mut Place,
        name: &str,
        source: &str,
        http: bool,
        pipeline: fn(&str, &str, &str) -> Result<String>,
    ) -> Result<Self> {
        let clean = place.topic(&format!("{name}-clean"), PLAIN)?;
        let windows = place.topic(&format!("{name}-windows"), TABLE)?;
        let file = format!("{name}.toml");
        crate::place::write(&place.folder, &file, &pipeline(source, &clean, &windows)?)?;
        let group = format!("{}-{name}", place.id);
        let flags = flags([
            ("--kafka", &place.kafka.bootstrap),
            ("--registry", &place.registry.url),
            ("--pipeline", &place.path(&file)),
            ("--group", &group),
            ("--identity", &group),
        ]);
        let flags = [flags, place.work.clone()].concat();
        let process = place.service("preprocessor", name, flags, http)?;
        Ok(Self { process, group, clean, windows })
    }
}

/// A scorer at work, and the topic it writes.
pub(crate) struct Scorer {
    /// The process.
    pub(crate) process: Supervised,
    /// Its consumer group.
    pub(crate) group: String,
    /// Where predictions come out.
    pub(crate) predictions: String,
}

impl Scorer {
    /// Starts one that reads `source` and has the model of this run.
    pub(crate) fn start(place: &mut Place, name: &str, source: &str, http: bool) -> Result<Self> {
        let predictions = place.topic(&format!("{name}-predictions"), PLAIN)?;
        let group = format!("{}-{name}", place.id);
        let flags = flags([
            ("--kafka", &place.kafka.bootstrap),
            ("--registry", &place.registry.url),
            ("--readings", source),
            ("--predictions", &predictions),
            ("--model", &place.id),
            ("--trusted-key", &place.path("verifying-key.pem")),
            ("--group", &group),
            ("--identity", &group),
        ]);
        let flags = [flags, place.work.clone()].concat();
        let process = place.service("scorer", name, flags, http)?;
        Ok(Self { process, group, predictions })
    }
}

/// A trainer that reads all of `source`, publishes one version of this run's model, and ends.
pub(crate) fn trainer(place: &mut Place, name: &str, source: &str, records: u64) -> Result<Supervised> {
    // Offsets are asked for, and ends of transactions take some up.
    let last = (2 * records).to_string();
    let mut flags = flags([
        ("--kafka", &place.kafka.bootstrap),
        ("--registry", &place.registry.url),
        ("--readings", source),
        ("--model", &place.id),
        ("--signing-key", &place.path("signing-key.pem")),
        ("--last", &last),
    ]);
    flags.push("--once".to_owned());
    place.service("trainer", name, flags, true)
}

/// A bridge from the MQTT topics below `from` to a Kafka topic.
pub(crate) fn bridge(place: &mut Place, name: &str, from: &str, to: &str) -> Result<Supervised> {
    let flags = flags([
        ("--mqtt", &place.mqtt.to_string()),
        ("--kafka", &place.kafka.bootstrap),
        ("--map", &format!("{from}/+={to}")),
        ("--mqtt-client-id", &format!("{}-{name}", place.id)),
        ("--session-expiry", "10m"),
    ]);
    place.service("bridge", name, flags, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pipeline_lies_between_other_topics() {
        let text = pipeline("one", "two", "three").unwrap();
        for line in ["source = \"one\"", "target = \"two\"", "target = \"three\""] {
            assert!(text.lines().any(|it| it == line), "{line}");
        }
        assert!(!text.contains("\"sensor-data\"") && !text.contains("\"SENSOR_DATA_S_AVRO\""), "{text}");
    }
}
