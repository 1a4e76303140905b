//! `telltale dead-letters` as the user runs it: found, taken out, put back, each once.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use support::{Running, count, each, fail, succeed};
use telltale_kafka::Producer;
use telltale_kafka::producer::{NewRecord, ProducerConfig};
use telltale_records::topics;
use telltale_testkit::{Engines, PATIENCE, wait_until};

/// Readings of cars that are slow and cars that are fast, and records that are no readings at all.
const SLOW: usize = 20;
const FAST: usize = 15;
const BROKEN: usize = 3;

fn reading(car: &str, speed: u32, time: i64) -> String {
    let text = include_str!("../src/probe-reading.json");
    let mut reading: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
    reading.insert("speed".to_owned(), speed.into());
    reading.insert("car".to_owned(), car.into());
    reading.insert("event_time".to_owned(), time.into());
    serde_json::to_string(&reading).unwrap()
}

fn send(engines: &Engines) {
    let producer =
        Producer::new(&engines.kafka(), &ProducerConfig::default(), |_, outcome| _ = outcome.unwrap())
            .unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    for number in 0..SLOW + FAST + BROKEN {
        let car = format!("car-{number}");
        let value = match number {
            it if it < SLOW => reading(&car, 20, now),
            it if it < SLOW + FAST => reading(&car, 120, now),
            _ => "no reading".to_owned(),
        };
        let record = NewRecord {
            topic: topics::SENSOR_DATA,
            key: Some(car.as_bytes()),
            value: Some(value.as_bytes()),
            ..NewRecord::default()
        };
        producer.send(record, 0).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// The cars' pipeline with a check that only slow cars pass.
fn strict(folder: &Path) -> PathBuf {
    let text = include_str!("../../preprocessor/pipeline.toml");
    let check = "[[stream.check]]\nname = \"slow\"\nsql = \"SPEED < 50\"\n\n[[stream.window]]";
    let path = folder.join("strict.toml");
    std::fs::write(&path, text.replacen("[[stream.window]]", check, 1)).unwrap();
    path
}

fn preprocessor(engines: &Engines, more: &[&str]) -> Running {
    let (kafka, registry) = (engines.kafka_flags(), engines.registry_flags());
    let flags = ["preprocessor", "--http", "off"].into_iter();
    let flags = flags.chain(kafka.iter().chain(&registry).map(String::as_str)).chain(more.iter().copied());
    Running::start(&flags.collect::<Vec<_>>())
}

/// How often each dead letter went back to `sensor-data`.
fn went_back(engines: &Engines) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    each(engines, topics::SENSOR_DATA, |record| {
        if let Some(source) = record.header("src") {
            *found.entry(String::from_utf8(source.to_vec()).unwrap()).or_default() += 1;
        }
    });
    found
}

#[test]
fn dead_letters_go_back_once_whoever_is_killed_meanwhile() {
    let engines = Engines::fresh(2);
    let folder = tempfile::tempdir().unwrap();
    let strict = strict(folder.path());
    send(&engines);
    let running = preprocessor(&engines, &["--pipeline", strict.to_str().unwrap()]);
    wait_until("every record has an outcome", || {
        count(&engines, topics::CLEAN) == SLOW && count(&engines, topics::DEAD_LETTERS) == FAST + BROKEN
    });
    running.interrupt();
    running.end();

    let kafka = engines.kafka_flags();
    let command = |flags: &[&'static str]| -> Vec<String> {
        let flags = ["dead-letters"].iter().chain(flags).map(|it| (*it).to_owned());
        flags.chain(kafka.iter().cloned()).collect()
    };
    let run =
        |flags: &[&'static str]| succeed(&command(flags).iter().map(String::as_str).collect::<Vec<_>>());
    let text = run(&["list", "--reason", "out-of-range", "--source", "sensor-data"]);
    assert!(
        text.contains("out-of-range") && !text.contains("malformed") && text.contains("car-25"),
        "{text}"
    );
    assert!(run(&["list", "--car", "car-1"]).contains("no such dead letters"));
    assert!(run(&["list", "--since", "1h", "-n", "0"]).contains("malformed"));
    let text = run(&["export", "--reason", "malformed"]);
    assert_eq!(text.lines().count(), BROKEN);
    assert!(text.lines().all(|it| it.contains("\"value\":\"no reading\"")), "{text}");
    let refused = command(&["replay"]);
    assert!(fail(&refused.iter().map(String::as_str).collect::<Vec<_>>(), 1).contains("--all"));
    let text = run(&["replay", "--all", "--dry-run"]);
    assert!(text.contains("18 dead letters would go back"), "{text}");
    assert!(went_back(&engines).is_empty());

    // Killed in the middle: it would take an hour.
    let slow = command(&["replay", "--reason", "out-of-range", "--rate", "0.5"]);
    let running = Running::start(&slow.iter().map(String::as_str).collect::<Vec<_>>());
    wait_until("some went back", || !went_back(&engines).is_empty());
    running.kill();
    let before = went_back(&engines).len();
    assert!(before < FAST, "{before}");

    // Without the check they pass; what is no reading fails again.
    let running = preprocessor(&engines, &[]);
    let text = run(&["replay", "--all", "--wait", "2m"]);
    assert!(text.contains(&format!("; {before} went back before")), "{text}");
    assert!(text.contains("3 failed again: malformed"), "{text}");
    assert!(text.contains(&format!("{} pass now", FAST - before)), "{text}");
    wait_until("all fast cars are clean", || count(&engines, topics::CLEAN) == SLOW + FAST);
    let text = run(&["replay", "--reason", "out-of-range"]);
    assert!(text.contains("0 dead letters went back") && text.contains("15 went back before"), "{text}");
    let back = went_back(&engines);
    assert_eq!((back.len(), back.values().max()), (FAST + BROKEN, Some(&1)), "{back:?}");
    running.interrupt();
    assert!(running.end().0.success());
    assert_eq!(count(&engines, topics::CLEAN), SLOW + FAST);
}
