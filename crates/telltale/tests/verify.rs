//! `telltale verify` finds what is wrong: topics that were corrupted on purpose, one fault of each kind.

#[path = "support/models.rs"]
mod models;
mod support;

use clap::Parser as _;
use support::{fail, succeed};
use telltale::verifier;
use telltale_kafka::producer::{NewRecord, ProducerConfig};
use telltale_kafka::{Position, Producer, Progress};
use telltale_model::Signer;
use telltale_records::prediction::{Contribution, Prediction, Verdict};
use telltale_records::{Outgoing, framing, schema, topics};
use telltale_testkit::{self as testkit, Engines, PATIENCE, wait_until};
use tokio_util::sync::CancellationToken;

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

    fn dead_letter(&self, source: &str) {
        self.put(topics::DEAD_LETTERS, "car", b"x", self.start, Some(source));
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

/// Topics of one partition, and the flags that lead to them.
struct World {
    engines: Engines,
    writer: Writer,
    flags: Vec<String>,
}

impl World {
    fn start() -> Self {
        let engines = Engines::fresh(1);
        let flags = engines.kafka_flags().into_iter().chain(engines.registry_flags()).collect();
        let producer =
            Producer::new(&engines.kafka(), &ProducerConfig::default(), |_, outcome| _ = outcome.unwrap())
                .unwrap();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
        let start = now - now % 300_000 - 600_000;
        Self { engines, writer: Writer { producer, start }, flags }
    }

    /// What `telltale verify` says, which must find something.
    fn refused(&self, more: &[&str]) -> String {
        let flags = self.flags.iter().map(String::as_str);
        let output = support::telltale(
            &["verify"].into_iter().chain(more.iter().copied()).chain(flags).collect::<Vec<_>>(),
        );
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// What `telltale verify` says, which must find nothing.
    fn clean(&self, more: &[&str]) -> String {
        let flags = self.flags.iter().map(String::as_str);
        succeed(&["verify"].into_iter().chain(more.iter().copied()).chain(flags).collect::<Vec<_>>())
    }

    /// Notes that a service has worked off its topic up to `offset`.
    fn commit(&self, group: &str, topic: &str, offset: u64) {
        let stop = CancellationToken::new();
        let mut progress = Progress::open(&self.engines.kafka(), group, topic, PATIENCE, &stop).unwrap();
        let position = Position { done: offset, note: String::new() };
        progress.publish(&Outgoing::new(), &position, &stop).unwrap();
    }

    /// Two readings, a replay of both, their outcomes, their window: all as it should be.
    fn write_what_is_right(&self) {
        for (letter, time) in [('a', 1000), ('b', 2000), ('a', 1000), ('b', 2000)] {
            self.writer.raw("car-a", letter, time);
        }
        for offset in 0..4 {
            let time = if offset % 2 == 0 { 1000 } else { 2000 };
            self.writer.clean("car-a", time, Some(&format!("sensor-data-0-{offset}")));
            self.writer.prediction(3, &format!("SENSOR_DATA_S_AVRO-0-{offset}"));
        }
        self.writer.row("car-a", 4);
    }

    /// One fault of each kind, but those of groups, models and ledgers.
    fn write_what_is_wrong(&self) {
        let writer = &self.writer;
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
        writer.clean("car-c", 1000, None); // 9: of nobody knows what
        writer.prediction(2, "SENSOR_DATA_S_AVRO-0-4"); // by an older model
        writer.put(topics::PREDICTIONS, "car-a", b"?", writer.start, Some("SENSOR_DATA_S_AVRO-0-5")); // no prediction
        writer.row("car-b", 1); // two are clean
        writer.clean("car-c", 1000, Some("sensor-data-0-4711")); // 10: of what is not there
        for (letter, time) in [('a', 1000), ('b', 2000), ('c', 3000), ('a', 1000), ('d', 4000)] {
            writer.raw("car-t", letter, time); // 9 to 13: a replay that stops half-way
        }
        for (letter, time) in [('a', 1000), ('b', 2000), ('c', 3000), ('a', 1000), ('b', 2000), ('c', 3000)] {
            writer.raw("car-l", letter, time); // 14 to 19: a replay of three
        }
        for offset in 9..20 {
            writer.dead_letter(&format!("sensor-data-0-{offset}"));
        }
    }
}

/// What is said of [`World::write_what_is_wrong`], kind by kind.
const WRONG: [(&str, &str); 11] = [
    ("changed", "sensor-data-0-4 has the event time of an earlier reading of its device, but other bytes"),
    ("backwards", "sensor-data-0-6 is older than readings of its device before it"),
    ("torn-replay", "sensor-data-0-13 is new although a replay before it stopped half-way"),
    ("long-replay", "sensor-data-0-17 begins a replay of 3 readings, the in-flight window is 2"),
    ("lost", "sensor-data-0-7 has no outcome"),
    (
        "out-of-order",
        "SENSOR_DATA_S_AVRO-0-5 is the outcome of sensor-data-0-4, behind the outcome of offset 5",
    ),
    ("duplicated", "SENSOR_DATA_S_AVRO-0-7 is one more outcome of sensor-data-0-6"),
    ("of-nothing", "SENSOR_DATA_S_AVRO-0-10 is the outcome of sensor-data-0-4711, which holds no record"),
    ("no-source", "SENSOR_DATA_S_AVRO-0-9 has no header src"),
    ("version-fell", "model-predictions-0-4 is by model version 2, behind one by version 3"),
    ("miscounted", "car-b sent 2 readings in the window from "),
];

#[test]
fn each_kind_of_corruption_is_found_and_its_records_are_shown() {
    let world = World::start();
    let folder = tempfile::tempdir().unwrap();
    world.write_what_is_right();
    // Of predictions that nobody made, the test below.
    let text = world.clean(&["--drained", "--recompute", "none"]);
    assert!(text.contains("2 readings came again") && text.contains("exactly one outcome"), "{text}");

    world.write_what_is_wrong();
    world.commit("telltale-preprocessor", topics::SENSOR_DATA, 3);
    let ledger = format!(
        "car,event_time,sha256,outcome\ncar-c,{1},{0},acknowledged\ncar-d,7,{0},acknowledged\n",
        "0".repeat(64),
        world.writer.start + 1000
    );
    std::fs::write(folder.path().join("run-1.csv"), ledger).unwrap();
    std::fs::write(folder.path().join("run-1.drained"), "").unwrap();
    let strictly = ["--recompute", "none", "--in-flight", "2"];
    let ledger = ["--drained", "--ledger", folder.path().to_str().unwrap()];
    let text = world.refused(&[&strictly[..], &ledger].concat());
    let expected = [
        "no source: model-predictions-0-5 is not framed Avro",
        "lost: SENSOR_DATA_S_AVRO-0-6 to SENSOR_DATA_S_AVRO-0-10 have no outcome",
        ", the table says 1",
        "miscounted: car-c sent 3 readings in the window from ",
        ", the table has no row",
        "not committed: sensor-data-0-19 has its outcome, but the group would go on at 3",
        "altered: sensor-data-0-8 has other bytes than its device sent",
        "acknowledged and not in the log: 1 readings of the cars' ledgers",
    ];
    for expected in WRONG.iter().map(|it| it.1).chain(expected) {
        assert!(text.contains(expected), "{expected}\nin {text}");
    }
    // The records themselves, so that nobody needs to look them up.
    assert!(text.contains("{\"letter\":\"x\","), "{text}");
    let text = world.refused(&["--any-order", "--recompute", "none"]);
    assert!(!text.contains("out of sequence") && !text.contains("lost: sensor-data"), "{text}");
    assert!(fail(&["verify", "--window-grace", "soon"], 2).contains("--window-grace"));
    assert!(fail(&["verify", "--recompute", "2/3"], 2).contains("1/100"));
}

#[test]
fn following_finds_the_same_once_it_can_be_known_and_counts_it_by_kind() {
    let world = World::start();
    world.write_what_is_right();
    let flags = ["verifier", "--from", "beginning", "--interval", "100ms", "--quiet", "1s"];
    let flags = flags.into_iter().chain(["--recompute", "none", "--in-flight", "2"]);
    let config = verifier::Config::try_parse_from(flags.chain(world.flags.iter().map(String::as_str)));
    testkit::beside("verifier", config.unwrap(), verifier::run, |running| {
        let service = running.service();
        let metrics = || testkit::metrics(service);
        let has = |metric: &str, count: u64| {
            metrics().lines().any(|it| *it == format!("telltale_verifier_{metric} {count}"))
        };
        // Nothing is committed yet: the outcomes of four readings may still be undone, as far as anybody knows.
        wait_until("readings are read", || has("verified_records_total{hop=\"sensor-data\"}", 4));
        assert!(has("verified_records_total{hop=\"clean\"}", 0), "{}", metrics());
        world.commit("telltale-preprocessor", topics::SENSOR_DATA, 4);
        world.commit("telltale-scorer", topics::CLEAN, 4);
        wait_until("what is committed is settled", || {
            has("verified_records_total{hop=\"clean\"}", 4)
                && has("verified_records_total{hop=\"predictions\"}", 4)
        });
        assert_eq!(testkit::metric(service, "violations_total"), 0, "{}", metrics());

        world.write_what_is_wrong();
        let early = |kind: &str| kind != "lost" && kind != "miscounted";
        for (kind, _) in WRONG.iter().filter(|it| early(it.0)) {
            let none = format!("violations_total{{kind=\"{kind}\"}}");
            wait_until(kind, || !has(&none, 0));
        }
        assert!(has("violations_total{kind=\"lost\"}", 0), "it may still come: {}", metrics());
        world.commit("telltale-preprocessor", topics::SENSOR_DATA, 20);
        wait_until("what is passed by is lost", || has("violations_total{kind=\"lost\"}", 1));
        wait_until("the counts are compared", || !has("violations_total{kind=\"miscounted\"}", 0));
        wait_until("the scorer's group stays behind", || !has("violations_total{kind=\"not-committed\"}", 0));
        for kind in ["altered", "recomputed", "by-no-model", "acknowledged-missing"] {
            assert!(has(&format!("violations_total{{kind=\"{kind}\"}}"), 0), "{kind} of nothing");
        }
    });
}

#[test]
fn predictions_are_recomputed_bit_for_bit() {
    let world = World::start();
    let (kafka, registry) = (world.engines.kafka(), world.engines.registry());
    let folder = tempfile::tempdir().unwrap();
    let key = |name: &str, signer: &Signer| {
        let path = folder.path().join(name);
        std::fs::write(&path, signer.public_pem()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (signer, stranger) = (Signer::generate().unwrap(), Signer::generate().unwrap());
    let (trusted, other) = (key("key.pem", &signer), key("other.pem", &stranger));
    models::publish(&kafka, &models::small(), &signer);
    let id = registry.register(&schema::subject(topics::CLEAN), schema::CLEAN).unwrap();
    let readings = testkit::readings(id, 3, 0..20);
    // Nobody counts here.
    world.writer.put(topics::EVENTS_PER_5MIN, "x", b"?", world.writer.start, None);
    let send = |offset: usize, reading: &testkit::readings::Reading| {
        let source = format!("sensor-data-0-{offset}");
        world.writer.raw(&reading.car, 'a', offset as i64);
        world.writer.put(topics::CLEAN, &reading.car, &reading.value, reading.time_ms, Some(&source));
    };
    readings.iter().enumerate().for_each(|(offset, it)| send(offset, it));
    let flags = world.flags.iter().cloned().chain(["--trusted-key".to_owned(), trusted.clone()]);
    let config = telltale_scorer::Config::try_parse_from(["scorer".to_owned()].into_iter().chain(flags));
    testkit::beside("scorer", config.unwrap(), telltale_scorer::run, |_| {
        _ = testkit::outcomes(&kafka, topics::CLEAN, &[topics::PREDICTIONS, topics::DEAD_LETTERS]);
    });

    let all = ["--any-order", "--recompute", "all", "--trusted-key"];
    let text = world.clean(&[&all[..], &[&trusted]].concat());
    assert!(text.contains("60 predictions recomputed") && text.contains("of 0 the model or"), "{text}");
    let text = world.refused(&[&all[..], &[&other]].concat());
    assert!(text.contains("by no model: ") && text.contains("which no scorer takes"), "{text}");

    // The same reading three times more: with the prediction it gets, with one that differs in the last bit, and by
    // a model that nobody published.
    let first = testkit::written(&kafka, topics::PREDICTIONS).remove(0);
    let (_, payload) = framing::split(first.value()).unwrap();
    let found = Prediction::read(payload).unwrap();
    for (offset, change) in [(60, 0), (61, 1), (62, 2)] {
        send(offset, &readings[found.source_offset as usize]);
        let mut prediction = Prediction { source_offset: offset as i64, ..found.clone() };
        match change {
            1 => prediction.score = f64::from(f32::from_bits((found.score as f32).to_bits() ^ 1)),
            2 => prediction.model_version = 99,
            _ => {}
        }
        let mut value = first.value()[..5].to_vec();
        prediction.write(&mut value);
        let source = format!("SENSOR_DATA_S_AVRO-0-{offset}");
        world.writer.put(topics::PREDICTIONS, found.car, &value, found.event_time, Some(&source));
    }
    let extent = testkit::extent(&kafka, topics::PREDICTIONS);
    let text = world.refused(&[&all[..], &[&trusted]].concat());
    let expected =
        format!("recomputed: model-predictions-0-{} says of SENSOR_DATA_S_AVRO-0-61: ", extent - 2);
    assert!(
        text.contains(&expected) && text.contains(&format!("scores {:?} against", found.score)),
        "{text}"
    );
    assert!(text.contains("is by model cars version 99, which nobody published"), "{text}");
    assert!(text.contains("2 violations"), "{text}");
    let text = world.clean(&["--any-order", "--recompute", "none"]);
    assert!(!text.contains("recomputed"), "{text}");
}
