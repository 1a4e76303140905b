//! Sessions that outlive their connection.

use crate::client::{Client, Connect};
use crate::packet::{Message, Packet, Property, VERSIONS, Version};
use crate::{World, numbers};

/// A lasting session that subscribes to `topic` and goes away.
fn absent(world: &World, version: Version, topic: &str, qos: u8) -> Connect {
    let connect = Connect::lasting(version, &world.engines.name("absent"));
    let mut client = Client::connect(world.broker(), &connect);
    assert!(!client.present);
    assert_eq!(client.subscribe(topic, qos), qos);
    client.disconnect(0);
    connect
}

#[test]
fn what_is_published_meanwhile_waits_for_a_client_that_comes_back() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("away/{version:?}"));
        let connect = absent(&world, version, &topic, 2);
        let mut publisher = world.client(version);
        for (index, number) in numbers(0..2000).iter().enumerate() {
            publisher.publish(&Message::new(&topic, 1 + (index % 2) as u8, number));
        }
        let mut back = Client::connect(world.broker(), &connect);
        assert!(back.present, "{version:?}");
        for number in numbers(0..2000) {
            let message = back.message();
            assert_eq!((message.text(), message.duplicate), (&*number, false), "{version:?}");
        }
        // The subscription stands without another SUBSCRIBE.
        publisher.publish(&Message::new(&topic, 1, "live"));
        assert_eq!(back.message().text(), "live");
    }
}

#[test]
fn what_was_not_acknowledged_comes_again_first_and_in_order() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("again/{version:?}"));
        let connect = absent(&world, version, &topic, 1);
        for number in numbers(0..10) {
            world.publish(&topic, &number);
        }
        let mut first = Client::connect(world.broker(), &connect);
        let taken: Vec<_> = (0..5).map(|_| first.take()).collect();
        first.acknowledge(0x40, taken[0].id);
        first.acknowledge(0x40, taken[1].id);
        first.ping(); // the acknowledgements have arrived
        drop(first);
        for number in numbers(10..12) {
            world.publish(&topic, &number);
        }
        let mut back = Client::connect(world.broker(), &connect);
        assert!(back.present);
        let again: Vec<_> = (2..12).map(|_| back.message()).collect();
        let found: Vec<_> = again.iter().map(|it| it.text().to_owned()).collect();
        assert_eq!(found, numbers(2..12), "{version:?}");
        for (known, again) in taken[2..].iter().zip(&again) {
            assert_eq!((known.id, again.duplicate), (again.id, true), "{version:?}");
        }
        assert!(!again[9].duplicate);
    }
}

#[test]
fn a_message_of_quality_2_is_not_doubled_by_a_reconnect_at_any_step() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("exactly/{version:?}"));
        let connect = absent(&world, version, &topic, 2);
        world.client(version).publish(&Message::new(&topic, 2, "once"));
        // Received, not acknowledged: it comes again under its id.
        let mut client = Client::connect(world.broker(), &connect);
        let message = client.take();
        drop(client);
        let mut client = Client::connect(world.broker(), &connect);
        let again = client.take();
        assert_eq!((again.id, again.duplicate, again.text()), (message.id, true, "once"));
        // Acknowledged, not completed: only the release comes again.
        client.acknowledge(0x50, again.id);
        assert_eq!(client.next(), Packet::PubRel { id: again.id });
        drop(client);
        let mut client = Client::connect(world.broker(), &connect);
        assert_eq!(client.next(), Packet::PubRel { id: again.id }, "{version:?}");
        world.publish(&topic, "next");
        client.acknowledge(0x70, again.id);
        assert_eq!(client.message().text(), "next", "{version:?}");
        client.ping();
        drop(client);
        // Completed: nothing of it comes again.
        let mut client = Client::connect(world.broker(), &connect);
        client.ping();
        assert!(client.has_nothing(), "{version:?}");
        // What is published now may be lost to the connection that has just ended.
        if world.known_difference("late look into the queue", false, true) {
            world.publish(&topic, "last");
            assert_eq!(client.message().text(), "last", "{version:?}");
        }
    }
}

