//! What a broker sees of a device, byte by byte: a broker that does what a test says stands in for a real one.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::stub::{Stub, listen, publish};
use common::{PATIENCE, VERSIONS, device_event, endpoint, settings, wait_connected};
use telltale_mqtt::device::{Event, Options, Publisher, Session, open};
use telltale_mqtt::{Fault, LastWill, Qos, Version};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

fn send(publisher: &Publisher, qos: Qos, payload: &str) {
    let topic: Arc<str> = "cars/1".into();
    publisher.publish(&topic, qos, false, payload.to_owned().into()).unwrap();
}

fn again(mut packet: Vec<u8>) -> Vec<u8> {
    packet[0] |= 8;
    packet
}

/// The token that the next event says is acknowledged.
async fn acknowledged(session: &mut Session) -> u64 {
    match device_event(session).await {
        Event::Acknowledged { token, .. } => token.0,
        other => panic!("{other:?}"),
    }
}

/// Reads the farewell and the end, while the session ends.
async fn farewell(mut stub: Stub, session: &mut Session) {
    let broker = async {
        assert_eq!(stub.packet().await, [0xe0, 0]);
        assert_eq!(stub.stream.read(&mut [0]).await.unwrap(), 0, "the connection ends");
    };
    let device = async { assert!(timeout(PATIENCE, session.next()).await.unwrap().is_none()) };
    tokio::join!(broker, device);
}

#[tokio::test]
async fn a_connection_is_asked_for_as_the_options_say() {
    let last_will =
        Some(LastWill { topic: "w".into(), payload: "gone".into(), qos: Qos::AtLeastOnce, retain: true });
    let options = [
        Options::new("c"),
        Options {
            clean_start: false,
            session_expiry: Duration::from_secs(258),
            max_packet_bytes: 1000,
            last_will,
            ..Options::new("c")
        },
    ];
    let name = [0, 4, b'M', b'Q', b'T', b'T'];
    let expected: [[&[u8]; 2]; 2] = [
        [
            &[4, 0x02, 0, 30, 0, 1, b'c'],
            &[4, 0x2c, 0, 30, 0, 1, b'c', 0, 1, b'w', 0, 4, b'g', b'o', b'n', b'e'],
        ],
        [
            &[5, 0x02, 0, 30, 10, 0x11, 0, 0, 0, 0, 0x27, 0, 0x10, 0, 0, 0, 1, b'c'],
            &[
                5, 0x2c, 0, 30, 10, 0x11, 0, 0, 1, 2, 0x27, 0, 0, 3, 0xe8, 0, 1, b'c', 0, 0, 1, b'w', 0, 4,
                b'g', b'o', b'n', b'e',
            ],
        ],
    ];
    for (version, expected) in VERSIONS.into_iter().zip(expected) {
        for (options, expected) in options.iter().zip(expected) {
            let (listener, address) = listen().await;
            let (_publisher, mut session) = open(&endpoint(address, version), options.clone());
            let (stub, ()) = tokio::join!(Stub::accept(&listener, version, false), async {
                wait_connected(&mut session).await;
            });
            let content = [&name, expected].concat();
            let whole = [&[0x10, u8::try_from(content.len()).unwrap()], &content[..]].concat();
            assert_eq!(stub.connect, whole, "{version:?}");
        }
    }
}

