//! Engines, devices, and a look at what the bridge made of their messages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use clap::Parser as _;
use telltale_bridge::{Config, Error};
use telltale_kafka::KafkaConfig;
use telltale_mqtt::device::{self, Event, Options};
use telltale_mqtt::{Endpoint, Qos, Version};
use telltale_service::Running;
use telltale_testkit::gate::{self, TRANSACTION};
use telltale_testkit::proxy::{Fate, Pieces, Proxy, Way};
use telltale_testkit::{Engines, Written, metrics, wait_until};

/// Engines, and the bridge's settings for them.
pub(crate) struct World {
    pub(crate) engines: Engines,
    pub(crate) kafka: KafkaConfig,
    /// Different for each test: a real broker keeps the session of an earlier one.
    client: String,
}

impl World {
    pub(crate) fn start() -> Self {
        let engines = Engines::fresh(4);
        Self { kafka: engines.kafka(), client: engines.name("bridge"), engines }
    }

    pub(crate) fn config(&self, more: &[&str]) -> Config {
        self.config_at(&self.engines.mqtt_flags(), more)
    }

    pub(crate) fn config_at(&self, mqtt: &[String], more: &[&str]) -> Config {
        config_of(self.flags(mqtt, &self.kafka, more))
    }

    pub(crate) fn flags(&self, mqtt: &[String], kafka: &KafkaConfig, more: &[&str]) -> Vec<String> {
        let own = ["--mqtt-client-id", &self.client, "--session-expiry", "5m"].map(str::to_owned);
        let more = more.iter().map(|&it| it.to_owned()).collect();
        [own.to_vec(), mqtt.to_vec(), kafka.flags(), more].concat()
    }

    /// Runs `work` beside a bridge that is ready; it is stopped afterwards and must have ended well.
    pub(crate) fn beside_a_bridge<T>(
        &mut self,
        config: Config,
        work: impl FnOnce(&mut Self, &Running<Error>) -> T,
    ) -> T {
        telltale_testkit::beside("bridge", config, telltale_bridge::run, |running| {
            // Before it has metrics it has not said yet what it is not ready for.
            let has_metrics = || metrics(running.service()).contains("messages");
            wait_until("the bridge is ready", || has_metrics() && is_ready(running));
            work(self, running)
        })
    }

    /// Runs `work` beside a bridge whose session the broker has filled with what `cars` published, and whose way to Kafka
    /// is closed at first. A broker that sends batch by batch, as HiveMQ does, then begins with a whole one.
    pub(crate) fn beside_a_bridge_behind_a_door(
        &mut self,
        more: &[&str],
        cars: impl FnOnce(&Self) -> JoinHandle<()>,
        work: impl FnOnce(&Door, &Running<Error>),
    ) {
        self.beside_a_bridge(self.config(more), |_, _| ()); // from now on the broker holds its session
        cars(self).join().unwrap();
        let door = Door::closed(&self.kafka);
        let flags = self.flags(&self.engines.mqtt_flags(), &door.kafka(&self.kafka), more);
        self.beside_a_bridge(config_of(flags), |_, running| work(&door, running));
    }

    /// All records of a topic: in each partition in their order.
    pub(crate) fn records(&self, topic: &str) -> Vec<Written> {
        telltale_testkit::written(&self.kafka, topic)
    }

    pub(crate) fn count(&self, topic: &str) -> i64 {
        telltale_testkit::extent(&self.kafka, topic)
    }

    /// Starts cars that publish the numbers from 0 with QoS 1; each ends when all are acknowledged.
    pub(crate) fn cars(&self, cars: u32, numbers: std::ops::Range<u32>, version: Version) -> JoinHandle<()> {
        self.large_cars(cars, numbers, version, 0)
    }

