//! Engines, a small fleet, small models, and a look at what the scorer made of them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use telltale_embedded::log::{Log, LogConfig};
use telltale_embedded::registry;
use telltale_features::Specification;
use telltale_kafka::producer::{NewRecord, ProducerConfig};
use telltale_kafka::topics::Topics;
use telltale_kafka::{Isolation, KafkaConfig, Producer, Reader, Registry, RegistryConfig, Transactional};
use telltale_model::delivery::{KeyedRecord, records};
use telltale_model::{Artifact, Lineage, Release, Rows, Signer, Trainer, TrainingConfig, device_hash};
use telltale_records::avro::Encoder;
use telltale_records::prediction::Prediction;
use telltale_records::{Destination, Outgoing, Schema, framing, json, schema, topics};
use telltale_scorer::Config;
use telltale_service::{Address, Host, Running};
use tokio_util::sync::CancellationToken;

pub(crate) const PARTITIONS: i32 = 2;
pub(crate) const MODEL: &str = "cars";
const LIMIT: Duration = Duration::from_secs(60);

/// A log, a registry, a key, and a scorer's settings for them.
pub(crate) struct World {
    pub(crate) kafka: KafkaConfig,
    pub(crate) registry: Registry,
    pub(crate) signer: Signer,
    pub(crate) readings_id: u32,
    producer: Producer,
    key_file: PathBuf,
    registry_url: String,
    _folder: tempfile::TempDir,
    _engines: (Log, registry::Registry),
}

/// A record of a target topic.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) src: String,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Vec<u8>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) reason: Option<String>,
}

impl World {
    pub(crate) fn start() -> Self {
        let log = Log::start(LogConfig::default()).unwrap();
        let engine = registry::start(0, None).unwrap();
        let kafka = KafkaConfig::at(log.addr().to_string());
        Topics::open(&kafka).unwrap().create_all(PARTITIONS, 1).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (signer, key_file) = (Signer::generate().unwrap(), folder.path().join("key.pem"));
        std::fs::write(&key_file, signer.public_pem()).unwrap();
        let registry_url = engine.url();
        let registry = Registry::new(&RegistryConfig {
            url: registry_url.clone(),
            registry_user: None,
            registry_password_file: None,
        })
        .unwrap();
        let readings_id = registry.register(&schema::subject(topics::CLEAN), schema::CLEAN).unwrap();
        let producer =
            Producer::new(&kafka, &ProducerConfig::default(), |_, outcome| _ = outcome.unwrap()).unwrap();
        let _engines = (log, engine);
        Self {
            kafka,
            registry,
            signer,
            readings_id,
            producer,
            key_file,
            registry_url,
            _folder: folder,
            _engines,
        }
    }

    pub(crate) fn config(&self, more: &[&str]) -> Config {
        use clap::Parser as _;
        let key = self.key_file.display().to_string();
        let flags = [
            "scorer",
            "--kafka",
            &self.kafka.bootstrap,
            "--registry",
            &self.registry_url,
            "--trusted-key",
            &key,
        ];
        Config::try_parse_from(flags.iter().chain(more)).unwrap()
    }

    /// Runs `work` beside a scorer, which is stopped afterwards and must have ended well.
    pub(crate) fn beside_a_scorer<T>(
        &self,
        more: &[&str],
        work: impl FnOnce(&Running<telltale_scorer::Error>) -> T,
    ) -> T {
        let host = Host::start(Address::Off, "--http", Duration::from_secs(20)).unwrap();
        let running = host.launch("scorer", self.config(more), telltale_scorer::run);
        let result = work(&running);
        running.stop(LIMIT).unwrap();
        result
    }

    pub(crate) fn send(&self, key: Option<&[u8]>, value: Option<&[u8]>, timestamp_ms: i64) {
        let topic = topics::CLEAN;
        let record =
            NewRecord { topic, key, value, timestamp_ms: Some(timestamp_ms), ..NewRecord::default() };
        self.producer.send(record, 0).unwrap();
    }

    /// Writes readings of healthy cars, `seconds` of them.
    pub(crate) fn send_readings(&self, cars: usize, seconds: std::ops::Range<usize>) {
        for value in readings(self.readings_id, cars, seconds) {
            self.send(Some(value.0.as_bytes()), Some(&value.2), value.1);
        }
        self.producer.flush(LIMIT).unwrap();
    }

    pub(crate) fn flush(&self) {
        self.producer.flush(LIMIT).unwrap();
    }

    /// Publishes records to the topic of models in one transaction, as the trainer does.
    pub(crate) fn publish(&self, records: &[KeyedRecord]) {
        let stop = CancellationToken::new();
        let mut out = Outgoing::new();
        let to = Destination { topic: out.topic(topics::MODELS), partition: None, timestamp_ms: None };
        for record in records {
            out.push(to, Some(&record.key), Some(&record.value), None, &[]);
        }
        let mut producer = Transactional::open(&self.kafka, "trainer", LIMIT, &stop).unwrap();
        producer.publish(&out, &stop).unwrap();
    }