#[tokio::test]
async fn what_was_sent_comes_again_as_a_duplicate_in_order_and_with_its_packet_id() {
    for (version, present) in VERSIONS.into_iter().flat_map(|it| [(it, false), (it, true)]) {
        let (listener, address) = listen().await;
        let (publisher, mut session) = open(&endpoint(address, version), Options::new("car-1"));
        let texts = ["0", "1", "2", "3", "4", "5"];
        let publishes = |it: usize| publish(version, 1, it as u16 + 1, texts[it]);
        texts[..4].iter().for_each(|it| send(&publisher, Qos::AtLeastOnce, it));
        let broker = async {
            let mut stub = Stub::accept(&listener, version, false).await;
            for it in 0..4 {
                assert_eq!(stub.packet().await, publishes(it));
            }
            stub.send(&[0x40, 2, 0, 2]).await;
            stub
        };
        let device = async {
            wait_connected(&mut session).await;
            assert_eq!(acknowledged(&mut session).await, 1);
        };
        let (stub, ()) = tokio::join!(broker, device);
        drop(stub);
        assert!(matches!(device_event(&mut session).await, Event::Disconnected(Fault::Connection(_))));
        texts[4..].iter().for_each(|it| send(&publisher, Qos::AtLeastOnce, it));
        let broker = async {
            let mut stub = Stub::accept(&listener, version, present).await;
            for it in [0, 2, 3] {
                assert_eq!(stub.packet().await, again(publishes(it)), "{version:?}, {present}");
            }
            for it in 4..6 {
                assert_eq!(stub.packet().await, publishes(it), "{version:?}, {present}");
            }
            stub.send(&[1, 3, 4, 5, 6].map(|it| [0x40, 2, 0, it]).concat()).await;
            stub
        };
        let device = async {
            wait_connected(&mut session).await;
            for expected in [0, 2, 3, 4, 5] {
                assert_eq!(acknowledged(&mut session).await, expected);
            }
        };
        let (stub, ()) = tokio::join!(broker, device);
        assert_eq!(publisher.unacknowledged(), 0);
        publisher.close();
        farewell(stub, &mut session).await;
    }
}

#[tokio::test]
async fn what_a_broker_has_recorded_is_released_and_not_sent_again() {
    for (version, present) in VERSIONS.into_iter().flat_map(|it| [(it, false), (it, true)]) {
        let (listener, address) = listen().await;
        let (publisher, mut session) = open(&endpoint(address, version), Options::new("car-1"));
        let packets: Vec<_> = (1..=2).map(|it| publish(version, 2, it, "x")).collect();
        (0..2).for_each(|_| send(&publisher, Qos::ExactlyOnce, "x"));
        let broker = async {
            let mut stub = Stub::accept(&listener, version, false).await;
            assert_eq!([stub.packet().await, stub.packet().await], packets[..]);
            stub.send(&[0x50, 2, 0, 1]).await;
            assert_eq!(stub.packet().await, [0x62, 2, 0, 1]);
        };
        let device = async {
            wait_connected(&mut session).await;
            assert!(matches!(device_event(&mut session).await, Event::Disconnected(_)));
        };
        tokio::join!(broker, device);
        let broker = async {
            let mut stub = Stub::accept(&listener, version, present).await;
            let first = stub.packet().await;
            assert_eq!(stub.packet().await, again(packets[1].clone()));
            if present {
                assert_eq!(first, [0x62, 2, 0, 1], "{version:?}");
            } else {
                assert_eq!(first, again(packets[0].clone()), "{version:?}");
                stub.send(&[0x50, 2, 0, 1]).await;
                assert_eq!(stub.packet().await, [0x62, 2, 0, 1]);
            }
            // The broker may have been done with it before.
            let unknown: &[u8] = &[0x70, 3, 0, 1, 0x92];
            let known: &[u8] = &[0x70, 2, 0, 1];
            stub.send(if present && version == Version::V5 { unknown } else { known }).await;
            stub.send(&[0x50, 2, 0, 2]).await;
            assert_eq!(stub.packet().await, [0x62, 2, 0, 2]);
            stub.send(&[0x70, 2, 0, 2]).await;
            stub
        };
        let device = async {
            wait_connected(&mut session).await;
            assert_eq!([acknowledged(&mut session).await, acknowledged(&mut session).await], [0, 1]);
        };
        let (_stub, ()) = tokio::join!(broker, device);
    }
}

#[tokio::test]
async fn no_more_is_under_way_than_the_broker_takes() {
    let (listener, address) = listen().await;
    let (publisher, mut session) = open(&endpoint(address, Version::V5), Options::new("car-1"));
    (0..6).for_each(|it| send(&publisher, Qos::AtLeastOnce, &it.to_string()));
    let packet = |it: u16| publish(Version::V5, 1, it + 1, &it.to_string());
    let broker = async {
        let mut stub = Stub::accept_silently(&listener, Version::V5).await;
        stub.send(&[0x20, 6, 0, 0, 3, 0x21, 0, 2]).await;
        assert_eq!([stub.packet().await, stub.packet().await], [packet(0), packet(1)]);
        for next in 2..6 {
            let more = timeout(Duration::from_millis(50), stub.packet()).await;
            assert!(more.is_err(), "{more:?} is beyond the receive maximum");
            stub.send(&[0x40, 2, 0, next as u8 - 1]).await;
            assert_eq!(stub.packet().await, packet(next));
        }
        stub.send(&[0x40, 2, 0, 5, 0x40, 2, 0, 6]).await;
        stub
    };
    let device = async {
        wait_connected(&mut session).await;
        for expected in 0..6 {
            assert_eq!(acknowledged(&mut session).await, expected);
        }
    };
    let (stub, ()) = tokio::join!(broker, device);
    publisher.close();
    farewell(stub, &mut session).await;
}