#[test]
fn a_sender_of_quality_2_may_go_on_after_a_reconnect() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("sender/{version:?}"));
        let mut subscriber = world.subscriber(version, &topic, 2);
        let connect = Connect::lasting(version, &world.engines.name("sender"));
        let mut sender = Client::connect(world.broker(), &connect);
        let publish = Message { id: 5, ..Message::new(&topic, 2, "once") };
        sender.send_publish(&publish);
        assert_eq!(sender.next(), Packet::PubRec { id: 5, code: 0 });
        drop(sender);
        let mut sender = Client::connect(world.broker(), &connect);
        assert!(sender.present);
        sender.send_publish(&Message { duplicate: true, ..publish });
        assert_eq!(sender.next(), Packet::PubRec { id: 5, code: 0 });
        sender.acknowledge(0x62, 5);
        assert_eq!(sender.next(), Packet::PubComp { id: 5, code: 0 });
        sender.publish(&Message::new(&topic, 2, "next"));
        assert_eq!(
            (subscriber.message().text(), subscriber.message().text()),
            ("once", "next"),
            "{version:?}"
        );
    }
}

#[test]
fn a_clean_start_forgets_the_session() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("clean/{version:?}"));
        let connect = absent(&world, version, &topic, 1);
        world.publish(&topic, "forgotten");
        let mut clean = Client::connect(world.broker(), &Connect { clean: true, ..connect.clone() });
        assert!(!clean.present);
        // Not even the subscription is left.
        world.publish(&topic, "unheard");
        assert_eq!(clean.subscribe(&topic, 1), 1);
        world.publish(&topic, "heard");
        assert_eq!(clean.message().text(), "heard", "{version:?}");
        clean.disconnect(0);
        let lasting = version == Version::V5; // a clean session of 3.1.1 ends with its connection
        assert_eq!(Client::connect(world.broker(), &connect).present, lasting);
    }
}

#[test]
fn a_session_of_mqtt_5_lives_as_long_as_it_asks_for() {
    let world = World::start();
    let id = world.engines.name("expiry");
    // Without an expiry it ends with the connection, even where it did not start clean.
    let short = Connect { clean: false, ..Connect::new(Version::V5, &id) };
    let lasting = Connect::lasting(Version::V5, &id);
    let mut client = Client::connect(world.broker(), &short);
    client.subscribe(&world.topic("x"), 1);
    client.disconnect(0);
    assert!(!Client::connect(world.broker(), &lasting).present);
    // A farewell may change the expiry: to none here.
    let mut client = Client::connect(world.broker(), &lasting);
    assert!(client.present);
    client.send(&[0xe0, 7, 0, 5, 0x11, 0, 0, 0, 0]);
    assert_eq!(client.next(), Packet::End);
    assert!(!Client::connect(world.broker(), &short).present);
}

#[test]
fn a_client_without_an_id_is_given_one() {
    let world = World::start();
    let nameless = |version, clean| Connect { clean, ..Connect::new(version, "") };
    let client = Client::connect(world.broker(), &nameless(Version::V5, true));
    let assigned = client.granted.iter().any(|it| matches!(it, Property::Text(0x12, id) if !id.is_empty()));
    assert!(assigned, "{:?}", client.granted);
    let old = Client::connect(world.broker(), &nameless(Version::V311, true));
    assert!(!old.present);
    // A nameless session could never be found again.
    let (_client, answer) = Client::open(world.broker(), &nameless(Version::V311, false));
    assert_eq!(answer, Packet::ConnAck { present: false, code: 2, properties: Vec::new() });
}

#[test]
fn a_silent_client_is_cut_off_after_one_and_a_half_times_its_keep_alive() {
    let world = World::start();
    for version in VERSIONS {
        let connect = Connect { keep_alive: 1, ..Connect::new(version, &world.engines.name("silent")) };
        let mut client = Client::connect(world.broker(), &connect);
        let reason = client.end();
        assert_eq!(reason, (version == Version::V5).then_some(0x8d));
    }
}
