//! Engines, a small fleet, and a look at what the trainer published.

use std::ops::Range;
use std::path::PathBuf;

use clap::Parser as _;
use telltale_kafka::KafkaConfig;
use telltale_kafka::producer::NewRecord;
use telltale_model::Signer;
use telltale_model::delivery::{Assembler, Outcome};
use telltale_records::manifest::{Manifest, OffsetRange, SignedManifest};
use telltale_records::{schema, topics};
use telltale_testkit::{Engines, Writer, Written, readings, written};
use telltale_trainer::{Config, Error};

const PARTITIONS: i32 = 2;
/// Training that takes a moment.
const QUICK: [&str; 6] = ["--hidden", "6", "--epochs", "3", "--visits", "20000"];

/// Engines, a key, and a trainer's settings for them.
pub(crate) struct World {
    pub(crate) kafka: KafkaConfig,
    signer: Signer,
    readings_id: u32,
    writer: Writer,
    key_file: PathBuf,
    _folder: tempfile::TempDir,
    engines: Engines,
}

impl World {
    pub(crate) fn start() -> Self {
        let engines = Engines::fresh(PARTITIONS);
        let kafka = engines.kafka();
        let folder = tempfile::tempdir().unwrap();
        let (signer, key_file) = (Signer::generate().unwrap(), folder.path().join("key.pem"));
        signer.save(&key_file).unwrap();
        let readings_id =
            engines.registry().register(&schema::subject(topics::CLEAN), schema::CLEAN).unwrap();
        let writer = Writer::new(&kafka);
        Self { kafka, signer, readings_id, writer, key_file, _folder: folder, engines }
    }

    pub(crate) fn config(&self, more: &[&str]) -> Config {
        let flags = self.flags(&self.kafka, more);
        Config::try_parse_from(["trainer".to_owned()].into_iter().chain(flags)).unwrap()
    }

    /// The flags of a trainer that reaches Kafka so; those in `more` win.
    pub(crate) fn flags(&self, kafka: &KafkaConfig, more: &[&str]) -> Vec<String> {
        let key = ["--signing-key".to_owned(), self.key_file.display().to_string()];
        let own = [self.engines.registry_flags(), key.to_vec(), QUICK.map(str::to_owned).to_vec()].concat();
        let own = own.chunks(2).filter(|it| !more.contains(&it[0].as_str())).flatten().cloned();
        let kafka = kafka.flags().into_iter();
        kafka.chain(own).chain(more.iter().map(|&it| it.to_owned())).collect()
    }

    /// Runs the trainer until it ends by itself.
    pub(crate) fn train(&self, more: &[&str]) -> Result<(), Error> {
        telltale_trainer::run(self.config(more), &telltale_testkit::host().service("trainer"))
    }

    pub(crate) fn send_raw(&self, key: Option<&[u8]>, value: &[u8]) {
        let (topic, value) = (topics::CLEAN, Some(value));
        self.writer.send(NewRecord { topic, key, value, partition: Some(0), ..NewRecord::default() });
        self.writer.flush();
    }

    /// Writes readings of healthy cars, `seconds` of them.
    pub(crate) fn send_readings(&self, cars: usize, seconds: Range<usize>) {
        for it in readings(self.readings_id, cars, seconds) {
            let (topic, timestamp_ms) = (topics::CLEAN, Some(it.time_ms));
            let (key, value) = (Some(it.car.as_bytes()), Some(&*it.value));
            self.writer.send(NewRecord { topic, key, value, timestamp_ms, ..NewRecord::default() });
        }
        self.writer.flush();
    }

    /// Every model that a reader of the topic accepts, in order.
    pub(crate) fn models(&self) -> Vec<Manifest> {
        let mut assembler = Assembler::new("cars", self.signer.trusted());
        let mut models = Vec::new();
        for Written { key, value, .. } in written(&self.kafka, topics::MODELS) {
            match assembler.take(key.as_deref(), value.as_deref()) {
                Some(Outcome::Candidate(candidate)) => models.push(candidate.manifest),
                Some(Outcome::Rejected(rejected)) => {
                    // Those of a stranger are in one test.
                    assert!(telltale_service::chain(&rejected).contains("key"), "{rejected:?}");
                }
                None => {}
            }
        }
        assert!(assembler.caught_up().is_none(), "a manifest without its chunks");
        models
    }

    /// The manifests in the audit.
    pub(crate) fn audited(&self) -> Vec<Manifest> {
        let audited = written(&self.kafka, topics::MODELS_AUDIT);
        let signed = audited.iter().map(|it| SignedManifest::parse(it.value()).unwrap());
        signed.map(|it| Manifest::parse(&it.manifest).unwrap()).collect()
    }

    /// What the first version was trained on.
    pub(crate) fn first_ranges(&self) -> Vec<OffsetRange> {
        self.models()[0].ranges.clone()
    }

    pub(crate) fn json(&self, topic: &str) -> Vec<serde_json::Value> {
        written(&self.kafka, topic).iter().map(|it| serde_json::from_slice(it.value()).unwrap()).collect()
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
            pinned: false,
        };
        let signed = telltale_model::artifact::sign(&manifest, &Signer::generate().unwrap());
        let (key, value) = (Some(&b"cars"[..]), signed.to_bytes());
        let record = NewRecord { topic: topics::MODELS, key, value: Some(&value), ..NewRecord::default() };
        self.writer.send(record);
        self.writer.flush();
    }
}