#[tokio::test]
async fn bytes_may_come_one_by_one() {
    for version in VERSIONS {
        let (listener, address) = listen().await;
        let options = Options { subscriptions: vec!["cars/+".into()], ..Options::new("car-1") };
        let (publisher, mut session) = open(&endpoint(address, version), options);
        send(&publisher, Qos::AtLeastOnce, "x");
        let welcome: &[u8] = if version == Version::V5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] };
        let granted: &[u8] =
            if version == Version::V5 { &[0x90, 4, 0xff, 0xff, 0, 1] } else { &[0x90, 3, 0xff, 0xff, 1] };
        let incoming = (0..3).map(|qos| publish(version, qos, 6 + u16::from(qos), "to the car"));
        let release = [0x62, 2, 0, 8];
        let all = [welcome, granted, &[0x40, 2, 0, 1], &incoming.collect::<Vec<_>>().concat(), &release];
        let broker = async {
            let mut stub = Stub::accept_silently(&listener, version).await;
            // The publish must be on its way before it is acknowledged.
            stub.send(welcome).await;
            assert_eq!(stub.packet().await[..4], [0x82, all_filters(version), 0xff, 0xff]);
            assert_eq!(stub.packet().await, publish(version, 1, 1, "x"));
            for byte in all[1..].concat() {
                stub.send(&[byte]).await;
                tokio::task::yield_now().await;
            }
            let expected: [&[u8]; 3] = [&[0x40, 2, 0, 7], &[0x50, 2, 0, 8], &[0x70, 2, 0, 8]];
            for expected in expected {
                assert_eq!(stub.packet().await, expected);
            }
            publisher.close();
            assert_eq!(stub.packet().await, [0xe0, 0]);
        };
        let device = async {
            wait_connected(&mut session).await;
            assert_eq!(acknowledged(&mut session).await, 0);
            for _ in 0..3 {
                let event = device_event(&mut session).await;
                let Event::Received { topic, payload } = event else { panic!("{event:?}") };
                assert_eq!((&topic[..], &payload[..]), (&b"cars/1"[..], &b"to the car"[..]));
            }
            assert!(timeout(PATIENCE, session.next()).await.unwrap().is_none());
        };
        tokio::join!(broker, device);
    }
}

/// Length of a subscription to `cars/+`.
fn all_filters(version: Version) -> u8 {
    if version == Version::V5 { 12 } else { 11 }
}

