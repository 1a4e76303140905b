//! Records that a target topic refuses: they become dead letters instead of stopping the stream.
//!
//! Kafka refuses whole requests, so a refusal names suspects first; a suspect travels alone in the next
//! attempt, and what is refused then is replaced.

use std::collections::{HashMap, HashSet};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use telltale_records::outgoing::OutgoingRecord;
use telltale_records::source::SOURCE_HEADER;
use telltale_records::{Batch, Destination, Outgoing, Reason, Rejection};

use crate::error::Error;

/// What is known about refused records of the transaction in hand, by the `src` header of the output.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    suspects: HashSet<Vec<u8>>,
    refused: HashMap<Vec<u8>, Refusal>,
}

#[derive(Debug)]
struct Refusal {
    reason: Reason,
    detail: String,
    /// The dead letter was refused as well.
    dead_letter_too: bool,
}

impl Refusals {
    /// Whether nothing was refused.
    pub(super) fn is_empty(&self) -> bool {
        self.suspects.is_empty() && self.refused.is_empty()
    }

    /// Forgets everything: the transaction is committed, or its records are read again.
    pub(super) fn clear(&mut self) {
        self.suspects.clear();
        self.refused.clear();
    }

    /// Whether `record` must travel alone.
    pub(super) fn is_suspect(&self, record: OutgoingRecord<'_>) -> bool {
        !self.suspects.is_empty() && source(record).is_some_and(|it| self.suspects.contains(it))
    }

    /// Takes in what Kafka refused of `out`.
    ///
    /// # Errors
    ///
    /// Returns an error for a record without a source: there is nothing to make a dead letter of.
    pub(super) fn learn(
        &mut self,
        out: &Outgoing,
        failed: &[(usize, KafkaError)],
        dead_letters: &str,
    ) -> Result<(), Error> {
        for (index, error) in failed {
            let Some(record) = out.records().nth(*index) else { continue };
            let bytes = record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len);
            let Some(source) = source(record) else {
                let topic = record.topic().to_owned();
                return Err(Error::Refused { topic, bytes, source: error.clone() });
            };
            // It travelled alone in its request: it is this record.
            let certain = failed.len() == 1 && self.suspects.contains(source);
            if !certain {
                self.suspects.insert(source.to_vec());
                continue;
            }
            let code = error.rdkafka_error_code();
            let too_large = code == Some(RDKafkaErrorCode::MessageSizeTooLarge);
            let dead_letter_too = record.topic() == dead_letters;
            let refusal = Refusal {
                reason: if too_large { Reason::TooLarge } else { Reason::Refused },
                detail: format!("topic {} refuses the outcome of {bytes} bytes: {error}", record.topic()),
                dead_letter_too,
            };
            self.refused.insert(source.to_vec(), refusal);
        }
        Ok(())
    }

    /// `out` with a dead letter in place of everything that answers for a refused record.
    pub(super) fn replace<'b>(
        &self,
        out: &Outgoing,
        batches: impl Iterator<Item = &'b Batch>,
        dead_letters: &str,
        service: &'static str,
    ) -> Outgoing {
        let mut replaced = Outgoing::new();
        for record in out.records() {
            if source(record).is_some_and(|it| self.refused.contains_key(it)) {
                continue;
            }
            let topic = replaced.topic(record.topic());
            let to =
                Destination { topic, partition: record.partition(), timestamp_ms: record.timestamp_ms() };
            // Its `src` is among its headers already.
            let headers: Vec<_> = record.headers().collect();
            replaced.push(to, record.key(), record.value(), None, &headers);
        }
        let topic = replaced.topic(dead_letters);
        for batch in batches {
            for record in batch.records() {
                let Some(refusal) = self.refused.get(record.source().to_string().as_bytes()) else {
                    continue;
                };
                let mut rejection =
                    Rejection { reason: refusal.reason, detail: refusal.detail.clone(), service };
                if refusal.dead_letter_too {
                    rejection.detail.push_str("; its bytes are left at its source only");
                    let to = Destination { topic, partition: None, timestamp_ms: record.timestamp_ms() };
                    let headers = rejection.headers().map(|(name, value)| (name, value.as_bytes()));
                    replaced.push(to, None, Some(b""), Some(&record.source()), &headers);
                } else {
                    replaced.dead_letter(topic, record, &rejection);
                }
            }
        }
        replaced
    }
}

/// The record that `record` is the outcome of.
fn source<'a>(record: OutgoingRecord<'a>) -> Option<&'a [u8]> {
    record.headers().find(|(name, _)| *name == SOURCE_HEADER).map(|(_, value)| value)
}
