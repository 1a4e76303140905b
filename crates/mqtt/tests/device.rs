//! A device's publishes arrive in order, once each while the connection holds, and none is lost when it does not.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::{
    Cable, PATIENCE, VERSIONS, broker, close, device_event, endpoint, message, publish_numbers, spawn,
    subscriber_options, wait_connected, wait_subscribed,
};
use telltale_embedded::mqtt as embedded;
use telltale_mqtt::device::{Event, Options, PublishError, open};
use telltale_mqtt::{Endpoint, Fault, LastWill, MqttConfig, Qos, Version, subscriber};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

#[tokio::test]
async fn every_quality_of_service_arrives_in_both_versions() {
    for version in VERSIONS {
        let broker = broker();
        let endpoint = endpoint(broker.address(), version);
        let (acks, mut receiver) = subscriber::open(&endpoint, subscriber_options("cars/+"));
        wait_subscribed(&mut receiver).await;
        let (publisher, mut session) = open(&endpoint, Options::new("car-1"));
        wait_connected(&mut session).await;
        let topic: Arc<str> = "cars/1".into();
        for (index, qos) in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce].into_iter().enumerate() {
            let token = publisher.publish(&topic, qos, false, index.to_string().into()).unwrap();
            assert_eq!(token.is_some(), qos != Qos::AtMostOnce);
            if let Some(token) = token {
                let event = device_event(&mut session).await;
                let settled = matches!(event, Event::Acknowledged { token: it, .. } if it == token);
                assert!(settled, "{event:?}");
            }
        }
        let driver = spawn(async move { while session.next().await.is_some() {} });
        for expected in 0..3 {
            let arrived = message(&mut receiver).await;
            assert_eq!(arrived.payload, expected.to_string());
            assert_eq!(arrived.receipt.is_some(), expected > 0);
            arrived.receipt.map(|it| acks.acknowledge(it));
        }
        assert_eq!(publisher.unacknowledged(), 0);
        publisher.close();
        driver.await.unwrap();
        close(&acks, &mut receiver).await;
    }
}

#[tokio::test]
async fn a_cut_cable_loses_nothing_and_keeps_the_order() {
    for version in VERSIONS {
        let broker = broker();
        let cable = Cable::to(broker.address()).await;
        let (acks, mut receiver) =
            subscriber::open(&endpoint(broker.address(), version), subscriber_options("cars/+"));
        wait_subscribed(&mut receiver).await;
        let options = Options { window: 20, clean_start: false, ..Options::new("car-1") };
        let (publisher, mut session) = open(&endpoint(cable.address, version), options);
        let topic: Arc<str> = "cars/1".into();
        let device = spawn(async move {
            let (mut sent, mut settled, mut tokens) = (0, 0, BTreeSet::new());
            while settled < 2000 {
                while sent < 2000 {
                    let payload = sent.to_string().into();
                    match publisher.publish(&topic, Qos::AtLeastOnce, false, payload) {
                        Ok(token) => assert_eq!(token.unwrap().0, sent),
                        Err(PublishError::WindowFull { window: 20 }) => break,
                        Err(error) => panic!("{error}"),
                    }
                    sent += 1;
                }
                if let Event::Acknowledged { token, .. } = device_event(&mut session).await {
                    assert!(tokens.insert(token), "{token:?} twice");
                    settled += 1;
                    if settled % 300 == 0 {
                        cable.cut();
                    }
                }
            }
            publisher.close();
            while session.next().await.is_some() {}
        });
        let mut next = 0_u32;
        while next < 2000 {
            let arrived = message(&mut receiver).await;
            let number: u32 = std::str::from_utf8(&arrived.payload).unwrap().parse().unwrap();
            // A contiguous part of the window may come again, but nothing is passed over.
            assert!(number <= next && number + 20 >= next, "{number} after {next}, {version:?}");
            next = next.max(number + 1);
            assert!(acks.acknowledge(arrived.receipt.unwrap()));
        }
        device.await.unwrap();
        close(&acks, &mut receiver).await;
    }
}