    pub(crate) fn publish_model(&self, artifact: &Artifact, version: u64, generation: u64) {
        self.publish(&signed(artifact, version, generation, &self.signer));
    }

    /// Everything committed to `topic`.
    pub(crate) fn written(&self, topic: &str) -> Vec<Written> {
        let mut reader = Reader::open(&self.kafka, Isolation::Committed).unwrap();
        let mut found = Vec::new();
        for partition in reader.partitions(topic).unwrap() {
            let range = reader.watermarks(topic, partition).unwrap();
            let stop = CancellationToken::new();
            let read = reader.read(topic, partition, range, &stop, |batch| {
                let text = |it: Option<&[u8]>| it.map(|it| String::from_utf8(it.to_vec()).unwrap());
                found.extend(batch.records().map(|it| Written {
                    src: text(it.header("src")).unwrap_or_default(),
                    key: it.key().map(<[u8]>::to_vec),
                    value: it.value().unwrap_or_default().to_vec(),
                    timestamp_ms: it.timestamp_ms(),
                    reason: text(it.header("reason")),
                }));
                ControlFlow::Continue(())
            });
            read.unwrap();
        }
        found
    }

    /// Number of readings written so far.
    pub(crate) fn readings(&self) -> usize {
        self.written(topics::CLEAN).len()
    }

    /// Outcomes of readings by their source, once there is one for each reading: topic, then what was written.
    pub(crate) fn outcomes(&self) -> BTreeMap<String, (&'static str, Written)> {
        let readings = self.readings();
        let all = || {
            let of = |topic| self.written(topic).into_iter().map(move |it| (topic, it));
            of(topics::PREDICTIONS).chain(of(topics::DEAD_LETTERS)).collect::<Vec<_>>()
        };
        wait_until("each reading has an outcome", || all().len() >= readings);
        let mut by_source = BTreeMap::new();
        for (topic, written) in all() {
            let before = by_source.insert(written.src.clone(), (topic, written));
            assert!(before.is_none(), "two outcomes of one reading: {before:?}");
        }
        assert_eq!(by_source.len(), readings);
        by_source
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

/// The prediction in a value, after its Confluent header.
pub(crate) fn prediction(value: &[u8]) -> (u32, Prediction<'_>) {
    let (id, payload) = framing::split(value).unwrap();
    (id, Prediction::read(payload).unwrap())
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
pub(crate) fn readings(id: u32, cars: usize, seconds: std::ops::Range<usize>) -> Vec<(String, i64, Vec<u8>)> {
    changed_readings(id, cars, seconds, |it| it)
}

/// Readings whose numbers were changed.
pub(crate) fn changed_readings(
    id: u32,
    cars: usize,
    seconds: std::ops::Range<usize>,
    change: impl Fn([f64; 18]) -> [f64; 18],
) -> Vec<(String, i64, Vec<u8>)> {
    let source = Schema::parse(schema::READINGS).unwrap();
    let clean = Schema::parse(schema::CLEAN).unwrap();
    let mut keys = Vec::new();
    let mut texts = Vec::new();
    for second in seconds {
        for car in 0..cars {
            let (name, time) = (format!("car-{car:06}"), 1_700_000_000_000 + 1000 * second as i64);
            let mut object = serde_json::Map::new();
            for (field, value) in source.fields().iter().zip(change(numbers(car, second))) {
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

/// A small model; another seed gives another one.
pub(crate) fn artifact(seed: u64) -> Artifact {
    let config = TrainingConfig { hidden: vec![6], epochs: 3, visits: 20_000, ..TrainingConfig::default() };
    let mut trainer = Trainer::new(Specification::cars(), config, seed).unwrap();
    let cells = || (0..60).flat_map(|second| (0..30).map(move |car| (car, second)));
    let values: Vec<f32> =
        cells().flat_map(|(car, second)| numbers(car, second)).map(|it| it as f32).collect();
    let devices: Vec<u64> = cells().map(|(car, _)| device_hash(format!("car-{car:06}").as_bytes())).collect();
    let times_ms: Vec<i64> = cells().map(|(_, second)| 1000 * second as i64).collect();
    trainer.feed(&Rows { values: &values, devices: &devices, times_ms: &times_ms, failing: &[] }).unwrap();
    trainer.finish(Lineage::default()).unwrap().artifact
}

/// The records that deliver `artifact`.
pub(crate) fn signed(
    artifact: &Artifact,
    version: u64,
    generation: u64,
    signer: &Signer,
) -> Vec<KeyedRecord> {
    let release = Release { name: MODEL.to_owned(), version, generation, created_ms: 0, seconds: 0.0 };
    records(artifact, &artifact.manifest(&release), &artifact.sign(&release, signer))
}
