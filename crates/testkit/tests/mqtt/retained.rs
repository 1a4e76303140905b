//! Messages that the broker keeps for those who subscribe later.

use crate::World;
use crate::packet::{Message, VERSIONS, Version};

/// Options of a subscription of MQTT 5, beside the quality of service.
const RETAIN_AS_PUBLISHED: u8 = 0x08;
const ONLY_IF_NEW: u8 = 0x10;
const NOT_RETAINED: u8 = 0x20;

#[test]
fn the_newest_retained_message_reaches_later_subscribers_until_an_empty_one_removes_it() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("kept/{version:?}"));
        let mut publisher = world.client(version);
        let mut present = world.subscriber(version, &topic, 1);
        publisher.publish(&Message::retained(&topic, 1, "old"));
        publisher.publish(&Message::retained(&topic, 1, "new"));
        publisher.publish(&Message::new(&topic, 1, "passing"));
        for expected in ["old", "new", "passing"] {
            // HiveMQ looks for retained messages after it has answered, so "old" may come as one of them, too.
            let live = std::iter::repeat_with(|| present.message()).find(|it| !it.retain);
            assert_eq!(live.unwrap().text(), expected, "who was there sees it live");
        }
        for filter in [topic.clone(), world.topic("kept/+"), world.topic("#")] {
            let mut late = world.client(version);
            late.subscribe(&filter, 1);
            let message = std::iter::repeat_with(|| late.message()).find(|it| it.topic == topic).unwrap();
            assert_eq!((message.text(), message.retain, message.qos), ("new", true, 1), "{filter}");
        }
        publisher.publish(&Message::retained(&topic, 1, ""));
        assert_eq!(present.message().text(), "", "an empty message is a message too");
        let mut later = world.subscriber(version, &topic, 1);
        publisher.publish(&Message::new(&topic, 1, "live"));
        assert_eq!(later.message().text(), "live");
    }
}

#[test]
fn retained_messages_are_delivered_with_the_lesser_quality() {
    let world = World::start();
    for version in VERSIONS {
        for kept in 0..=2 {
            let topic = world.topic(&format!("quality/{version:?}/{kept}"));
            world.client(version).publish(&Message::retained(&topic, kept, "x"));
            // QoS 0 is not acknowledged: wait until a subscriber sees it.
            for granted in 0..=2 {
                let message = loop {
                    let mut subscriber = world.subscriber(version, &topic, granted);
                    world.publish(&topic, "live");
                    let message = subscriber.message();
                    if message.retain {
                        break message;
                    }
                };
                assert_eq!(message.qos, kept.min(granted), "{version:?}");
            }
            world.client(version).publish(&Message::retained(&topic, 1, ""));
        }
    }
}

#[test]
fn a_subscription_of_mqtt_5_says_whether_it_wants_retained_messages() {
    let world = World::start();
    let topic = world.topic("handling");
    let mut publisher = world.client(Version::V5);
    publisher.publish(&Message::retained(&topic, 1, "kept"));
    let mut subscriber = world.client(Version::V5);
    // A retained message comes beside what is live, in no order with it.
    for (step, (options, kept)) in
        [(NOT_RETAINED, false), (ONLY_IF_NEW, false), (0, true), (ONLY_IF_NEW, false)].into_iter().enumerate()
    {
        assert_eq!(subscriber.subscribe(&topic, 1 | options), 1);
        let live = format!("live {step}");
        publisher.publish(&Message::new(&topic, 1, &live));
        let mut expected = if kept { vec!["kept", &live] } else { vec![&*live] };
        while !expected.is_empty() {
            let message = subscriber.message();
            let place = expected.iter().position(|it| *it == message.text());
            expected.remove(place.unwrap_or_else(|| panic!("{} in step {step}", message.text())));
        }
    }
    assert_eq!(subscriber.unsubscribe(&[&topic]), [0]);
    assert_eq!(subscriber.subscribe(&topic, 1 | ONLY_IF_NEW), 1);
    assert_eq!(subscriber.message().text(), "kept");
    publisher.publish(&Message::retained(&topic, 1, ""));
}

#[test]
fn the_retain_flag_stays_where_a_subscription_of_mqtt_5_asks_for_it() {
    let world = World::start();
    let topic = world.topic("flag");
    let mut subscriber = world.client(Version::V5);
    subscriber.subscribe(&topic, 1 | RETAIN_AS_PUBLISHED);
    let mut publisher = world.client(Version::V5);
    publisher.publish(&Message::retained(&topic, 1, "kept"));
    publisher.publish(&Message::new(&topic, 1, "passing"));
    assert_eq!((subscriber.message().retain, subscriber.message().retain), (true, false));
    publisher.publish(&Message::retained(&topic, 1, ""));
}
