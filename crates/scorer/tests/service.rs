//! The scorer against embedded and real engines: nothing lost, nothing doubled, only good models.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};
use support::{World, artifact, prediction, signed};
use telltale_model::delivery::KeyedRecord;
use telltale_model::{Artifact, Signer};
use telltale_records::prediction::Verdict;
use telltale_records::{schema, topics};
use telltale_testkit::{Engine, Process, Written, extent, metric, metrics, readings, wait_until};

#[test]
fn without_a_model_it_waits_and_loses_nothing_and_bad_readings_are_set_aside() {
    let world = World::start();
    let narrow = r#"{"type":"record","name":"KsqlDataSourceSchema","namespace":"io.confluent.ksql.avro_schemas",
        "fields":[{"name":"SPEED","type":["null","double"],"default":null}]}"#;
    let narrow = world.registry.register(&schema::subject(topics::CLEAN), narrow).unwrap();
    let foreign = world.registry.register("foreign-value", schema::CARDATA_V1).unwrap();
    let good = readings(world.readings_id, 1, 0..1).remove(0).value;
    let reframed = |id: u32| [&[0][..], &id.to_be_bytes(), &good[5..]].concat();
    let nulls = [&good[..5], &[0; 21]].concat();
    let bad: [(&str, Option<Vec<u8>>); 9] = [
        ("empty", None),
        ("empty", Some(Vec::new())),
        ("malformed", Some(b"{\"speed\":1}".to_vec())),
        ("unknown-schema", Some(reframed(4711))),
        ("unknown-schema", Some(reframed(foreign))),
        ("schema-mismatch", Some(reframed(narrow))),
        ("truncated", Some(good[..good.len() - 1].to_vec())),
        ("trailing", Some([&good[..], &[0]].concat())),
        ("schema-mismatch", Some(nulls)),
    ];
    let expected = world.beside_a_scorer(&[], |running| {
        world.send_readings(10, 0..30);
        for (_, value) in &bad {
            world.send(Some(b"car-000001"), value.as_deref(), 0);
        }
        world.send(None, Some(&good), 0);
        world.send(Some(b"\xff"), Some(&good), 0);
        world.flush();
        world.send_readings(10, 30..60);
        let reason = "model: no valid model yet: readings wait in their topic".to_owned();
        wait_until("it says that it has no model", || running.service().unready().contains(&reason));
        assert!(world.written(topics::PREDICTIONS).is_empty());
        assert!(world.written(topics::DEAD_LETTERS).is_empty());

        world.publish_model(&artifact(1), 1, 1);
        let outcomes = world.outcomes();
        wait_until("it is ready", || running.service().unready().is_empty());
        let service = running.service();
        wait_until("it has counted them", || metric(service, "rejected_total") == bad.len() as u64 + 2);
        let empty = "telltale_scorer_rejected_total{reason=\"empty\"} 2";
        assert!(metrics(service).contains(empty), "{}", metrics(service));
        outcomes
    });
    let source: Vec<_> = expected.values().filter(|(topic, _)| *topic == topics::PREDICTIONS).collect();
    assert_eq!(source.len(), 600);
    let id = world.registry.register(&schema::subject(topics::PREDICTIONS), schema::PREDICTIONS).unwrap();
    for (_, written) in source {
        let (schema_id, found) = prediction(written.value());
        assert_eq!(schema_id, id);
        assert_eq!(written.key.as_deref(), Some(found.car.as_bytes()));
        assert_eq!(written.timestamp_ms, Some(found.event_time));
        let src = format!("{}-{}-{}", topics::CLEAN, found.source_partition, found.source_offset);
        assert_eq!(written.src(), src);
        assert_eq!((found.model_name, found.model_version), ("cars", 1));
        assert_eq!(found.verdict == Verdict::Anomaly, found.score > found.threshold);
        assert_eq!(found.contributions.len(), 3);
        assert!(found.contributions.windows(2).all(|it| it[0].share >= it[1].share));
    }
    let mut reasons: Vec<&str> =
        expected.values().map(|(_, it)| it.header("reason")).filter(|it| !it.is_empty()).collect();
    let mut wanted: Vec<&str> = bad.iter().map(|it| it.0).chain(["bad-key", "bad-key"]).collect();
    reasons.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(reasons, wanted);
}

