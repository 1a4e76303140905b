//! Moves MQTT messages into Kafka and acknowledges them once Kafka has them.
//!
//! ```text
//! MQTT ══▶ session ─▶ lane: ledger ─▶ producer ══ acks=all ══▶ Kafka topic, or dead-letters
//!   ▲      (one a mapping)   ▲                      │
//!   └── PUBACK, in order ◀───┴── delivery report ◀──┘
//! ```
//!
//! A message of QoS 1 is acknowledged after all in-sync replicas have its record, and after all messages
//! before it; so a bridge that is killed at any moment loses nothing, and doubles at most what was
//! unacknowledged, as a contiguous replay. While Kafka is away nothing is acknowledged and the broker stops
//! sending: memory stays within `--max-buffered-bytes` a mapping. QoS 0 is best effort, and what is dropped
//! of it is counted.

mod config;
mod headers;
mod lane;
mod mapping;
mod metrics;
mod relay;

use std::sync::Arc;
use std::time::{Duration, Instant};

use telltale_kafka::producer::{ProducerConfig, SendError};
use telltale_kafka::topics::Topics;
use telltale_mqtt::subscriber::{self, Session};
use telltale_mqtt::{Endpoint, Fault, MqttConfig, Version};
use telltale_service::{Service, chain};
use tracing::{info, warn};

pub use config::{Config, ConfigError};
use lane::{Lane, Limits};
pub use mapping::{Filter, KafkaTopic, Key, Mapping};
use metrics::Metrics;
use relay::Relay;

/// How often the bridge looks at itself: readiness, failure, the end of a drain.
const LOOK: Duration = Duration::from_millis(100);
/// The bridge is not ready when Kafka has reported nothing for so long although records wait.
const SILENCE: Duration = Duration::from_secs(5);
/// Longest pause before Kafka is asked for its topics again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Messages of one session that may wait where no receive maximum bounds them (QoS 0).
const MOST_BEST_EFFORT: usize = 20_000;

