//! Creating, listing and describing topics.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use telltale_records::topics::{ALL, TopicSpec};

use crate::client::{Log, REQUEST, partitions, request};
use crate::config::KafkaConfig;
use crate::error::Error;
use crate::everywhere::wait_until_known;
use crate::reader::{Isolation, Reader};

/// How long creating may take on Kafka's side.
const OPERATION: Duration = Duration::from_secs(30);

/// Between two times of asking.
const AGAIN: Duration = Duration::from_millis(50);

/// A number of replicas that leaves it to the brokers: three on a cluster that is set up for three.
pub const AS_BROKERS_ARE_SET: i32 = -1;

/// What became of a topic that was to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It was made.
    New,
    /// It was there and is as it should be.
    Same,
    /// It was there and differs; it was left as it is.
    Differs(Vec<Difference>),
}

/// A setting of an existing topic that is not what the design asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Name of the setting; `partitions` for the number of partitions.
    pub setting: String,
    /// What the design asks for.
    pub wanted: String,
    /// What the topic has.
    pub found: String,
}

/// A topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Name of the topic.
    pub name: String,
    /// Number of partitions.
    pub partitions: usize,
    /// Number of copies of its first partition.
    pub replication: usize,
}

/// Asks Kafka about topics and changes them.
pub struct Topics {
    admin: AdminClient<Log>,
    kafka: KafkaConfig,
}

impl Topics {
    /// Makes the client; connects when it is first used.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the settings.
    pub fn open(kafka: &KafkaConfig) -> Result<Self, Error> {
        let admin = kafka
            .client()?
            .create_with_context(Log::default())
            .map_err(|source| Error::Client { purpose: "topics", source })?;
        Ok(Self { admin, kafka: kafka.clone() })
    }

    /// Creates every topic of the design that is not there; leaves the others as they are and says how they
    /// differ. `replication` may be [`AS_BROKERS_ARE_SET`]. Returns once every broker knows them all: a service that is
    /// started then finds them, whichever broker it asks.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka cannot be asked or refuses, or a broker does not hear of a topic; some topics may have been created then, and
    /// calling again goes on.
    pub fn create_all(
        &self,
        partitions: i32,
        replication: i32,
    ) -> Result<Vec<(&'static str, Created)>, Error> {
        let all: Vec<_> = ALL.iter().collect();
        let names: Vec<_> = ALL.iter().map(|it| it.name).collect();
        let created = self.create_together(&all, partitions, replication)?;
        wait_until_known(&self.kafka, &names, OPERATION, || self.brokers())?;
        Ok(names.into_iter().zip(created).collect())
    }

    /// The brokers there are, as host:port.
    fn brokers(&self) -> Result<Vec<String>, Error> {
        let failed = request(&self.kafka, "asking for the brokers");
        let metadata = self.admin.inner().fetch_metadata(None, REQUEST).map_err(failed)?;
        Ok(metadata.brokers().iter().map(|it| format!("{}:{}", it.host(), it.port())).collect())
    }

    /// Creates one topic, or says how the existing one differs. Returns once each partition of a new topic has a leader
    /// that answers for it; other brokers may hear of it a moment later.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka cannot be asked or refuses, or no broker answers for a partition in time.
    pub fn create(&self, spec: &TopicSpec, partitions: i32, replication: i32) -> Result<Created, Error> {
        let created = self.create_together(&[spec], partitions, replication)?;
        Ok(created.into_iter().next().expect("one outcome a topic"))
    }

    /// As [`Topics::create`], in one request; outcomes in the order of `specs`.
    fn create_together(
        &self,
        specs: &[&TopicSpec],
        partitions: i32,
        replication: i32,
    ) -> Result<Vec<Created>, Error> {
        let count = |spec: &TopicSpec| if spec.partitioned { partitions } else { 1 };
        let topics: Vec<_> = specs
            .iter()
            .map(|spec| {
                let topic = NewTopic::new(spec.name, count(spec), TopicReplication::Fixed(replication));
                spec.config.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
            })
            .collect();
        let names: Vec<_> = specs.iter().map(|it| it.name).collect();
        let failed = request(&self.kafka, format!("creating topic {}", names.join(", ")));
        let outcomes = wait(self.admin.create_topics(&topics, &options())).map_err(failed)?;
        let refused: HashMap<_, _> = outcomes.into_iter().filter_map(Result::err).collect();
        let mut new = Vec::new();
        let created: Result<Vec<_>, Error> = specs
            .iter()
            .map(|spec| match refused.get(spec.name) {
                Some(RDKafkaErrorCode::TopicAlreadyExists) => {
                    let differences = self.compare(spec, count(spec))?;
                    Ok(if differences.is_empty() { Created::Same } else { Created::Differs(differences) })
                }
                Some(&code) => {
                    let attempt = format!("creating topic {}", spec.name);
                    Err(request(&self.kafka, attempt)(KafkaError::AdminOp(code)))
                }
                None => {
                    new.push((spec.name, count(spec)));
                    Ok(Created::New)
                }
            })
            .collect();
        self.wait_until_led(&new)?;
        created
    }