#[tokio::test]
async fn quality_of_service_2_arrives_once_over_cables_that_are_cut() {
    for version in VERSIONS {
        let broker = broker();
        let cable = Cable::to(broker.address()).await;
        let (acks, mut receiver) =
            subscriber::open(&endpoint(broker.address(), version), subscriber_options("cars/+"));
        wait_subscribed(&mut receiver).await;
        let options = Options {
            clean_start: false,
            session_expiry: Duration::from_secs(3600),
            ..Options::new("car-1")
        };
        let (publisher, mut session) = open(&endpoint(cable.address, version), options);
        let device = async {
            let (mut sent, mut settled) = (0, 0);
            while settled < 500 {
                while sent < 500 {
                    let payload = format!("{sent:0300}").into();
                    match publisher.publish(&"cars/1".into(), Qos::ExactlyOnce, false, payload) {
                        Ok(_) => sent += 1,
                        Err(PublishError::WindowFull { .. }) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
                match device_event(&mut session).await {
                    Event::Acknowledged { .. } => settled += 1,
                    Event::Refused { reason, .. } => panic!("{reason}"),
                    _ => continue,
                }
                if settled % 70 == 0 {
                    cable.cut();
                }
            }
        };
        let service = async {
            for expected in 0..500 {
                let arrived = message(&mut receiver).await;
                let text = std::str::from_utf8(&arrived.payload).unwrap();
                assert_eq!(text.parse(), Ok(expected), "{version:?}");
                assert!(acks.acknowledge(arrived.receipt.unwrap()));
            }
        };
        tokio::join!(device, service);
        close(&acks, &mut receiver).await;
    }
}

#[tokio::test]
async fn large_messages_go_both_ways() {
    for version in VERSIONS {
        let broker = broker();
        let options = Options {
            subscriptions: vec!["cars/1".into()],
            max_packet_bytes: 4 << 20,
            ..Options::new("car-1")
        };
        let (publisher, mut session) = open(&endpoint(broker.address(), version), options);
        wait_connected(&mut session).await;
        let payload: Vec<u8> = (0..3 << 20).map(|it| (it % 251) as u8).collect();
        for _ in 0..3 {
            publisher.publish(&"cars/1".into(), Qos::AtLeastOnce, false, payload.clone().into()).unwrap();
        }
        let (mut received, mut settled) = (0, 0);
        while received < 3 || settled < 3 {
            match device_event(&mut session).await {
                Event::Received { payload: arrived, .. } => {
                    assert!(arrived == payload);
                    received += 1;
                }
                Event::Acknowledged { .. } => settled += 1,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_slow_subscriber_slows_publishers_down_and_loses_nothing() {
    let config = embedded::Config { queued_bytes: 10_000, ..Default::default() };
    let broker = embedded::start(config).unwrap();
    let mut options = subscriber_options("cars/+");
    options.receive_maximum = 10;
    let (acks, mut receiver) = subscriber::open(&endpoint(broker.address(), Version::V5), options);
    wait_subscribed(&mut receiver).await;
    let publish = spawn(publish_numbers(broker.address(), "cars/1", 0..1000));
    let mut first = Vec::new();
    for _ in 0..10 {
        first.push(message(&mut receiver).await.receipt.unwrap());
    }
    assert!(!publish.is_finished(), "1,000 messages do not fit into a queue of 10,000 bytes");
    for receipt in first {
        assert!(acks.acknowledge(receipt));
    }
    for expected in 10..1000 {
        let arrived = message(&mut receiver).await;
        assert_eq!(arrived.payload, expected.to_string());
        assert!(acks.acknowledge(arrived.receipt.unwrap()));
    }
    publish.await.unwrap();
    close(&acks, &mut receiver).await;
}

#[tokio::test]
async fn a_will_is_published_when_the_device_goes_without_a_farewell_and_only_then() {
    for version in VERSIONS {
        let broker = broker();
        let direct = endpoint(broker.address(), version);
        let (acks, mut receiver) = subscriber::open(&direct, subscriber_options("wills/#"));
        wait_subscribed(&mut receiver).await;
        let with_will = |name: &str| {
            let (topic, payload) = (format!("wills/{name}"), "gone".into());
            let will = LastWill { topic, payload, qos: Qos::AtLeastOnce, retain: false };
            Options { last_will: Some(will), ..Options::new(name) }
        };
        let (publisher, mut polite) = open(&direct, with_will("polite"));
        wait_connected(&mut polite).await;
        publisher.close();
        assert!(timeout(PATIENCE, polite.next()).await.unwrap().is_none());
        let (_publisher, mut rude) = open(&direct, with_will("rude"));
        wait_connected(&mut rude).await;
        drop(rude);
        let arrived = message(&mut receiver).await;
        assert_eq!((&arrived.topic[..], &arrived.payload[..]), (&b"wills/rude"[..], &b"gone"[..]));
        assert!(acks.acknowledge(arrived.receipt.unwrap()));
        close(&acks, &mut receiver).await;
    }
}

#[tokio::test]
async fn the_brokers_limit_on_packets_holds_from_the_first_connection_on() {
    let config = embedded::Config { max_packet_bytes: 5000, ..Default::default() };
    let broker = embedded::start(config).unwrap();
    let (publisher, mut session) = open(&endpoint(broker.address(), Version::V5), Options::new("car-1"));
    wait_connected(&mut session).await;
    let sent = publisher.publish(&"cars/1".into(), Qos::AtLeastOnce, false, vec![0; 6000].into());
    assert_eq!(sent, Err(PublishError::TooLarge { bytes: 6016, limit: 5000 }));
    publisher.publish(&"cars/1".into(), Qos::AtLeastOnce, false, vec![0; 1000].into()).unwrap();
    assert!(matches!(device_event(&mut session).await, Event::Acknowledged { .. }));
}

#[tokio::test]
async fn a_wrong_password_is_a_refusal_for_good() {
    let credentials = embedded::Credentials { user: "car".into(), password: "right".into() };
    let config = embedded::Config { credentials: Some(credentials), ..Default::default() };
    let broker = embedded::start(config).unwrap();
    let password = tempfile::NamedTempFile::new().unwrap();
    for version in ["3.1.1", "5"] {
        for (secret, expected) in [("wrong", false), ("right\n", true)] {
            std::fs::write(password.path(), secret).unwrap();
            let config = mqtt_config(&[
                "--mqtt",
                &broker.address().to_string(),
                "--mqtt-version",
                version,
                "--mqtt-user",
                "car",
                "--mqtt-password-file",
                password.path().to_str().unwrap(),
            ]);
            let (_publisher, mut session) = open(&config.endpoint().unwrap(), Options::new("car-1"));
            match device_event(&mut session).await {
                Event::Connected { .. } => assert!(expected),
                Event::Disconnected(fault) => {
                    assert!(!expected && fault.is_permanent(), "{fault}");
                    assert!(matches!(fault, Fault::Refused { .. }));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_broker_that_comes_back_gets_what_the_window_held() {
    let broker = broker();
    let cable = Cable::to(broker.address()).await;
    cable.part();
    let (publisher, mut session) = open(&endpoint(cable.address, Version::V5), Options::new("car-1"));
    publisher.publish(&"cars/1".into(), Qos::AtLeastOnce, false, "kept".into()).unwrap();
    assert!(matches!(device_event(&mut session).await, Event::Disconnected(_)));
    cable.join();
    wait_connected(&mut session).await;
    assert!(matches!(device_event(&mut session).await, Event::Acknowledged { .. }));
}

#[tokio::test]
async fn messages_come_to_devices_that_subscribe() {
    let broker = broker();
    let options = Options { subscriptions: vec!["alerts/car-1".into()], ..Options::new("car-1") };
    let (_publisher, mut session) = open(&endpoint(broker.address(), Version::V5), options);
    wait_connected(&mut session).await;
    let alert = spawn(async move {
        loop {
            if let Event::Received { topic, payload } = device_event(&mut session).await {
                return (topic, payload);
            }
        }
    });
    // Until the subscription stands, a publish reaches nobody.
    let mut number = 0;
    while !alert.is_finished() {
        publish_numbers(broker.address(), "alerts/car-1", number..number + 1).await;
        number += 1;
    }
    let (topic, _payload) = alert.await.unwrap();
    assert_eq!(topic, "alerts/car-1");
}

#[tokio::test]
async fn tls_is_spoken_with_the_authority_that_was_given_and_no_other() {
    let broker = broker();
    let (address, authority) = tls_front(broker.address()).await;
    for (flags, expected) in [(vec!["--mqtt-ca", &authority], true), (vec![], false)] {
        for host in ["localhost", "127.0.0.1"] {
            let mqtt = format!("{host}:{}", address.port());
            let config = mqtt_config(&[&["--mqtt", &mqtt, "--mqtt-tls"], &flags[..]].concat());
            let (publisher, mut session) = open(&config.endpoint().unwrap(), Options::new("car-1"));
            let event = device_event(&mut session).await;
            assert_eq!(matches!(event, Event::Connected { .. }), expected, "{host}: {event:?}");
            if expected {
                publisher.publish(&"a".into(), Qos::AtLeastOnce, false, "x".into()).unwrap();
                assert!(matches!(device_event(&mut session).await, Event::Acknowledged { .. }));
            }
        }
    }
}

/// Puts TLS in front of a broker; returns its address and the file of its authority.
async fn tls_front(broker: std::net::SocketAddr) -> (std::net::SocketAddr, String) {
    let folder = format!("{}/../../testdata/tls", env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read(format!("{folder}/{name}")).unwrap();
    let identity =
        native_tls::Identity::from_pkcs8(&read("localhost.pem"), &read("localhost.key.pem")).unwrap();
    let acceptor = native_tls::TlsAcceptor::new(identity).unwrap();
    let acceptor = rumqttc::tokio_native_tls::TlsAcceptor::from(acceptor);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            spawn(async move {
                let Ok(mut near) = acceptor.accept(stream).await else { return };
                let mut far = TcpStream::connect(broker).await.unwrap();
                let _closed = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (address, format!("{folder}/authority.pem"))
}

fn mqtt_config(flags: &[&str]) -> MqttConfig {
    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        mqtt: MqttConfig,
    }
    let all = ["test"].iter().chain(flags);
    <Command as clap::Parser>::try_parse_from(all).unwrap_or_else(|it| panic!("{it}")).mqtt
}

#[expect(dead_code, reason = "says that an endpoint may be shared by threads")]
fn endpoints_are_shared(endpoint: Endpoint) -> impl Send + Sync + Clone {
    endpoint
}
