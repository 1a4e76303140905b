//! Engines, a small fleet, and a look at what the trainer published.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser as _;
use telltale_embedded::log::{Log, LogConfig};
use telltale_embedded::registry;
use telltale_kafka::producer::{NewRecord, ProducerConfig};
use telltale_kafka::topics::Topics;
use telltale_kafka::{Isolation, KafkaConfig, Producer, Reader, Registry, RegistryConfig};
use telltale_model::delivery::{Assembler, Outcome};
use telltale_model::{Signer, device_hash};
use telltale_records::avro::Encoder;
use telltale_records::manifest::{Manifest, OffsetRange, SignedManifest};
use telltale_records::{Schema, framing, json, schema, topics};
use telltale_service::{Address, Host};
use telltale_trainer::{Config, Error};
use tokio_util::sync::CancellationToken;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 2;
/// Training that takes a moment.
const QUICK: [&str; 6] = ["--hidden", "6", "--epochs", "3", "--visits", "20000"];

/// A log, a registry, a key, and a trainer's settings for them.
pub(crate) struct World {
    pub(crate) kafka: KafkaConfig,
    signer: Signer,
    readings_id: u32,
    producer: Producer,
    key_file: PathBuf,
    registry_url: String,
    _folder: tempfile::TempDir,
    _engines: (Log, registry::Registry),
}

impl World {
    pub(crate) fn start() -> Self {
        let log = Log::start(LogConfig::default()).unwrap();
        let engine = registry::start(0, None).unwrap();
        let kafka = KafkaConfig::at(log.addr().to_string());
        Topics::open(&kafka).unwrap().create_all(PARTITIONS, 1).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (signer, key_file) = (Signer::generate().unwrap(), folder.path().join("key.pem"));
        signer.save(&key_file).unwrap();
        let registry_url = engine.url();
        let registry = Registry::new(&RegistryConfig::at(&registry_url)).unwrap();
        let readings_id = registry.register(&schema::subject(topics::CLEAN), schema::CLEAN).unwrap();
        let producer =
            Producer::new(&kafka, &ProducerConfig::default(), |_, outcome| _ = outcome.unwrap()).unwrap();
        let _engines = (log, engine);
        Self { kafka, signer, readings_id, producer, key_file, registry_url, _folder: folder, _engines }
    }

    pub(crate) fn config(&self, more: &[&str]) -> Config {
        let key = self.key_file.display().to_string();
        let flags = ["trainer", "--kafka", &self.kafka.bootstrap];
        let mut flags: Vec<&str> = flags.into_iter().collect();
        for (flag, value) in [("--registry", &*self.registry_url), ("--signing-key", &*key)] {
            if !more.contains(&flag) {
                flags.extend([flag, value]);
            }
        }
        for pair in QUICK.chunks(2).filter(|it| !more.contains(&it[0])) {
            flags.extend(pair);
        }
        Config::try_parse_from(flags.iter().chain(more)).unwrap()
    }

    /// Runs the trainer until it ends by itself.
    pub(crate) fn train(&self, more: &[&str]) -> Result<(), Error> {
        let host = Host::start(Address::Off, "--http", Duration::from_secs(20)).unwrap();
        telltale_trainer::run(self.config(more), &host.service("trainer"))
    }

    pub(crate) fn send_raw(&self, key: Option<&[u8]>, value: &[u8]) {
        let value = Some(value);
        let record =
            NewRecord { topic: topics::CLEAN, key, value, partition: Some(0), ..NewRecord::default() };
        self.producer.send(record, 0).unwrap();
        self.producer.flush(LIMIT).unwrap();
    }

    /// Writes readings of healthy cars, `seconds` of them.
    pub(crate) fn send_readings(&self, cars: usize, seconds: std::ops::Range<usize>) {
        for (key, time, value) in readings(self.readings_id, cars, seconds) {
            let (topic, timestamp_ms) = (topics::CLEAN, Some(time));
            let (key, value) = (Some(key.as_bytes()), Some(&*value));
            self.producer
                .send(NewRecord { topic, key, value, timestamp_ms, ..NewRecord::default() }, 0)
                .unwrap();
        }
        self.producer.flush(LIMIT).unwrap();
    }

    /// Every model that a reader of the topic accepts, in order.
    pub(crate) fn models(&self) -> Vec<Manifest> {
        let mut assembler = Assembler::new("cars", self.signer.trusted());
        let mut models = Vec::new();
        self.each(topics::MODELS, |key, value| match assembler.take(key, value) {
            Some(Outcome::Candidate(candidate)) => models.push(candidate.manifest),
            Some(Outcome::Rejected(rejected)) => {
                // Those of a stranger are in one test.
                assert!(telltale_service::chain(&rejected).contains("key"), "{rejected:?}");
            }
            None => {}
        });
        assert!(assembler.caught_up().is_none(), "a manifest without its chunks");
        models
    }

