//! Publishes a model: chunks, manifest, audit and metrics in one transaction, or nothing of it.

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use telltale_kafka::{Isolation, KafkaConfig, PublishError, Reader, Transactional};
use telltale_model::delivery::{self, KeyedRecord};
use telltale_model::loader::verify_manifest;
use telltale_model::{CurvePoint, Release, Signer, Trained, TrustedKeys};
use telltale_records::manifest::{Manifest, SignedManifest};
use telltale_records::{Destination, Outgoing, Record, topics};
use telltale_service::Shutdown;
use tracing::{info, warn};

use crate::error::Error;

/// Pauses between attempts to publish, while Kafka is away.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Publishes the versions of one model; a second publisher of the same model fences the first.
pub(crate) struct Publisher {
    kafka: KafkaConfig,
    name: String,
    signer: Signer,
    trusted: Vec<TrustedKeys>,
    producer: Transactional,
}

/// The highest numbers that were given to a model so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) version: u64,
    pub(crate) generation: u64,
    /// Version that the newest decision pins the model to.
    pub(crate) pinned: Option<u64>,
}

/// What a record on the topic `model-metrics` says of a training run.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Metric<'a> {
    TrainingCurve { model: &'a str, version: u64, points: Vec<Point> },
    Evaluation(Evaluation<'a>),
}

#[derive(Debug, Serialize)]
struct Point {
    epoch: u32,
    loss: f32,
    held_back_loss: f32,
}

#[derive(Debug, Serialize)]
struct Evaluation<'a> {
    model: &'a str,
    version: u64,
    sha256: &'a str,
    rows: u64,
    /// Readings left out because their device looked unwell.
    trimmed_rows: u64,
    seconds: f64,
    threshold: f32,
    false_alarm_rate: f64,
    epochs: usize,
    /// Least loss on the held-back devices.
    held_back_loss: Option<f32>,
    constant_columns: &'a [String],
}

impl Publisher {
    /// Takes over the publishing of `name`; while Kafka is away, it waits, at most for `patience`.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka refuses or stays away.
    pub(crate) fn open(
        kafka: &KafkaConfig,
        name: &str,
        signer: Signer,
        earlier: Option<TrustedKeys>,
        patience: Duration,
        shutdown: &Shutdown,
    ) -> Result<Self, Error> {
        let id = format!("telltale-trainer-{name}");
        let producer = Transactional::open(kafka, &id, patience, &shutdown.token())?;
        let trusted = [Some(signer.trusted()), earlier].into_iter().flatten().collect();
        Ok(Self { kafka: kafka.clone(), name: name.to_owned(), signer, trusted, producer })
    }

    /// The highest numbers in the topics of models; what no trusted key signed counts for nothing.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Stopped`], or an error when Kafka cannot be read.
    pub(crate) fn numbers(&self, shutdown: &Shutdown) -> Result<Numbers, Error> {
        let mut numbers = Numbers::default();
        self.each_manifest(shutdown, |manifest| {
            numbers.version = numbers.version.max(manifest.version);
            if manifest.generation >= numbers.generation {
                numbers.generation = manifest.generation;
                numbers.pinned = manifest.pinned.then_some(manifest.version);
            }
        })?;
        Ok(numbers)
    }

    /// The numbers to go on from.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Pinned`] or [`Error::Stopped`], or an error when Kafka cannot be read.
    pub(crate) fn unpinned(&self, shutdown: &Shutdown) -> Result<Numbers, Error> {
        match self.numbers(shutdown)? {
            Numbers { pinned: Some(version), .. } => Err(Error::Pinned { model: self.name.clone(), version }),
            other => Ok(other),
        }
    }

    /// Publishes `trained` under the next numbers; while Kafka is away, it waits.
    ///
    /// Returns the manifest, or `None` when the shutdown came first and nothing was published.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Stopped`] when the shutdown came before it was known what is published, or why Kafka refuses.
    pub(crate) fn publish(
        &mut self,
        trained: &Trained,
        seconds: f64,
        shutdown: &Shutdown,
    ) -> Result<Option<Manifest>, Error> {
        let mut pause = PAUSES.0;
        while !shutdown.is_requested() {
            let numbers = self.unpinned(shutdown)?;
            let next = |number: u64| {
                number.checked_add(1).ok_or_else(|| Error::Numbers { model: self.name.clone() })
            };
            let release = Release {
                name: self.name.clone(),
                version: next(numbers.version)?,
                generation: next(numbers.generation)?,
                created_ms: now_ms(),
                seconds,
            };
            let manifest = trained.artifact.manifest(&release);
            let outgoing = self.outgoing(trained, &manifest);
            let source = match self.producer.publish(&outgoing, &shutdown.token()) {
                Ok(()) => {
                    self.restore_pin(&manifest, shutdown)?;
                    return Ok(Some(manifest));
                }
                Err(source) => source,
            };
            match &source {
                PublishError::Unknown { .. } if self.is_published(&manifest, shutdown)? => {
                    return Ok(Some(manifest));
                }
                PublishError::Unknown { .. } | PublishError::Aborted { .. } => {
                    warn!(
                        version = manifest.version,
                        error = telltale_service::chain(&source),
                        "publishing, will try again"
                    );
                    if shutdown.sleep(pause) {
                        break;
                    }
                    pause = (pause * 2).min(PAUSES.1);
                }
                _ => {
                    return Err(Error::Publish {
                        model: self.name.clone(),
                        version: manifest.version,
                        source,
                    });
                }
            }
        }
        info!(model = self.name, "asked to stop: the newest model is not published");
        Ok(None)
    }

