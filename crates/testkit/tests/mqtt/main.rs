//! What our services and other people's clients ask of an MQTT broker, held against the embedded broker and against HiveMQ
//! from one source. Known differences are marked by their names in docs/CONFORMANCE.md.

mod client;
mod delivery;
mod order;
mod packet;
mod refusals;
mod retained;
mod sessions;
mod shared;
mod subscriptions;
mod takeover;
mod websocket;
mod wills;

use std::net::SocketAddr;

use client::{Client, Connect};
use packet::{Message, Property, Version};
use telltale_testkit::Engines;
use telltale_testkit::differences::known_difference;

/// A broker, and names on it that no other test uses.
struct World {
    engines: Engines,
    /// What the topics of this test begin with.
    root: String,
}

impl World {
    fn start() -> Self {
        let engines = Engines::start();
        let root = engines.name("topic");
        Self { engines, root }
    }

    fn broker(&self) -> SocketAddr {
        self.engines.mqtt()
    }

    /// A topic or filter below the root.
    fn topic(&self, tail: &str) -> String {
        format!("{}/{tail}", self.root)
    }

    /// A client whose session ends with its connection.
    fn client(&self, version: Version) -> Client {
        Client::connect(self.broker(), &Connect::new(version, &self.engines.name("client")))
    }

    /// A client that has subscribed.
    fn subscriber(&self, version: Version, filter: &str, qos: u8) -> Client {
        let mut client = self.client(version);
        assert_eq!(client.subscribe(filter, qos), qos);
        client
    }

    /// Publishes with QoS 1 from a client of its own.
    fn publish(&self, topic: &str, payload: &str) {
        self.client(Version::V5).publish(&Message::new(topic, 1, payload));
    }

    /// What is expected of HiveMQ, or of ours where docs/CONFORMANCE.md has a row that says how it differs.
    fn known_difference<T>(&self, name: &str, reference: T, embedded: T) -> T {
        if known_difference(self.engines.kind(), name) { embedded } else { reference }
    }
}

/// Numbers as payloads, for tests of order.
fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|it| it.to_string()).collect()
}

/// The value of the property `id` that is a number.
fn number(properties: &[Property], id: u8) -> Option<u32> {
    properties.iter().find_map(|it| match it {
        Property::Byte(found, value) if *found == id => Some(u32::from(*value)),
        Property::Two(found, value) if *found == id => Some(u32::from(*value)),
        Property::Four(found, value) | Property::Variable(found, value) if *found == id => Some(*value),
        _ => None,
    })
}
