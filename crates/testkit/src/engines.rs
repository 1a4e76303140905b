//! The engines a test runs on.
//!
//! ```text
//! Engines::start ─┬─ TELLTALE_TEST_ENGINES unset ─▶ embedded: its own, in this process, free ports, gone with the test
//!                 └─ names the folder of make up ─▶ real: shared with other tests, found by the folder's run/clients.env
//! ```
//!
//! Tests that use names of their own ([`Engines::name`]) may run side by side on real engines; tests that use the topics of
//! the design run one by one there and begin with [`Engines::fresh`].

mod embedded;
pub(crate) mod real;
mod reset;

use std::net::SocketAddr;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use telltale_kafka::{KafkaConfig, Registry, RegistryConfig};
use telltale_mqtt::{Endpoint, MqttConfig};

use crate::PATIENCE;
use embedded::Embedded;
use real::Real;
pub(crate) use reset::empty;

/// Which engines a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The ones of this workspace, in this process.
    Embedded,
    /// Apache Kafka, HiveMQ and Apicurio Registry, started by `make up`.
    Real,
}

/// One of the engines, for stopping and starting it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    /// The log; of several brokers, the first.
    Kafka,
    /// The schema registry.
    Registry,
    /// The MQTT broker.
    Mqtt,
}

/// An MQTT broker, a Kafka log and a schema registry for a test.
#[derive(Debug)]
pub struct Engines {
    origin: Origin,
    /// Each of our settings that leads to the engines, by its environment variable.
    settings: Vec<(String, String)>,
    clients: Clients,
}

#[derive(Debug)]
enum Origin {
    Embedded(Box<Embedded>),
    Real(Real),
}

/// Our settings, read as the services read them.
#[derive(Debug, Clone, Parser)]
struct Clients {
    #[command(flatten)]
    kafka: KafkaConfig,
    #[command(flatten)]
    registry: RegistryConfig,
    #[command(flatten)]
    mqtt: MqttConfig,
}

impl Engines {
    /// Engines for one test: real ones if `TELLTALE_TEST_ENGINES` names the folder of `make up`, else embedded ones that keep
    /// everything in memory.
    ///
    /// # Panics
    ///
    /// Panics when they cannot be had, and says why.
    #[must_use]
    pub fn start() -> Self {
        Self::of(real::folder().map(Real::find), || Embedded::start(None))
    }

    /// As [`Engines::start`]; embedded ones keep log and schemas in a folder, so that they can be stopped and started again.
    ///
    /// # Panics
    ///
    /// Panics when they cannot be had, and says why.
    #[must_use]
    pub fn with_data() -> Self {
        let folder = || tempfile::tempdir().expect("a temporary folder can be made");
        Self::of(real::folder().map(Real::find), || Embedded::start(Some(folder())))
    }

    /// As [`Engines::with_data`], with every topic of the design, empty, in so many partitions, and a registry without
    /// subjects. On real engines this deletes every topic and subject there is.
    ///
    /// # Panics
    ///
    /// Panics when the engines cannot be had or refuse.
    #[must_use]
    pub fn fresh(partitions: i32) -> Self {
        let engines = Self::with_data();
        if engines.kind() == Kind::Real {
            reset::empty(&engines.kafka(), &engines.registry_config());
        }
        reset::create_topics(&engines, partitions);
        engines
    }

    fn of(real: Option<Real>, embedded: impl FnOnce() -> Embedded) -> Self {
        static LOGS: Once = Once::new();
        // Shown with a test that fails.
        LOGS.call_once(|| tracing_subscriber::fmt().with_test_writer().try_init().unwrap_or_default());
        let (origin, settings) = match real {
            Some(real) => {
                let settings = real.settings();
                (Origin::Real(real), settings)
            }
            None => {
                let embedded = embedded();
                let settings = embedded.settings();
                (Origin::Embedded(Box::new(embedded)), settings)
            }
        };
        let arguments = ["test".to_owned()].into_iter().chain(flags(&settings, ""));
        let clients =
            Clients::try_parse_from(arguments).expect("the settings of the engines are settings of ours");
        Self { origin, settings, clients }
    }

