//! Moves MQTT messages into Kafka and acknowledges them once Kafka has them.
//!
//! ```text
//! MQTT ══▶ session ─▶ lane: ledger ─▶ producer ══ acks=all ══▶ Kafka topic, or dead-letters
//!   ▲      (one a filter)    ▲                      │
//!   └── PUBACK, in order ◀───┴── delivery report ◀──┘
//! ```
//!
//! A message of QoS 1 is acknowledged after all in-sync replicas have its record, and after all messages
//! before it; so a bridge that is killed at any moment loses nothing, and doubles at most what was
//! unacknowledged, as a contiguous replay. While Kafka is away nothing is acknowledged and the broker stops
//! sending: memory stays within `--max-buffered-bytes` a session. QoS 0 is best effort, and what is dropped
//! of it is counted.

mod config;
mod dropped;
mod headers;
mod lane;
mod mapping;
mod metrics;
mod relay;
mod sessions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use telltale_kafka::producer::{ProducerConfig, SendError};
use telltale_kafka::topics::Topics;
use telltale_mqtt::subscriber::{self, Session};
use telltale_mqtt::{Endpoint, Fault};
use telltale_service::{Service, chain};
use tracing::{info, warn};

pub use config::{Config, ConfigError, Group};
use lane::{Lane, Limits};
pub use mapping::{Filter, KafkaTopic, Key, Mapping};
use metrics::Metrics;
use relay::Relay;
use sessions::Plan;

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
    let plans = config.check()?;
    let endpoint = config.mqtt.endpoint()?;
    config.kafka.check()?;
    if service.only_checks() {
        return Ok(());
    }
    for plan in &plans {
        service.not_ready(&component(&plan.name), "not connected yet");
    }
    let metrics = Metrics::register(&mut service.registry());
    if !wait_for_topics(&config, &plans, service)? {
        return Ok(());
    }
    let (lanes, sessions): (Vec<_>, Vec<_>) = plans
        .into_iter()
        .enumerate()
        .map(|(index, plan)| open(&config, &endpoint, &metrics, index, plan))
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
    if !config.dropped_topic.is_empty() {
        let topic = config.dropped_topic.clone();
        let watch =
            dropped::watch(endpoint, topic, watcher_id(&config), metrics.broker_dropped, service.clone());
        stages.push(service.spawn("dropped", watch));
    }
    watch(&relay, service)?;
    drain(&relay, service)
}

/// What readiness calls a session.
fn component(name: &str) -> String {
    format!("mqtt {name}")
}

/// A client id for this process alone: bridges with one prefix must not take each other's connection over, and the
/// session ends with its connection.
fn watcher_id(config: &Config) -> String {
    let prefix = config.mqtt.mqtt_client_id.as_deref().unwrap_or("telltale-bridge");
    format!("{prefix}-w{:x}", std::process::id())
}

fn open(
    config: &Config,
    endpoint: &Endpoint,
    metrics: &Metrics,
    index: usize,
    plan: Plan,
) -> (Arc<Lane>, Session) {
    let options = subscriber::Options {
        client_id: plan.client_id.clone(),
        filters: vec![plan.subscription.clone()],
        session_expiry: *config.session_expiry,
        receive_maximum: config.receive_maximum.get(),
        max_packet_bytes: config.max_packet_bytes,
    };
    let topic = plan.mapping.topic.as_str();
    info!(session = plan.name, topic, client_id = plan.client_id, "mapping");
    let (acks, session) = subscriber::open(endpoint, options);
    let limits = Limits {
        bytes: usize::try_from(config.max_buffered_bytes).unwrap_or(usize::MAX),
        messages: MOST_BEST_EFFORT,
    };
    let index = u8::try_from(index).expect("the number of sessions was checked");
    let metrics = metrics.of(topic);
    let dead_letters = config.dead_letters.as_str().to_owned();
    (Arc::new(Lane::new(index, plan, dead_letters, acks, limits, metrics)), session)
}

/// Waits until Kafka answers and checks that it has the topics; `false` if shutdown came first.
fn wait_for_topics(config: &Config, plans: &[Plan], service: &Service) -> Result<bool, Error> {
    let topics = Topics::open(&config.kafka)?;
    let mut pause = LOOK;
    loop {
        let mut targets =
            plans.iter().map(|it| it.mapping.topic.as_str()).chain([config.dead_letters.as_str()]);
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
        if relay.is_taken_over() {
            // The other process has them all from the broker again: a record of ours would come among its own.
            warn!(
                waiting,
                "another process has the session, messages that are not in Kafka yet are left to it"
            );
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
