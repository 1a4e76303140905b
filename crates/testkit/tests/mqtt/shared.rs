//! Shared subscriptions: each message goes to one member of the group.

use std::collections::BTreeSet;

use crate::client::{Client, Connect};
use crate::packet::{Message, Packet, VERSIONS, Version};
use crate::{World, numbers};

/// Reads what members receive until they have `count` different payloads between them; each is acknowledged.
///
/// A message that goes round again may come twice, so payloads are counted once.
fn gather(members: &mut [Client], publisher: &mut Client, marks: &str, count: usize) -> Vec<Vec<String>> {
    // Each member knows that it has everything once it has the mark that is sent to it alone.
    let mut found = vec![Vec::new(); members.len()];
    let mut distinct = BTreeSet::new();
    let mut round = 0;
    while distinct.len() < count {
        round += 1;
        assert!(round < 1000, "{} of {count} messages arrive", distinct.len());
        for (index, member) in members.iter_mut().enumerate() {
            let mark = format!("mark {index} {round}");
            publisher.publish(&Message::new(&format!("{marks}/{index}"), 1, &mark));
            loop {
                let message = member.message();
                if message.text() == mark {
                    break;
                }
                distinct.insert(message.text().to_owned());
                found[index].push(message.text().to_owned());
            }
        }
    }
    found
}

/// A member of a group, which hears its marks below the group's name.
fn member(world: &World, connect: &Connect, group: &str, topic: &str, index: usize) -> Client {
    let mut client = Client::connect(world.broker(), connect);
    assert_eq!(client.subscribe(&format!("$share/{group}/{topic}"), 1), 1);
    assert_eq!(client.subscribe(&format!("{group}/{index}"), 1), 1);
    client
}

/// A group whose members have sessions that last, and are away.
fn away(world: &World, version: Version, members: usize, topic: &str) -> (String, Vec<Connect>) {
    let group = world.engines.name("group");
    let session = |it| Connect::lasting(version, &world.engines.name(&format!("member-{it}")));
    let sessions: Vec<_> = (0..members).map(session).collect();
    for (index, connect) in sessions.iter().enumerate() {
        member(world, connect, &group, topic, index).disconnect(0);
    }
    (group, sessions)
}

#[test]
fn each_message_reaches_one_member_of_each_group() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("shared/{version:?}"));
        let group = world.engines.name("group");
        let connect = || Connect::new(version, &world.engines.name("member"));
        let mut members: Vec<_> = (0..3).map(|it| member(&world, &connect(), &group, &topic, it)).collect();
        let second = world.engines.name("group");
        let mut other = vec![member(&world, &connect(), &second, &topic, 0)];
        let mut alone = world.subscriber(version, &topic, 1);
        let mut publisher = world.client(version);
        for number in numbers(0..200) {
            publisher.publish(&Message::new(&topic, 1, number));
        }
        let found = gather(&mut members, &mut publisher, &group, 200);
        assert_eq!(found.iter().map(Vec::len).sum::<usize>(), 200, "none twice, {version:?}");
        assert_eq!(gather(&mut other, &mut publisher, &second, 200)[0].len(), 200);
        for number in numbers(0..200) {
            assert_eq!(alone.message().text(), number, "who does not share gets all");
        }
    }
}

#[test]
fn what_a_member_leaves_behind_goes_to_the_others() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("left/{version:?}"));
        let group = world.engines.name("group");
        let leaving = Connect::lasting(version, &world.engines.name("member"));
        member(&world, &leaving, &group, &topic, 9).disconnect(0);
        let mut publisher = world.client(version);
        for number in numbers(0..20) {
            publisher.publish(&Message::new(&topic, 1, number));
        }
        // It has them all in hand, acknowledges two, and its session ends.
        let mut leaver = Client::connect(world.broker(), &leaving);
        let taken: Vec<_> = (0..20).map(|_| leaver.take()).collect();
        for message in &taken[..2] {
            leaver.acknowledge(0x40, message.id);
        }
        leaver.ping();
        let connect = Connect::new(version, &world.engines.name("member"));
        let mut stayers = vec![member(&world, &connect, &group, &topic, 0)];
        drop(leaver);
        Client::connect(world.broker(), &Connect::new(version, &leaving.id)).disconnect(0);
        let found = gather(&mut stayers, &mut publisher, &group, 18);
        let found: BTreeSet<_> = found[0].iter().cloned().collect();
        assert_eq!(found, numbers(2..20).into_iter().collect(), "{version:?}");
    }
}

#[test]
fn who_stays_takes_what_waits_for_a_member_that_is_away() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("waits/{version:?}"));
        let (group, sessions) = away(&world, version, 4, &topic);
        let mut publisher = world.client(version);
        for number in numbers(0..100) {
            publisher.publish(&Message::new(&topic, 1, number));
        }
        // One of four comes back: nothing is kept for the other three.
        let mut back = vec![Client::connect(world.broker(), &sessions[0])];
        assert!(back[0].present);
        assert_eq!(gather(&mut back, &mut publisher, &group, 100)[0].len(), 100, "{version:?}");
    }
}

#[test]
fn a_group_that_is_away_is_waited_for() {
    let world = World::start();
    for version in VERSIONS {
        let topic = world.topic(&format!("away/{version:?}"));
        let (group, sessions) = away(&world, version, 2, &topic);
        let mut publisher = world.client(version);
        for number in numbers(0..100) {
            publisher.publish(&Message::new(&topic, 1, number));
        }
        let mut members: Vec<_> = sessions.iter().map(|it| Client::connect(world.broker(), it)).collect();
        assert!(members.iter().all(|it| it.present));
        let found = gather(&mut members, &mut publisher, &group, 100);
        assert_eq!(found.iter().map(Vec::len).sum::<usize>(), 100, "{version:?}");
    }
}

#[test]
fn retained_messages_do_not_reach_a_shared_subscription() {
    let world = World::start();
    let topic = world.topic("kept");
    let mut publisher = world.client(Version::V5);
    publisher.publish(&Message::retained(&topic, 1, "kept"));
    let connect = Connect::new(Version::V5, &world.engines.name("member"));
    let mut member = member(&world, &connect, &world.engines.name("group"), &topic, 0);
    publisher.publish(&Message::new(&topic, 1, "live"));
    assert_eq!(member.message().text(), "live");
    publisher.publish(&Message::retained(&topic, 1, ""));
}

#[test]
fn a_shared_subscription_that_cannot_be_is_refused() {
    let world = World::start();
    for filter in ["$share/group", "$share/group/", "$share//topic", "$share/gr+oup/topic"] {
        let mut client = world.client(Version::V5);
        let body = [&[0, 9, 0][..], &crate::packet::text(filter), &[1]].concat();
        client.send(&crate::packet::packet(0x82, &body));
        match client.next() {
            Packet::SubAck { codes, .. } => assert!(codes[0] >= 0x80, "{filter}: {codes:?}"),
            Packet::Disconnect { code } => assert!(code >= 0x80, "{filter}: {code:#x}"),
            other => assert_eq!(other, Packet::End, "{filter}"),
        }
    }
    // Keeping one's own messages out of a shared subscription is a protocol error.
    let mut client = world.client(Version::V5);
    let filter = format!("$share/group/{}", world.topic("local"));
    client
        .send(&crate::packet::packet(0x82, &[&[0, 9, 0][..], &crate::packet::text(&filter), &[5]].concat()));
    assert_eq!(client.end(), Some(0x82));
}
