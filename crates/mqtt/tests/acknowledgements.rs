//! What a broker sees of a subscriber, byte by byte: a broker that does what a test says stands in for a real one.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::stub::{Stub, listen, publish};
use common::{PATIENCE, VERSIONS, endpoint, message, settings, subscriber_event, subscriber_options};
use telltale_mqtt::subscriber::{Acks, Event, Message, Receipt, Session, open};
use telltale_mqtt::{Fault, Qos, Version};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

fn start(address: SocketAddr, version: Version) -> (Acks, Session) {
    open(&endpoint(address, version), subscriber_options("cars/+"))
}

/// Messages until the first one that is not at hand yet.
async fn messages(session: &mut Session, count: usize) -> Vec<Message> {
    let mut found = Vec::new();
    while found.len() < count {
        found.push(message(session).await);
        found.extend(std::iter::from_fn(|| session.ready()).map(|it| *it));
    }
    found
}

fn receipts(messages: &[Message]) -> Vec<Receipt> {
    messages.iter().map(|it| it.receipt.unwrap()).collect()
}

#[tokio::test]
async fn what_is_acknowledged_between_two_looks_goes_out_in_order_and_in_one_piece() {
    for version in VERSIONS {
        let (listener, address) = listen().await;
        let (acks, mut session) = start(address, version);
        let all: Vec<u8> = (1..=1000).flat_map(|it| publish(version, 1, it, &it.to_string())).collect();
        let broker = async {
            let mut stub = Stub::accept(&listener, version, false).await;
            stub.grant(&all).await;
            stub
        };
        let (mut stub, found) = tokio::join!(broker, messages(&mut session, 1000));
        let numbers: Vec<_> =
            found.iter().map(|it| String::from_utf8_lossy(&it.payload).into_owned()).collect();
        assert_eq!(numbers, (1..=1000).map(|it| it.to_string()).collect::<Vec<_>>());
        for receipt in receipts(&found) {
            assert!(acks.acknowledge(receipt));
        }
        acks.close();
        let broker = async {
            stub.stream.readable().await.unwrap();
            let mut bytes = vec![0; 4000];
            let first = stub.stream.read(&mut bytes).await.unwrap();
            assert_eq!(first, 4000, "one write for all acknowledgements");
            let expected: Vec<u8> =
                (1..=1000_u16).flat_map(|it| [0x40, 2, it.to_be_bytes()[0], it.to_be_bytes()[1]]).collect();
            assert_eq!(bytes, expected);
            stub.farewell().await;
        };
        let ((), end) = tokio::join!(broker, session.next());
        assert!(end.unwrap().is_none(), "{version:?}");
        assert!(session.next().await.unwrap().is_none(), "it stays ended");
    }
}

#[tokio::test]
async fn an_acknowledgement_never_reaches_another_connection() {
    for version in VERSIONS {
        let (listener, address) = listen().await;
        let (acks, mut session) = start(address, version);
        let broker = async {
            let mut stub = Stub::accept(&listener, version, false).await;
            stub.grant(&[1, 2, 3].map(|it| publish(version, 1, it, "old")).concat()).await;
            stub
        };
        let (stub, old) = tokio::join!(broker, messages(&mut session, 3));
        let old = receipts(&old);
        // Given while the connection is gone and the session has not seen it, so still waiting when it ends.
        drop(stub);
        assert!(acks.acknowledge(old[0]));
        while !matches!(subscriber_event(&mut session).await, Event::Disconnected(_)) {}
        assert!(!acks.acknowledge(old[1]), "of an ended connection");
        let broker = async {
            let mut stub = Stub::accept(&listener, version, true).await;
            stub.send(&publish(version, 1, 2, "new")).await;
            stub
        };
        let (mut stub, new) = tokio::join!(broker, messages(&mut session, 1));
        assert!(!acks.acknowledge(old[1]), "of the connection before");
        assert!(acks.acknowledge(receipts(&new)[0]));
        assert!(!acks.acknowledge(old[2]));
        acks.close();
        let broker = async {
            assert_eq!(stub.packet().await, [0x40, 2, 0, 2], "the first and only acknowledgement");
            stub.farewell().await;
        };
        let ((), end) = tokio::join!(broker, session.next());
        assert!(end.unwrap().is_none(), "{version:?}");
    }
}

