//! Each wrong setting ends in one error that says what, where and what to do, and nothing is lost meanwhile.

use telltale_kafka::{Isolation, Reader};
use telltale_records::topics::SENSOR_DATA;
use telltale_testkit::tls::{Authority, Certificate, Front};
use telltale_testkit::wait_until;

use crate::programs::{Secured, Settings};

/// Readings published while the bridge could not.
const READINGS: usize = 100;

#[test]
fn each_wrong_setting_gives_one_clear_error() {
    let secured = Secured::fresh();
    let stranger = secured.file("stranger.pem", Authority::new().pem());
    let wrong = secured.file("wrong-password", "wrong");
    let front = Front::start(&secured.authority().issue(Certificate::Expired), None);
    let expired = front.address().to_string();
    let expired_registry = format!("https://{expired}");
    let trainer_file = secured.password_file("trainer");
    let trainer_file = trainer_file.to_str().unwrap();
    let kafka = secured.engines.servers();
    let broker = secured.engines.mqtt().to_string();
    let registry = secured.engines.registry_url();
    // Program, its user, what is changed, what the error says of what, where and what to do.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], [&'a str; 3]);
    let untrusted = "does not show a certificate that is trusted (";
    let cases: &[Case<'_>] = &[
        ("bridge", &[("KAFKA_CA", &stranger)], [untrusted, &kafka, "--kafka-ca"]),
        ("bridge", &[("KAFKA", &expired)], ["certificate has expired", &expired, "--kafka-ca"]),
        (
            "bridge",
            &[("KAFKA_PASSWORD_FILE", &wrong)],
            ["does not let user bridge in", &kafka, "--kafka-password-file"],
        ),
        (
            "bridge",
            &[("KAFKA_PASSWORD_FILE", &wrong), ("KAFKA_SASL", "plain")],
            ["does not let user bridge in", &kafka, "--kafka-password-file"],
        ),
        (
            "bridge",
            &[("KAFKA_USER", "trainer"), ("KAFKA_PASSWORD_FILE", trainer_file)],
            [
                "asking for the partitions of sensor-data failed",
                "does not allow it to user trainer",
                "kafka-acls",
            ],
        ),
        ("bridge", &[("MQTT_CA", &stranger)], [untrusted, &broker, "--mqtt-ca"]),
        ("bridge", &[("MQTT", &expired)], ["certificate has expired", &expired, "--mqtt-ca"]),
        (
            "bridge",
            &[("MQTT_PASSWORD_FILE", &wrong)],
            ["BadUserNamePassword", &broker, "--mqtt-password-file"],
        ),
        ("simulator", &[("MQTT_CA", &stranger)], [untrusted, &broker, "--mqtt-ca"]),
        (
            "simulator",
            &[("MQTT_PASSWORD_FILE", &wrong)],
            ["BadUserNamePassword", &broker, "--mqtt-password-file"],
        ),
        ("preprocessor", &[("REGISTRY_CA", &stranger)], [untrusted, &registry, "--registry-ca"]),
        (
            "preprocessor",
            &[("REGISTRY", &expired_registry)],
            ["certificate has expired", &expired, "--registry-ca"],
        ),
        (
            "preprocessor",
            &[("REGISTRY_PASSWORD_FILE", &wrong)],
            ["does not let user preprocessor in", &registry, "--registry-password-file"],
        ),
        (
            "preprocessor",
            &[("REGISTRY_USER", "trainer"), ("REGISTRY_PASSWORD_FILE", trainer_file)],
            ["does not allow it to user trainer", &registry, "an administrator gives the right"],
        ),
        (
            "preprocessor",
            &[("GROUP", "telltale-scorer")],
            ["in group telltale-scorer", "does not allow it to user preprocessor", "kafka-acls"],
        ),
        (
            "preprocessor",
            &[("IDENTITY", "scorer")],
            ["as scorer-0", "does not allow it to user preprocessor", "kafka-acls"],
        ),
    ];
    for (program, changes, expected) in cases {
        let settings = secured.but(program, changes);
        let (status, log) = secured.run(&format!("telltale-{program}"), &settings, &[]);
        assert_eq!(status.code(), Some(1), "{program} {changes:?}: {log}");
        let errors: Vec<_> = log.lines().filter(|it| it.contains("ERROR")).collect();
        let [error] = errors[..] else { panic!("{program} {changes:?}: not one error: {log}") };
        for text in expected {
            assert!(error.contains(text), "{program} {changes:?}: {text:?} is not in: {error}");
        }
        assert!(secured.passwords().iter().all(|it| !log.contains(it)), "{log}");
    }
}

