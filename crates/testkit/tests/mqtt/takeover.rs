//! Two connections with one client id.

use crate::World;
use crate::client::{Client, Connect};
use crate::packet::{VERSIONS, Version};

#[test]
fn the_newer_connection_takes_the_session_over() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("over/{version:?}"));
        let connect = Connect::lasting(version, &world.engines.name("twin"));
        let mut first = Client::connect(world.broker(), &connect);
        assert_eq!(first.subscribe(&topic, 1), 1);
        world.publish(&topic, "unacknowledged");
        let message = first.take();
        let mut second = Client::connect(world.broker(), &connect);
        assert!(second.present, "{version:?}");
        assert_eq!(first.end(), (version == Version::V5).then_some(0x8e));
        let again = second.message();
        assert_eq!((again.text(), again.duplicate, again.id), ("unacknowledged", true, message.id));
        world.publish(&topic, "next");
        assert_eq!(second.message().text(), "next");
    }
}

#[test]
fn a_clean_newcomer_ends_the_old_session() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("clean/{version:?}"));
        let id = world.engines.name("twin");
        let mut first = Client::connect(world.broker(), &Connect::lasting(version, &id));
        first.subscribe(&topic, 1);
        let mut second = Client::connect(world.broker(), &Connect::new(version, &id));
        assert!(!second.present);
        assert_eq!(first.end(), (version == Version::V5).then_some(0x8e));
        world.publish(&topic, "unheard");
        second.subscribe(&topic, 1);
        world.publish(&topic, "heard");
        assert_eq!(second.message().text(), "heard", "{version:?}");
    }
}
