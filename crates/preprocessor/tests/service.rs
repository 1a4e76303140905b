//! The preprocessor against embedded and real engines: each reading has exactly one outcome, and windows count
//! right.

mod support;

use std::collections::BTreeMap;

use support::{START, World, avro, json};
use telltale_kafka::producer::NewRecord;
use telltale_records::{schema, topics};
use telltale_testkit::{Engine, Process, extent, metrics, wait_until};

#[test]
fn each_poison_becomes_one_dead_letter_and_its_neighbours_pass() {
    let world = World::start();
    let registry = world.engines.registry();
    let v1 = registry.register("sensor-data-value", schema::CARDATA_V1).unwrap();
    let other = r#"{"type":"record","name":"other","fields":[{"name":"speed","type":"string"}]}"#;
    let other = registry.register("other-value", other).unwrap();
    let good = json("car-000001", START);
    let whole = avro(v1, 20.0);
    let with = |from: &str, to: &str| good.replace(from, to).into_bytes();
    let mut poison: Vec<(&str, Option<Vec<u8>>)> = vec![
        ("empty", None),
        ("empty", Some(Vec::new())),
        ("malformed", Some(b"hello".to_vec())),
        ("malformed", Some(good.as_bytes()[..100].to_vec())),
        ("malformed", Some(with("24.9", "NaN"))),
        ("schema-mismatch", Some(with("24.9", "\"24.9\""))),
        ("schema-mismatch", Some(with("\"speed\":24.9,", ""))),
        ("out-of-range", Some(with("24.9", "1e6"))),
        ("bad-time", Some(with(&START.to_string(), "-1"))),
        ("bad-key", Some(with("car-000001", "car-000002"))),
        ("truncated", Some(vec![0, 0])),
        ("truncated", Some(whole[..30].to_vec())),
        ("trailing", Some([&whole[..], &[0]].concat())),
        ("out-of-range", Some(avro(v1, f32::NAN))),
        ("unknown-schema", Some(avro(4711, 20.0))),
        ("unknown-schema", Some(avro(other, 20.0))),
        ("malformed", Some(vec![b'['; 900_000])),
    ];
    // As many ids as records: they must not hold the others up.
    poison.extend((10_000..13_000).map(|id| ("unknown-schema", Some(avro(id, 20.0)))));
    for (_, value) in &poison {
        world.send_value("car-000001", Some(good.as_bytes()));
        world.send_value("car-000001", value.as_deref());
        world.send_value("car-000001", Some(&whole));
    }
    let value = Some(whole.as_slice());
    world.send(NewRecord { topic: topics::SENSOR_DATA, value, partition: Some(0), ..NewRecord::default() });
    world.flush();
    let outcomes = world.beside(&[], |running| {
        let outcomes = world.outcomes();
        wait_until("it is ready", || running.service().unready().is_empty());
        let metrics = metrics(running.service());
        let counted = "telltale_preprocessor_rejected_total{reason=\"schema-mismatch\"} 2";
        assert!(metrics.contains(counted), "{metrics}");
        outcomes
    });
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, dead) in outcomes.values().filter(|(topic, _)| *topic == topics::DEAD_LETTERS) {
        *reasons.entry(dead.header("reason")).or_default() += 1;
        assert!(!dead.header("detail").is_empty(), "{dead:?}");
    }
    let mut expected: BTreeMap<&str, usize> = BTreeMap::from([("bad-key", 1)]);
    for (reason, _) in &poison {
        *expected.entry(reason).or_default() += 1;
    }
    assert_eq!(reasons, expected);
    // Bytes as they came, and why.
    for reading in world.written(topics::SENSOR_DATA) {
        let (topic, outcome) = &outcomes[&reading.source.to_string()];
        if *topic == topics::DEAD_LETTERS {
            assert_eq!((&outcome.key, &outcome.value), (&reading.key, &reading.value));
        } else {
            assert_eq!(outcome.key.as_deref(), Some(&b"car-000001"[..]));
            assert_eq!(outcome.timestamp_ms, Some(START));
        }
    }
    assert_eq!(world.table(), BTreeMap::from([(("car-000001".to_owned(), START), 2 * poison.len() as i64)]));
}