    /// Which kind they are.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.origin {
            Origin::Embedded(_) => Kind::Embedded,
            Origin::Real(_) => Kind::Real,
        }
    }

    /// Our settings for Kafka.
    #[must_use]
    pub fn kafka(&self) -> KafkaConfig {
        self.clients.kafka.clone()
    }

    /// Kafka's bootstrap servers.
    #[must_use]
    pub fn servers(&self) -> String {
        self.clients.kafka.bootstrap.clone()
    }

    /// How many copies a topic can have.
    #[must_use]
    pub fn replication(&self) -> i32 {
        if self.servers().split(',').count() >= 3 { 3 } else { 1 }
    }

    /// Where the MQTT broker listens.
    ///
    /// # Panics
    ///
    /// Panics when it is not on this machine.
    #[must_use]
    pub fn mqtt(&self) -> SocketAddr {
        self.clients.mqtt.mqtt.to_string().parse().expect("the broker is at an address of this machine")
    }

    /// Our settings for MQTT.
    #[must_use]
    pub fn mqtt_config(&self) -> MqttConfig {
        self.clients.mqtt.clone()
    }

    /// How a device reaches the MQTT broker.
    ///
    /// # Panics
    ///
    /// Panics when the settings name a file that cannot be read.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.clients.mqtt.endpoint().expect("the settings of the MQTT broker can be used")
    }

    /// URL of the registry, with the path of its Confluent API.
    #[must_use]
    pub fn registry_url(&self) -> String {
        self.clients.registry.url.clone()
    }

    /// Our settings for the registry.
    #[must_use]
    pub fn registry_config(&self) -> RegistryConfig {
        self.clients.registry.clone()
    }

    /// A client of the registry.
    ///
    /// # Panics
    ///
    /// Panics when the settings cannot be used.
    #[must_use]
    pub fn registry(&self) -> Registry {
        Registry::new(&self.clients.registry).expect("the settings of the registry can be used")
    }

    /// The flags of our programs that lead to Kafka.
    #[must_use]
    pub fn kafka_flags(&self) -> Vec<String> {
        flags(&self.settings, "KAFKA")
    }

    /// The flags of our programs that lead to the MQTT broker.
    #[must_use]
    pub fn mqtt_flags(&self) -> Vec<String> {
        flags(&self.settings, "MQTT")
    }

    /// The flags of our programs that lead to the registry.
    #[must_use]
    pub fn registry_flags(&self) -> Vec<String> {
        flags(&self.settings, "REGISTRY")
    }

    /// A name that no other test uses, for topics, groups, subjects and clients: real engines are shared.
    #[must_use]
    pub fn name(&self, what: &str) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("test-{what}-{}-{number}", self.run())
    }

    /// Tells this run of the tests from others on the same engines; process ids come round again.
    fn run(&self) -> String {
        static STARTED: std::sync::OnceLock<u128> = std::sync::OnceLock::new();
        #[expect(clippy::disallowed_methods, reason = "only tells runs apart")]
        let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let millis = STARTED.get_or_init(|| now().as_millis());
        format!("{:x}-{}", millis % (1 << 40), std::process::id())
    }

    /// Ends an engine in order; what it keeps on disk stays. A real one is started again when this is dropped.
    ///
    /// # Panics
    ///
    /// Panics when an embedded Kafka is ended that keeps its data in memory.
    pub fn stop(&mut self, engine: Engine) {
        match &mut self.origin {
            Origin::Embedded(it) => it.stop(engine),
            Origin::Real(it) => it.signal(engine, "TERM"),
        }
    }

    /// Ends an engine as a SIGKILL does. An embedded one is part of this process and is ended as by [`Engines::stop`].
    ///
    /// # Panics
    ///
    /// As [`Engines::stop`].
    pub fn kill(&mut self, engine: Engine) {
        match &mut self.origin {
            Origin::Embedded(it) => it.stop(engine),
            Origin::Real(it) => it.signal(engine, "KILL"),
        }
    }

    /// Starts an engine again, where it was, with what it keeps on disk.
    ///
    /// # Panics
    ///
    /// Panics when it does not start.
    pub fn start_again(&mut self, engine: Engine) {
        match &mut self.origin {
            Origin::Embedded(it) => it.start_again(engine),
            Origin::Real(it) => it.start_again(),
        }
    }

    /// Ends Kafka in order and starts it again with its data.
    ///
    /// # Panics
    ///
    /// As [`Engines::stop`] and [`Engines::start_again`].
    pub fn restart_kafka(&mut self) {
        self.stop(Engine::Kafka);
        self.start_again(Engine::Kafka);
    }

    /// Ends Kafka as a SIGKILL does; [`Engines::start_again`] brings it back.
    ///
    /// # Panics
    ///
    /// As [`Engines::kill`].
    pub fn kill_kafka(&mut self) {
        self.kill(Engine::Kafka);
    }
}

/// The settings whose variable begins with `family`, as flags.
fn flags(settings: &[(String, String)], family: &str) -> Vec<String> {
    let mut flags = Vec::new();
    for (name, value) in settings.iter().filter(|(name, _)| name.starts_with(family)) {
        let flag = format!("--{}", name.to_lowercase().replace('_', "-"));
        match value.as_str() {
            "true" => flags.push(flag),
            _ => flags.extend([flag, value.clone()]),
        }
    }
    flags
}

/// Waits until `holds`.
///
/// # Panics
///
/// Panics with `what` when it does not within [`PATIENCE`].
pub fn wait_until(what: &str, holds: impl FnMut() -> bool) {
    wait_at_most(PATIENCE, what, holds);
}

/// As [`wait_until`], with a limit of its own: for what takes long even on a quiet machine.
///
/// # Panics
///
/// Panics with `what` when it does not hold within `limit`.
pub fn wait_at_most(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {limit:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_flags_by_family() {
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let settings = [setting("KAFKA", "a:1"), setting("KAFKA_CA", "x"), setting("MQTT_TLS", "true")];
        assert_eq!(flags(&settings, "KAFKA"), ["--kafka", "a:1", "--kafka-ca", "x"]);
        assert_eq!(flags(&settings, "MQTT"), ["--mqtt-tls"]);
    }
}
