//! Records that must become dead letters, as `testdata/poison/manifest.toml` describes them.
//!
//! ```text
//! manifest.toml ─▶ Corpus::register: schemas into the registry ─▶ poisons() ─┬▶ MQTT: ByHand::publish(mqtt_topic, value, headers)
//!                                                                           └▶ Kafka: key, value, headers
//!                                  what must be there: Poison::dead_letter ◀─ compare ─▶ what is there: DeadLetter::all
//! ```

mod manifest;

use std::collections::BTreeMap;

use telltale_kafka::{KafkaConfig, Registry, RegistryConfig};
use telltale_records::{Reason, schema, topics};

use crate::{Engines, written};
use manifest::{Described, Manifest};

/// The healthy reading that poisons are made from; it goes through by every way.
pub const HEALTHY: &str = include_str!("../../../testdata/poison/healthy.json");
/// As [`HEALTHY`], in Avro, without Confluent's header; its schema is [`schema::CARDATA_V1`].
pub const HEALTHY_AVRO: &[u8] = include_bytes!("../../../testdata/poison/healthy.avro");

/// Beginning of the MQTT topics of readings; the car follows.
const MQTT_ROOT: &str = "vehicles/sensor/data/";

/// How a poison can come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a device, by MQTT.
    Mqtt,
    /// Straight into the topic.
    Kafka,
}

/// A record that must become a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poison {
    /// Its name in the manifest; one that was cut has its length behind it.
    pub name: String,
    /// What it is an example of.
    pub class: String,
    /// The reason its dead letter must have.
    pub reason: Reason,
    /// Its bytes.
    pub value: Option<Vec<u8>>,
    headers: Vec<(String, String)>,
    /// The only way it can come.
    way: Option<Way>,
    key: Key,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    /// A car of its own.
    Own,
    None,
    Given(Vec<u8>),
}

/// Every poison, for one registry.
#[derive(Debug, Clone)]
pub struct Corpus {
    poisons: Vec<Poison>,
    /// Id of the schema of [`HEALTHY_AVRO`].
    pub healthy_id: u32,
}

/// A dead letter as the contract has it: which record, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadLetter {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// The bytes of the record; what came in parts is put together.
    pub value: Option<Vec<u8>>,
    /// The word in its header.
    pub reason: String,
}

impl Corpus {
    /// Registers the schemas that poisons are written with; most under the subject of `sensor-data`, as somebody would who may
    /// register there. That subject takes schemas of any kind from then on.
    ///
    /// # Panics
    ///
    /// Panics when the registry refuses, or the manifest cannot be used.
    #[must_use]
    pub fn register(engines: &Engines) -> Self {
        Self::register_at(&engines.registry_config())
    }

    /// As [`Corpus::register`], with a registry that is no test's own.
    ///
    /// # Panics
    ///
    /// As [`Corpus::register`].
    #[must_use]
    pub fn register_at(registry: &RegistryConfig) -> Self {
        let subject = schema::subject(topics::SENSOR_DATA);
        let config = format!("{}/config/{subject}", registry.url.trim_end_matches('/'));
        let registry = Registry::new(registry).expect("the settings of the registry can be used");
        let body = r#"{"compatibility":"NONE"}"#;
        let client = reqwest::blocking::Client::new();
        // A registry that has just started on a busy machine may be slower than its clients wait.
        crate::wait_until("the registry is there", || {
            let request = client.put(&config).body(body);
            let answer = request.header("content-type", "application/vnd.schemaregistry.v1+json").send();
            let Some(answer) = answer.ok().filter(|it| !it.status().is_server_error()) else { return false };
            assert!(answer.status().is_success(), "the registry takes no schemas of any kind: {answer:?}");
            true
        });
        Self::load(|place, text| {
            let mut id = None;
            crate::wait_until("the registry takes the schema", || {
                match registry.register(place.unwrap_or(&subject), text) {
                    Ok(it) => id = Some(it),
                    Err(error) => {
                        assert!(error.is_passing(), "the registry does not take the schema: {error}")
                    }
                }
                id.is_some()
            });
            id.expect("it was waited for")
        })
    }

    /// The poisons with schema ids from `id_of`, which is given a subject, if it is not that of `sensor-data`, and a schema.
    ///
    /// # Panics
    ///
    /// Panics when the manifest cannot be used.
    pub fn load(id_of: impl FnMut(Option<&str>, &str) -> u32) -> Self {
        let (manifest, ids) = Manifest::load(id_of);
        let poisons = manifest.poisons.iter().flat_map(|it| of(it, &ids)).collect();
        Self { poisons, healthy_id: ids["first-generation"] }
    }

    /// Every poison.
    #[must_use]
    pub fn poisons(&self) -> &[Poison] {
        &self.poisons
    }