#[test]
fn a_client_without_tls_is_told_so_and_goes_on_trying() {
    let secured = Secured::fresh();
    let settings = secured.but("bridge", &[("MQTT_TLS", ""), ("MQTT_CA", "")]);
    let mut bridge = secured.start("telltale-bridge", &settings, &[]);
    bridge.says("does it want TLS (--mqtt-tls)?");
    assert!(bridge.end().0.success());
    let no_tls = ["KAFKA_SECURITY", "KAFKA_CA", "KAFKA_USER", "KAFKA_PASSWORD_FILE"].map(|it| (it, ""));
    let mut bridge = secured.start("telltale-bridge", &secured.but("bridge", &no_tls), &[]);
    bridge.says("does it want TLS (--kafka-security)?");
    assert!(bridge.end().0.success());
}

#[test]
fn what_a_bridge_could_not_deliver_the_next_one_does() {
    let secured = Secured::fresh();
    let right = secured.settings("bridge");
    // From here on HiveMQ keeps for the bridge what cars publish.
    let mut bridge = secured.start("telltale-bridge", &right, &[]);
    bridge.says("connected to the MQTT broker");
    assert!(bridge.end().0.success());
    publish(&secured);
    let wrong = secured.file("wrong-password", "wrong");
    let preprocessor = secured.password_file("preprocessor");
    let attempts: [(&[(&str, &str)], &str); 3] = [
        (&[("KAFKA_PASSWORD_FILE", &wrong)], "does not let user bridge in"),
        (&[("MQTT_PASSWORD_FILE", &wrong)], "BadUserNamePassword"),
        // This user may see the topic but not write to it: readings are on their way when it is refused.
        (
            &[
                ("KAFKA_USER", "preprocessor"),
                ("KAFKA_PASSWORD_FILE", preprocessor.to_str().unwrap()),
                ("MAP", "vehicles/sensor/data/+=sensor-data"),
            ],
            "does not allow this user (--kafka-user) to write to topic sensor-data",
        ),
    ];
    for (changes, expected) in attempts {
        let (status, log) = secured.run("telltale-bridge", &secured.but("bridge", changes), &[]);
        assert!(!status.success() && log.contains(expected), "{log}");
    }
    let bridge = secured.start("telltale-bridge", &right, &[]);
    wait_until("all readings are in Kafka", || readings(&secured) >= READINGS);
    assert!(bridge.end().0.success());
    assert_eq!(readings(&secured), READINGS, "a reading was doubled");
}

/// Publishes readings of ten cars.
fn publish(secured: &Secured) {
    let count = (READINGS / 10).to_string();
    let fleet = [("CARS", "10"), ("RATE", "50"), ("COUNT", count.as_str())];
    let settings: Settings = secured.but("simulator", &fleet);
    let (status, log) = secured.run("telltale-simulator", &settings, &[]);
    assert!(status.success() && log.contains(&format!("acknowledged={READINGS}")), "{log}");
}

/// How many records `sensor-data` holds.
fn readings(secured: &Secured) -> usize {
    let reader = Reader::open(&secured.engines.kafka(), Isolation::Committed).unwrap();
    let there = (0..2).map(|it| reader.watermarks(SENSOR_DATA, it).unwrap());
    there.map(|it| usize::try_from(it.end - it.start).unwrap()).sum()
}