    /// Waits until brokers answer for all partitions: Kafka says that a topic is created before its leaders know.
    fn wait_until_led(&self, topics: &[(&str, i32)]) -> Result<(), Error> {
        if topics.is_empty() {
            return Ok(());
        }
        // This client may remember an earlier topic of the name, which has no partitions any more.
        let reader = Reader::open(&self.kafka, Isolation::Uncommitted)?;
        let deadline = Instant::now() + OPERATION;
        for &(topic, partitions) in topics {
            for partition in 0..partitions {
                while let Err(error) = reader.watermarks(topic, partition) {
                    if !error.is_passing() || Instant::now() >= deadline {
                        return Err(error);
                    }
                    thread::sleep(AGAIN);
                }
            }
        }
        Ok(())
    }

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no such topic, or Kafka cannot be asked or refuses.
    pub fn delete(&self, topic: &str) -> Result<(), Error> {
        let attempt = format!("deleting topic {topic}");
        let outcome =
            wait(self.admin.delete_topics(&[topic], &options())).map_err(request(&self.kafka, &*attempt))?;
        match outcome.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))) => {
                Err(Error::MissingTopic { topic: topic.to_owned() })
            }
            Some(Err((_, code))) => Err(request(&self.kafka, attempt)(KafkaError::AdminOp(code))),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// The topics there are, by name, without Kafka's own.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka cannot be asked.
    pub fn list(&self) -> Result<Vec<Topic>, Error> {
        let failed = request(&self.kafka, "asking for the topics");
        let metadata = self.admin.inner().fetch_metadata(None, REQUEST).map_err(failed)?;
        let mut topics: Vec<Topic> = metadata
            .topics()
            .iter()
            .filter(|it| !it.name().starts_with("__"))
            .map(|it| Topic {
                name: it.name().to_owned(),
                partitions: it.partitions().len(),
                replication: it.partitions().first().map_or(0, |first| first.replicas().len()),
            })
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Makes sure that a topic exists and may be seen.
    ///
    /// # Errors
    ///
    /// Returns an error when it does not, or Kafka cannot be asked.
    pub fn check(&self, topic: &str) -> Result<(), Error> {
        partitions(self.admin.inner(), &self.kafka, topic).map(drop)
    }

    /// The settings of a topic that are not Kafka's defaults.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no such topic, or Kafka cannot be asked.
    pub fn describe(&self, topic: &str) -> Result<BTreeMap<String, String>, Error> {
        // Not every broker answers with an error for the settings of a topic that is not there.
        partitions(self.admin.inner(), &self.kafka, topic)?;
        let all = self.settings(topic)?;
        Ok(all
            .into_iter()
            .filter(|(_, (_, is_set))| *is_set)
            .map(|(name, (value, _))| (name, value))
            .collect())
    }

    /// Every setting with whether it was set for this topic.
    fn settings(&self, topic: &str) -> Result<BTreeMap<String, (String, bool)>, Error> {
        let attempt = format!("asking for the settings of topic {topic}");
        let resource = ResourceSpecifier::Topic(topic);
        let found = wait(self.admin.describe_configs([&resource], &options()))
            .map_err(request(&self.kafka, &*attempt))?;
        let entries = match found.into_iter().next() {
            Some(Ok(resource)) => resource.entries,
            Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) | None => {
                return Err(Error::MissingTopic { topic: topic.to_owned() });
            }
            Some(Err(code)) => return Err(request(&self.kafka, attempt)(KafkaError::AdminOp(code))),
        };
        let of_topic = |source: &ConfigSource| *source == ConfigSource::DynamicTopic;
        let entries = entries.into_iter();
        Ok(entries.map(|it| (it.name, (it.value.unwrap_or_default(), of_topic(&it.source)))).collect())
    }

    fn compare(&self, spec: &TopicSpec, count: i32) -> Result<Vec<Difference>, Error> {
        let mut differences = Vec::new();
        let mut compare = |setting: &str, wanted: &str, found: &str| {
            if wanted != found {
                let (wanted, found) = (wanted.to_owned(), found.to_owned());
                differences.push(Difference { setting: setting.to_owned(), wanted, found });
            }
        };
        let found = partitions(self.admin.inner(), &self.kafka, spec.name)?.len();
        compare("partitions", &count.to_string(), &found.to_string());
        let settings = self.settings(spec.name)?;
        for (key, wanted) in spec.config {
            compare(key, wanted, settings.get(*key).map_or("not set", |(value, _)| value));
        }
        Ok(differences)
    }
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topics").field("bootstrap", &self.kafka.bootstrap).finish_non_exhaustive()
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(OPERATION))
}

/// Waits on this thread for a future that librdkafka's own thread completes; a request's time-out bounds it.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
