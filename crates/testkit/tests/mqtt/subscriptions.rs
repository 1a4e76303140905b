//! Filters, and what a subscription can ask for.

use crate::World;
use crate::client::{Client, Connect};
use crate::number;
use crate::packet::{Message, Property, VERSIONS, Version};

const NO_LOCAL: u8 = 0x04;

/// Where brokers tell how many messages they have dropped: mosquitto's name for it.
const DROPPED: &str = "$SYS/broker/publish/messages/dropped";

#[test]
fn filters_take_in_what_the_standard_says() {
    let world = World::start();
    let cases: [(&str, &[&str]); 8] = [
        ("a/b", &["a/b"]),
        ("a/+", &["a/b", "a/", "a/c"]),
        ("a/#", &["a/b", "a/", "a/c", "a/b/c", "a"]),
        ("+/b", &["a/b", "/b", "A/b"]),
        ("+/+/c", &["a/b/c"]),
        ("#", &["a/b", "a/", "a/c", "a/b/c", "/b", "a", "A/b"]),
        ("/+", &["/b"]),
        ("A/b", &["A/b"]),
    ];
    let topics = ["a/b", "a/", "a/c", "a/b/c", "/b", "a", "A/b"];
    for version in VERSIONS {
        let mut publisher = world.client(version);
        for (filter, expected) in cases {
            let root = world.topic(&format!("{version:?}"));
            let mut subscriber = world.subscriber(version, &format!("{root}/{filter}"), 1);
            assert_eq!(subscriber.subscribe(&world.topic("end"), 1), 1);
            for topic in topics {
                publisher.publish(&Message::new(&format!("{root}/{topic}"), 1, topic));
            }
            let mut found = Vec::new();
            publisher.publish(&Message::new(&world.topic("end"), 1, "end"));
            while found.len() < expected.len() {
                found.push(subscriber.message().text().to_owned());
            }
            assert_eq!(subscriber.message().text(), "end", "{filter} takes in too much: {found:?}");
            found.sort();
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            assert_eq!(found, expected, "{filter}, {version:?}");
        }
    }
}

#[test]
fn filters_that_overlap_bring_a_message_once_with_the_highest_quality() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("overlap/{version:?}"));
        let mut subscriber = world.client(version);
        subscriber.subscribe(&topic, 0);
        subscriber.subscribe(&world.topic("overlap/+"), 2);
        subscriber.subscribe(&world.topic("overlap/#"), 1);
        let mut publisher = world.client(version);
        publisher.publish(&Message::new(&topic, 2, "one"));
        publisher.publish(&Message::new(&topic, 2, "two"));
        let (one, two) = (subscriber.message(), subscriber.message());
        assert_eq!((one.text(), one.qos), ("one", 2), "{version:?}");
        assert_eq!((two.text(), two.qos), ("two", 2), "{version:?}");
    }
}

#[test]
fn subscribing_again_changes_the_quality_and_unsubscribing_ends_it() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("change/{version:?}"));
        let other = world.topic(&format!("other/{version:?}"));
        let mut subscriber = world.subscriber(version, &topic, 0);
        subscriber.subscribe(&other, 1);
        let mut publisher = world.client(version);
        for qos in [0, 1, 2] {
            subscriber.subscribe(&topic, qos);
            publisher.publish(&Message::new(&topic, 2, "x"));
            assert_eq!(subscriber.message().qos, qos);
        }
        let codes = subscriber.unsubscribe(&[&topic, "never/subscribed/to"]);
        // The standard asks for 0x11 where there was no subscription; HiveMQ says 0.
        let unknown = world.known_difference("end of no subscription", 0, 0x11);
        assert_eq!(codes, if version == Version::V5 { vec![0, unknown] } else { vec![] });
        publisher.publish(&Message::new(&topic, 1, "unheard"));
        publisher.publish(&Message::new(&other, 1, "heard"));
        assert_eq!(subscriber.message().text(), "heard", "{version:?}");
    }
}

#[test]
fn a_client_may_keep_its_own_messages_out() {
    let world = World::start();
    let topic = world.topic("local");
    let mut client = world.client(Version::V5);
    client.subscribe(&topic, 1 | NO_LOCAL);
    client.publish(&Message::new(&topic, 1, "own"));
    world.publish(&topic, "other");
    assert_eq!(client.message().text(), "other");
}

#[test]
fn a_message_names_the_subscription_it_came_by() {
    let world = World::start();
    let mut client = world.client(Version::V5);
    let identifier = |it: u32| [Property::Variable(0x0b, it)];
    assert_eq!(client.subscribe_with(&world.topic("a/+"), 1, &identifier(7)), 1);
    assert_eq!(client.subscribe_with(&world.topic("b"), 1, &identifier(300)), 1);
    world.publish(&world.topic("a/x"), "a");
    world.publish(&world.topic("b"), "b");
    for (text, expected) in [("a", 7), ("b", 300)] {
        let message = client.message();
        assert_eq!((message.text(), number(&message.properties, 0x0b)), (text, Some(expected)));
    }
}

#[test]
fn topics_of_the_broker_itself_are_not_taken_in_by_wildcards() {
    let world = World::start();
    let mut client = world.client(Version::V5);
    assert_eq!(client.subscribe("#", 1), 1);
    assert_eq!(client.subscribe("+/broker/#", 1), 1);
    let mut watcher = world.client(Version::V5);
    assert_eq!(watcher.subscribe(DROPPED, 0), 0);
    assert_eq!(watcher.message().topic, DROPPED);
    // Whatever else runs on this broker may be heard, the broker's own topics not.
    let topic = world.topic("end");
    world.publish(&topic, "end");
    let mut heard = client.message();
    while heard.topic != topic {
        assert!(!heard.topic.starts_with('$'), "{}", heard.topic);
        heard = client.message();
    }
}

#[test]
fn what_a_broker_drops_is_counted_where_a_service_can_see_it() {
    let world = World::start();
    let mut watcher = world.client(Version::V311);
    assert_eq!(watcher.subscribe(DROPPED, 0), 0);
    let mut count = || watcher.message().text().parse::<u64>().unwrap();
    let before = count();
    let topic = world.topic("dropped");
    let mut connect = Connect::new(Version::V5, &world.engines.name("small"));
    connect.properties = vec![Property::Four(0x27, 1000)];
    let mut small = Client::connect(world.broker(), &connect);
    small.subscribe(&topic, 1);
    world.publish(&topic, &"x".repeat(2000));
    while count() <= before {}
}
