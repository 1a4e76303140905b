//! `telltale load` as the user runs it: the built program, a file, Kafka, the preprocessor behind it.

mod support;

use std::path::{Path, PathBuf};

use support::{Running, count, each, fail, succeed, telltale};
use telltale_kafka::topics::Topics;
use telltale_records::topics::{self, TopicSpec};
use telltale_testkit::{Engines, wait_until};

fn file() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/car-sensor-data.csv");
    path.to_str().unwrap().to_owned()
}

/// A file of its own: Kafka knows files by their bytes, and real engines remember.
fn small(engines: &Engines, folder: &Path, rows: usize) -> PathBuf {
    let text = std::fs::read_to_string(file()).unwrap();
    let path = folder.join("small.csv");
    let car = engines.name("car");
    let rows = text.lines().skip(1).take(rows).map(|it| it.replace(",car-", &format!(",{car}-")));
    let lines: Vec<String> = text.lines().take(1).map(str::to_owned).chain(rows).collect();
    std::fs::write(&path, lines.join("\r\n")).unwrap();
    path
}

/// The lines of the file that the readings in `sensor-data` were.
fn lines(engines: &Engines) -> Vec<u64> {
    let mut lines = Vec::new();
    each(engines, topics::SENSOR_DATA, |record| {
        let place = std::str::from_utf8(record.header("file").unwrap()).unwrap();
        lines.push(place.rsplit(':').next().unwrap().parse().unwrap());
    });
    lines.sort_unstable();
    lines
}

fn load<'a>(kafka: &'a [String], file: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    ["load", file].into_iter().chain(kafka.iter().map(String::as_str)).chain(flags.iter().copied()).collect()
}

#[test]
fn the_file_goes_through_the_preprocessor_whole() {
    let engines = Engines::fresh(3);
    let folder = tempfile::tempdir().unwrap();
    let file = small(&engines, folder.path(), 10_000);
    let (kafka, registry, file) = (engines.kafka_flags(), engines.registry_flags(), file.to_str().unwrap());
    let text = succeed(&load(&kafka, file, &["--last-at", "now"]));
    assert!(
        text.contains("10,000 readings of 100 devices") && text.contains("sent 10,000 to sensor-data"),
        "{text}"
    );
    let service: Vec<&str> = ["preprocessor", "--http", "off"]
        .into_iter()
        .chain(kafka.iter().chain(&registry).map(String::as_str))
        .collect();
    let preprocessor = Running::start(&service);
    wait_until("every row is a clean reading", || count(&engines, topics::CLEAN) == 10_000);
    assert_eq!(count(&engines, topics::DEAD_LETTERS), 0);
    preprocessor.interrupt();
    assert!(preprocessor.end().0.success());
    let again = fail(&load(&kafka, file, &["--last-at", "now"]), 1);
    assert!(again.contains("was loaded before") && again.contains("--again"), "{again}");
    assert_eq!(count(&engines, topics::SENSOR_DATA), 10_000);
}

#[test]
fn a_load_that_is_killed_or_stopped_goes_on_without_a_gap_or_a_double() {
    let engines = Engines::fresh(3);
    let folder = tempfile::tempdir().unwrap();
    let (kafka, path) = (engines.kafka_flags(), small(&engines, folder.path(), 2000));
    let path = path.to_str().unwrap();
    // Slow enough to be caught in the middle, however slow the machine: it would take hours.
    let slow = load(&kafka, path, &["--last-at", "now", "--rate", "0.5"]);
    let running = Running::start(&slow);
    wait_until("some rows are in the topic", || count(&engines, topics::SENSOR_DATA) > 1);
    running.kill();
    let sent = lines(&engines).len();
    let running = Running::start(&slow);
    wait_until("more rows are in the topic", || lines(&engines).len() > sent);
    running.interrupt();
    assert_eq!(running.end().0.code(), Some(1));
    let text = fail(&load(&kafka, path, &["--from-line", "2"]), 1);
    assert!(text.contains("--from-line 2 would double some"), "{text}");
    let text = succeed(&load(&kafka, path, &[]));
    assert!(text.contains("sent 1,9"), "{text}");
    assert_eq!(lines(&engines), (2..=2001).collect::<Vec<_>>());

    // The event times of all three runs were moved by the same.
    let mut times = Vec::new();
    each(&engines, topics::SENSOR_DATA, |record| {
        let value: serde_json::Value = serde_json::from_slice(record.value().unwrap()).unwrap();
        times.push(value["event_time"].as_i64().unwrap());
    });
    times.sort_unstable();
    assert_eq!(times.last().unwrap() - times[0], 19_000);
    let text = succeed(&load(&kafka, path, &["--again", "--from-line", "2001", "--any-time"]));
    assert!(text.contains("sent 1 to sensor-data"), "{text}");
}

