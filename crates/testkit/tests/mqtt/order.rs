//! The messages of a topic arrive in the order they were published, and no more of them at once than were asked for.

use crate::client::{Client, Connect};
use crate::packet::{Message, Packet, Property, VERSIONS, Version};
use crate::{World, numbers};

#[test]
fn a_topic_keeps_its_order() {
    let world = World::start();
    for version in VERSIONS {
        for qos in 0..=2 {
            let topic = world.topic(&format!("order/{version:?}/{qos}"));
            let mut subscriber = world.subscriber(version, &topic, qos);
            let mut publisher = world.client(version);
            for number in numbers(0..300) {
                publisher.publish(&Message::new(&topic, qos, number));
            }
            for number in numbers(0..300) {
                assert_eq!(subscriber.message().text(), number, "{version:?} QoS {qos}");
            }
        }
    }
}

#[test]
fn a_publisher_need_not_wait_for_each_acknowledgement() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("pipelined/{version:?}"));
        let mut subscriber = world.subscriber(version, &topic, 1);
        let mut publisher = world.client(version);
        for round in 0..10 {
            let ids: Vec<_> = (0..100)
                .map(|it| publisher.post(&Message::new(&topic, 1, (round * 100 + it).to_string())))
                .collect();
            for id in ids {
                assert_eq!(publisher.next(), Packet::PubAck { id, code: 0 }, "acknowledged in order");
            }
        }
        for number in numbers(0..1000) {
            assert_eq!(subscriber.message().text(), number, "{version:?}");
        }
    }
}

/// A session that was away while 60 messages were published; it has not taken any yet.
fn full(world: &World, connect: &Connect, topic: &str) -> Client {
    let mut client = Client::connect(world.broker(), connect);
    assert_eq!(client.subscribe(topic, 1), 1);
    client.disconnect(0);
    let mut publisher = world.client(Version::V5);
    for number in numbers(0..60) {
        publisher.publish(&Message::new(topic, 1, number));
    }
    Client::connect(world.broker(), connect)
}

#[test]
fn no_more_is_unacknowledged_than_the_receive_maximum() {
    let world = World::start();
    let topic = world.topic("window");
    let mut connect = Connect::lasting(Version::V5, &world.engines.name("window"));
    connect.properties.push(Property::Two(0x21, 3));
    let mut subscriber = full(&world, &connect, &topic);
    assert_eq!(read_all(&mut subscriber, 60), (numbers(0..60), 3));
}

/// Acknowledges only once nothing more comes; returns all payloads, and how many came unacknowledged at most.
fn read_all(subscriber: &mut Client, count: usize) -> (Vec<String>, usize) {
    let (mut found, mut widest) = (Vec::new(), 0);
    while found.len() < count {
        let mut open = vec![subscriber.take()];
        // What the broker sends without being acknowledged comes before this answer.
        subscriber.send(&[0xc0, 0]);
        loop {
            match subscriber.next() {
                Packet::Publish(message) => open.push(message),
                other => break assert_eq!(other, Packet::Pong),
            }
        }
        widest = widest.max(open.len());
        for message in open {
            subscriber.acknowledge(0x40, message.id);
            found.push(message.text().to_owned());
        }
    }
    (found, widest)
}

#[test]
fn without_a_receive_maximum_a_window_of_messages_comes_unacknowledged() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("wide/{version:?}"));
        let connect = Connect::lasting(version, &world.engines.name("wide"));
        let mut subscriber = full(&world, &connect, &topic);
        let (found, widest) = read_all(&mut subscriber, 60);
        assert_eq!(found, numbers(0..60), "{version:?}");
        // HiveMQ sends a session at most 50 messages and waits for their acknowledgements; ours sends up to 1,000.
        let window = world.known_difference("window of a session", 1..=50, 60..=60);
        assert!(window.contains(&widest), "{widest} messages were unacknowledged, {version:?}");
    }
}
