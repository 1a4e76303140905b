//! Engines, devices, and a look at what the bridge made of their messages.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Parser as _;
use telltale_bridge::{Config, Error};
use telltale_embedded::log::{Log, LogConfig};
use telltale_embedded::mqtt::{self, Broker};
use telltale_kafka::topics::Topics;
use telltale_kafka::{Isolation, KafkaConfig, Reader};
use telltale_mqtt::device::{self, Event, Options};
use telltale_mqtt::{Endpoint, Qos, Version};
use telltale_service::{Address, Host, Running};
use tokio_util::sync::CancellationToken;

/// Generous: the machine may be busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// An MQTT broker, a log in a folder, and the bridge's settings for them.
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) kafka: KafkaConfig,
    log: Option<Log>,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

/// A record of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) key: Option<String>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Written {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().unwrap()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl World {
    pub(crate) fn start() -> Self {
        let broker = mqtt::start(mqtt::Config::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let log = start_log("127.0.0.1:0".parse().unwrap(), folder.path());
        let address = log.addr();
        let kafka = KafkaConfig::at(address.to_string());
        Topics::open(&kafka).unwrap().create_all(4, 1).unwrap();
        Self { broker, kafka, log: Some(log), address, folder }
    }

    pub(crate) fn stop_log(&mut self) {
        self.log = None;
    }

    pub(crate) fn start_log(&mut self) {
        self.log = Some(start_log(self.address, self.folder.path()));
    }

    pub(crate) fn config(&self, more: &[&str]) -> Config {
        self.config_at(self.broker.address(), more)
    }

    pub(crate) fn config_at(&self, mqtt: SocketAddr, more: &[&str]) -> Config {
        let mqtt = mqtt.to_string();
        let flags = ["bridge", "--mqtt", &mqtt, "--kafka", &self.kafka.bootstrap];
        Config::try_parse_from(flags.iter().chain(more)).unwrap()
    }

    /// Runs `work` beside a bridge that is ready; it is stopped afterwards and must have ended well.
    pub(crate) fn beside_a_bridge<T>(
        &mut self,
        config: Config,
        work: impl FnOnce(&mut Self, &Running<Error>) -> T,
    ) -> T {
        let host = Host::start(Address::Off, "--http", Duration::from_secs(60)).unwrap();
        let running = host.launch("bridge", config, telltale_bridge::run);
        // Before it has metrics it has not said yet what it is not ready for.
        wait_until("the bridge is ready", || metrics(&running).contains("messages") && is_ready(&running));
        let result = work(self, &running);
        running.stop(LIMIT).unwrap();
        result
    }

    /// All records of a topic: in each partition in their order.
    pub(crate) fn records(&self, topic: &str) -> Vec<Written> {
        let mut reader = Reader::open(&self.kafka, Isolation::Committed).unwrap();
        let stop = CancellationToken::new();
        let mut all = Vec::new();
        for partition in reader.partitions(topic).unwrap() {
            let range = reader.watermarks(topic, partition).unwrap();
            let mut take = |batch: &telltale_records::Batch| {
                for record in batch.records() {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let headers = record.headers().map(|(name, it)| (name.to_owned(), text(it.unwrap())));
                    all.push(Written {
                        key: record.key().map(text),
                        value: record.value().map(<[u8]>::to_vec),
                        headers: headers.collect(),
                    });
                }
                ControlFlow::Continue(())
            };
            reader.read(topic, partition, range, &stop, &mut take).unwrap();
        }
        all
    }

    pub(crate) fn count(&self, topic: &str) -> i64 {
        let reader = Reader::open(&self.kafka, Isolation::Committed).unwrap();
        let partitions = reader.partitions(topic).unwrap();
        partitions
            .into_iter()
            .map(|it| reader.watermarks(topic, it).unwrap())
            .map(|it| it.end - it.start)
            .sum()
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
        let endpoint = Endpoint::plain(self.broker.address().to_string().parse().unwrap(), version);
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

fn start_log(listen: SocketAddr, folder: &Path) -> Log {
    let data = Some(folder.to_owned());
    let mut config = LogConfig::default();
    (config.listen, config.data) = (listen, data);
    Log::start(config).unwrap()
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

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "after {LIMIT:?} it does not hold that {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn metrics(running: &Running<Error>) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &running.service().registry()).unwrap();
    text
}

/// The value of a metric of the bridge, summed over its labels.
pub(crate) fn metric(running: &Running<Error>, name: &str) -> u64 {
    let text = metrics(running);
    let prefix = format!("telltale_bridge_{name}");
    let lines =
        text.lines().filter(|it| it.starts_with(&prefix) && it[prefix.len()..].starts_with(['{', ' ']));
    lines.map(|it| it.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Numbers of each key, in the order of its partition.
pub(crate) fn by_key(records: &[Written]) -> BTreeMap<String, Vec<u32>> {
    let mut numbers: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for record in records {
        let key = record.key.clone().unwrap();
        numbers.entry(key).or_default().push(record.text().trim_start().parse().unwrap());
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

/// Publishes by hand with MQTT 5 and QoS 1: what the client of the devices would not let through.
pub(crate) struct ByHand(TcpStream);

impl ByHand {
    pub(crate) fn connect(broker: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(broker).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"\x10\x11\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x04hand").unwrap();
        let mut by_hand = Self(stream);
        assert_eq!(by_hand.answer().0, 0x20);
        by_hand
    }

    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8], user_properties: &[(&str, &str)]) {
        let text =
            |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
        let mut properties = Vec::new();
        for (name, value) in user_properties {
            properties.extend([&[0x26][..], &text(name), &text(value)].concat());
        }
        let body = [&text(topic)[..], &[0, 1], &variable(properties.len()), &properties, payload].concat();
        self.0.write_all(&[&[0x32][..], &variable(body.len()), &body].concat()).unwrap();
        assert_eq!(self.answer(), (0x40, vec![0, 1]));
    }

    fn answer(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 2];
        self.0.read_exact(&mut header).unwrap();
        let mut body = vec![0; header[1].into()];
        self.0.read_exact(&mut body).unwrap();
        (header[0], body)
    }
}

fn variable(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        bytes.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return bytes;
        }
    }
}