/// A preprocessor as a process.
fn process(world: &World, more: &[&str]) -> Process {
    let flags = world.flags(&[&["--http", "off", "--log", "error", "--static-member"], more].concat());
    Process::start(env!("CARGO_BIN_EXE_telltale-preprocessor"), &flags)
}

#[test]
fn two_workers_that_are_killed_lose_and_double_nothing() {
    let world = World::start();
    let mut sent = 0;
    let mut send = |count| {
        world.send_fleet(sent..sent + count);
        sent += count;
        sent
    };
    let done = || extent(&world.kafka, topics::CLEAN);
    send(5_000);
    for _ in 0..2 {
        // Small transactions under a fleet that does not stop, so that the kill finds some done and some not.
        let before = done();
        let running = process(&world, &["--workers", "2", "--max-records", "100"]);
        wait_until("some more are done", || {
            send(500);
            done() >= before + 1_000
        });
        send(500);
        running.kill();
    }
    let sent = send(1_000);
    world.beside(&["--workers", "2", "--static-member"], |_| world.outcomes());

    let outcomes = world.outcomes();
    assert_eq!(outcomes.len() as i64, sent);
    let dead: Vec<_> = outcomes.values().filter(|it| it.0 == topics::DEAD_LETTERS).collect();
    assert_eq!(dead.len() as i64, sent / 50);
    assert!(dead.iter().all(|(_, it)| it.header("detail").contains("speed is 0 to 500")));
    assert_eq!(world.table(), world.recount());
    let mut last = BTreeMap::new();
    for clean in world.written(topics::CLEAN) {
        let src: telltale_records::Source = clean.src().parse().unwrap();
        assert_eq!(src.partition, clean.source.partition);
        assert!(last.insert(src.partition, src.offset) < Some(src.offset), "{} came too late", clean.src());
    }
}

#[test]
fn a_registry_that_is_away_holds_readings_back_and_loses_none() {
    let mut world = World::start();
    let v1 = world.engines.registry().register("sensor-data-value", schema::CARDATA_V1).unwrap();
    world.send_value("car-000001", Some(json("car-000001", START).as_bytes()));
    world.flush();
    let host = telltale_testkit::host();
    let running = host.launch("preprocessor", world.config(&[]), telltale_preprocessor::run);
    wait_until("the first reading is done", || world.written(topics::CLEAN).len() == 1);

    world.engines.stop(Engine::Registry);
    world.send_value("car-000001", Some(&avro(v1, 20.0)));
    world.flush();
    let says_why = || running.service().unready().iter().any(|it| it.contains("is the registry reachable"));
    wait_until("it says what it waits for", says_why);
    assert_eq!(world.written(topics::CLEAN).len() + world.written(topics::DEAD_LETTERS).len(), 1);

    world.engines.start_again(Engine::Registry);
    let outcomes = world.outcomes();
    assert!(outcomes.values().all(|it| it.0 == topics::CLEAN));
    wait_until("it is ready again", || running.service().unready().is_empty());
    running.stop(telltale_testkit::PATIENCE).unwrap();
    assert_eq!(world.table(), world.recount());
}

#[test]
fn a_preprocessor_that_starts_while_kafka_is_away_waits_and_says_so() {
    let mut world = World::start();
    let config = world.config(&[]);
    world.engines.stop(Engine::Kafka);
    let host = telltale_testkit::host();
    let running = host.launch("preprocessor", config, telltale_preprocessor::run);
    wait_until("it says what it waits for", || {
        assert!(!running.is_ended(), "it has ended");
        let unready = running.service().unready();
        unready.iter().any(|it| it.starts_with("kafka: ") && it.contains("is Kafka reachable"))
    });
    world.engines.start_again(Engine::Kafka);
    world.send_value("car-000001", Some(json("car-000001", START).as_bytes()));
    world.flush();
    assert_eq!(world.outcomes().len(), 1);
    wait_until("it is ready", || running.service().unready().is_empty());
    running.stop(telltale_testkit::PATIENCE).unwrap();
}

