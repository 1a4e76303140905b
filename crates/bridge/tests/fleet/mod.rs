//! Cars that send until they are told to stop, and what became of their messages.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use clap::Parser as _;
use telltale_bridge::Config;
use telltale_kafka::topics::Topics;
use telltale_kafka::{Isolation, KafkaConfig, Reader};
use telltale_mqtt::device::{self, Event, Options};
use telltale_mqtt::{Endpoint, Qos};
use telltale_records::topics::TopicSpec;
use telltale_service::{Address, Host};
use telltale_testkit::{Engines, PATIENCE, wait_until};
use tokio_util::sync::CancellationToken;

/// A Kafka topic that the messages of a test go to, and the mapping to it.
pub(crate) struct Target {
    kafka: KafkaConfig,
    topic: &'static str,
    root: String,
    filter: String,
    client_id: String,
}

impl Target {
    /// Makes the topic; `{root}` in the filter becomes what the MQTT topics of this test begin with.
    pub(crate) fn create(engines: &Engines, filter: &str) -> Self {
        let (kafka, root) = (engines.kafka(), engines.name("fleet"));
        let topic: &'static str = engines.name("sensor-data").leak();
        let spec = TopicSpec { name: topic, partitioned: true, config: &[] };
        Topics::open(&kafka).unwrap().create(&spec, 4, engines.replication()).unwrap();
        let filter = filter.replace("{root}", &root);
        Self { kafka, topic, root, filter, client_id: engines.name("bridge") }
    }

    pub(crate) fn flags(&self) -> Vec<String> {
        let map = format!("{}={}", self.filter, self.topic);
        let client_id = self.client_id.clone();
        ["--map", &map, "--dead-letters", self.topic, "--mqtt-client-id", &client_id]
            .map(str::to_owned)
            .into()
    }

    pub(crate) fn count(&self) -> i64 {
        let reader = Reader::open(&self.kafka, Isolation::Committed).unwrap();
        let range = |it| reader.watermarks(self.topic, it).unwrap();
        reader.partitions(self.topic).unwrap().into_iter().map(|it| range(it).end).sum()
    }

    /// The numbers of each car, in the order of its partition.
    pub(crate) fn arrived(&self) -> BTreeMap<String, Vec<u32>> {
        let mut reader = Reader::open(&self.kafka, Isolation::Committed).unwrap();
        let stop = CancellationToken::new();
        let mut all: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for partition in reader.partitions(self.topic).unwrap() {
            let range = reader.watermarks(self.topic, partition).unwrap();
            let mut take = |batch: &telltale_records::Batch| {
                for record in batch.records() {
                    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
                    if let Ok(number) = text(record.value()).parse() {
                        all.entry(text(record.key())).or_default().push(number);
                    }
                }
                ControlFlow::Continue(())
            };
            reader.read(self.topic, partition, range, &stop, &mut take).unwrap();
        }
        all
    }

    /// Publishes one message with QoS 1 and waits until the broker has it.
    pub(crate) fn publish(&self, engines: &Engines, shard: u32, text: &str, bytes: usize) {
        let topic: Arc<str> = format!("{}/{shard}/hand", self.root).into();
        let payload = format!("{text:<bytes$}");
        let endpoint = engines.endpoint();
        let options = Options::new(engines.name("hand"));
        block_on(async move {
            let (publisher, mut session) = device::open(&endpoint, options);
            publisher.publish(&topic, Qos::AtLeastOnce, false, payload.into()).unwrap();
            while !matches!(session.next().await.unwrap(), Event::Acknowledged { .. }) {}
            publisher.close();
            while session.next().await.is_some() {}
        });
    }

