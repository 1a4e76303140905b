//! The functions of the fuzz targets (`fuzz/src`) on seeds, and on seeds that were changed: what must hold for any bytes.
//!
//! What the fuzzer finds becomes a seed in `testdata/fuzz/<target>/` once it is mended.

#![expect(unreachable_pub, reason = "public in the crate of the fuzz targets")]

#[path = "../../../fuzz/src/embedded.rs"]
mod embedded;
#[path = "../../../fuzz/src/model.rs"]
mod model;
#[path = "../../../fuzz/src/records.rs"]
mod records;
#[path = "../../../fuzz/src/services.rs"]
mod services;
#[path = "../../../fuzz/src/sql.rs"]
mod sql;

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use telltale_records::schema;
use telltale_testkit::poison::{Corpus, HEALTHY, HEALTHY_AVRO};

/// A change to some bytes.
#[derive(Debug, Clone)]
enum Edit {
    Put(Index, Vec<u8>),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Cut(Index),
    Repeat(Index, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let bytes = || {
        prop::collection::vec(
            prop_oneof![any::<u8>(), select(b"\0\x01\x7f\x80\xff[]{}\"\\,:-e9+#/ \n=".to_vec())],
            1..6,
        )
    };
    prop_oneof![
        3 => (any::<Index>(), bytes()).prop_map(|(at, it)| Edit::Put(at, it)),
        3 => (any::<Index>(), bytes()).prop_map(|(at, it)| Edit::Insert(at, it)),
        2 => (any::<Index>(), 1..40_usize).prop_map(|(at, it)| Edit::Remove(at, it)),
        1 => any::<Index>().prop_map(Edit::Cut),
        1 => (any::<Index>(), 1..60_usize).prop_map(|(at, it)| Edit::Repeat(at, it)),
    ]
}

fn change(bytes: &mut Vec<u8>, edit: &Edit) {
    let at = |index: &Index| index.index(bytes.len() + 1);
    match edit {
        Edit::Put(index, new) => {
            let at = at(index);
            let end = bytes.len().min(at + new.len());
            bytes.splice(at..end, new.iter().copied());
        }
        Edit::Insert(index, new) => {
            let at = at(index);
            bytes.splice(at..at, new.iter().copied());
        }
        Edit::Remove(index, count) => {
            let at = at(index);
            bytes.drain(at..bytes.len().min(at + count));
        }
        Edit::Cut(index) => bytes.truncate(at(index)),
        Edit::Repeat(index, count) => {
            let at = at(index);
            let again = bytes[at..bytes.len().min(at + count)].to_vec();
            bytes.splice(at..at, again);
        }
    }
}

/// Calls `check` with the seeds, with those in `testdata/fuzz/<target>`, and with `cases` changed ones.
fn holds(target: &str, mut seeds: Vec<Vec<u8>>, cases: u32, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/fuzz").join(target);
    for file in std::fs::read_dir(folder).into_iter().flatten() {
        seeds.push(std::fs::read(file.unwrap().path()).unwrap());
    }
    write_corpus(target, &seeds);
    seeds.iter().for_each(|it| check(it));
    let changed = (select(seeds), prop::collection::vec(edit(), 1..5)).prop_map(|(mut bytes, edits)| {
        edits.iter().for_each(|it| change(&mut bytes, it));
        bytes
    });
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&prop_oneof![9 => changed, 1 => noise], |bytes| {
        check(&bytes);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// Gives the fuzzer the seeds to begin with, where the environment says in which folder.
#[expect(clippy::disallowed_methods, reason = "tests have no settings")]
fn write_corpus(target: &str, seeds: &[Vec<u8>]) {
    let Ok(folder) = std::env::var("TELLTALE_TEST_CORPUS") else { return };
    let folder = Path::new(&folder).join(target);
    std::fs::create_dir_all(&folder).unwrap();
    for (index, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{index}")), seed).unwrap();
    }
}

/// The values of the poison corpus that are not long.
fn poisons() -> Vec<Vec<u8>> {
    let corpus = Corpus::load(|_, _| 1);
    let short = |it: &&telltale_testkit::poison::Poison| !it.name.starts_with("cut-");
    let values = corpus.poisons().iter().filter(short).filter_map(|it| it.value.clone());
    values.filter(|it| it.len() < 10_000).collect()
}

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|it| it.as_bytes().to_vec()).collect()
}

#[test]
fn wire_header() {
    holds("wire_header", poisons(), 2000, records::wire_header);
}

#[test]
fn avro() {
    // Each under each schema.
    let payloads = poisons().into_iter().chain([[&[0; 5][..], HEALTHY_AVRO].concat()]);
    let payloads: Vec<_> = payloads.filter(|it| it.len() > 5).collect();
    let under = |first: u8| payloads.iter().map(move |it| [&[first], &it[5..]].concat());
    holds("avro", (0..6).flat_map(under).collect(), 5000, records::avro);
}

#[test]
fn avro_schema() {
    let texts =
        [schema::READINGS, schema::CARDATA_V1, schema::CLEAN, schema::EVENTS_PER_5MIN, schema::PREDICTIONS];
    holds("avro_schema", bytes(&texts), 2000, records::avro_schema);
}

#[test]
fn json() {
    holds("json", [poisons(), vec![HEALTHY.as_bytes().to_vec()]].concat(), 5000, records::json);
}

#[test]
fn source() {
    holds(
        "source",
        bytes(&["sensor-data-0-12", "a-2147483647-9223372036854775807", "--1-2"]),
        3000,
        records::source,
    );
}

#[test]
fn manifest() {
    let signed = model::golden_records().swap_remove(1);
    let at = signed.iter().position(|it| *it == 0).unwrap();
    let signed = signed[at + 1..].to_vec();
    let inner = telltale_records::SignedManifest::parse(&signed).unwrap().manifest.into_bytes();
    holds("manifest", vec![signed, inner], 2000, records::manifest);
}

#[test]
fn prediction() {
    let contributions = [telltale_records::prediction::Contribution { sensor: "speed", share: 0.5 }];
    let prediction = telltale_records::prediction::Prediction {
        car: "car-1",
        event_time: 1_700_000_000_000,
        score: 1.5,
        threshold: 2.0,
        verdict: telltale_records::prediction::Verdict::Normal,
        contributions: contributions.to_vec(),
        model_name: "cars",
        model_version: 3,
        source_partition: 1,
        source_offset: 99,
    };
    let mut bytes = Vec::new();
    prediction.write(&mut bytes);
    holds("prediction", vec![bytes], 3000, records::prediction);
}

#[test]
fn features() {
    let own = "max_missing = 0.5\n[label]\ncolumn = \"B\"\nfailing = \"true\"\n[[feature]]\ncolumn = \"A\"\n\
               transform = \"log1p\"\nscale = { from = -150.0, to = 150.0 }\nclip = 4\n";
    let cars = include_str!("../../features/features.toml");
    holds("features", bytes(&[own, cars]), 2000, records::features);
}

#[test]
fn model_records() {
    let mut seeds = model::golden_records();
    seeds.push([&seeds[1][..], &[0xff], &seeds[0]].concat());
    holds("model_records", seeds, 300, model::records);
}

#[test]
fn artifact() {
    holds("artifact", vec![model::golden_artifact()], 1000, model::artifact);
}

#[test]
fn log_requests() {
    let requests: [&[u8]; 5] = [
        b"\0\x0a\0\x12\0\0\0\0\0\x07\xff\xff",
        b"\0\x12\0\x03\0\x01\0\0\0\x01\0\x01a\0\0\0\x01\0\x01t",
        b"\0\x0f\0\x0a\0\0\0\0\0\x01\0\x01a\0\x01g",
        b"\0\x1a\0\x13\0\x02\0\0\0\x01\0\x01a\0\0\0\x01\0\x01t\0\0\0\x01\0\x01\0\0\0\0",
        b"\0\x13\0\x16\0\0\0\0\0\x01\0\x01a\xff\xff\0\0\xea\x60",
    ];
    let mut seeds: Vec<_> = requests.iter().map(|it| it.to_vec()).collect();
    seeds.push(requests.concat());
    holds("log_requests", seeds, 300, embedded::requests);
}

#[test]
fn log_recovery() {
    let batch = telltale_testkit::wire::plain(&["one", "two"]);
    let two = [&batch[..], &batch].concat();
    let seed = |which: u8, bytes: &[u8]| [&[which], bytes].concat();
    // The last offset there is: the one after it cannot be counted.
    let last = [&i64::MAX.to_be_bytes()[..], &batch[8..]].concat();
    let seeds = vec![seed(0, &embedded::journal()), seed(1, &two), seed(2, &batch), seed(1, &last)];
    holds("log_recovery", seeds, 100, embedded::recovery);
}

#[test]
fn pipeline() {
    let own = "[[stream]]\nsource = \"a\"\nformat = \"json\"\nschema = \"readings\"\nsql = \"SELECT speed FROM input\"\n\
               target = \"b\"\ntarget_schema = \"sensor-data-s-avro\"\n";
    let cars = include_str!("../../preprocessor/pipeline.toml");
    holds("pipeline", bytes(&[own, cars]), 300, sql::pipeline);
}

#[test]
fn settings() {
    let flags = [
        "--kafka\na:1\n--mqtt\nb:2\n--map\na/{0..3}/+=t:last\n--linger\n5ms",
        "--receive-maximum\n10\n--share\ng\n--sessions\n2\n--dead-letters\nd",
    ];
    holds("settings", bytes(&flags), 1000, services::settings);
}

#[test]
fn mqtt_topic() {
    let seeds =
        ["a/+=b\na/car-1\na/\na/+/#", "a/#=t:3\na/b/c", "{a,b}/{0..1}/#=t:topic\na/0/x", "x=t:none\n$SYS/🚗"];
    holds("mqtt_topic", bytes(&seeds), 3000, services::mqtt_topic);
}

#[test]
fn registry() {
    let schema =
        serde_json::json!({ "subject": "s", "version": 1, "id": 7, "schema": schema::CLEAN }).to_string();
    let seeds = [
        &format!("\0{schema}"),
        "\0[1,2,3]",
        "\u{1}{\"error_code\":40401,\"message\":\"no\"}",
        "\u{4}down",
        "\0{\"id\":1}",
    ];
    holds("registry", bytes(&seeds), 200, services::registry);
}
