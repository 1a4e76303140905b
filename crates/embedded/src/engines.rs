//! The three engines together.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::log::{Log, LogConfig};
use crate::{log, mqtt, registry};

/// Ports of the engines on the loopback interface, 0 for any free one, and where they keep their data.
#[derive(Debug, Clone, Default)]
pub struct EnginesConfig {
    /// Port of the MQTT broker.
    pub mqtt_port: u16,
    /// Port of the Kafka-protocol log.
    pub kafka_port: u16,
    /// Port of the schema registry.
    pub registry_port: u16,
    /// Folder of the log and the registry; `None` keeps everything in memory. The MQTT broker keeps sessions
    /// and retained messages in memory always.
    pub data: Option<PathBuf>,
    /// Who may connect by MQTT; `None` for anyone on this machine.
    pub mqtt_credentials: Option<mqtt::Credentials>,
}

/// Which engine could not start; its source says why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnginesError {
    /// The MQTT broker.
    #[error("starting the MQTT broker")]
    Mqtt(#[from] mqtt::Error),
    /// The Kafka-protocol log.
    #[error("starting the Kafka-protocol log")]
    Kafka(#[from] log::Error),
    /// The schema registry.
    #[error("starting the schema registry")]
    Registry(#[from] registry::Error),
}

/// An MQTT broker, a Kafka-protocol log and a schema registry; dropping them ends them in order.
///
/// Fields are dropped in the order of their declaration: first the broker that brings new data, last the log.
#[derive(Debug)]
pub struct Engines {
    mqtt: mqtt::Broker,
    registry: registry::Registry,
    kafka: Log,
}

impl Engines {
    /// Starts the engines; when this returns, clients can connect.
    ///
    /// # Errors
    ///
    /// Returns which engine could not start and why; none is left running.
    pub fn start(config: EnginesConfig) -> Result<Self, EnginesError> {
        let kafka = Log::start(LogConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, config.kafka_port)),
            data: config.data.as_ref().map(|it| it.join("kafka")),
            ..LogConfig::default()
        })?;
        let folder = config.data.as_ref().map(|it| it.join("registry"));
        let registry = registry::start(config.registry_port, folder.as_deref())?;
        let mqtt = mqtt::start(mqtt::Config {
            port: config.mqtt_port,
            credentials: config.mqtt_credentials,
            ..mqtt::Config::default()
        })?;
        Ok(Self { mqtt, registry, kafka })
    }

    /// Where MQTT clients connect.
    #[must_use]
    pub fn mqtt_addr(&self) -> SocketAddr {
        self.mqtt.address()
    }

    /// Where Kafka clients connect.
    #[must_use]
    pub fn kafka_addr(&self) -> SocketAddr {
        self.kafka.addr()
    }

    /// Where the registry's clients find it.
    #[must_use]
    pub fn registry_url(&self) -> String {
        self.registry.url()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;
    use std::net::TcpStream;

    #[test]
    fn the_engines_start_and_end_and_start_again_on_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let config = EnginesConfig { data: Some(folder.path().to_owned()), ..EnginesConfig::default() };
        let engines = Engines::start(config.clone()).unwrap();
        let registry = engines.registry_url().trim_start_matches("http://").parse().unwrap();
        for address in [engines.mqtt_addr(), engines.kafka_addr(), registry] {
            TcpStream::connect(address).unwrap();
        }
        assert!(matches!(Engines::start(config.clone()), Err(EnginesError::Kafka(log::Error::InUse { .. }))));
        drop(engines);
        drop(Engines::start(config).unwrap());
    }

    #[test]
    fn a_port_in_use_is_named() {
        let engines = Engines::start(EnginesConfig::default()).unwrap();
        let port = engines.mqtt_addr().port();
        let config = EnginesConfig { mqtt_port: port, ..EnginesConfig::default() };
        let error = Engines::start(config).unwrap_err();
        assert_eq!(error.to_string(), "starting the MQTT broker");
        let source = error.source().unwrap().to_string();
        assert_eq!(source, format!("listening for MQTT on 127.0.0.1:{port}"));
    }
}
