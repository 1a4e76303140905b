//! Scores batches: the part of the loop between reading and committing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use telltale_kafka::exactly_once::{Begin, Fault, Health, Step};
use telltale_kafka::{Registry, TopicPartition};
use telltale_model::Scores;
use telltale_records::avro::{Matrix, MatrixDecoder};
use telltale_records::prediction::{Contribution, Prediction, Verdict};
use telltale_records::source::TRACE_HEADER;
use telltale_records::{Batch, Destination, Outgoing, Reason, Record, Rejection, framing, topics};
use telltale_service::Service;

use crate::alerts::{Alert, Alerts};
use crate::config::StepError;
use crate::decoders::{Decoders, Refusal, schema_id};
use crate::distribution::Counts;
use crate::metrics::{Metrics, ReasonLabel};
use crate::models::{Newest, Versioned};

/// One worker's step.
pub(crate) struct Scoring {
    pub(crate) worker: usize,
    pub(crate) newest: Newest,
    pub(crate) registry: Arc<Registry>,
    /// Id of the schema of predictions.
    pub(crate) schema_id: u32,
    pub(crate) predictions: String,
    pub(crate) metrics: Metrics,
    pub(crate) service: Service,
    pub(crate) alerts: Option<Alerts>,
    pub(crate) memory: Memory,
}

/// What a step keeps from batch to batch: mostly memory to use again.
pub(crate) struct Memory {
    /// The model of the transaction in hand.
    model: Option<Arc<Versioned>>,
    decoders: Decoders,
    matrix: Matrix,
    scores: Scores,
    /// Of the transaction in hand, told once it is committed.
    pending: Pending,
}

impl Memory {
    /// Starts empty, for readings whose schemas are registered under `subject`.
    pub(crate) fn new(subject: String) -> Self {
        Self {
            model: None,
            decoders: Decoders::new(subject),
            matrix: Matrix::default(),
            scores: Scores::default(),
            pending: Pending::default(),
        }
    }
}

/// What is counted and told once the transaction is committed.
#[derive(Default)]
struct Pending {
    predictions: u64,
    anomalies: u64,
    scores: Counts,
    alerts: Vec<Alert>,
    rejected: BTreeMap<Reason, u64>,
}

impl Pending {
    fn dead_letter(&mut self, out: &mut Outgoing, record: Record<'_>, (reason, detail): Refusal) {
        let topic = out.topic(topics::DEAD_LETTERS);
        out.dead_letter(topic, record, &Rejection { reason, detail, service: "scorer" });
        *self.rejected.entry(reason).or_default() += 1;
    }
}

impl Step for Scoring {
    type Error = StepError;

    fn begin(&mut self) -> Begin {
        self.memory.model = self.newest.load();
        self.memory.pending = Pending::default();
        if self.memory.model.is_some() { Begin::Go } else { Begin::Wait }
    }

    fn revoked(&mut self, _: &[TopicPartition]) {
        self.memory.pending = Pending::default();
    }

    fn process(&mut self, batch: &Batch, out: &mut Outgoing) -> Result<(), Fault<StepError>> {
        let started = Instant::now();
        let model = self.memory.model.clone().ok_or(Fault::Passing(StepError::NoModel))?;
        let writer = Writer {
            topic: &self.predictions,
            schema_id: self.schema_id,
            model: &model,
            alerts: self.alerts.is_some(),
        };
        score(&mut self.memory, &self.registry, &writer, batch, out).map_err(Fault::Passing)?;
        self.metrics.batch_duration.observe(started.elapsed().as_secs_f64());
        Ok(())
    }

    fn committed(&mut self) {
        let Pending { predictions, anomalies, scores, alerts, rejected } =
            std::mem::take(&mut self.memory.pending);
        self.metrics.predictions.inc_by(predictions);
        self.metrics.anomalies.inc_by(anomalies);
        self.metrics.scores.add(&scores);
        for (reason, count) in rejected {
            self.metrics.rejected.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc_by(count);
        }
        if let Some(channel) = &self.alerts {
            alerts.into_iter().for_each(|it| channel.send(it));
        }
    }

    fn health(&mut self, health: Health<'_>) {
        let component = format!("worker-{}", self.worker);
        match health {
            Health::Ready => self.service.ready(&component),
            Health::NotReady(reason) => self.service.not_ready(&component, reason),
        }
    }
}

/// Scores `batch` and appends the outcome of each record, in order.
///
/// What it appends depends on the records, the model and the schemas of the registry alone, in whatever batches the
/// records come.
pub(crate) fn score(
    memory: &mut Memory,
    registry: &Registry,
    writer: &Writer<'_>,
    batch: &Batch,
    out: &mut Outgoing,
) -> Result<(), StepError> {
    let Memory { decoders, matrix, scores, pending, .. } = memory;
    decoders.next_batch();
    let mut at = 0;
    while at < batch.len() {
        let record = batch.record(at);
        match decoders.prepare(record, writer.model, registry)? {
            Ok(id) => {
                let run = at..end_of_run(batch, at, id);
                at = run.end;
                let decoder = decoders.get(id).expect("prepare has just found it");
                decode(decoder, batch, run.clone(), matrix);
                writer.model.model.score(&matrix.values, scores);
                writer.write(batch, run, (matrix, scores), pending, out);
            }
            Err(refusal) => {
                pending.dead_letter(out, record, refusal);
                at += 1;
            }
        }
    }
    Ok(())
}

