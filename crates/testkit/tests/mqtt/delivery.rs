//! Messages arrive as they were published, as often as their quality of service says.

use crate::packet::{Message, Packet, Property, VERSIONS, Version};
use crate::{World, number};

#[test]
fn the_lesser_quality_of_publish_and_subscription_is_delivered() {
    let world = World::start();
    for version in VERSIONS {
        for granted in 0..=2 {
            let topic = world.topic(&format!("{version:?}/{granted}"));
            let mut subscriber = world.subscriber(version, &topic, granted);
            let mut publisher = world.client(version);
            for qos in 0..=2 {
                assert_eq!(publisher.publish(&Message::new(&topic, qos, "x")), 0);
                let message = subscriber.message();
                assert_eq!((message.qos, message.text()), (qos.min(granted), "x"), "{version:?} {granted}");
                assert!(!message.retain && !message.duplicate);
            }
        }
    }
}

#[test]
fn payloads_of_any_size_and_content_arrive_whole() {
    let world = World::start();
    let topic = world.topic("size");
    for version in VERSIONS {
        let mut subscriber = world.subscriber(version, &topic, 2);
        let mut publisher = world.client(version);
        for bytes in [0, 1, 127, 128, 16_383, 16_384, 2_097_152, 20_000_000] {
            let payload: Vec<u8> = (0..bytes).map(|it: u32| (it % 251) as u8).collect();
            for qos in [1, 2] {
                publisher.publish(&Message::new(&topic, qos, &payload));
                let message = subscriber.message();
                assert!(message.payload == payload, "{bytes} bytes at QoS {qos}, {version:?}");
            }
        }
    }
}

#[test]
fn topics_of_every_language_and_shape_are_topics() {
    let world = World::start();
    for version in VERSIONS {
        let mut subscriber = world.subscriber(version, &world.topic("#"), 1);
        let mut publisher = world.client(version);
        for tail in ["ключ/ü/🚗", "", "a//b/", " ", "$x", "a b"] {
            let topic = world.topic(tail);
            publisher.publish(&Message::new(&topic, 1, tail));
            let message = subscriber.message();
            assert_eq!((message.topic, message.payload), (topic, tail.as_bytes().to_vec()), "{version:?}");
        }
    }
}

#[test]
fn what_is_sent_twice_with_quality_2_is_delivered_once() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic("once");
        let mut subscriber = world.subscriber(version, &topic, 2);
        let mut publisher = world.client(version);
        let publish = Message { id: 77, ..Message::new(&topic, 2, "once") };
        for duplicate in [false, true] {
            publisher.send_publish(&Message { duplicate, ..publish.clone() });
            assert_eq!(publisher.next(), Packet::PubRec { id: 77, code: 0 });
        }
        publisher.acknowledge(0x62, 77);
        assert_eq!(publisher.next(), Packet::PubComp { id: 77, code: 0 });
        // Released, the id is free for another message.
        publisher.send_publish(&Message { payload: b"another".to_vec(), ..publish });
        assert_eq!(publisher.next(), Packet::PubRec { id: 77, code: 0 });
        publisher.acknowledge(0x62, 77);
        assert_eq!(publisher.next(), Packet::PubComp { id: 77, code: 0 });
        assert_eq!((subscriber.message().text(), subscriber.message().text()), ("once", "another"));
    }
}

#[test]
fn the_properties_of_a_message_travel_with_it() {
    let world = World::start();
    let topic = world.topic("properties");
    let mut subscriber = world.subscriber(Version::V5, &topic, 1);
    let mut old = world.subscriber(Version::V311, &topic, 1);
    let pair = |name: &str, value: &str| Property::Pair(name.into(), value.into());
    let properties = vec![
        Property::Byte(0x01, 1),
        Property::Text(0x03, "application/json".into()),
        Property::Text(0x08, "reply/to".into()),
        Property::Binary(0x09, vec![0, 255, 7]),
        pair("unit", "°C"),
        pair("unit", "K"),
        pair("", ""),
    ];
    let publish = Message { properties: properties.clone(), ..Message::new(&topic, 1, "x") };
    world.client(Version::V5).publish(&publish);
    let message = subscriber.message();
    assert_eq!(message.properties.len(), properties.len());
    let pairs = |list: &[Property]| {
        list.iter().filter(|it| matches!(it, Property::Pair(..))).cloned().collect::<Vec<_>>()
    };
    assert_eq!(pairs(&message.properties), pairs(&properties), "user properties keep their order");
    for property in &properties {
        assert!(message.properties.contains(property), "{property:?}");
    }
    assert_eq!(old.message().text(), "x");
}

#[test]
fn what_is_left_of_a_messages_life_is_told() {
    let world = World::start();
    let topic = world.topic("expiry");
    let mut subscriber = world.subscriber(Version::V5, &topic, 1);
    let properties = vec![Property::Four(0x02, 3600)];
    world.client(Version::V5).publish(&Message { properties, ..Message::new(&topic, 1, "x") });
    let left = number(&subscriber.message().properties, 0x02).expect("it expires");
    assert!((1..=3600).contains(&left), "{left}");
}

#[test]
fn a_publisher_learns_that_nobody_listens() {
    let world = World::start();
    let topic = world.topic("nobody");
    let mut publisher = world.client(Version::V5);
    for qos in [1, 2] {
        assert_eq!(publisher.publish(&Message::new(&topic, qos, "x")), 0x10);
    }
    let _subscriber = world.subscriber(Version::V5, &topic, 1);
    assert_eq!(publisher.publish(&Message::new(&topic, 1, "x")), 0);
}

#[test]
fn an_acknowledgement_of_nothing_does_no_harm() {
    let world = World::start();
    for version in VERSIONS {
        let mut client = world.client(version);
        client.acknowledge(0x40, 9);
        client.ping();
        client.acknowledge(0x62, 9);
        let answer = client.next();
        let Packet::PubComp { id: 9, code } = answer else { panic!("{answer:?}") };
        assert!(code == 0 || (version == Version::V5 && code == 0x92), "{code:#x}");
        client.ping();
    }
}
