//! The engines that a demo runs on: embedded ones, or real ones that somebody else started.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use telltale_embedded::Engines;
use telltale_kafka::{KafkaConfig, Registry, RegistryConfig};
use telltale_records::{schema, topics};

use crate::cli::{DemoArgs, EnginesKind};
use crate::clock::now_ms;
use crate::commands::{Error, engines};

/// Longest time for an engine to accept a connection.
const ANSWER: Duration = Duration::from_secs(5);

/// How services reach the engines.
pub(crate) struct Reach {
    pub(crate) kafka: KafkaConfig,
    pub(crate) registry: RegistryConfig,
    /// Where the MQTT broker is, for a person.
    pub(crate) mqtt: String,
    /// How services reach it.
    pub(crate) mqtt_flags: Vec<String>,
    /// What the bridge needs besides.
    pub(crate) bridge_flags: Vec<String>,
    /// What the cars need besides.
    pub(crate) simulator_flags: Vec<String>,
    /// Copies of each partition; -1 is what the brokers make by default.
    pub(crate) replication: i32,
    /// Embedded engines end when this is dropped.
    _embedded: Option<Engines>,
}

impl Reach {
    /// Starts embedded engines that keep their data in `data`, or finds out whether the real ones answer.
    pub(crate) fn start(args: &DemoArgs, data: PathBuf) -> Result<Self, Error> {
        match args.kind {
            EnginesKind::Embedded => {
                Self::embedded(engines::start(engines::config(&args.engines, Some(data)))?)
            }
            EnginesKind::Real => Self::real(args),
        }
    }

    fn embedded(engines: Engines) -> Result<Self, Error> {
        let mqtt = engines.mqtt_addr().to_string();
        Ok(Self {
            kafka: KafkaConfig::at(engines.kafka_addr().to_string()),
            registry: RegistryConfig::at(engines.registry_url()),
            mqtt_flags: vec!["--mqtt".to_owned(), mqtt.clone()],
            mqtt,
            bridge_flags: Vec::new(),
            simulator_flags: Vec::new(),
            replication: 1,
            _embedded: Some(engines),
        })
    }

    /// Services would wait for engines that are away; a person who forgot to start them should not.
    fn real(args: &DemoArgs) -> Result<Self, Error> {
        let (kafka, registry) = (args.connection.kafka.clone(), args.connection.registry.clone());
        let mqtt = args.mqtt.mqtt.to_string();
        answers("Kafka", "--kafka", &kafka.bootstrap)?;
        answers("MQTT broker", "--mqtt", &mqtt)?;
        let asked = Registry::new(&registry)?.latest(&schema::subject(topics::CLEAN));
        if let Err(source) = asked
            && source.is_passing()
        {
            let (engine, flag, address) = ("schema registry", "--registry", registry.url);
            return Err(Error::NotUp { engine, flag, address, source: source.into() });
        }
        let mqtt_flags = args.mqtt.flags();
        // The broker holds for an absent session what others publish meanwhile: a run has a session of its own.
        let client_id = format!("telltale-demo-{}", now_ms());
        let own = ["--mqtt-client-id", &client_id, "--session-expiry", "5m"].map(str::to_owned);
        let bridge_flags = own.into_iter().chain(maps()).collect();
        let simulator_flags = ["--topic", "vehicles/{digit}/sensor/data/{car}"].map(str::to_owned).to_vec();
        Ok(Self {
            kafka,
            registry,
            mqtt,
            mqtt_flags,
            bridge_flags,
            simulator_flags,
            replication: -1,
            _embedded: None,
        })
    }
}

/// HiveMQ sends a session 50 messages and waits until all are acknowledged, which takes as long as Kafka does: each tenth of the fleet
/// has a session of its own, and keeps its order.
fn maps() -> impl Iterator<Item = String> {
    let tenths = (0..10).map(|digit| format!("vehicles/{digit}/sensor/data/+={}", topics::SENSOR_DATA));
    let others = [("vehicles/sensor/data/+", topics::SENSOR_DATA), ("vehicles/truth/+", topics::TRUTH)];
    let others = others.into_iter().map(|(filter, topic)| format!("{filter}={topic}"));
    tenths.chain(others).flat_map(|it| ["--map".to_owned(), it])
}

/// Whether one of `addresses`, separated by commas, accepts connections.
fn answers(engine: &'static str, flag: &'static str, addresses: &str) -> Result<(), Error> {
    let connect = |address: &str| -> std::io::Result<()> {
        let mut refused = None;
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, ANSWER) {
                Ok(_) => return Ok(()),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| std::io::ErrorKind::NotFound.into()))
    };
    let mut latest = None;
    for address in addresses.split(',') {
        match connect(address.trim()) {
            Ok(()) => return Ok(()),
            Err(error) => latest = Some(error),
        }
    }
    let source = latest.unwrap_or_else(|| std::io::ErrorKind::NotFound.into());
    Err(Error::NotUp { engine, flag, address: addresses.to_owned(), source: source.into() })
}
