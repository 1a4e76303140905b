//! The last will of a client that goes without a farewell.

use crate::World;
use crate::client::{Client, Connect};
use crate::packet::{Message, Property, VERSIONS, Version};

fn mortal(world: &World, version: Version, will: Message) -> Connect {
    Connect { will: Some(will), ..Connect::new(version, &world.engines.name("mortal")) }
}

#[test]
fn a_will_is_published_when_the_connection_breaks_and_not_after_a_farewell() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("will/{version:?}"));
        let mut watcher = world.subscriber(version, &topic, 2);
        for qos in 0..=2 {
            let text = format!("broken {qos}");
            drop(Client::connect(world.broker(), &mortal(&world, version, Message::new(&topic, qos, &text))));
            let message = watcher.message();
            assert_eq!((message.text(), message.qos), (&*text, qos), "{version:?}");
        }
        let peaceful = mortal(&world, version, Message::new(&topic, 1, "never"));
        Client::connect(world.broker(), &peaceful).disconnect(0);
        if version == Version::V5 {
            // A farewell that asks for the will.
            let asked = mortal(&world, version, Message::new(&topic, 1, "asked for"));
            Client::connect(world.broker(), &asked).disconnect(4);
            assert_eq!(watcher.message().text(), "asked for");
        }
        world.publish(&topic, "end");
        assert_eq!(watcher.message().text(), "end", "no will after a farewell, {version:?}");
    }
}

#[test]
fn a_will_is_published_for_a_silent_client_and_for_one_that_is_replaced() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("silent/{version:?}"));
        let mut watcher = world.subscriber(version, &topic, 1);
        let mut silent = mortal(&world, version, Message::new(&topic, 1, "silent"));
        silent.keep_alive = 1;
        let _client = Client::connect(world.broker(), &silent);
        assert_eq!(watcher.message().text(), "silent");
        let replaced = mortal(&world, version, Message::new(&topic, 1, "replaced"));
        let _first = Client::connect(world.broker(), &replaced);
        let _second = Client::connect(world.broker(), &Connect { will: None, ..replaced });
        assert_eq!(watcher.message().text(), "replaced", "{version:?}");
    }
}

#[test]
fn a_will_can_be_retained_and_carries_its_properties() {
    let world = World::start();
    let topic = world.topic("kept");
    let mut watcher = world.subscriber(Version::V5, &topic, 1);
    let mut connect = mortal(&world, Version::V5, Message::retained(&topic, 1, "gone"));
    connect.will_properties = vec![Property::Four(0x18, 0), Property::Pair("why".into(), "crash".into())];
    drop(Client::connect(world.broker(), &connect));
    let message = watcher.message();
    assert_eq!(message.properties, [Property::Pair("why".into(), "crash".into())]);
    let late = world.subscriber(Version::V5, &topic, 1).message();
    assert_eq!((late.text(), late.retain), ("gone", true));
    world.client(Version::V5).publish(&Message::retained(&topic, 1, ""));
}

#[test]
fn a_client_that_is_back_before_the_delay_takes_its_will_back() {
    let world = World::start();
    let topic = world.topic("delay");
    let mut watcher = world.subscriber(Version::V5, &topic, 1);
    let id = world.engines.name("mortal");
    let mut connect = Connect::lasting(Version::V5, &id);
    connect.will = Some(Message::new(&topic, 1, "never"));
    connect.will_properties = vec![Property::Four(0x18, 3000)];
    drop(Client::connect(world.broker(), &connect));
    let back = Client::connect(world.broker(), &Connect::lasting(Version::V5, &id));
    back.disconnect(0);
    world.publish(&topic, "end");
    assert_eq!(watcher.message().text(), "end");
}
