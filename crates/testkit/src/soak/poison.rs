//! Messages that no service can use, published like those of cars; each must be found as a dead letter, with its bytes and the
//! reason that `testdata/poison` says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use telltale_kafka::{KafkaConfig, RegistryConfig};
use telltale_mqtt::config::Address;
use telltale_mqtt::device::{Event, Options, open};
use telltale_mqtt::{Endpoint, Qos, Version};
use tokio::runtime::Runtime;

use crate::poison::{Corpus, DeadLetter, Poison as Message, Way};

/// Steps through the corpus, so that a few messages are of many classes; prime, so that all come in the end.
const STEP: usize = 41;
/// Largest message, above that of any poison.
const LARGEST: u32 = 16 << 20;

/// The messages so far.
#[derive(Debug)]
pub struct Poison {
    broker: SocketAddr,
    corpus: Vec<Message>,
    published: usize,
    /// Numbers of the messages that the broker has acknowledged.
    acknowledged: Arc<Mutex<Vec<usize>>>,
}

impl Poison {
    /// Registers the schemas that some messages name; messages will go to this broker.
    ///
    /// # Panics
    ///
    /// Panics when the registry does not take them.
    #[must_use]
    pub fn new(broker: SocketAddr, registry: &RegistryConfig) -> Self {
        let corpus = Corpus::register_at(registry);
        // What a device can send with the client that ours have.
        let corpus = corpus.by(Way::Mqtt).filter(|it| it.headers().is_empty()).cloned().collect();
        Self { broker, corpus, published: 0, acknowledged: Arc::default() }
    }

    /// The message of a number.
    fn message(&self, number: usize) -> &Message {
        &self.corpus[number * STEP % self.corpus.len()]
    }

    /// Publishes so many messages beside everything else.
    pub fn publish(&mut self, runtime: &Runtime, messages: u16) {
        let first = self.published;
        let address = Address { host: self.broker.ip().to_string(), port: self.broker.port() };
        let endpoint = Endpoint::plain(address, Version::V5);
        let client_id = format!("poison-{first}");
        let options = Options { window: messages, max_packet_bytes: LARGEST, ..Options::new(client_id) };
        let (publisher, mut session) = open(&endpoint, options);
        let mut waiting = HashMap::new();
        for number in first..first + usize::from(messages) {
            let message = self.message(number);
            let (topic, payload) =
                (message.mqtt_topic(number).into(), message.value.clone().unwrap_or_default());
            // A topic that the client does not take is none that a device could use.
            if let Ok(Some(token)) = publisher.publish(&topic, Qos::AtLeastOnce, false, Bytes::from(payload))
            {
                waiting.insert(token, number);
            }
        }
        self.published += usize::from(messages);
        let acknowledged = Arc::clone(&self.acknowledged);
        runtime.spawn(async move {
            while !waiting.is_empty() {
                if let Some(Event::Acknowledged { token, .. }) = session.next().await
                    && let Some(number) = waiting.remove(&token)
                {
                    acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(number);
                }
            }
        });
    }

    /// How many the broker has acknowledged, and which of them are not among the dead letters as they must be. That each record
    /// has one outcome is for `telltale verify` to say.
    ///
    /// # Panics
    ///
    /// Panics when the topic cannot be read.
    #[must_use]
    pub fn check(&self, kafka: &KafkaConfig) -> (u64, Vec<String>) {
        let letters = DeadLetter::all(kafka);
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let missing =
            acknowledged.iter().filter(|&&it| !letters.contains_key(&self.message(it).dead_letter(it)));
        let wrong = missing.map(|&number| {
            let Message { name, reason, .. } = self.message(number);
            let key = self.message(number).key(number);
            let found: Vec<_> = letters.keys().filter(|it| it.key == key).map(|it| it.reason.as_str()).collect();
            format!("poison message {number} ({name}) is no dead letter with reason {reason}; with its key: {found:?}")
        });
        (acknowledged.len() as u64, wrong.collect())
    }
}