/// Why the bridge stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The MQTT settings cannot be used.
    #[error(transparent)]
    MqttConfig(#[from] telltale_mqtt::ConfigError),
    /// Kafka cannot be used, or lacks a topic; its error says what to do.
    #[error(transparent)]
    Kafka(#[from] telltale_kafka::Error),
    /// The MQTT broker will not have this bridge; trying again is pointless.
    #[error("receiving from the MQTT broker at {broker}")]
    Mqtt {
        /// Address of the broker.
        broker: String,
        /// What it said, or why it is not trusted.
        source: Fault,
    },
    /// Kafka did not take a record and a dead letter cannot stand for it; nothing was acknowledged, so the
    /// broker sends it again after a restart.
    #[error("writing to Kafka")]
    Send(#[source] SendError),
}

/// Moves messages until shutdown; then waits until everything taken is in Kafka and acknowledged.
///
/// # Errors
///
/// Returns why the bridge could not start or go on.
pub fn run(config: Config, service: &Service) -> Result<(), Error> {
    let mappings = config.check()?;
    let endpoint = config.mqtt.endpoint()?;
    config.kafka.check()?;
    if service.only_checks() {
        return Ok(());
    }
    for mapping in &mappings {
        service.not_ready(&component(mapping), "not connected yet");
    }
    let metrics = Metrics::register(&mut service.registry());
    if !wait_for_topics(&config, &mappings, service)? {
        return Ok(());
    }
    let (lanes, sessions): (Vec<_>, Vec<_>) = mappings
        .into_iter()
        .enumerate()
        .map(|(index, mapping)| open(&config, &endpoint, &metrics, index, mapping))
        .unzip();
    let producer = ProducerConfig {
        // Without end: a record that failed would let later ones of its car pass it.
        delivery_timeout: None,
        most_bytes: usize::try_from(config.max_buffered_bytes)
            .unwrap_or(usize::MAX)
            .saturating_mul(lanes.len()),
        most_records: 100_000,
        linger: *config.linger,
    };
    let relay = Relay::start(lanes, &config.kafka, &producer, metrics.delivery)?;
    let mut stages = Vec::new();
    for (lane, session) in relay.lanes.iter().zip(sessions) {
        let receive = Arc::clone(&relay).receive(
            Arc::clone(lane),
            session,
            service.clone(),
            config.mqtt.mqtt.to_string(),
        );
        stages.push(service.spawn(&format!("receive-{}", lane.index), receive));
    }
    watch(&relay, service)?;
    drain(&relay, service)
}

/// What readiness calls a mapping's session.
fn component(mapping: &Mapping) -> String {
    format!("mqtt {}", mapping.filter.as_str())
}

fn open(
    config: &Config,
    endpoint: &Endpoint,
    metrics: &Metrics,
    index: usize,
    mapping: Mapping,
) -> (Arc<Lane>, Session) {
    let options = subscriber::Options {
        client_id: client_id(&config.mqtt, &mapping),
        filters: vec![mapping.filter.as_str().to_owned()],
        session_expiry: *config.session_expiry,
        receive_maximum: config.receive_maximum.get(),
        max_packet_bytes: config.max_packet_bytes,
    };
    info!(
        filter = mapping.filter.as_str(),
        topic = mapping.topic.as_str(),
        client_id = options.client_id,
        "mapping"
    );
    let (acks, session) = subscriber::open(endpoint, options);
    let limits = Limits {
        bytes: usize::try_from(config.max_buffered_bytes).unwrap_or(usize::MAX),
        messages: MOST_BEST_EFFORT,
    };
    let index = u8::try_from(index).expect("the number of mappings was checked");
    let metrics = metrics.of(mapping.topic.as_str());
    let dead_letters = config.dead_letters.as_str().to_owned();
    (Arc::new(Lane::new(index, mapping, dead_letters, acks, limits, metrics)), session)
}

/// A client id that stays the same for the same mapping: the broker keeps the session under it, and a session
/// of another mapping must not be taken for it.
fn client_id(config: &MqttConfig, mapping: &Mapping) -> String {
    let prefix = config.mqtt_client_id.as_deref().unwrap_or("telltale-bridge");
    let bytes = mapping.filter.as_str().bytes().chain([0]).chain(mapping.topic.as_str().bytes());
    // FNV-1a: the hasher of the standard library may change with its version, and the id must not.
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, it| (hash ^ u32::from(it)).wrapping_mul(0x0100_0193));
    // Version 3.1.1 promises 23 bytes only, though brokers take more.
    let version = if config.mqtt_version == Version::V311 { "4" } else { "5" };
    format!("{prefix}-{version}{hash:08x}")
}

/// Waits until Kafka answers and checks that it has the topics; `false` if shutdown came first.
fn wait_for_topics(config: &Config, mappings: &[Mapping], service: &Service) -> Result<bool, Error> {
    let topics = Topics::open(&config.kafka)?;
    let mut pause = LOOK;
    loop {
        let mut targets = mappings.iter().map(|it| it.topic.as_str()).chain([config.dead_letters.as_str()]);
        match targets.try_for_each(|it| topics.check(it)) {
            Ok(()) => {
                service.ready("kafka");
                return Ok(true);
            }
            Err(error) if error.is_passing() => {
                let reason = chain(&error);
                warn!(reason, "Kafka does not answer, trying again");
                service.not_ready("kafka", &reason);
            }
            Err(error) => return Err(error.into()),
        }
        if service.shutdown().sleep(pause) {
            return Ok(false);
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Says whether the bridge is ready, until shutdown is requested.
fn watch(relay: &Relay, service: &Service) -> Result<(), Error> {
    let mut silent = false;
    while !service.shutdown().sleep(LOOK) {
        if let Some(error) = relay.take_failure() {
            return Err(Error::Send(error));
        }
        let (waiting, silence) = relay.waiting();
        if (silence > SILENCE) != silent {
            silent = !silent;
            if silent {
                warn!(waiting, "Kafka has confirmed nothing for a while, messages stay with the broker");
                service.not_ready("kafka", "has confirmed no record for a while");
            } else {
                info!("Kafka confirms records again");
                service.ready("kafka");
            }
        }
    }
    Ok(())
}

/// Takes no more messages, waits until those taken are acknowledged, and says farewell to the broker.
fn drain(relay: &Relay, service: &Service) -> Result<(), Error> {
    relay.lanes.iter().for_each(|it| it.close());
    // The farewell takes time too.
    let deadline = Instant::now() + service.drain_timeout().mul_f64(0.75);
    let mut failure = None;
    loop {
        let (waiting, _) = relay.waiting();
        failure = failure.or(relay.take_failure());
        if waiting == 0 || failure.is_some() {
            break;
        }
        if Instant::now() >= deadline {
            warn!(waiting, "messages are not in Kafka yet, the broker will send them again");
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    relay.lanes.iter().for_each(|it| it.farewell());
    failure.map_or(Ok(()), |it| Err(Error::Send(it)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn a_mapping_keeps_its_client_id_from_version_to_version() {
        let config = Config::parse_from(["bridge"]);
        let mappings = config.check().unwrap();
        let ids: Vec<_> = mappings.iter().map(|it| client_id(&config.mqtt, it)).collect();
        assert_eq!(ids, ["telltale-bridge-559a3eb97", "telltale-bridge-5e89844b8"]);
    }
}
