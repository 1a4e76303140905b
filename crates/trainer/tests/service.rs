//! The trainer against embedded and real engines: what it publishes, and what it does not.

mod support;

use support::World;
use telltale_kafka::Transactional;
use telltale_records::topics;
use telltale_testkit::{PATIENCE, host, metrics, wait_until};
use telltale_trainer::Error;
use tokio_util::sync::CancellationToken;

#[test]
fn the_same_ranges_settings_and_seed_give_the_same_model_under_the_next_version() {
    let world = World::start();
    world.send_readings(30, 0..60);
    world.train(&["--once", "--readers", "1"]).unwrap();
    world.send_readings(30, 60..70);
    let to: Vec<String> =
        world.first_ranges().iter().map(|it| format!("{}:{}", it.partition, it.to)).collect();
    world.train(&["--once", "--readers", "2", "--from", "0:0", "--to", &to.join(",")]).unwrap();
    world.train(&["--once", "--seed", "2", "--to", &to.join(",")]).unwrap();

    let models = world.models();
    assert_eq!(
        models.iter().map(|it| (it.version, it.generation)).collect::<Vec<_>>(),
        [(1, 1), (2, 2), (3, 3)]
    );
    assert_eq!(models[0].sha256, models[1].sha256);
    assert_eq!(models[0].ranges, models[1].ranges);
    assert_ne!(models[0].sha256, models[2].sha256);
    assert_eq!(models[0].rows, 30 * 60);
    assert_eq!(models[0].ranges.iter().map(|it| it.to - it.from).sum::<i64>(), 30 * 60);
    assert_eq!(world.audited(), models, "the audit has every manifest");
}

#[test]
fn what_is_published_is_accepted_by_its_readers_and_measured() {
    let world = World::start();
    world.send_readings(30, 0..60);
    world.train(&["--once"]).unwrap();
    assert_eq!(world.models().len(), 1, "verified, complete and loaded");
    let metrics = world.json(topics::MODEL_METRICS);
    let event = |name: &str| metrics.iter().find(|it| it["event"] == name).unwrap();
    assert!(event("training-curve")["points"].as_array().is_some_and(|it| !it.is_empty()));
    assert_eq!(event("evaluation")["version"], 1);
    assert_eq!(event("evaluation")["sha256"], world.models()[0].sha256);
}

#[test]
fn going_on_it_publishes_a_first_version_and_better_ones() {
    let world = World::start();
    let host = host();
    let flags = ["--first-rows", "600", "--min-interval", "0s", "--growth", "2"];
    let running = host.launch("trainer", world.config(&flags), telltale_trainer::run);
    world.send_readings(30, 0..10);
    world.send_readings(30, 10..25);
    wait_until("the first version", || world.models().len() == 1);
    world.send_readings(30, 25..60);
    wait_until("a second version", || world.models().len() == 2);
    running.stop(PATIENCE).unwrap();
    let models = world.models();
    assert_eq!((models[0].rows, models[1].rows), (750, 1800));
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    let world = World::start();
    world.send_readings(30, 0..60);
    let host = host();
    let flags = ["--once", "--epochs", "1000", "--patience", "1000", "--visits", "2000000"];
    let running = host.launch("trainer", world.config(&flags), telltale_trainer::run);
    wait_until("everything is read and training begins", || {
        metrics(running.service()).contains("read_duration_seconds_count 1")
    });
    running.stop(PATIENCE).unwrap();
    assert!(world.models().is_empty());
    assert!(world.audited().is_empty());
    assert!(world.json(topics::MODEL_METRICS).is_empty());
}

#[test]
fn a_second_trainer_of_the_same_model_fences_the_first() {
    let world = World::start();
    world.send_readings(30, 0..60);
    let host = host();
    let running = host.launch("trainer", world.config(&["--first-rows", "3000"]), telltale_trainer::run);
    wait_until("the trainer waits for readings", || running.service().unready().is_empty());
    let stop = CancellationToken::new();
    Transactional::open(&world.kafka, "telltale-trainer-cars", PATIENCE, &stop).unwrap();
    world.send_readings(30, 60..120);
    wait_until("the first has ended", || running.is_ended());
    let error = telltale_service::chain(&running.stop(PATIENCE).unwrap_err());
    assert!(error.contains("telltale-trainer-cars was taken over by another process"), "{error}");
    assert!(world.models().is_empty());
}

#[test]
fn a_stranger_s_manifest_does_not_use_up_the_numbers() {
    let world = World::start();
    world.send_readings(30, 0..60);
    world.publish_manifest_of_a_stranger(u64::MAX);
    world.train(&["--once"]).unwrap();
    assert_eq!(world.models().iter().map(|it| it.version).collect::<Vec<_>>(), [1]);
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_written() {
    let world = World::start();
    let error = |flags: &[&str]| telltale_service::chain(&world.train(flags).unwrap_err());
    assert!(error(&["--once"]).contains("SENSOR_DATA_S_AVRO holds no record"), "{}", error(&["--once"]));
    world.send_readings(30, 0..60);
    let cases: [(&[&str], &str); 7] = [
        (&["--once", "--from", "0:999999"], "cannot read SENSOR_DATA_S_AVRO-0 from 999999"),
        (&["--once", "--to", "7:1"], "--to names partition 7, but SENSOR_DATA_S_AVRO has only 2"),
        (&["--once", "--last", "50"], "at least 200 are needed"),
        (&["--readings", "nowhere"], "topic nowhere does not exist"),
        (&["--signing-key", "/nowhere/key.pem"], "reading key file /nowhere/key.pem"),
        (&["--features", "/nowhere/features.toml"], "/nowhere/features.toml"),
        (&["--registry", "ftp://x"], "begins with neither http nor https"),
    ];
    for (flags, expected) in cases {
        assert!(error(flags).contains(expected), "{flags:?}: {}", error(flags));
    }
    assert!(world.models().is_empty());
}

#[test]
fn records_that_are_no_readings_are_left_out_and_said() {
    let world = World::start();
    world.send_raw(Some(b"car"), b"no framing");
    world.send_raw(Some(b"car"), &[0, 0, 0, 39, 15, 1, 2, 3]);
    let error = world.train(&["--once"]).unwrap_err();
    assert!(matches!(error, Error::Unreadable { records: 2, .. }), "{error}");
    world.send_readings(30, 0..60);
    world.send_raw(None, b"no key");
    world.train(&["--once"]).unwrap();
    assert_eq!(world.models()[0].rows, 30 * 60);
}