#[tokio::test]
async fn waiting_may_be_given_up_at_any_moment_and_loses_nothing() {
    for version in VERSIONS {
        let (listener, address) = listen().await;
        let (acks, mut session) = start(address, version);
        let broker = async {
            let mut stub = Stub::accept(&listener, version, false).await;
            stub.grant(&[]).await;
            let all: Vec<u8> = (1..=50).flat_map(|it| publish(version, 1, it, "a payload")).collect();
            for piece in all.chunks(7) {
                stub.send(piece).await;
                tokio::task::yield_now().await;
            }
            for expected in 1..=50 {
                assert_eq!(stub.packet().await, [0x40, 2, 0, expected]);
            }
            stub.farewell().await;
        };
        let subscriber = async {
            while !matches!(subscriber_event(&mut session).await, Event::Connected { .. }) {}
            let (mut given_up, mut received) = (0, 0_u16);
            loop {
                let event = tokio::select! {
                    biased;
                    event = session.next() => event.unwrap(),
                    () = tokio::task::yield_now() => {
                        given_up += 1;
                        continue;
                    }
                };
                match event {
                    Some(Event::Message(message)) => {
                        received += 1;
                        assert!(acks.acknowledge(message.receipt.unwrap()));
                        if received == 50 {
                            acks.close();
                        }
                    }
                    Some(Event::Subscribed) => {}
                    Some(other) => panic!("{other:?}"),
                    None => break,
                }
            }
            assert!(received == 50 && given_up > 0, "{received} received, {given_up} times given up");
        };
        tokio::join!(broker, subscriber);
    }
}

#[tokio::test]
async fn quality_of_service_2_takes_its_three_steps() {
    for version in VERSIONS {
        let (listener, address) = listen().await;
        let (acks, mut session) = start(address, version);
        let broker = async {
            let mut stub = Stub::accept(&listener, version, false).await;
            stub.grant(&publish(version, 2, 7, "x")).await;
            assert_eq!(stub.packet().await, [0x50, 2, 0, 7]);
            // Another one whose first two steps were on an earlier connection.
            stub.send(&[0x62, 2, 0, 7, 0x62, 2, 0, 9]).await;
            assert_eq!([stub.packet().await, stub.packet().await], [[0x70, 2, 0, 7], [0x70, 2, 0, 9]]);
            acks.close();
            stub.farewell().await;
        };
        let subscriber = async {
            let message = message(&mut session).await;
            assert_eq!(message.qos, Qos::ExactlyOnce);
            assert!(acks.acknowledge(message.receipt.unwrap()));
            assert!(session.next().await.unwrap().is_none());
        };
        tokio::join!(broker, subscriber);
    }
}

/// The fault of a subscriber whose broker answers the CONNECT with these bytes and then closes, or not.
async fn fault_of(version: Version, answer: &[u8], closes: bool, keep_alive: Option<Duration>) -> Fault {
    let (listener, address) = listen().await;
    let endpoint = match keep_alive {
        None => endpoint(address, version),
        Some(it) => {
            let (address, it) = (address.to_string(), format!("{it:?}"));
            let version = ["--mqtt-version", name(version)];
            settings(&[&["test", "--mqtt", &address, "--mqtt-keep-alive", &it], &version[..]].concat())
        }
    };
    let (_acks, mut session) = open(&endpoint, subscriber_options("cars/+"));
    let broker = async {
        let mut stub = Stub::accept_silently(&listener, version).await;
        stub.send(answer).await;
        if closes { None } else { Some(stub) }
    };
    let subscriber = async {
        loop {
            match timeout(PATIENCE, session.next()).await.expect("something happens") {
                Ok(Some(Event::Disconnected(fault))) | Err(fault) => return fault,
                Ok(Some(_)) => {}
                Ok(None) => panic!("nobody closed it"),
            }
        }
    };
    let (_stub, fault) = tokio::join!(broker, subscriber);
    fault
}

