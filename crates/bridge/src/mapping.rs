//! Which MQTT messages go to which Kafka topic, and by which key.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use telltale_mqtt::topic::check_filter;
use telltale_records::topics;

/// Alternatives of a filter that are looked at: more are too many anyway.
const MOST_CHECKED: usize = 1000;

/// Messages that match a filter go to a Kafka topic.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// MQTT filter to subscribe to.
    #[serde(deserialize_with = "parsed")]
    pub filter: Filter,
    /// Kafka topic that the messages go to.
    #[serde(deserialize_with = "parsed")]
    pub topic: KafkaTopic,
    /// What becomes the key of the record.
    #[serde(default, deserialize_with = "parsed")]
    pub key: Key,
}

/// A filter over MQTT topics; `{x,y}` and `{0..3}` in it name several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(String);

/// Name of a Kafka topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaTopic(String);

/// What becomes the key of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Key {
    /// The last level of the MQTT topic.
    #[default]
    Last,
    /// A level of the MQTT topic, the first is 1.
    Level(usize),
    /// The whole MQTT topic.
    Topic,
    /// No key: records are spread over the partitions and keep no order.
    Nothing,
}

impl Mapping {
    /// What the bridge moves where nothing else is said: readings, and the simulator's truth.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        let mapping = |filter: &str, topic: &str| Self {
            filter: Filter(filter.to_owned()),
            topic: KafkaTopic(topic.to_owned()),
            key: Key::Last,
        };
        vec![
            mapping("vehicles/sensor/data/+", topics::SENSOR_DATA),
            mapping("vehicles/truth/+", topics::TRUTH),
        ]
    }

    /// A mapping for each filter that this one's names: `a/{x,y}/+` names two, `a/{0..3}/+` four. At most one
    /// more than `most` are listed.
    pub(crate) fn alternatives(self, most: usize) -> Vec<Self> {
        let filters = self.filter.alternatives(most + 1);
        filters.into_iter().map(|filter| Self { filter, ..self.clone() }).collect()
    }

    /// The key of a message on `topic`; `None` where messages are to have none.
    ///
    /// # Errors
    ///
    /// Says why the topic gives no key: such a message is a dead letter.
    pub fn key_of<'a>(&self, topic: &'a str) -> Result<Option<&'a str>, String> {
        let key = match self.key {
            Key::Nothing => return Ok(None),
            Key::Topic => Some(topic),
            Key::Last => topic.rsplit('/').next(),
            Key::Level(number) => topic.split('/').nth(number - 1),
        };
        match key {
            Some("") => Err(format!("the {} of MQTT topic {topic:?} is empty", self.key)),
            Some(key) => Ok(Some(key)),
            None => Err(format!("MQTT topic {topic:?} has no {}", self.key)),
        }
    }

    /// Whether the MQTT topic of a message can be told from the filter and the key, so that its record need
    /// not carry it.
    pub(crate) fn tells_topic(&self) -> bool {
        let levels: Vec<_> = self.filter.0.split('/').collect();
        let wildcards = levels.iter().filter(|it| it.contains(['+', '#'])).count();
        let is_plus = |index: usize| levels.get(index) == Some(&"+");
        wildcards == 0
            || self.key == Key::Topic
            || wildcards == 1
                && match self.key {
                    Key::Last => is_plus(levels.len() - 1),
                    Key::Level(number) => is_plus(number - 1),
                    Key::Topic | Key::Nothing => false,
                }
    }
}

impl Filter {
    /// The filters that this one names by braces, or itself.
    fn alternatives(&self, most: usize) -> Vec<Self> {
        let mut found = vec![String::new()];
        let mut rest = self.0.as_str();
        while let Some((before, list, after)) = braces(rest) {
            let names = names(list, most);
            let one =
                |text: &String| -> Vec<_> { names.iter().map(|it| format!("{text}{before}{it}")).collect() };
            found = found.iter().flat_map(one).take(most).collect();
            rest = after;
        }
        found.into_iter().map(|it| Self(it + rest)).collect()
    }

    /// The filter's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl KafkaTopic {
    /// The topic's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What stands before, in and after the first braces.
fn braces(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('{')?;
    let (list, after) = rest.split_once('}')?;
    Some((before, list, after))
}

/// What a list in braces names: `a,b` or `0..3`, both ends included.
fn names(list: &str, most: usize) -> Vec<String> {
    let range = list
        .split_once("..")
        .and_then(|(first, last)| Some((first.parse::<u32>().ok()?, last.parse().ok()?)));
    match range {
        Some((first, last)) if first <= last => (first..=last).take(most).map(|it| it.to_string()).collect(),
        _ => list.split(',').map(str::to_owned).collect(),
    }
}

/// Reads `FILTER=TOPIC` or `FILTER=TOPIC:KEY`.
impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A filter may contain '=' and ':', a Kafka topic neither.
        let wrong =
            || format!("{text:?} is not FILTER=TOPIC or FILTER=TOPIC:KEY, such as cars/+=readings:last");
        let (filter, target) = text.rsplit_once('=').ok_or_else(wrong)?;
        let (topic, key) = match target.split_once(':') {
            Some((topic, key)) => (topic, key.parse()?),
            None => (target, Key::default()),
        };
        Ok(Self { filter: filter.parse()?, topic: topic.parse()?, key })
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let filter = Self(text.to_owned());
        for one in filter.alternatives(MOST_CHECKED) {
            check_filter(&one.0).map_err(|it| format!("{text:?} is not an MQTT filter: {it}"))?;
        }
        Ok(filter)
    }
}

