//! A small model and its way into the topic.

use telltale_features::Specification;
use telltale_kafka::{KafkaConfig, Transactional};
use telltale_model::delivery::records;
use telltale_model::{Artifact, Lineage, Release, Rows, Signer, Trainer, TrainingConfig, device_hash};
use telltale_records::{Destination, Outgoing, topics};
use telltale_testkit::PATIENCE;
use telltale_testkit::readings::{car, numbers};
use tokio_util::sync::CancellationToken;

/// A model of the healthy fleet.
pub(crate) fn small() -> Artifact {
    let config = TrainingConfig { hidden: vec![6], epochs: 3, visits: 20_000, ..TrainingConfig::default() };
    let mut trainer = Trainer::new(Specification::cars(), config, 1).unwrap();
    let cells = || (0..60).flat_map(|second| (0..30).map(move |car| (car, second)));
    let values: Vec<f32> =
        cells().flat_map(|(car, second)| numbers(car, second)).map(|it| it as f32).collect();
    let devices: Vec<u64> = cells().map(|(it, _)| device_hash(car(it).as_bytes())).collect();
    let times_ms: Vec<i64> = cells().map(|(_, second)| 1000 * second as i64).collect();
    trainer.feed(&Rows { values: &values, devices: &devices, times_ms: &times_ms, failing: &[] }).unwrap();
    trainer.finish(Lineage::default()).unwrap().artifact
}

/// Puts it in force as version 1, as the trainer does.
pub(crate) fn publish(kafka: &KafkaConfig, artifact: &Artifact, signer: &Signer) {
    let release = Release { name: "cars".to_owned(), version: 1, generation: 1, created_ms: 0, seconds: 0.0 };
    let stop = CancellationToken::new();
    let mut out = Outgoing::new();
    let to = Destination { topic: out.topic(topics::MODELS), partition: None, timestamp_ms: None };
    for record in records(artifact, &artifact.manifest(&release), &artifact.sign(&release, signer)) {
        out.push(to, Some(&record.key), Some(&record.value), None, &[]);
    }
    let mut producer = Transactional::open(kafka, "trainer", PATIENCE, &stop).unwrap();
    producer.publish(&out, &stop).unwrap();
}