#[test]
fn a_hostile_file_is_named_by_line_and_column_and_nothing_is_sent() {
    let engines = Engines::fresh(2);
    let folder = tempfile::tempdir().unwrap();
    let kafka = engines.kafka_flags();
    let good = std::fs::read_to_string(small(&engines, folder.path(), 3)).unwrap();
    let path = folder.path().join("hostile.csv");
    let name = path.to_str().unwrap();
    // A name lives as long as the test process.
    let week: &'static str = engines.name("week").leak();
    let spec = TopicSpec { name: week, partitioned: true, config: &[("retention.ms", "604800000")] };
    Topics::open(&engines.kafka()).unwrap().create(&spec, 1, engines.replication()).unwrap();
    let changed = |from: &str, to: &str| good.replacen(from, to, 1).into_bytes();
    let second = good.lines().nth(1).unwrap().to_owned();
    let cells: Vec<&str> = second.split(',').collect();
    let with_cell = |cell: &str| {
        let mut cells = cells.clone();
        cells[2] = cell;
        good.replacen(&second, &cells.join(","), 1).into_bytes()
    };
    let cases: [(Vec<u8>, &[&str], &[&str]); 10] = [
        (b"".to_vec(), &[], &["hostile.csv is empty"]),
        (changed("car,", "vehicle,"), &[], &["no column \"car\"", "--car"]),
        (
            with_cell("warm"),
            &[],
            &["line 2, column coolant_temp: \"warm\" is not a number", "1 of 3 rows", "--skip-bad"],
        ),
        (with_cell("NaN"), &[], &["line 2, column coolant_temp"]),
        (with_cell("1,2"), &[], &["line 2: the row has 21 cells, the header 20"]),
        (with_cell("\"1"), &[], &["line 2: the row does not end"]),
        (with_cell(&format!("\"{}", "x\n".repeat(300_000))), &[], &["line 2", "longer than"]),
        (good.lines().next().unwrap().as_bytes().to_vec(), &[], &["no reading below it"]),
        (good.clone().into_bytes(), &["--topic", "no-such-topic"], &["topic no-such-topic does not exist"]),
        // The file is of 2026-01-01.
        (good.clone().into_bytes(), &["--topic", week], &["keeps no more than 7 days", "--last-at now"]),
    ];
    for (bytes, flags, expected) in cases {
        std::fs::write(&path, &bytes).unwrap();
        let text = fail(&load(&kafka, name, flags), 1);
        assert!(expected.iter().all(|it| text.contains(it)), "{expected:?} in {text}");
    }
    assert_eq!(count(&engines, topics::SENSOR_DATA), 0);
    std::fs::write(&path, with_cell("warm")).unwrap();
    let text = succeed(&load(&kafka, name, &["--check"]));
    assert!(text.contains("2 readings of 2 devices") && text.contains("1 rows are none"), "{text}");
    let text = succeed(&load(&kafka, name, &["--skip-bad", "--any-time"]));
    assert!(text.contains("sent 2 to sensor-data") && text.contains("left out 1"), "{text}");
    assert_eq!(lines(&engines), [3, 4]);
}

#[test]
fn output_that_nobody_reads_any_more_is_a_quiet_end() {
    let engines = Engines::fresh(1);
    let servers = engines.kafka_flags().join(" ");
    let program = env!("CARGO_BIN_EXE_telltale");
    let script = format!(
        "set -o pipefail; '{program}' topics list {servers} | true; echo \"ended ${{PIPESTATUS[0]}}\""
    );
    let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("ended 141") && error.is_empty(), "{text}{error}");
    assert!(telltale(&["load", "--help"]).status.success());
}