    /// The manifests in the audit.
    pub(crate) fn audited(&self) -> Vec<Manifest> {
        let mut manifests = Vec::new();
        self.each(topics::MODELS_AUDIT, |_, value| {
            let signed = SignedManifest::parse(value.unwrap()).unwrap();
            manifests.push(Manifest::parse(&signed.manifest).unwrap());
        });
        manifests
    }

    /// What the first version was trained on.
    pub(crate) fn first_ranges(&self) -> Vec<OffsetRange> {
        self.models()[0].ranges.clone()
    }

    pub(crate) fn json(&self, topic: &str) -> Vec<serde_json::Value> {
        let mut found = Vec::new();
        self.each(topic, |_, value| found.push(serde_json::from_slice(value.unwrap()).unwrap()));
        found
    }

    /// Writes a manifest with this version that a key nobody trusts has signed.
    pub(crate) fn publish_manifest_of_a_stranger(&self, version: u64) {
        let manifest = Manifest {
            name: "cars".into(),
            version,
            generation: version,
            kind: "autoencoder".into(),
            sha256: "0".repeat(64),
            size: 1,
            chunks: 1,
            created_ms: 0,
            rows: 1,
            seconds: 0.0,
            threshold: 1.0,
            false_alarm_rate: 0.01,
            seed: 0,
            code_version: String::new(),
            ranges: Vec::new(),
        };
        let signed = telltale_model::artifact::sign(&manifest, &Signer::generate().unwrap());
        let (key, value) = (Some(&b"cars"[..]), signed.to_bytes());
        let record = NewRecord { topic: topics::MODELS, key, value: Some(&value), ..NewRecord::default() };
        self.producer.send(record, 0).unwrap();
        self.producer.flush(LIMIT).unwrap();
    }

    fn each(&self, topic: &str, mut take: impl FnMut(Option<&[u8]>, Option<&[u8]>)) {
        let mut reader = Reader::open(&self.kafka, Isolation::Committed).unwrap();
        for partition in reader.partitions(topic).unwrap() {
            let range = reader.watermarks(topic, partition).unwrap();
            let read = reader.read(topic, partition, range, &CancellationToken::new(), |batch| {
                batch.records().for_each(|it| take(it.key(), it.value()));
                ControlFlow::Continue(())
            });
            read.unwrap();
        }
    }
}

/// Waits until `holds`, and says what for if it never does.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {LIMIT:?} until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A number between 0 and 1 that depends on nothing but its arguments.
fn noise(car: usize, second: usize, column: usize) -> f64 {
    let hash = device_hash(&[car.to_le_bytes(), second.to_le_bytes(), column.to_le_bytes()].concat());
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

/// The 18 numbers of a reading: two hidden quantities and noise.
fn numbers(car: usize, second: usize) -> [f64; 18] {
    let (load, heat) = (noise(car, second, 90), noise(car, second, 91));
    std::array::from_fn(|column| {
        let share = column as f64 / 17.0;
        let value = 20.0 + 40.0 * (share * load + (1.0 - share) * heat) + 2.0 * noise(car, second, column);
        if (9..13).contains(&column) || column == 17 { value.round() } else { value }
    })
}

/// Car, event time and framed value of each reading.
fn readings(id: u32, cars: usize, seconds: std::ops::Range<usize>) -> Vec<(String, i64, Vec<u8>)> {
    let source = Schema::parse(schema::READINGS).unwrap();
    let clean = Schema::parse(schema::CLEAN).unwrap();
    let mut keys = Vec::new();
    let mut texts = Vec::new();
    for second in seconds {
        for car in 0..cars {
            let (name, time) = (format!("car-{car:06}"), 1_700_000_000_000 + 1000 * second as i64);
            let mut object = serde_json::Map::new();
            for (field, value) in source.fields().iter().zip(numbers(car, second)) {
                let whole = field.of.describe() == "int";
                object.insert(field.name.clone(), if whole { (value as i64).into() } else { value.into() });
            }
            object.insert("failure_occurred".into(), "false".into());
            object.insert("car".into(), name.clone().into());
            object.insert("event_time".into(), time.into());
            texts.push(serde_json::to_vec(&object).unwrap());
            keys.push((name, time));
        }
    }
    let decoded = json::Decoder::compile(&source).unwrap().decode(texts.iter().map(Vec::as_slice));
    assert_eq!(decoded.rejected, []);
    let encoder = Encoder::compile(&clean, &decoded.columns.schema()).unwrap();
    let bound = encoder.bind(&decoded.columns).unwrap();
    let framed = |(row, (name, time)): (usize, (String, i64))| {
        let mut value = Vec::new();
        framing::write_header(id, &mut value);
        bound.encode_row(row, &mut value).unwrap();
        (name, time, value)
    };
    keys.into_iter().enumerate().map(framed).collect()
}