    /// A rollback may have taken the same generation meanwhile: what was pinned then stays, under a higher one.
    fn restore_pin(&mut self, published: &Manifest, shutdown: &Shutdown) -> Result<(), Error> {
        let mut pin = None;
        self.each_manifest(shutdown, |it| {
            if it.pinned && it.generation == published.generation {
                pin = Some(it);
            }
        })?;
        let Some(pin) = pin else { return Ok(()) };
        let again = delivery::rollback(&pin, published.generation.saturating_add(1), now_ms(), true);
        let record =
            delivery::manifest_record(&self.name, &telltale_model::artifact::sign(&again, &self.signer));
        let mut out = Outgoing::new();
        for topic in [topics::MODELS, topics::MODELS_AUDIT] {
            let to = Destination {
                topic: out.topic(topic),
                partition: None,
                timestamp_ms: Some(again.created_ms),
            };
            out.push(to, Some(&record.key), Some(&record.value), None, &[]);
        }
        let (model, version) = (self.name.clone(), pin.version);
        self.producer.publish(&out, &shutdown.token()).map_err(|source| Error::Publish {
            model: model.clone(),
            version,
            source,
        })?;
        Err(Error::Pinned { model, version })
    }

    fn outgoing(&self, trained: &Trained, manifest: &Manifest) -> Outgoing {
        let signed = telltale_model::artifact::sign(manifest, &self.signer);
        let mut out = Outgoing::new();
        let mut push = |topic, record: &KeyedRecord| {
            let to = Destination {
                topic: out.topic(topic),
                partition: None,
                timestamp_ms: Some(manifest.created_ms),
            };
            out.push(to, Some(&record.key), Some(&record.value), None, &[]);
        };
        for record in delivery::records(&trained.artifact, manifest, &signed) {
            push(topics::MODELS, &record);
        }
        push(topics::MODELS_AUDIT, &delivery::manifest_record(&self.name, &signed));
        for metric in metrics(trained, manifest) {
            let value = serde_json::to_vec(&metric).expect("numbers and text become JSON");
            push(topics::MODEL_METRICS, &KeyedRecord { key: self.name.as_bytes().to_vec(), value });
        }
        out
    }

    fn is_published(&self, manifest: &Manifest, shutdown: &Shutdown) -> Result<bool, Error> {
        let mut found = false;
        self.each_manifest(shutdown, |it| found |= it == *manifest)?;
        Ok(found)
    }

    /// Hands every manifest of this model that a trusted key signed to `take`.
    fn each_manifest(&self, shutdown: &Shutdown, mut take: impl FnMut(Manifest)) -> Result<(), Error> {
        let mut reader = Reader::open(&self.kafka, Isolation::Committed)?;
        // The audit knows versions whose manifests were compacted away.
        for topic in [topics::MODELS, topics::MODELS_AUDIT] {
            for partition in reader.partitions(topic)? {
                let range = reader.watermarks(topic, partition)?;
                let end = range.end;
                let reached = reader.read(topic, partition, range, &shutdown.token(), |batch| {
                    batch.records().filter_map(|it| self.trusted_manifest(it)).for_each(&mut take);
                    ControlFlow::Continue(())
                })?;
                if reached < end {
                    return Err(Error::Stopped { model: self.name.clone() });
                }
            }
        }
        Ok(())
    }

    fn trusted_manifest(&self, record: Record<'_>) -> Option<Manifest> {
        if record.key() != Some(self.name.as_bytes()) {
            return None;
        }
        let signed = SignedManifest::parse(record.value()?).ok()?;
        let manifest = self.trusted.iter().find_map(|it| verify_manifest(&signed, it).ok());
        if manifest.is_none() {
            warn!(source = %record.source(), key_id = signed.key_id, "a manifest that no trusted key signed does not count");
        }
        manifest.filter(|it| it.name == self.name)
    }
}

fn metrics<'a>(trained: &'a Trained, manifest: &'a Manifest) -> [Metric<'a>; 2] {
    let (model, version) = (&*manifest.name, manifest.version);
    let point = |it: &CurvePoint| Point { epoch: it.epoch, loss: it.loss, held_back_loss: it.held_back_loss };
    let losses = trained.curve.iter().map(|it| it.held_back_loss);
    [
        Metric::TrainingCurve { model, version, points: trained.curve.iter().map(point).collect() },
        Metric::Evaluation(Evaluation {
            model,
            version,
            sha256: &manifest.sha256,
            rows: manifest.rows,
            trimmed_rows: trained.artifact.about.trimmed_rows,
            seconds: manifest.seconds,
            threshold: manifest.threshold,
            false_alarm_rate: manifest.false_alarm_rate,
            epochs: trained.curve.len(),
            held_back_loss: losses.min_by(f32::total_cmp),
            constant_columns: &trained.constant_columns,
        }),
    ]
}

fn now_ms() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "when a manifest was signed is no event of the fleet")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