#[test]
fn a_scorer_that_starts_while_kafka_is_away_waits_and_says_so() {
    let mut world = World::start();
    let config = world.config(&[]);
    world.engines.stop(Engine::Kafka);
    let host = telltale_testkit::host();
    let running = host.launch("scorer", config, telltale_scorer::run);
    wait_until("it says what it waits for", || {
        assert!(!running.is_ended(), "it has ended");
        let unready = running.service().unready();
        unready.iter().any(|it| it.starts_with("kafka: ") && it.contains("is Kafka reachable"))
    });
    world.engines.start_again(Engine::Kafka);
    world.publish_model(&artifact(1), 1, 1);
    world.send_readings(3, 0..1);
    assert_eq!(world.outcomes().len(), 3);
    wait_until("it is ready", || running.service().unready().is_empty());
    running.stop(telltale_testkit::PATIENCE).unwrap();
}

#[test]
fn models_are_swapped_and_the_service_restarted_while_readings_flow() {
    let world = World::start();
    let models = [artifact(1), artifact(2)];
    world.publish_model(&models[0], 1, 1);
    let flowing = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut second = 0;
            while flowing.load(Ordering::Relaxed) {
                world.send_readings(20, second..second + 1);
                second += 1;
            }
        });
        let versions = || {
            let written = world.written(topics::PREDICTIONS);
            written.iter().map(|it| prediction(it.value()).1.model_version).collect::<BTreeSet<i64>>()
        };
        world.beside_a_scorer(&["--max-records", "50"], |_| {
            wait_until("version 1 scores", || versions().contains(&1));
            world.publish_model(&models[1], 2, 2);
            wait_until("version 2 scores", || versions().contains(&2));
        });
        let before = world.written(topics::PREDICTIONS).len();
        world.beside_a_scorer(&[], |_| {
            wait_until("it goes on", || world.written(topics::PREDICTIONS).len() > before);
            // Back to version 1, as a rollback does it.
            world.publish_model(&models[0], 1, 3);
            let is_back = |it: &Written| prediction(it.value()).1.model_version == 1;
            wait_until("version 1 is back", || {
                world.written(topics::PREDICTIONS)[before..].iter().any(is_back)
            });
            flowing.store(false, Ordering::Relaxed);
        });
    });
    world.beside_a_scorer(&[], |_| {
        let outcomes = world.outcomes();
        assert!(outcomes.values().all(|(topic, _)| *topic == topics::PREDICTIONS));
    });
    let mut last = std::collections::HashMap::new();
    for written in world.written(topics::PREDICTIONS) {
        let (_, found) = prediction(written.value());
        let before = last.insert(found.car.to_owned(), found.event_time);
        assert!(before < Some(found.event_time), "{} went back in time", found.car);
    }
}

#[test]
fn a_scorer_that_is_killed_loses_and_doubles_nothing() {
    let world = World::start();
    world.publish_model(&artifact(1), 1, 1);
    let mut second = 0;
    let mut send = || {
        world.send_readings(50, second..second + 10);
        second += 10;
    };
    let done = || extent(&world.kafka, topics::PREDICTIONS);
    for _ in 0..2 {
        // Small transactions under a fleet that does not stop, so that the kill finds some done and some not.
        let before = done();
        let flags =
            world.flags(&["--http", "off", "--log", "error", "--static-member", "--max-records", "50"]);
        let running = Process::start(env!("CARGO_BIN_EXE_telltale-scorer"), &flags);
        wait_until("some more are scored", || {
            send();
            done() >= before + 500
        });
        send();
        running.kill();
    }
    let outcomes = world.beside_a_scorer(&["--static-member"], |_| world.outcomes());
    assert_eq!(outcomes.len(), 50 * second);
    assert!(outcomes.values().all(|(topic, _)| *topic == topics::PREDICTIONS));
}

