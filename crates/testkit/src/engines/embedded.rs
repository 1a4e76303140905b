//! Embedded engines for one test: free ports, kept over a restart.

use std::net::SocketAddr;
use std::path::PathBuf;

use telltale_embedded::log::{Log, LogConfig};
use telltale_embedded::{mqtt, registry};
use tempfile::TempDir;

use super::Engine;

/// Engines in this process; `None` for one that is stopped. Dropped in the order of their declaration.
#[derive(Debug)]
pub(super) struct Embedded {
    mqtt: Option<mqtt::Broker>,
    registry: Option<registry::Registry>,
    log: Option<Log>,
    addresses: Addresses,
    data: Option<TempDir>,
}

#[derive(Debug)]
struct Addresses {
    mqtt: SocketAddr,
    registry: SocketAddr,
    log: SocketAddr,
}

impl Embedded {
    pub(super) fn start(data: Option<TempDir>) -> Self {
        let anywhere = LogConfig::default().listen;
        let addresses = Addresses { mqtt: anywhere, registry: anywhere, log: anywhere };
        let mut engines = Self { mqtt: None, registry: None, log: None, addresses, data };
        for engine in [Engine::Kafka, Engine::Registry, Engine::Mqtt] {
            engines.start_again(engine);
        }
        engines
    }

    pub(super) fn settings(&self) -> Vec<(String, String)> {
        let Addresses { mqtt, registry, log } = &self.addresses;
        vec![
            ("KAFKA".to_owned(), log.to_string()),
            ("REGISTRY".to_owned(), format!("http://{registry}")),
            ("MQTT".to_owned(), mqtt.to_string()),
        ]
    }

    pub(super) fn stop(&mut self, engine: Engine) {
        match engine {
            Engine::Kafka => {
                assert!(self.data.is_some(), "this Kafka would lose everything: use Engines::with_data");
                self.log = None;
            }
            Engine::Registry => self.registry = None,
            Engine::Mqtt => self.mqtt = None,
        }
    }

    /// Starts an engine at its address; the first time that is any free port.
    pub(super) fn start_again(&mut self, engine: Engine) {
        let folder = |name: &str| -> Option<PathBuf> { self.data.as_ref().map(|it| it.path().join(name)) };
        let at = &mut self.addresses;
        match engine {
            Engine::Kafka => {
                let mut config = LogConfig::default();
                (config.listen, config.data) = (at.log, folder("kafka"));
                let log = Log::start(config).expect("the embedded log starts");
                at.log = log.addr();
                self.log = Some(log);
            }
            Engine::Registry => {
                let registry = registry::start(at.registry.port(), folder("registry").as_deref());
                let registry = registry.expect("the embedded registry starts");
                at.registry = registry.address();
                self.registry = Some(registry);
            }
            Engine::Mqtt => {
                let config = mqtt::Config { port: at.mqtt.port(), ..mqtt::Config::default() };
                let broker = mqtt::start(config).expect("the embedded MQTT broker starts");
                at.mqtt = broker.address();
                self.mqtt = Some(broker);
            }
        }
    }
}
