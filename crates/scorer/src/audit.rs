//! Tells the audit topic which models were refused.

use std::time::Duration;

use telltale_kafka::producer::{NewRecord, ProducerConfig};
use telltale_kafka::{KafkaConfig, Producer};
use telltale_model::delivery::Rejected;
use telltale_records::source::SOURCE_HEADER;
use telltale_records::{Source, topics};
use tracing::error;

/// How long the last records may take at shutdown.
const FLUSH: Duration = Duration::from_secs(5);
/// Longest reason that is written, in bytes.
const REASON_LIMIT: usize = 4096;

/// Writes to [`topics::MODELS_AUDIT`].
pub(crate) struct Audit {
    producer: Producer,
}

/// What a record says of a refused model.
#[derive(Debug, serde::Serialize)]
struct Entry<'a> {
    event: &'static str,
    service: &'static str,
    model: &'a str,
    version: Option<u64>,
    generation: Option<u64>,
    reason: &'a str,
}

impl Audit {
    pub(crate) fn open(kafka: &KafkaConfig) -> Result<Self, telltale_kafka::Error> {
        let config = ProducerConfig { most_records: 1_000, most_bytes: 8 << 20, ..ProducerConfig::default() };
        let producer = Producer::new(kafka, &config, |_, outcome| {
            if let Err(error) = outcome {
                error!(error = telltale_service::chain(&error), "a refusal is not in the audit topic");
            }
        })?;
        Ok(Self { producer })
    }

    /// Writes that a model was refused; `source` is the record that completed it.
    pub(crate) fn rejected(&self, rejected: &Rejected, reason: &str, source: Option<&Source>) {
        let end = reason.floor_char_boundary(REASON_LIMIT);
        let entry = Entry {
            event: "rejected",
            service: "scorer",
            model: &rejected.name,
            version: rejected.version,
            generation: rejected.generation,
            reason: &reason[..end],
        };
        let value = serde_json::to_vec(&entry).expect("text and numbers become JSON");
        let source = source.map(Source::to_string);
        let headers = source.as_ref().map(|it| (SOURCE_HEADER, it.as_bytes()));
        let record = NewRecord {
            topic: topics::MODELS_AUDIT,
            key: Some(rejected.name.as_bytes()),
            value: Some(&value),
            headers: headers.as_slice(),
            ..NewRecord::default()
        };
        if let Err(error) = self.producer.send(record, 0) {
            error!(error = telltale_service::chain(&error), "a refusal is not in the audit topic");
        }
    }

    /// Waits until what was written is there.
    pub(crate) fn close(&self) {
        if let Err(error) = self.producer.flush(FLUSH) {
            error!(error = telltale_service::chain(&error), "refusals may not be in the audit topic");
        }
    }
}
