//! What a broker says to what it does not accept; the connection ends, the broker goes on.

use crate::World;
use crate::client::{Client, Connect};
use crate::number;
use crate::packet::{Message, Packet, Property, VERSIONS, Version, packet, text};

#[test]
fn packets_against_the_protocol_end_the_connection_with_a_reason() {
    let world = World::start();
    let topic = world.topic("x");
    let of_topic = |topic: &[u8], rest: &[u8]| {
        let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
        packet(0x30, &[&length[..], topic, rest].concat())
    };
    let connect = packet(0x10, b"\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01x");
    let cases: [(&str, Vec<u8>, &[u8]); 8] = [
        ("a second CONNECT", connect, &[0x82]),
        ("a packet that only brokers send", vec![0x20, 2, 0, 0], &[0x81, 0x82]),
        ("a type that does not exist", vec![0x00, 0], &[0x81, 0x82]),
        ("quality of service 3", packet(0x36, &[&text(&topic)[..], &[0, 1, 0]].concat()), &[0x81]),
        ("a topic that is not UTF-8", of_topic(b"a\xff", &[0]), &[0x81]),
        ("a topic with a wildcard", of_topic(b"a/#", &[0]), &[0x90, 0x81]),
        ("no topic and no alias", of_topic(b"", &[0]), &[0x82, 0x90, 0x81]),
        ("a packet id of 0", packet(0x32, &[&text(&topic)[..], &[0, 0, 0]].concat()), &[0x81, 0x82]),
    ];
    for (name, bytes, reasons) in cases {
        let mut client = world.client(Version::V5);
        client.send(&bytes);
        match client.end() {
            Some(reason) => assert!(reasons.contains(&reason), "{name}: {reason:#x}"),
            None => assert_eq!(world.known_difference("silent ends", "silent", "told"), "silent", "{name}"),
        }
        world.client(Version::V5).ping();
    }
}

#[test]
fn a_client_of_3_1_1_that_breaks_the_rules_is_cut_off() {
    let world = World::start();
    for bytes in [&b"\x20\x02\x00\x00"[..], b"\x36\x05\x00\x01a\x00\x01", b"\x30\x04\x00\x02a#", b"\x00\x00"]
    {
        let mut client = world.client(Version::V311);
        client.send(bytes);
        assert_eq!(client.end(), None, "{bytes:?}");
        world.client(Version::V311).ping();
    }
}

#[test]
fn filters_that_cannot_be_are_refused() {
    let world = World::start();
    for version in VERSIONS {
        for filter in ["a/#/b", "a#", "a+/b", ""] {
            let mut client = world.client(version);
            let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
            client.send(&packet(0x82, &[&[0, 9][..], properties, &text(filter), &[1]].concat()));
            match client.next() {
                Packet::SubAck { codes, .. } => assert!(codes[0] >= 0x80, "{filter}: {codes:?}"),
                Packet::Disconnect { code } => assert!(code >= 0x80, "{filter}: {code:#x}"),
                other => assert_eq!(other, Packet::End, "{filter}"),
            }
        }
    }
}

#[test]
fn what_is_no_connect_gets_no_session() {
    let world = World::start();
    let open = |bytes: &[u8]| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(world.broker()).unwrap();
        stream.set_read_timeout(Some(crate::client::PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // A reset is an end, too.
        let _end = stream.read_to_end(&mut answer);
        answer
    };
    for bytes in
        [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], b"\xc0\x00", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"]
    {
        assert!(open(bytes).is_empty(), "{bytes:?}");
        world.client(Version::V5).ping();
    }
    // A version from the future: refused with a code, in the words of 3.1.1 or of 5, or cut off.
    let answer = open(&packet(0x10, b"\x00\x04MQTT\x09\x02\x00\x00\x00\x00\x01x"));
    let refused = answer.len() >= 4 && answer[0] == 0x20 && (answer[3] == 1 || answer[3] == 0x84);
    assert!(answer.is_empty() || refused, "{answer:?}");
}

#[test]
fn a_broker_tells_its_limits_and_holds_clients_to_them() {
    let world = World::start();
    let mut client = world.client(Version::V5);
    let aliases = number(&client.granted, 0x22).unwrap_or(0);
    assert_eq!(aliases, world.known_difference("topic aliases", 5, 0));
    assert_eq!(number(&client.granted, 0x24).unwrap_or(2), 2, "QoS 2 is there");
    assert_eq!(number(&client.granted, 0x25).unwrap_or(1), 1, "retained messages are there");
    assert_eq!(number(&client.granted, 0x28).unwrap_or(1), 1, "wildcards are there");
    assert_eq!(number(&client.granted, 0x2a).unwrap_or(1), 1, "shared subscriptions are there");
    assert!(number(&client.granted, 0x21).unwrap_or(65_535) >= 1000, "our devices' windows are smaller");
    assert!(number(&client.granted, 0x27).unwrap_or(u32::MAX) >= 32 << 20, "our largest message is smaller");
    // An alias beyond what was granted.
    let alias = u16::try_from(aliases).unwrap() + 1;
    let publish =
        Message { properties: vec![Property::Two(0x23, alias)], ..Message::new(&world.topic("x"), 0, "x") };
    client.send_publish(&publish);
    assert_eq!(client.end(), Some(0x94));
}

#[test]
fn a_client_gets_nothing_larger_than_it_takes() {
    let world = World::start();
    let topic = world.topic("small");
    let mut connect = Connect::new(Version::V5, &world.engines.name("small"));
    connect.properties = vec![Property::Four(0x27, 1000)];
    let mut small = Client::connect(world.broker(), &connect);
    small.subscribe(&topic, 1);
    let mut publisher = world.client(Version::V5);
    publisher.publish(&Message::new(&topic, 1, "before"));
    publisher.publish(&Message::new(&topic, 1, vec![b'x'; 2000]));
    publisher.publish(&Message::new(&topic, 1, "after"));
    assert_eq!((small.message().text(), small.message().text()), ("before", "after"));
}