/// A signed artifact whose tensor `name` has `value` as its first number.
fn with_tensor(original: &Artifact, name: &str, value: f32) -> Artifact {
    let mut changed = original.clone();
    let header = u64::from_le_bytes(changed.bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&changed.bytes[8..8 + header]).unwrap();
    let at = 8 + header + json[name]["data_offsets"][0].as_u64().unwrap() as usize;
    changed.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    changed.sha256 = Sha256::digest(&changed.bytes).iter().map(|it| format!("{it:02x}")).collect();
    changed
}

#[test]
fn a_bad_model_never_replaces_a_good_one() {
    let world = World::start();
    let good = artifact(1);
    let change = |mut records: Vec<KeyedRecord>, index: usize, at: usize| {
        records[index].value[at] ^= 1;
        records
    };
    let own = |artifact: &Artifact, version, generation| signed(artifact, version, generation, &world.signer);
    let delivered = own(&artifact(2), 8, 18);
    let middle = delivered[0].value.len() / 2;
    let signature = delivered[1].value.len() - 10;
    let bad: [(&str, Vec<KeyedRecord>); 8] = [
        ("no signed manifest", vec![KeyedRecord { key: b"cars".to_vec(), value: b"hello".to_vec() }]),
        ("SHA-256", change(delivered.clone(), 0, middle)),
        ("signature of the manifest", change(delivered.clone(), 1, signature)),
        ("trusted are", signed(&good, 6, 19, &Signer::generate().unwrap())),
        ("not finite", own(&with_tensor(&good, "layer0.weights", f32::NAN), 9, 21)),
        ("golden row 0", own(&with_tensor(&good, "golden.scores", 1e6), 10, 22)),
        ("generation 4 is not above 5", own(&artifact(3), 11, 4)),
        ("was another model before", own(&artifact(3), 5, 30)),
    ];
    world.publish_model(&good, 5, 5);
    world.beside_a_scorer(&[], |running| {
        wait_until("version 5 is in force", || running.service().unready().is_empty());
        for (index, (reason, records)) in bad.iter().enumerate() {
            world.publish(records);
            wait_until(reason, || world.written(topics::MODELS_AUDIT).len() > index);
            let audit = world.written(topics::MODELS_AUDIT).pop().unwrap();
            let entry: serde_json::Value = serde_json::from_slice(audit.value()).unwrap();
            assert_eq!(entry["event"], "rejected");
            assert!(entry["reason"].as_str().unwrap().contains(reason), "{reason}: {entry}");
            assert!(audit.src().starts_with("models-0-"), "{}", audit.src());
            assert_eq!(audit.key.as_deref(), Some(&b"cars"[..]));
        }
        world.send_readings(5, 0..4);
        for (topic, written) in world.outcomes().values() {
            assert_eq!(*topic, topics::PREDICTIONS);
            assert_eq!(prediction(written.value()).1.model_version, 5);
        }
        assert!(running.service().unready().is_empty());
        // And a good one is taken all the same.
        world.publish_model(&artifact(4), 12, 40);
        let mut text = String::new();
        wait_until("version 12 is in force", || {
            text = metrics(running.service());
            text.contains("telltale_scorer_model_version 12")
        });
        assert!(text.contains("telltale_scorer_rejected_models_total 8"), "{text}");
        assert!(text.contains("telltale_scorer_predictions_total 20"), "{text}");
        // As many scores as predictions, parted at 1 as the verdicts are.
        let anomalies = metric(running.service(), "anomalies_total");
        let normal =
            format!("telltale_scorer_score_to_threshold_ratio_bucket{{le=\"1.0\"}} {}\n", 20 - anomalies);
        assert!(text.contains(&normal), "{text}");
        assert!(text.contains("telltale_scorer_score_to_threshold_ratio_count 20\n"), "{text}");
    });
}
