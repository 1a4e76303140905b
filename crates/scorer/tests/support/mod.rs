//! Engines, a small fleet, small models, and a look at what the scorer made of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use telltale_features::Specification;
use telltale_kafka::producer::NewRecord;
use telltale_kafka::{KafkaConfig, Registry, Transactional};
use telltale_model::delivery::{KeyedRecord, records};
use telltale_model::{Artifact, Lineage, Release, Rows, Signer, Trainer, TrainingConfig, device_hash};
use telltale_records::prediction::Prediction;
use telltale_records::{Destination, Outgoing, framing, schema, topics};
use telltale_scorer::Config;
use telltale_service::Running;
use telltale_testkit::readings::{car, numbers};
use telltale_testkit::{Engines, PATIENCE, Writer, Written, readings};
use tokio_util::sync::CancellationToken;

const PARTITIONS: i32 = 2;
pub(crate) const MODEL: &str = "cars";

/// Engines, a key, and a scorer's settings for them.
pub(crate) struct World {
    pub(crate) engines: Engines,
    pub(crate) kafka: KafkaConfig,
    pub(crate) registry: Registry,
    pub(crate) signer: Signer,
    pub(crate) readings_id: u32,
    writer: Writer,
    key_file: PathBuf,
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn start() -> Self {
        let engines = Engines::fresh(PARTITIONS);
        let (kafka, registry) = (engines.kafka(), engines.registry());
        let folder = tempfile::tempdir().unwrap();
        let (signer, key_file) = (Signer::generate().unwrap(), folder.path().join("key.pem"));
        std::fs::write(&key_file, signer.public_pem()).unwrap();
        let readings_id = registry.register(&schema::subject(topics::CLEAN), schema::CLEAN).unwrap();
        let writer = Writer::new(&kafka);
        Self { engines, kafka, registry, signer, readings_id, writer, key_file, _folder: folder }
    }

    pub(crate) fn flags(&self, more: &[&str]) -> Vec<String> {
        self.flags_at(&self.kafka, more)
    }

    /// Flags that lead to this Kafka.
    pub(crate) fn flags_at(&self, kafka: &KafkaConfig, more: &[&str]) -> Vec<String> {
        let key = ["--trusted-key".to_owned(), self.key_file.display().to_string()];
        let more = more.iter().map(|&it| it.to_owned());
        let own = [kafka.flags(), self.engines.registry_flags(), key.to_vec()].concat();
        own.into_iter().chain(more).collect()
    }

    pub(crate) fn config(&self, more: &[&str]) -> Config {
        use clap::Parser as _;
        Config::try_parse_from(["scorer".to_owned()].into_iter().chain(self.flags(more))).unwrap()
    }

    /// Runs `work` beside a scorer, which is stopped afterwards and must have ended well.
    pub(crate) fn beside_a_scorer<T>(
        &self,
        more: &[&str],
        work: impl FnOnce(&Running<telltale_scorer::Error>) -> T,
    ) -> T {
        telltale_testkit::beside("scorer", self.config(more), telltale_scorer::run, work)
    }

    pub(crate) fn send(&self, key: Option<&[u8]>, value: Option<&[u8]>, timestamp_ms: i64) {
        let (topic, timestamp_ms) = (topics::CLEAN, Some(timestamp_ms));
        self.writer.send(NewRecord { topic, key, value, timestamp_ms, ..NewRecord::default() });
    }

    /// Writes readings of healthy cars, `seconds` of them.
    pub(crate) fn send_readings(&self, cars: usize, seconds: Range<usize>) {
        for it in readings(self.readings_id, cars, seconds) {
            self.send(Some(it.car.as_bytes()), Some(&it.value), it.time_ms);
        }
        self.flush();
    }

    pub(crate) fn flush(&self) {
        self.writer.flush();
    }

    /// Publishes records to the topic of models in one transaction, as the trainer does.
    pub(crate) fn publish(&self, records: &[KeyedRecord]) {
        let stop = CancellationToken::new();
        let mut out = Outgoing::new();
        let to = Destination { topic: out.topic(topics::MODELS), partition: None, timestamp_ms: None };
        for record in records {
            out.push(to, Some(&record.key), Some(&record.value), None, &[]);
        }
        let mut producer = Transactional::open(&self.kafka, "trainer", PATIENCE, &stop).unwrap();
        producer.publish(&out, &stop).unwrap();
    }

    pub(crate) fn publish_model(&self, artifact: &Artifact, version: u64, generation: u64) {
        self.publish(&signed(artifact, version, generation, &self.signer));
    }

    /// Everything committed to `topic`.
    pub(crate) fn written(&self, topic: &str) -> Vec<Written> {
        telltale_testkit::written(&self.kafka, topic)
    }

    /// Outcomes of readings by their source, once there is one for each reading: topic, then what was written.
    pub(crate) fn outcomes(&self) -> BTreeMap<String, (&'static str, Written)> {
        telltale_testkit::outcomes(&self.kafka, topics::CLEAN, &[topics::PREDICTIONS, topics::DEAD_LETTERS])
    }
}

/// The prediction in a value, after its Confluent header.
pub(crate) fn prediction(value: &[u8]) -> (u32, Prediction<'_>) {
    let (id, payload) = framing::split(value).unwrap();
    (id, Prediction::read(payload).unwrap())
}

/// A small model; another seed gives another one.
pub(crate) fn artifact(seed: u64) -> Artifact {
    let config = TrainingConfig { hidden: vec![6], epochs: 3, visits: 20_000, ..TrainingConfig::default() };
    let mut trainer = Trainer::new(Specification::cars(), config, seed).unwrap();
    let cells = || (0..60).flat_map(|second| (0..30).map(move |car| (car, second)));
    let values: Vec<f32> =
        cells().flat_map(|(car, second)| numbers(car, second)).map(|it| it as f32).collect();
    let devices: Vec<u64> = cells().map(|(it, _)| device_hash(car(it).as_bytes())).collect();
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