    /// The poisons that can come by `way`.
    pub fn by(&self, way: Way) -> impl Iterator<Item = &Poison> {
        self.poisons.iter().filter(move |it| it.way.is_none_or(|only| only == way))
    }
}

/// The poisons that an entry of the manifest stands for.
fn of(described: &Described, ids: &BTreeMap<String, u32>) -> Vec<Poison> {
    let key = match (&described.key, described.no_key) {
        (None, false) => Key::Own,
        (None, true) => Key::None,
        (Some(pieces), _) => Key::Given(manifest::bytes(pieces, ids)),
    };
    let whole = Poison {
        name: described.name.clone(),
        class: described.class.clone(),
        reason: described.reason(),
        value: described.value.as_ref().map(|it| manifest::bytes(it, ids)),
        headers: described.headers.iter().map(manifest::Header::parts).collect(),
        way: described.way.map(|it| if it == manifest::Way::Mqtt { Way::Mqtt } else { Way::Kafka }),
        key,
    };
    let Some([from, to]) = described.cut else { return vec![whole] };
    let bytes = whole.value.clone().unwrap_or_default();
    let cut = |length: usize| Poison {
        name: format!("{}-{length}", whole.name),
        value: Some(bytes[..length].to_vec()),
        ..whole.clone()
    };
    (from..=to).map(cut).collect()
}

impl Poison {
    /// Its key as record number `number` of a test: a car of its own, unless the manifest says otherwise.
    #[must_use]
    pub fn key(&self, number: usize) -> Option<Vec<u8>> {
        match &self.key {
            Key::Own => Some(format!("poison-{number:06}").into_bytes()),
            Key::None => None,
            Key::Given(key) => Some(key.clone()),
        }
    }

    /// The MQTT topic of record number `number` of a test.
    #[must_use]
    pub fn mqtt_topic(&self, number: usize) -> String {
        let key = self.key(number).unwrap_or_default();
        format!("{MQTT_ROOT}{}", String::from_utf8_lossy(&key))
    }

    /// User properties of the MQTT message, headers of the Kafka record.
    #[must_use]
    pub fn headers(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// The dead letter it must become as record number `number` of a test.
    #[must_use]
    pub fn dead_letter(&self, number: usize) -> DeadLetter {
        DeadLetter {
            key: self.key(number),
            value: self.value.clone(),
            reason: self.reason.as_str().to_owned(),
        }
    }
}

impl DeadLetter {
    /// Every dead letter there is, and how often.
    ///
    /// # Panics
    ///
    /// Panics when the topic cannot be read.
    #[must_use]
    pub fn all(kafka: &KafkaConfig) -> BTreeMap<Self, usize> {
        let mut found = BTreeMap::new();
        // Parts of one message follow each other, with others between.
        let mut parts: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for record in written(kafka, topics::DEAD_LETTERS) {
            let (key, reason) = (record.key.clone(), record.header("reason").to_owned());
            let mut value = record.value.clone();
            if let Some((part, of)) = record.headers.get("part").and_then(|it| it.split_once(" of ")) {
                let place = record.header("mqtt-topic").to_owned();
                parts.entry(place.clone()).or_default().extend(record.value());
                if part != of {
                    continue;
                }
                value = parts.remove(&place);
            }
            *found.entry(Self { key, value, reason }).or_default() += 1;
        }
        assert!(parts.is_empty(), "parts of dead letters are missing: {:?}", parts.keys());
        found
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_manifest_can_be_read_and_every_poison_is_one_of_its_kind() {
        let mut next = 0;
        let corpus = Corpus::load(|_, text| {
            let _: serde_json::Value = serde_json::from_str(text).unwrap();
            next += 1;
            next
        });
        let classes: BTreeSet<_> = corpus.poisons().iter().map(|it| &it.class).collect();
        let names: BTreeSet<_> = corpus.poisons().iter().map(|it| &it.name).collect();
        assert!(classes.len() >= 15, "{classes:?}");
        assert_eq!(names.len(), corpus.poisons().len());
        let contents: BTreeSet<_> =
            corpus.poisons().iter().map(|it| (&it.value, it.key(0), &it.headers)).collect();
        assert_eq!(contents.len(), corpus.poisons().len(), "two poisons are the same");
        for poison in corpus.by(Way::Mqtt) {
            let topic = poison.mqtt_topic(7);
            assert!(!topic.contains(['+', '#', '\0', '\u{fffd}']), "{}: {topic:?}", poison.name);
            assert!(poison.value.is_some(), "{}: a message has a payload", poison.name);
        }
        // Whatever is cut is whole with one byte more.
        let length = |name: &str| corpus.poisons().iter().filter(|it| it.name.starts_with(name)).count();
        assert_eq!((length("cut-json"), HEALTHY.len()), (465, 466));
        assert_eq!((length("cut-header"), length("cut-avro")), (4, HEALTHY_AVRO.len() - 1));
    }
}