const OWN: &str = r#"
[[stream]]
source = "machines"
format = "json"
schema = "in.avsc"
sql = "SELECT UPPER(name) AS NAME, CAST(watts AS DOUBLE) / 1000 AS KW FROM input"
target = "MACHINES"
target_schema = "out.avsc"

[[stream.window]]
target = "MACHINES_PER_MINUTE"
schema = "sensor-data-events-per-5min-t"
columns = { key = "CAR", start = "WINDOW_START", end = "WINDOW_END", count = "EVENT_COUNT" }
size = "1m"
grace = "0s"
"#;

#[test]
fn a_pipeline_for_another_fleet_runs_and_what_is_wrong_with_one_stops_the_start() {
    let world = World::start();
    let path = |name: &str| world.folder.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    write(
        "in.avsc",
        r#"{"type":"record","name":"I","fields":[{"name":"name","type":"string"},{"name":"watts","type":"string"}]}"#,
    );
    write(
        "out.avsc",
        r#"{"type":"record","name":"O","fields":[{"name":"NAME","type":"string"},{"name":"KW","type":"double"}]}"#,
    );
    write("good.toml", OWN);
    write("bad.toml", &OWN.replace("UPPER(name)", "UPPER(nam)"));
    let pipeline = |name: &str| path(name).display().to_string();

    let error = world.failure(&["--pipeline", &pipeline("bad.toml")]);
    let expected = format!("{}:6: Schema error: No field named nam.", pipeline("bad.toml"));
    assert!(error.starts_with(&expected), "{error}");
    assert!(error.contains("input.name"), "{error}");
    let error = world.failure(&["--pipeline", &pipeline("none.toml")]);
    assert!(error.contains("none.toml") && error.contains("No such file"), "{error}");
    let error = world.failure(&["--pipeline", &pipeline("good.toml")]);
    assert!(error.contains("topic machines does not exist"), "{error}");
    world.create("machines", 2);
    world.create("MACHINES", 2);
    world.create("MACHINES_PER_MINUTE", 1);
    let error = world.failure(&["--pipeline", &pipeline("good.toml")]);
    assert!(
        error.contains("table MACHINES_PER_MINUTE has 1 partitions, but its source machines has 2"),
        "{error}"
    );
    let error = world.failure(&["--linger", "1m"]);
    assert_eq!(error, "--linger 1m is longer than 10s");

    // Another table, with partitions enough.
    world.create("MACHINES_PER_1MIN", 2);
    write("good.toml", &OWN.replace("MACHINES_PER_MINUTE", "MACHINES_PER_1MIN"));
    let values: [&[u8]; 3] = [
        br#"{"name":"press","watts":"1500"}"#,
        br#"{"name":"press","watts":"many"}"#,
        br#"{"name":"saw","watts":"250"}"#,
    ];
    for value in values {
        let (topic, partition, timestamp_ms) = ("machines", Some(1), Some(START));
        let key: Option<&[u8]> = Some(b"hall-3");
        world.send(NewRecord {
            topic,
            partition,
            key,
            value: Some(value),
            timestamp_ms,
            ..NewRecord::default()
        });
    }
    world.flush();
    world.beside(&["--pipeline", &pipeline("good.toml"), "--group", "machines"], |_| {
        wait_until("all are done", || {
            world.written("MACHINES").len() + world.written(topics::DEAD_LETTERS).len() == 3
        });
    });
    let clean = world.written("MACHINES");
    assert_eq!(clean[0].value.as_ref().unwrap()[5..], [&[10][..], b"PRESS", &1.5_f64.to_le_bytes()].concat());
    assert_eq!(clean[1].key.as_deref(), Some(&b"hall-3"[..]));
    let dead = world.written(topics::DEAD_LETTERS);
    assert_eq!((dead[0].src(), dead[0].header("reason")), ("machines-1-1", "schema-mismatch"));
    let detail = dead[0].header("detail");
    assert!(detail.contains("Cannot cast string 'many'"), "{detail}");
    assert_eq!(world.written("MACHINES_PER_1MIN").len(), 1);
}