/// Where the records end that begin at `from` and have schema `id`: they are decoded and scored as one.
fn end_of_run(batch: &Batch, from: usize, id: u32) -> usize {
    let same = |index: &usize| schema_id(batch.record(*index)).is_ok_and(|it| it == id);
    (from..batch.len()).find(|it| !same(it)).unwrap_or(batch.len())
}

fn decode(decoder: &MatrixDecoder, batch: &Batch, run: Range<usize>, matrix: &mut Matrix) {
    let payloads = run.map(|index| {
        let value = batch.record(index).value().unwrap_or_default();
        framing::split(value).map_or(&[][..], |(_, payload)| payload)
    });
    decoder.decode_into(payloads, matrix);
}

/// Writes what becomes of each reading.
pub(crate) struct Writer<'a> {
    pub(crate) topic: &'a str,
    pub(crate) schema_id: u32,
    pub(crate) model: &'a Versioned,
    pub(crate) alerts: bool,
}

impl Writer<'_> {
    /// Appends the outcome of each record of `run`, in order.
    fn write(
        &self,
        batch: &Batch,
        run: Range<usize>,
        (matrix, scores): (&Matrix, &Scores),
        pending: &mut Pending,
        out: &mut Outgoing,
    ) {
        let columns = self.model.model.columns();
        let topic = out.topic(self.topic);
        let mut rejected = matrix.rejected.iter().peekable();
        let mut row = 0;
        for (position, index) in run.enumerate() {
            let record = batch.record(index);
            if let Some((_, reason, detail)) = rejected.next_if(|it| it.0 as usize == position) {
                pending.dead_letter(out, record, (*reason, detail.clone()));
                continue;
            }
            let outcome = self.prediction(record, row, scores, &columns);
            row += 1;
            match outcome {
                Ok(prediction) => {
                    let to =
                        Destination { topic, partition: None, timestamp_ms: Some(prediction.event_time) };
                    let trace = record.header(TRACE_HEADER).map(|it| (TRACE_HEADER, it));
                    out.push_with(to, record.key(), Some(&record.source()), trace.as_slice(), |bytes| {
                        framing::write_header(self.schema_id, bytes);
                        prediction.write(bytes);
                    });
                    pending.predictions += 1;
                    pending.scores.observe(prediction.score, prediction.threshold);
                    if prediction.verdict == Verdict::Anomaly {
                        pending.anomalies += 1;
                        if self.alerts {
                            pending.alerts.push(Alert::new(&prediction));
                        }
                    }
                }
                Err(refusal) => pending.dead_letter(out, record, refusal),
            }
        }
    }

    fn prediction<'a>(
        &'a self,
        record: Record<'a>,
        row: usize,
        scores: &Scores,
        columns: &[&'a str],
    ) -> Result<Prediction<'a, [Contribution<'a>; telltale_model::kernel::TOP]>, Refusal> {
        let key = record.key().ok_or((Reason::BadKey, "the reading has no key".to_owned()))?;
        let car = std::str::from_utf8(key).map_err(|_| (Reason::BadKey, "the key is not text".to_owned()))?;
        let time = record.timestamp_ms().filter(|it| *it >= 0);
        let event_time = time.ok_or((Reason::BadTime, "the reading has no time stamp".to_owned()))?;
        let score = scores.scores[row];
        if !score.is_finite() {
            return Err(self.unscorable(row, scores));
        }
        let threshold = self.model.model.threshold();
        Ok(Prediction {
            car,
            event_time,
            score: f64::from(score),
            threshold: f64::from(threshold),
            verdict: if score > threshold { Verdict::Anomaly } else { Verdict::Normal },
            contributions: scores.top[row].map(|it| Contribution {
                sensor: columns.get(it.feature as usize).copied().unwrap_or_default(),
                share: f64::from(it.share),
            }),
            model_name: &self.model.name,
            model_version: self.model.version,
            source_partition: record.partition(),
            source_offset: record.offset(),
        })
    }

    fn unscorable(&self, row: usize, scores: &Scores) -> Refusal {
        let specification = &self.model.model.about().specification;
        let missing = scores.unscorable.iter().find(|it| it.row == row).map_or(0, |it| it.missing);
        if specification.lacks_too_much(missing) {
            let features = specification.features.len();
            return (
                Reason::SchemaMismatch,
                format!("{missing} of the model's {features} features are missing"),
            );
        }
        (Reason::OutOfRange, "its values are so large that their score is not a number".to_owned())
    }
}