    /// Publishes so many readings of 300 bytes to each shard and waits until the broker has them.
    #[allow(dead_code, reason = "for measuring")]
    pub(crate) fn fill(&self, engines: &Engines, shards: u32, each: u32) {
        let (endpoint, root) = (engines.endpoint(), self.root.clone());
        block_on(async move {
            let mut tasks = tokio::task::JoinSet::new();
            for shard in 0..shards {
                let topic: Arc<str> = format!("{root}/{shard}/car").into();
                let options = Options { window: 500, ..Options::new(format!("{root}-{shard}")) };
                let (publisher, mut session) = device::open(&endpoint, options);
                tasks.spawn(async move {
                    let (mut sent, mut done) = (0, 0);
                    while done < each {
                        let payload = format!("{sent:>300}").into();
                        if sent < each && publisher.publish(&topic, Qos::AtLeastOnce, false, payload).is_ok()
                        {
                            sent += 1;
                        } else if let Event::Acknowledged { .. } = session.next().await.unwrap() {
                            done += 1;
                        }
                    }
                    publisher.close();
                    while session.next().await.is_some() {}
                });
            }
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap();
            }
        });
    }

    /// Waits until the bridge has subscribed to each shard: a message to it arrives.
    pub(crate) fn wait_until_subscribed(&self, engines: &Engines, shards: u32) {
        for shard in 0..shards {
            let before = self.count();
            wait_until("the bridge has subscribed", || {
                self.publish(engines, shard, "ready?", 0);
                self.count() > before
            });
        }
    }
}

/// Cars on a thread, each sending the numbers from 0 on.
pub(crate) struct Fleet {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<String, u32>>,
}

impl Fleet {
    pub(crate) fn start(engines: &Engines, target: &Target, shards: u32, cars: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (endpoint, root, stopped) = (engines.endpoint(), target.root.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            block_on(async move {
                let mut tasks = tokio::task::JoinSet::new();
                for number in 0..shards * cars {
                    let car = format!("{root}-car-{number}");
                    let topic = format!("{root}/{}/{car}", number % shards);
                    tasks.spawn(drive(endpoint.clone(), car, topic.into(), Arc::clone(&stopped)));
                }
                let mut sent = BTreeMap::new();
                while let Some(ended) = tasks.join_next().await {
                    sent.extend([ended.unwrap()]);
                }
                sent
            })
        });
        Self { stop, thread }
    }

    /// Ends the cars once all they sent is acknowledged; returns how many messages each sent.
    pub(crate) fn stop(self) -> BTreeMap<String, u32> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn drive(endpoint: Endpoint, car: String, topic: Arc<str>, stop: Arc<AtomicBool>) -> (String, u32) {
    // A small window: what waits at the broker must not grow without end while the bridge is killed.
    let (publisher, mut session) = device::open(&endpoint, Options { window: 4, ..Options::new(&car) });
    let (mut sent, mut open) = (0_u32, 0_u32);
    while open > 0 || !stop.load(Ordering::Relaxed) {
        while !stop.load(Ordering::Relaxed)
            && publisher.publish(&topic, Qos::AtLeastOnce, false, sent.to_string().into()).is_ok()
        {
            (sent, open) = (sent + 1, open + 1);
        }
        match session.next().await.unwrap() {
            Event::Acknowledged { .. } => open -= 1,
            Event::Refused { reason, .. } => panic!("{reason}"),
            _ => {}
        }
    }
    publisher.close();
    while session.next().await.is_some() {}
    (car, sent)
}

/// Runs `work` beside a bridge in this process that is ready; it is given the bridge's metrics, by name.
pub(crate) fn beside_a_bridge(
    engines: &Engines,
    target: &Target,
    more: &[&str],
    work: impl FnOnce(&dyn Fn(&str) -> i64),
) {
    let own = more.iter().map(|it| (*it).to_owned());
    let flags = ["bridge".to_owned()].into_iter().chain(engines.kafka_flags()).chain(engines.mqtt_flags());
    let config = Config::try_parse_from(flags.chain(target.flags()).chain(own)).unwrap();
    let host = Host::start(Address::Off, "--http", PATIENCE).unwrap();
    let running = host.launch("bridge", config, telltale_bridge::run);
    let metrics = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &running.service().registry()).unwrap();
        text
    };
    let metric = |name: &str| {
        let text = metrics();
        let prefix = format!("telltale_bridge_{name}");
        let lines =
            text.lines().filter_map(|it| it.strip_prefix(&prefix)).filter(|it| it.starts_with(['{', ' ']));
        lines.map(|it| it.rsplit(' ').next().unwrap().parse::<i64>().unwrap()).sum()
    };
    wait_until("the bridge is ready", || {
        assert!(!running.is_ended(), "the bridge has ended");
        // Before it has metrics it has not said yet what it is not ready for.
        metrics().contains("messages") && running.service().unready().is_empty()
    });
    work(&metric);
    running.stop(PATIENCE).unwrap();
}
