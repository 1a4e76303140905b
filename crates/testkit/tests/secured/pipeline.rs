//! The whole pipeline with least rights, and what a user may not do.

use telltale_kafka::topics::{AS_BROKERS_ARE_SET, Topics};
use telltale_kafka::{Isolation, KafkaConfig, Reader};
use telltale_mqtt::Qos;
use telltale_mqtt::device::{Event, Options, open};
use telltale_records::topics::{SENSOR_DATA, TopicSpec};
use telltale_testkit::PATIENCE;
use telltale_testkit::engines::wait_at_most;

use crate::programs::{Secured, Settings};

/// Starts the services as their own users, publishes, and returns once the command line finds every reading scored once.
pub(crate) fn runs(secured: &Secured, settings: impl Fn(&str) -> Settings) {
    let folder = |name: &str| {
        let path = secured.files.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (keys, ledgers) = (folder("keys"), folder("ledgers"));
    let made = secured.run("telltale", &Settings::new(), &["keys", "generate", "--out", &keys]);
    assert!(made.0.success(), "{}", made.1);
    let with = |user: &str, more: &[(&str, &str)]| {
        let mut settings = settings(user);
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        settings
    };
    let signing = format!("{keys}/signing-key.pem");
    let verifying = format!("{keys}/verifying-key.pem");
    let mut services = vec![
        secured.start("telltale-preprocessor", &with("preprocessor", &[]), &[]),
        secured.start(
            "telltale-trainer",
            &with("trainer", &[("SIGNING_KEY", &signing), ("FIRST_ROWS", "1000")]),
            &[],
        ),
        secured.start(
            "telltale-scorer",
            &with("scorer", &[("TRUSTED_KEY", &verifying), ("ALERTS", "true")]),
            &[],
        ),
        secured.start("telltale-bridge", &with("bridge", &[]), &[]),
    ];
    let proof = [
        ("TRUSTED_KEY", verifying.as_str()),
        ("FROM", "beginning"),
        ("RECOMPUTE", "all"),
        ("HTTP_ADDRESS", "127.0.0.1:0"),
    ];
    let mut verifier = secured.start("telltale", &with("verifier", &proof), &["verifier"]);
    verifier.says("following the topics");
    // A session that exists keeps what is published.
    services.last_mut().unwrap().says("connected to the MQTT broker");
    let ledger = format!("{ledgers}/ledger-1.csv");
    let fleet = [("CARS", "40"), ("RATE", "5"), ("COUNT", "50"), ("LEDGER", &ledger)];
    let (status, log) = secured.run("telltale-simulator", &with("simulator", &fleet), &[]);
    assert!(status.success() && log.contains("acknowledged=2000"), "{log}");
    let mut said = String::new();
    wait_at_most(PATIENCE * 4, "every reading has its prediction", || {
        let verified =
            secured.run("telltale", &settings("cli"), &["verify", "--drained", "--ledger", &ledgers]);
        said = verified.1;
        verified.0.success()
    });
    assert!(said.contains("2,000"), "{said}");
    wait_at_most(PATIENCE, "the verifier has recomputed every prediction", || {
        let metrics = verifier.get("/metrics").unwrap_or_default();
        let broken = metrics.lines().find(|it| it.contains("violations_total{") && !it.ends_with(" 0"));
        assert_eq!(broken, None, "{}", verifier.log());
        metrics.contains("telltale_verifier_verified_records_total{hop=\"recomputed\"} 2000\n")
    });
    services.push(verifier);
    let secrets = secured.passwords();
    for service in services {
        let visible = service.visible();
        let (status, log) = service.end();
        assert!(status.success(), "{log}");
        let leaked = secrets.iter().any(|it| visible.contains(it) || log.contains(it));
        assert!(!leaked, "a password can be seen: {visible} {log}");
    }
}

#[test]
fn the_pipeline_runs_with_least_rights_and_shows_no_password() {
    let secured = Secured::fresh();
    runs(&secured, |user| secured.settings(user));
}

#[test]
fn help_tells_no_default_of_a_secret() {
    let secured = Secured::fresh();
    for program in ["bridge", "simulator", "preprocessor", "trainer", "scorer"] {
        let settings = secured.settings(program);
        let (status, text) = secured.run(&format!("telltale-{program}"), &settings, &["--help"]);
        assert!(status.success());
        assert!(secured.passwords().iter().all(|it| !text.contains(it)), "{text}");
        for name in settings.keys() {
            assert!(text.contains(&format!("{name}=")), "{program} --help does not name {name}");
        }
    }
}

#[test]
fn a_car_publishes_under_its_own_name_only() {
    let secured = Secured::fresh();
    let mut mqtt = secured.engines.mqtt_config();
    mqtt.mqtt_user = Some("simulator".to_owned());
    mqtt.mqtt_password_file = Some(secured.password_file("simulator"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (topic, may) in
        [("vehicles/sensor/data/car-a", true), ("vehicles/sensor/data/car-b", false), ("alerts/car-a", false)]
    {
        let acknowledged = runtime.block_on(async {
            let (publisher, mut session) = open(&mqtt.endpoint().unwrap(), Options::new("car-a"));
            loop {
                let event = tokio::time::timeout(PATIENCE, session.next()).await.unwrap().unwrap();
                match event {
                    Event::Connected { .. } => {
                        // After a refusal the session connects anew; one attempt is enough.
                        let topic = topic.into();
                        _ = publisher.publish(&topic, Qos::AtLeastOnce, false, "{}".into()).unwrap();
                    }
                    Event::Acknowledged { .. } => return true,
                    Event::Refused { .. } | Event::Disconnected(_) => return false,
                    other => panic!("{other:?}"),
                }
            }
        });
        assert_eq!(acknowledged, may, "{topic}");
    }
}

#[test]
fn a_user_reads_nothing_but_its_own() {
    let secured = Secured::fresh();
    let as_user = |user: &str| KafkaConfig {
        user: Some(user.to_owned()),
        password_file: Some(secured.password_file(user)),
        ..secured.engines.kafka()
    };
    let seen = |user: &str| {
        let reader = Reader::open(&as_user(user), Isolation::Committed).unwrap();
        reader.partitions(SENSOR_DATA).map_err(|it| it.to_string())
    };
    assert_eq!(seen("preprocessor"), Ok(vec![0, 1]));
    let error = seen("scorer").unwrap_err();
    assert!(error.contains("asking for the partitions of sensor-data failed: Kafka at"), "{error}");
    assert!(error.contains("does not allow it to user scorer: an administrator gives the right"), "{error}");
}

#[test]
fn only_an_administrator_creates_topics() {
    let secured = Secured::fresh();
    let kafka = KafkaConfig {
        user: Some("cli".to_owned()),
        password_file: Some(secured.password_file("cli")),
        ..secured.engines.kafka()
    };
    let spec = TopicSpec { name: "new", partitioned: false, config: &[] };
    let error = Topics::open(&kafka).unwrap().create(&spec, 1, AS_BROKERS_ARE_SET).unwrap_err();
    assert!(!error.is_passing() && error.to_string().contains("does not allow it to user cli"), "{error}");
}