fn name(version: Version) -> &'static str {
    if version == Version::V5 { "5" } else { "3.1.1" }
}

#[tokio::test]
async fn what_a_broker_does_wrong_is_a_fault_that_says_so() {
    use Version::{V5, V311};
    let welcome = |version, more: &[u8]| {
        let welcome: &[u8] = if version == V5 { &[0x20, 3, 1, 0, 0] } else { &[0x20, 2, 1, 0] };
        [welcome, more].concat()
    };
    let cases = [
        ("a farewell without properties", V5, welcome(V5, &[0xe0, 1, 0x8e]), "took the session over"),
        ("a farewell without a reason", V5, welcome(V5, &[0xe0, 0]), "NormalDisconnection"),
        ("a wrong password", V5, vec![0x20, 3, 0, 0x86, 0], "check --mqtt-user"),
        ("a wrong password", V311, vec![0x20, 2, 0, 4], "check --mqtt-user"),
        ("a message before the answer", V5, publish(V5, 1, 1, "x"), "wrong packet"),
        ("a second answer", V311, welcome(V311, &[0x20, 2, 0, 0]), "wrong packet"),
        ("an answer to nothing", V5, welcome(V5, &[0x40, 2, 0, 1]), "wrong packet"),
        ("too large a packet", V5, welcome(V5, &[0x30, 0xff, 0xff, 0xff, 0x7f]), "exceeded"),
        ("too large a packet", V311, welcome(V311, &[0x30, 0xff, 0xff, 0xff, 0x7f]), "exceeded"),
        ("a length without an end", V5, welcome(V5, &[0x30, 0xff, 0xff, 0xff, 0xff]), "length is malformed"),
        ("a length without an end", V311, welcome(V311, &[0x30, 0xff, 0xff, 0xff, 0xff]), "remaining length"),
        ("packet id 0", V5, welcome(V5, &publish(V5, 1, 0, "")), "id Zero"),
        ("properties that end within", V5, welcome(V5, &[0x32, 5, 0, 0, 0, 1, 0x80]), "nsufficient"),
    ];
    for (name, version, answer, expected) in cases {
        let fault = fault_of(version, &answer, false, None).await;
        let text = std::error::Error::source(&fault).map_or(fault.to_string(), |it| format!("{fault}: {it}"));
        assert!(text.contains(expected), "{name}: {text}");
    }
    assert!(matches!(fault_of(V5, &[], true, None).await, Fault::NoAnswer));
    assert!(matches!(fault_of(V311, &[], true, None).await, Fault::NoAnswer));
    assert!(matches!(fault_of(V5, &welcome(V5, &[]), true, None).await, Fault::Connection(_)));
}

#[tokio::test]
async fn a_broker_that_says_nothing_is_given_up() {
    let second = Some(Duration::from_secs(1));
    let [welcome, welcome_v311]: [&[u8]; 2] = [&[0x20, 3, 1, 0, 0], &[0x20, 2, 1, 0]];
    let (first, second, third) = tokio::join!(
        fault_of(Version::V5, &[], false, None),
        fault_of(Version::V5, welcome, false, second),
        fault_of(Version::V311, welcome_v311, false, second),
    );
    let source = |fault: Fault| std::error::Error::source(&fault).unwrap().to_string();
    assert_eq!(first.to_string(), "the broker did not answer within 5s");
    assert!(source(second).contains("pingreq isn't acked"));
    assert!(source(third).contains("pingreq isn't acked"));
}
