//! TLS against certificates that are and are not to be trusted: each wrong one gives an error that says what to do.
//!
//! A front shows the certificates, an embedded engine stands behind it. `secured.rs` does the rest on real engines.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use telltale_kafka::topics::Topics;
use telltale_kafka::{KafkaConfig, Registry, RegistryConfig};
use telltale_mqtt::device::{Event, Options, open};
use telltale_mqtt::{Fault, MqttConfig, Qos, subscriber};
use telltale_records::schema;
use telltale_testkit::tls::{Authority, Certificate, Front};
use telltale_testkit::{Engines, PATIENCE};

/// Our settings, as every program takes them.
#[derive(Debug, Parser)]
struct Settings {
    #[command(flatten)]
    kafka: KafkaConfig,
    #[command(flatten)]
    registry: RegistryConfig,
    #[command(flatten)]
    mqtt: MqttConfig,
}

/// What a front shows, to whom, and what the error must say; nothing for no error.
const CASES: [(&str, Certificate, bool, &[&str]); 4] = [
    ("as it should be", Certificate::Valid, true, &[]),
    (
        "of another authority",
        Certificate::Valid,
        false,
        &["self-signed certificate in certificate chain", "unable to get local issuer"],
    ),
    ("expired", Certificate::Expired, true, &["certificate has expired"]),
    ("for another host", Certificate::OtherHost, true, &["IP address mismatch"]),
];

/// Calls `attempt` for each case with flags that name the front and the authority to trust, and checks its error.
fn each_case(
    engine: Option<SocketAddr>,
    cases: &[(&str, Certificate, bool, &[&str])],
    attempt: impl Fn(SocketAddr, &str) -> Result<(), String>,
    hint: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (Authority::new(), Authority::new());
    let file = |name: &str, authority: &Authority| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, authority.pem()).unwrap();
        path
    };
    let (trusted, foreign) = (file("ours.pem", &ours), file("others.pem", &others));
    for &(name, certificate, known, expected) in cases {
        let front = Front::start(&ours.issue(certificate), engine);
        let authority = if known { &trusted } else { &foreign };
        let outcome = attempt(front.address(), authority.to_str().unwrap());
        if expected.is_empty() {
            assert_eq!(outcome, Ok(()), "{name}");
            continue;
        }
        let error = outcome.unwrap_err();
        assert!(expected.iter().any(|it| error.contains(it)), "{name}: {error}");
        assert!(error.contains("does not show a certificate that is trusted"), "{name}: {error}");
        assert!(error.contains(hint), "{name}: {error}");
    }
}

fn settings(flags: &[&str]) -> Settings {
    Settings::try_parse_from(["test"].iter().chain(flags)).unwrap()
}

/// Connects as a device and publishes one message; returns why it could not.
fn publish(mqtt: &MqttConfig) -> Result<(), Fault> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (publisher, mut session) = open(&mqtt.endpoint().unwrap(), Options::new("car-1"));
        loop {
            let event =
                tokio::time::timeout(PATIENCE, session.next()).await.expect("the session says something");
            match event.expect("the session is open") {
                Event::Connected { .. } => {
                    publisher.publish(&"cars/1".into(), Qos::AtLeastOnce, false, "{}".into()).unwrap();
                }
                Event::Acknowledged { .. } => return Ok(()),
                Event::Disconnected(fault) => return Err(fault),
                other => panic!("{other:?}"),
            }
        }
    })
}

/// Connects as a service and subscribes; returns why it could not.
fn subscribe(mqtt: &MqttConfig) -> Result<(), Fault> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let options = subscriber::Options {
            client_id: "bridge".into(),
            filters: vec!["cars/+".into()],
            session_expiry: PATIENCE,
            receive_maximum: 10,
            max_packet_bytes: 1 << 20,
        };
        let (_acks, mut session) = subscriber::open(&mqtt.endpoint().unwrap(), options);
        loop {
            let event =
                tokio::time::timeout(PATIENCE, session.next()).await.expect("the session says something");
            match event?.expect("the session is open") {
                subscriber::Event::Subscribed => return Ok(()),
                subscriber::Event::Disconnected(fault) => return Err(fault),
                _ => {}
            }
        }
    })
}

/// How a client connects with settings.
type Connecting = fn(&MqttConfig) -> Result<(), Fault>;

/// Each client in each version.
const CLIENTS: [(&str, Connecting); 4] =
    [("3.1.1", publish), ("5", publish), ("3.1.1", subscribe), ("5", subscribe)];

#[test]
fn a_device_and_a_service_trust_the_right_broker_only() {
    let engines = Engines::start();
    for (version, connect) in CLIENTS {
        let attempt = |front: SocketAddr, authority: &str| {
            let front = front.to_string();
            let flags = ["--mqtt", &front, "--mqtt-version", version, "--mqtt-tls", "--mqtt-ca", authority];
            connect(&settings(&flags).mqtt).map_err(|fault| {
                assert!(fault.is_permanent(), "trying again is pointless: {fault}");
                fault.to_string()
            })
        };
        each_case(Some(engines.mqtt()), &CASES, attempt, "check --mqtt-ca");
    }
}

#[test]
fn a_device_and_a_service_without_tls_are_told_that_the_broker_wants_it() {
    let front = Front::start(&Authority::new().issue(Certificate::Valid), None);
    for (version, connect) in CLIENTS {
        let flags = ["--mqtt", &front.address().to_string(), "--mqtt-version", version];
        let fault = connect(&settings(&flags).mqtt).unwrap_err();
        assert!(!fault.is_permanent() && fault.to_string().contains("--mqtt-tls"), "{fault:?}");
    }
}

#[test]
fn the_right_registry_is_trusted_only() {
    let engines = Engines::start();
    let engine = engines.registry_url();
    let engine = engine.trim_start_matches("http://").split('/').next().unwrap().parse().unwrap();
    let attempt = |front: SocketAddr, authority: &str| {
        let url = format!("https://{front}");
        let registry = Registry::new(&settings(&["--registry", &url, "--registry-ca", authority]).registry);
        registry.unwrap().register("sensor-data-value", schema::READINGS).map(drop).map_err(|error| {
            assert!(error.is_denial() && error.is_passing(), "it is no fault of a record: {error:?}");
            error.to_string()
        })
    };
    each_case(Some(engine), &CASES, attempt, "check --registry-ca");
}

#[test]
fn the_wrong_kafka_is_named_with_what_is_wrong() {
    let attempt = |front: SocketAddr, authority: &str| {
        let front = front.to_string();
        let flags = ["--kafka", &front, "--kafka-security", "tls", "--kafka-ca", authority];
        let outcome = Topics::open(&settings(&flags).kafka).unwrap().check("sensor-data");
        outcome.map_err(|error| {
            assert!(!error.is_passing(), "{error}");
            error.to_string()
        })
    };
    // The right one would name its own address for what follows, past the front: real engines show that.
    each_case(None, &CASES[1..], attempt, "check --kafka-ca");
}

#[test]
fn a_kafka_client_without_tls_is_told_what_the_connection_says() {
    let front = Front::start(&Authority::new().issue(Certificate::Valid), None);
    let flags = ["--kafka", &front.address().to_string()];
    let error = Topics::open(&settings(&flags).kafka).unwrap().check("sensor-data").unwrap_err();
    assert!(error.is_passing(), "{error}");
    assert!(error.to_string().contains("does it want TLS (--kafka-security)?"), "{error}");
}