impl FromStr for KafkaTopic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let legal = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '_' | '-');
        if text.is_empty() || text.len() > 249 || !text.chars().all(legal) || matches!(text, "." | "..") {
            return Err(format!(
                "{text:?} is not the name of a Kafka topic: 1 to 249 letters, digits, . _ or -"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("last", _) => Ok(Self::Last),
            ("topic", _) => Ok(Self::Topic),
            ("none", _) => Ok(Self::Nothing),
            (_, Ok(number)) if number > 0 => Ok(Self::Level(number)),
            _ => Err(format!("{text:?} is not a key: last, topic, none, or the number of a level from 1")),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last => f.write_str("last level"),
            Self::Level(number) => write!(f, "level {number}"),
            Self::Topic => f.write_str("whole"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

/// Reads a text, or a number for the number of a level, as the flag does.
fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(deserializer: D) -> Result<T, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text")]
    enum Scalar {
        Text(String),
        Number(u32),
    }
    let text = match Scalar::deserialize(deserializer)? {
        Scalar::Text(text) => text,
        Scalar::Number(number) => number.to_string(),
    };
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_a_filter_a_topic_and_a_key() {
        let mapping: Mapping = "a=b/+/c:d=target.x:2".parse().unwrap();
        assert_eq!(mapping.filter.as_str(), "a=b/+/c:d");
        assert_eq!((mapping.topic.as_str(), mapping.key), ("target.x", Key::Level(2)));
        assert_eq!("a/#=t".parse::<Mapping>().unwrap().key, Key::Last);
        let cases = [
            ("a/b", "is not FILTER=TOPIC"),
            ("a/#/b=t", "is not an MQTT filter: + must be a whole level"),
            ("=t", "is not an MQTT filter: it is empty"),
            ("a=b c", "is not the name of a Kafka topic"),
            ("a=", "is not the name of a Kafka topic"),
            ("a=t:first", "is not a key"),
            ("a=t:0", "is not a key"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Mapping>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn braces_name_several_filters() {
        let cases: [(&str, &[&str]); 6] = [
            ("a/+", &["a/+"]),
            ("a/{x,y}/+", &["a/x/+", "a/y/+"]),
            ("{a,b}/{0..1}/#", &["a/0/#", "a/1/#", "b/0/#", "b/1/#"]),
            ("a/{7}", &["a/7"]),
            ("a/{3..1}", &["a/3..1"]),
            ("a/{", &["a/{"]),
        ];
        for (text, expected) in cases {
            let filter: Filter = text.parse().unwrap();
            let found: Vec<_> = filter.alternatives(10).into_iter().map(|it| it.0).collect();
            assert_eq!(found, expected, "{text}");
        }
        assert!("a/{b,#}/c".parse::<Filter>().unwrap_err().contains("is not an MQTT filter"));
        let endless: Filter = "{0..4000000000}/{0..4000000000}".parse().unwrap();
        assert_eq!(endless.alternatives(10).len(), 10);
    }

    #[test]
    fn a_key_is_a_part_of_the_topic() {
        let cases = [
            ("a/+=t", "a/car-1", Ok(Some("car-1"))),
            ("a/+=t:1", "a/car-1", Ok(Some("a"))),
            ("a/+=t:topic", "a/car-1", Ok(Some("a/car-1"))),
            ("a/+=t:none", "a/", Ok(None)),
            ("a/+=t", "a/", Err("the last level of MQTT topic \"a/\" is empty".to_owned())),
            ("a/#=t:3", "a/b", Err("MQTT topic \"a/b\" has no level 3".to_owned())),
        ];
        for (mapping, topic, expected) in cases {
            assert_eq!(mapping.parse::<Mapping>().unwrap().key_of(topic), expected, "{mapping} {topic}");
        }
    }

    #[test]
    fn a_record_carries_its_topic_only_where_the_key_does_not_tell_it() {
        let cases = [
            ("a/b=t", true),
            ("a/+=t", true),
            ("a/+/c=t:2", true),
            ("a/+/c=t", false),
            ("+/+=t", false),
            ("a/#=t", false),
            ("a/#=t:topic", true),
            ("a/+=t:none", false),
        ];
        for (mapping, expected) in cases {
            assert_eq!(mapping.parse::<Mapping>().unwrap().tells_topic(), expected, "{mapping}");
        }
    }
}