    /// As [`World::cars`], with numbers written in so many bytes.
    pub(crate) fn large_cars(
        &self,
        cars: u32,
        numbers: std::ops::Range<u32>,
        version: Version,
        bytes: usize,
    ) -> JoinHandle<()> {
        let mut settings = self.engines.mqtt_config();
        settings.mqtt_version = version;
        let endpoint = settings.endpoint().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut tasks = tokio::task::JoinSet::new();
                for car in 0..cars {
                    tasks.spawn(drive(endpoint.clone(), car, numbers.clone(), bytes));
                }
                while let Some(ended) = tasks.join_next().await {
                    ended.unwrap();
                }
            });
        })
    }
}

pub(crate) fn config_of(flags: Vec<String>) -> Config {
    Config::try_parse_from(["bridge".to_owned()].into_iter().chain(flags)).unwrap()
}

/// A way to Kafka on which no record passes while it is closed: a connection that brings one ends.
pub(crate) struct Door {
    proxy: Proxy,
    is_open: Arc<AtomicBool>,
}

impl Door {
    pub(crate) fn closed(kafka: &KafkaConfig) -> Self {
        let is_open = Arc::new(AtomicBool::new(false));
        let state = Arc::clone(&is_open);
        let produce = TRANSACTION[2];
        let proxy = Proxy::start(gate::address(kafka), Pieces::Kafka, move |piece| {
            let record = piece.api == Some(produce) && piece.way == Way::Up;
            if record && !state.load(Ordering::SeqCst) { Fate::Close } else { Fate::Pass }
        });
        Self { proxy, is_open }
    }

    pub(crate) fn kafka(&self, kafka: &KafkaConfig) -> KafkaConfig {
        KafkaConfig { bootstrap: self.proxy.address().to_string(), ..kafka.clone() }
    }

    pub(crate) fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }
}

async fn drive(endpoint: Endpoint, car: u32, numbers: std::ops::Range<u32>, bytes: usize) {
    let name = format!("car-{car}-{}", numbers.start);
    let (publisher, mut session) = device::open(&endpoint, Options::new(name));
    let topic: Arc<str> = format!("vehicles/sensor/data/car-{car}").into();
    let mut open = numbers.len();
    let mut numbers = numbers.peekable();
    while open > 0 {
        while let Some(number) = numbers.peek() {
            let payload = format!("{number:>bytes$}").into();
            if publisher.publish(&topic, Qos::AtLeastOnce, false, payload).is_err() {
                break; // the window is full
            }
            numbers.next();
        }
        match session.next().await.unwrap() {
            Event::Acknowledged { .. } => open -= 1,
            Event::Refused { reason, .. } => panic!("{reason}"),
            _ => {}
        }
    }
    publisher.close();
    while session.next().await.is_some() {}
}

pub(crate) fn is_ready(running: &Running<Error>) -> bool {
    assert!(!running.is_ended(), "the bridge has ended");
    running.service().unready().is_empty()
}

/// The value of a metric of the bridge, summed over its labels.
pub(crate) fn metric(running: &Running<Error>, name: &str) -> u64 {
    telltale_testkit::metric(running.service(), name)
}

/// The text of a record.
pub(crate) fn text(record: &Written) -> &str {
    std::str::from_utf8(record.value()).unwrap()
}

/// Numbers of each key, in the order of its partition.
pub(crate) fn by_key(records: &[Written]) -> BTreeMap<String, Vec<u32>> {
    let mut numbers: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for record in records {
        let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
        numbers.entry(key).or_default().push(text(record).trim_start().parse().unwrap());
    }
    numbers
}

/// Checks that each of `cars` cars has the numbers of `range` once and in order.
pub(crate) fn assert_whole(records: &[Written], cars: u32, range: std::ops::Range<u32>) {
    let found = by_key(records);
    assert_eq!(found.len(), cars as usize);
    for (car, numbers) in found {
        let wrong = numbers.iter().copied().zip(range.clone()).position(|(found, wanted)| found != wanted);
        assert_eq!((numbers.len(), wrong), (range.len(), None), "{car}");
    }
}
