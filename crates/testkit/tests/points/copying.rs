//! A service that copies records with our loop, started again whenever it ends, as Kubernetes would.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use telltale_kafka::exactly_once::{self, Fault, LoopConfig, Metrics, Step};
use telltale_kafka::producer::NewRecord;
use telltale_kafka::topics::Topics;
use telltale_kafka::{Group, KafkaConfig};
use telltale_records::topics::TopicSpec;
use telltale_records::{Batch, Destination, Outgoing};
use telltale_testkit::{Engines, Writer, Written, wait_until, written};
use tokio_util::sync::CancellationToken;

/// Records of each case, in one partition.
pub(crate) const RECORDS: usize = 200;
/// Records of one transaction.
pub(crate) const TRANSACTION: usize = 40;

/// Topics and names that no other case uses.
#[derive(Debug)]
pub(crate) struct Case {
    /// Settings that lead straight to Kafka.
    pub(crate) kafka: KafkaConfig,
    pub(crate) source: String,
    pub(crate) target: &'static str,
    pub(crate) group: String,
    dead_letters: String,
}

impl Case {
    /// Makes the topics, with records in the source.
    pub(crate) fn new(engines: &Engines) -> Self {
        let kafka = engines.kafka();
        let topics = Topics::open(&kafka).unwrap();
        let topic = |what: &str| {
            // A name lives as long as the test process.
            let name: &'static str = engines.name(what).leak();
            topics.create(&TopicSpec { name, partitioned: true, config: &[] }, 1, 1).unwrap();
            // Kafka answers before all of it knows.
            wait_until("the topic is there", || topics.check(name).is_ok());
            name
        };
        let [source, target, dead_letters] = ["source", "target", "dead"].map(topic);
        let writer = Writer::new(&kafka);
        for number in 0..RECORDS {
            let value = format!("reading {number}");
            writer.send(NewRecord { topic: source, value: Some(value.as_bytes()), ..NewRecord::default() });
        }
        writer.flush();
        let (source, dead_letters) = (source.to_owned(), dead_letters.to_owned());
        Self { kafka, source, target, group: engines.name("group"), dead_letters }
    }

    fn config(&self) -> LoopConfig {
        let mut config = LoopConfig::new("copier", &self.group, &[&self.source], &self.group);
        config.dead_letters.clone_from(&self.dead_letters);
        config.max_records = TRANSACTION;
        config.session_timeout = Duration::from_secs(10);
        // So that what gets no answer is soon given up.
        config.transaction_timeout = Duration::from_secs(15);
        config
    }

    /// Starts our loop through `kafka`. Not bound to the test: one that never ends must fail it, not hold it up.
    pub(crate) fn start(
        &self,
        kafka: KafkaConfig,
        stop: CancellationToken,
    ) -> JoinHandle<Result<(), String>> {
        let (config, target) = (self.config(), self.target);
        thread::spawn(move || {
            exactly_once::run(&config, &kafka, stop, &Metrics::default(), |_| Copy { target })
                .map_err(|it| telltale_service::chain(&it))
        })
    }

    /// Runs our loop through `kafka` beside `work`, started again whenever it ends; returns how often that was.
    pub(crate) fn beside_our_loop(&self, kafka: &KafkaConfig, work: impl FnOnce()) -> usize {
        let config = self.config();
        let stop = CancellationToken::new();
        thread::scope(|scope| {
            let running = scope.spawn(|| {
                let mut restarts = 0;
                loop {
                    let copy = |_| Copy { target: self.target };
                    match exactly_once::run(&config, kafka, stop.clone(), &Metrics::default(), copy) {
                        Ok(()) => return restarts,
                        Err(error) => eprintln!("started again after: {}", telltale_service::chain(&error)),
                    }
                    restarts += 1;
                }
            });
            // Stopped even if the work panics, or its panic would never be seen.
            let _stop = stop.clone().drop_guard();
            work();
            stop.cancel();
            running.join().unwrap()
        })
    }

    /// Waits until the group has committed everything, then until no transaction is open.
    pub(crate) fn wait_until_copied(&self) {
        let group = Group::open(&self.kafka, &self.group).unwrap();
        wait_until("everything is copied", || {
            let committed = group.committed(&self.source).unwrap_or_default();
            committed.get(&0) == Some(&(RECORDS as i64))
        });
    }

    /// What each record in the target answers for, in order.
    pub(crate) fn copied(&self) -> Vec<String> {
        written(&self.kafka, self.target).iter().map(|it| it.src().to_owned()).collect()
    }

    /// What must be in the target.
    pub(crate) fn wanted(&self) -> Vec<String> {
        let sources: Vec<Written> = written(&self.kafka, &self.source);
        assert_eq!(sources.len(), RECORDS);
        sources.iter().map(|it| it.source.to_string()).collect()
    }
}

/// Copies records to a topic.
struct Copy {
    target: &'static str,
}

impl Step for Copy {
    type Error = std::convert::Infallible;

    fn process(&mut self, batch: &Batch, out: &mut Outgoing) -> Result<(), Fault<Self::Error>> {
        let topic = out.topic(self.target);
        for record in batch.records() {
            let to = Destination { topic, partition: Some(0), timestamp_ms: record.timestamp_ms() };
            out.push(to, record.key(), record.value(), Some(&record.source()), &[]);
        }
        Ok(())
    }
}
