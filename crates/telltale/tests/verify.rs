//! `telltale verify` finds what is wrong: topics that were corrupted on purpose, one fault of each kind.

mod support;

use support::{fail, succeed};
use telltale_kafka::Producer;
use telltale_kafka::producer::{NewRecord, ProducerConfig};
use telltale_records::prediction::{Contribution, Prediction, Verdict};
use telltale_records::{framing, topics};
use telltale_testkit::{Engines, PATIENCE};

struct Writer {
    producer: Producer,
    /// Start of a window that has passed, in ms since 1970: real engines delete what is too old.
    start: i64,
}

impl Writer {
    fn put(&self, topic: &str, key: &str, value: &[u8], time: i64, source: Option<&str>) {
        let headers: Vec<(&str, &[u8])> = source.map(|it| ("src", it.as_bytes())).into_iter().collect();
        let record = NewRecord {
            topic,
            partition: Some(0),
            key: Some(key.as_bytes()),
            value: Some(value),
            timestamp_ms: Some(time),
            headers: &headers,
        };
        self.producer.send(record, 0).unwrap();
        self.producer.flush(PATIENCE).unwrap();
    }

    fn raw(&self, car: &str, letter: char, time: i64) {
        let time = self.start + time;
        let value = format!("{{\"letter\":\"{letter}\",\"event_time\":{time}}}");
        self.put(topics::SENSOR_DATA, car, value.as_bytes(), time, None);
    }

    fn clean(&self, car: &str, time: i64, source: Option<&str>) {
        self.put(topics::CLEAN, car, b"x", self.start + time, source);
    }

    fn prediction(&self, version: i64, source: &str) {
        let prediction = Prediction {
            car: "car-a",
            event_time: 0,
            score: 1.0,
            threshold: 2.0,
            verdict: Verdict::Normal,
            contributions: vec![Contribution { sensor: "speed", share: 1.0 }],
            model_name: "cars",
            model_version: version,
            source_partition: 0,
            source_offset: 0,
        };
        let mut value = Vec::new();
        framing::write_header(1, &mut value);
        prediction.write(&mut value);
        self.put(topics::PREDICTIONS, "car-a", &value, self.start, Some(source));
    }

    /// A row of the table of counts, as Avro.
    fn row(&self, car: &str, count: i64) {
        let mut value = Vec::new();
        framing::write_header(1, &mut value);
        long(car.len() as i64, &mut value);
        value.extend_from_slice(car.as_bytes());
        [self.start, self.start + 300_000, count].into_iter().for_each(|it| long(it, &mut value));
        self.put(topics::EVENTS_PER_5MIN, &format!("{car}@{}", self.start), &value, self.start, None);
    }
}

/// A number as Avro writes it, which is not negative.
fn long(value: i64, out: &mut Vec<u8>) {
    let mut left = value as u64 * 2;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[test]
fn each_kind_of_corruption_is_found_and_its_records_are_shown() {
    let engines = Engines::fresh(1);
    let flags: Vec<String> = engines.kafka_flags().into_iter().chain(engines.registry_flags()).collect();
    let folder = tempfile::tempdir().unwrap();
    let verify = |more: &[&str]| -> Vec<String> {
        ["verify"].iter().chain(more).map(|it| (*it).to_owned()).chain(flags.iter().cloned()).collect()
    };
    let run = |arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = support::telltale(&arguments);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    let producer =
        Producer::new(&engines.kafka(), &ProducerConfig::default(), |_, outcome| _ = outcome.unwrap())
            .unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    let start = now - now % 300_000 - 600_000;
    let writer = Writer { producer, start };

    // As it should be: two readings, a replay of both, their outcomes, their window.
    writer.raw("car-a", 'a', 1000);
    writer.raw("car-a", 'b', 2000);
    writer.raw("car-a", 'a', 1000);
    writer.raw("car-a", 'b', 2000);
    for offset in 0..4 {
        let time = if offset % 2 == 0 { 1000 } else { 2000 };
        writer.clean("car-a", time, Some(&format!("sensor-data-0-{offset}")));
        writer.prediction(3, &format!("SENSOR_DATA_S_AVRO-0-{offset}"));
    }
    writer.row("car-a", 4);
    let arguments = verify(&["--drained"]);
    let text = succeed(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(text.contains("2 readings came again") && text.contains("exactly one outcome"), "{text}");

    // And now one of each kind.
    writer.raw("car-a", 'x', 2000); // 4: other bytes
    writer.raw("car-b", 'a', 5000); // 5
    writer.raw("car-b", 'b', 4000); // 6: older, and no replay
    writer.raw("car-b", 'c', 6000); // 7: without outcome
    writer.raw("car-c", 'a', 1000); // 8
    writer.clean("car-a", 2000, Some("sensor-data-0-5"));
    writer.clean("car-a", 2000, Some("sensor-data-0-4")); // behind a later one
    writer.clean("car-b", 4000, Some("sensor-data-0-6"));
    writer.clean("car-b", 4000, Some("sensor-data-0-6")); // twice
    writer.clean("car-c", 1000, Some("sensor-data-0-8"));
    writer.clean("car-c", 1000, None); // of nobody knows what
    writer.prediction(2, "SENSOR_DATA_S_AVRO-0-4"); // by an older model
    writer.put(topics::PREDICTIONS, "car-a", b"?", start, Some("SENSOR_DATA_S_AVRO-0-5")); // no prediction
    writer.row("car-b", 1); // two are clean
    let ledger = format!(
        "car,event_time,sha256,outcome\ncar-c,{1},{0},acknowledged\ncar-d,7,{0},acknowledged\n",
        "0".repeat(64),
        start + 1000
    );
    std::fs::write(folder.path().join("run-1.csv"), ledger).unwrap();
    std::fs::write(folder.path().join("run-1.drained"), "").unwrap();
    let arguments = verify(&["--drained", "--ledger", folder.path().to_str().unwrap()]);
    let text = run(&arguments);
    let expected = [
        "out of sequence: sensor-data-0-4 has the event time of an earlier reading of its device, but other bytes",
        "out of sequence: sensor-data-0-6 is older than readings of its device before it",
        "lost: sensor-data-0-7 has no outcome",
        "out of order: SENSOR_DATA_S_AVRO-0-5 is the outcome of sensor-data-0-4, behind the outcome of offset 5",
        "duplicated: SENSOR_DATA_S_AVRO-0-7 is one more outcome of sensor-data-0-6",
        "no source: SENSOR_DATA_S_AVRO-0-9 has no header src",
        "version fell: model-predictions-0-4 is by model version 2, behind one by version 3",
        "no source: model-predictions-0-5 is not framed Avro",
        "lost: SENSOR_DATA_S_AVRO-0-6 to SENSOR_DATA_S_AVRO-0-9 have no outcome",
        "miscounted: car-b sent 2 readings in the window from ",
        ", the table says 1",
        "miscounted: car-c sent 2 readings in the window from ",
        ", the table has no row",
        "altered: sensor-data-0-8 has other bytes than its device sent",
        "acknowledged and not in the log: 1 readings of the cars' ledgers",
    ];
    for expected in expected {
        assert!(text.contains(expected), "{expected}\nin {text}");
    }
    // The records themselves, so that nobody needs to look them up.
    assert!(text.contains("{\"letter\":\"x\","), "{text}");
    let text = run(&verify(&["--any-order"]));
    assert!(!text.contains("out of sequence"), "{text}");
    assert!(fail(&["verify", "--window-grace", "soon"], 2).contains("--window-grace"));
}
