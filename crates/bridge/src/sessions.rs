//! The MQTT sessions of the bridge: how many there are, what each subscribes to, and under which name.
//!
//! ```text
//! fleet/{0..3}/+ ─▶ fleet/0/+, fleet/1/+, fleet/2/+, fleet/3/+      a session each: order per topic is kept
//! --share g --sessions 4, fleet/+ ─▶ 4 × $share/g/fleet/+           one filter, several sessions: order is not kept
//! ```
//!
//! A broker sends one session only so many messages before it waits for acknowledgements; HiveMQ Community
//! Edition 50, whatever the receive maximum. An acknowledgement takes as long as Kafka's, so a session moves
//! at most its window per delivery time, and more throughput means more sessions.

use telltale_mqtt::topic::overlap;
use telltale_mqtt::{MqttConfig, Version};

use crate::Config;
use crate::config::ConfigError;
use crate::mapping::Mapping;

/// Sessions that one bridge may have: tokens and file descriptors are for so many.
const MOST: usize = 64;

/// One session: what it subscribes to, and what becomes of its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) mapping: Mapping,
    /// The mapping's filter, or a shared subscription to it.
    pub(crate) subscription: String,
    pub(crate) client_id: String,
    /// What logs and readiness call it.
    pub(crate) name: String,
}

/// Lists the sessions for `mappings`, whose filters may name several by braces.
pub(crate) fn plan(config: &Config, mappings: Vec<Mapping>) -> Result<Vec<Plan>, ConfigError> {
    let per_filter = config.sessions.get();
    if per_filter > 1 && config.share.is_none() {
        return Err(ConfigError::Unshared { sessions: per_filter });
    }
    let mut single: Vec<Mapping> = Vec::new();
    for mapping in mappings {
        single.extend(mapping.alternatives(MOST));
    }
    let count = single.len() * usize::from(per_filter);
    if count > MOST {
        return Err(ConfigError::TooMany { count, most: MOST });
    }
    for (index, it) in single.iter().enumerate() {
        let both =
            |other: &&Mapping| other.topic == it.topic && overlap(other.filter.as_str(), it.filter.as_str());
        if let Some(other) = single[..index].iter().find(both) {
            let text = |it: &Mapping| it.filter.as_str().to_owned();
            let topic = it.topic.as_str().to_owned();
            return Err(ConfigError::Overlap { one: text(other), other: text(it), topic });
        }
    }
    let plans = single.iter().flat_map(|it| (1..=per_filter).map(|number| one(config, it, number)));
    Ok(plans.collect())
}

fn one(config: &Config, mapping: &Mapping, number: u8) -> Plan {
    let filter = mapping.filter.as_str();
    let (subscription, mut name) = match &config.share {
        Some(group) => {
            let subscription = format!("$share/{}/{filter}", group.as_str());
            (subscription.clone(), subscription)
        }
        None => (filter.to_owned(), filter.to_owned()),
    };
    let mut client_id = client_id(&config.mqtt, &subscription, mapping.topic.as_str());
    if config.share.is_some() {
        client_id.push_str(&format!("-{number}"));
        name.push_str(&format!(" {number}"));
    }
    Plan { mapping: mapping.clone(), subscription, client_id, name }
}

/// A client id that stays the same for the same subscription and topic: the broker keeps the session under it, and
/// a session of another mapping must not be taken for it.
fn client_id(config: &MqttConfig, subscription: &str, topic: &str) -> String {
    let prefix = config.mqtt_client_id.as_deref().unwrap_or("telltale-bridge");
    let bytes = subscription.bytes().chain([0]).chain(topic.bytes());
    // FNV-1a: the hasher of the standard library may change with its version, and the id must not.
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, it| (hash ^ u32::from(it)).wrapping_mul(0x0100_0193));
    // Version 3.1.1 promises 23 bytes only, though brokers take more.
    let version = if config.mqtt_version == Version::V311 { "4" } else { "5" };
    format!("{prefix}-{version}{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn planned(flags: &[&str]) -> Result<Vec<Plan>, String> {
        let config = Config::try_parse_from(["bridge"].iter().chain(flags)).map_err(|it| it.to_string())?;
        config.check().map_err(|it| it.to_string())
    }

    #[test]
    fn a_mapping_keeps_its_client_id_from_version_to_version() {
        let ids: Vec<_> = planned(&[]).unwrap().into_iter().map(|it| it.client_id).collect();
        assert_eq!(ids, ["telltale-bridge-559a3eb97", "telltale-bridge-5e89844b8"]);
    }

    #[test]
    fn braces_and_shares_make_sessions() {
        let subscriptions = |flags: &[&str]| -> Vec<_> {
            planned(flags).unwrap().into_iter().map(|it| it.subscription).collect()
        };
        assert_eq!(subscriptions(&["--map", "f/{0..2}/+=x"]), ["f/0/+", "f/1/+", "f/2/+"]);
        assert_eq!(subscriptions(&["--map", "{eu,us}/+=x"]), ["eu/+", "us/+"]);
        let shared = planned(&["--map", "f/+=x", "--share", "g", "--sessions", "3"]).unwrap();
        assert!(
            shared.iter().all(|it| it.subscription == "$share/g/f/+" && it.mapping.filter.as_str() == "f/+")
        );
        let names: Vec<_> = shared.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["$share/g/f/+ 1", "$share/g/f/+ 2", "$share/g/f/+ 3"]);
        let mut ids: Vec<_> = shared.into_iter().map(|it| it.client_id).collect();
        ids.dedup();
        assert_eq!(ids.len(), 3);
        // The same filter, shared and not, is two sessions at the broker.
        assert!(!ids.iter().any(|it| it.starts_with(&planned(&["--map", "f/+=x"]).unwrap()[0].client_id)));
    }

    #[test]
    fn what_cannot_be_is_said() {
        let cases: [(&[&str], &str); 7] = [
            (&["--sessions", "4"], "--sessions 4 needs --share"),
            (&["--sessions", "0"], "--sessions"),
            (&["--share", "a/b", "--sessions", "2"], "is not the name of a group"),
            (&["--map", "f/+=x", "--map", "f/#=x"], "f/+ and f/# take in the same MQTT topics"),
            (&["--map", "f/{a,a}/+=x"], "f/a/+ and f/a/+ take in"),
            (&["--map", "f/{0..64}/+=x"], "65 MQTT sessions are more than the 64"),
            (&["--map", "f/{0..9}/+=x", "--share", "g", "--sessions", "7"], "70 MQTT sessions"),
        ];
        for (flags, expected) in cases {
            let message = planned(flags).unwrap_err();
            assert!(message.contains(expected), "{flags:?}: {message}");
        }
    }
}