#[tokio::test]
async fn a_refusal_is_told_in_the_protocols_words() {
    let (listener, address) = listen().await;
    let (publisher, mut session) = open(&endpoint(address, Version::V5), Options::new("car-1"));
    let qualities = [Qos::AtLeastOnce, Qos::AtLeastOnce, Qos::ExactlyOnce, Qos::ExactlyOnce];
    qualities.into_iter().for_each(|it| send(&publisher, it, "x"));
    let broker = async {
        let mut stub = Stub::accept(&listener, Version::V5, false).await;
        for _ in 0..4 {
            stub.packet().await;
        }
        stub.send(&[0x40, 3, 0, 1, 0x97, 0x40, 4, 0, 2, 0x10, 0, 0x50, 3, 0, 3, 0x87]).await;
        stub.send(&[0x50, 2, 0, 4, 0x70, 3, 0, 4, 0x92]).await;
        stub
    };
    let device = async {
        let mut told = Vec::new();
        while told.len() < 4 {
            match device_event(&mut session).await {
                Event::Refused { token, reason } => told.push(format!("{} {reason}", token.0)),
                Event::Acknowledged { token, .. } => told.push(token.0.to_string()),
                Event::Connected { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        told
    };
    let (_stub, told) = tokio::join!(broker, device);
    assert_eq!(told, ["0 QuotaExceeded", "1", "2 NotAuthorized", "3 PacketIdentifierNotFound"]);
    assert_eq!(publisher.unacknowledged(), 0);
}

#[tokio::test]
async fn the_end_of_a_connection_is_a_fault_that_says_why() {
    use Version::{V5, V311};
    let cases: [(&str, Version, &[u8], &str); 8] = [
        ("another client", V5, &[0x20, 3, 0, 0, 0, 0xe0, 1, 0x8e], "took the session over"),
        ("a reason", V5, &[0x20, 3, 0, 0, 0, 0xe0, 2, 0x8b, 0], "ServerShuttingDown"),
        ("a wrong password", V311, &[0x20, 2, 0, 4], "check --mqtt-user"),
        ("an answer to nothing", V5, &[0x20, 3, 0, 0, 0, 0x40, 2, 0, 1], "unsolicited ack pkid: 1"),
        ("a record of nothing", V311, &[0x20, 2, 0, 0, 0x50, 2, 0, 1], "unsolicited ack pkid: 1"),
        ("an end of nothing", V311, &[0x20, 2, 0, 0, 0x70, 2, 0, 1], "unsolicited ack pkid: 1"),
        ("a second welcome", V311, &[0x20, 2, 0, 0, 0x20, 2, 0, 0], "wrong packet"),
        ("no answer", V5, &[], "does it want TLS"),
    ];
    for (name, version, answer, expected) in cases {
        let (listener, address) = listen().await;
        let (_publisher, mut session) = open(&endpoint(address, version), Options::new("car-1"));
        let broker = async {
            let mut stub = Stub::accept_silently(&listener, version).await;
            stub.send(answer).await;
            (!answer.is_empty()).then_some(stub)
        };
        let device = async {
            loop {
                match device_event(&mut session).await {
                    Event::Connected { .. } => {}
                    Event::Disconnected(fault) => return fault,
                    other => panic!("{name}: {other:?}"),
                }
            }
        };
        let (_stub, fault) = tokio::join!(broker, device);
        let text = std::error::Error::source(&fault).map_or(fault.to_string(), |it| format!("{fault}: {it}"));
        assert!(text.contains(expected), "{name}: {text}");
    }
}

#[tokio::test]
async fn a_broker_that_says_nothing_is_asked_and_then_given_up() {
    let (listener, address) = listen().await;
    let flags = ["test", "--mqtt", &address.to_string(), "--mqtt-keep-alive", "1s"];
    let (_publisher, mut session) = open(&settings(&flags), Options::new("car-1"));
    let broker = async {
        let mut stub = Stub::accept(&listener, Version::V5, false).await;
        assert_eq!(stub.packet().await, [0xc0, 0]);
        stub.send(&[0xd0, 0]).await;
        assert_eq!([stub.packet().await, stub.packet().await], [[0xc0, 0], [0xc0, 0]]);
    };
    let device = async {
        wait_connected(&mut session).await;
        device_event(&mut session).await
    };
    let ((), event) = tokio::join!(broker, device);
    let Event::Disconnected(Fault::Connection(source)) = event else { panic!("{event:?}") };
    assert!(source.to_string().contains("pingreq isn't acked"), "{source}");
}

#[tokio::test]
async fn an_attempt_that_the_broker_comes_to_late_is_told_from_another_client() {
    let (listener, address) = listen().await;
    let (_publisher, mut session) = open(&endpoint(address, Version::V5), Options::new("car-1"));
    let broker = async {
        let _unanswered = Stub::accept_silently(&listener, Version::V5).await;
        for _ in 0..2 {
            let mut stub = Stub::accept(&listener, Version::V5, false).await;
            stub.send(&[0xe0, 1, 0x8e]).await;
        }
    };
    let device = async {
        let mut told = Vec::new();
        while told.len() < 3 {
            match device_event(&mut session).await {
                Event::Connected { .. } => {}
                Event::Disconnected(fault) => told.push(fault),
                other => panic!("{other:?}"),
            }
        }
        told
    };
    let ((), told) = tokio::join!(broker, device);
    assert!(matches!(told[..], [Fault::Silent { .. }, Fault::LateAnswer, Fault::TakenOver]), "{told:?}");
    assert_eq!(told.iter().map(Fault::is_permanent).collect::<Vec<_>>(), [false, false, true]);
}
