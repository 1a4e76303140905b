//! Decisions about models that a person makes: going back to a version, pinning it, lifting the pin.
//!
//! Each is a signed manifest with the next generation, in `models` and `models-audit` at once. A trainer publishes nothing while
//! the newest generation is pinned. It does not hold the same transactional id, so it may publish in the same moment: both
//! look afterwards whether another manifest took their generation, and what is pinned is then published once more.

use std::path::Path;
use std::time::Duration;

use telltale_kafka::{Isolation, KafkaConfig, Reader, Transactional};
use telltale_model::delivery::{manifest_record, rollback};
use telltale_model::{Signer, artifact};
use telltale_records::manifest::Manifest;
use telltale_records::{Destination, Outgoing, topics};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::models::{Known, each, manifest};
use crate::clock::now_ms;
use crate::output::Output;

/// Longest time to take over the transactional id.
const PATIENCE: Duration = Duration::from_secs(30);
/// A trainer takes a generation at most once in its shortest interval.
const ATTEMPTS: u64 = 5;

/// What a person decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// This version is in force.
    Back {
        /// The version.
        version: u64,
        /// Until somebody lifts it; else until the trainer's next version.
        pinned: bool,
    },
    /// New versions may follow the one in force.
    Unpin,
}

/// Publishes what was decided.
///
/// # Errors
///
/// Returns an error when there is nothing to decide, or scorers would refuse it.
pub(super) fn decide(
    kafka: &KafkaConfig,
    decision: Decision,
    key: &Path,
    out: &mut Output,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let signer = Signer::load(key).map_err(Error::Key)?;
    let known = Known::read(kafka, stop)?;
    // Scorers would refuse it, and the manifest that they accept would be compacted away behind it.
    if let Some(in_force) = known.newest_key().filter(|it| *it != signer.id()) {
        return Err(Error::OtherKey { given: signer.id(), in_force: in_force.to_owned() });
    }
    let in_force = known.in_force().ok_or(Error::NoModel)?;
    let (old, pinned) = match decision {
        Decision::Back { version, pinned } => {
            let old = known.find(Some(version))?;
            if old.generation == in_force.generation && old.pinned == pinned {
                return Err(Error::InForce { version });
            }
            (old, pinned)
        }
        Decision::Unpin if !in_force.pinned => return Err(Error::NotPinned { version: in_force.version }),
        Decision::Unpin => (in_force, false),
    };
    // Not the trainer's id: it would be fenced, and must go on.
    let id = format!("telltale-rollback-{}", old.name);
    let mut producer = Transactional::open(kafka, &id, PATIENCE, stop)?;
    let mut new = rollback(old, in_force.generation + 1, now_ms(), pinned);
    for attempt in 1.. {
        publish(&mut producer, &new, &signer, stop)?;
        if attempt == ATTEMPTS || !is_taken(kafka, &new, stop)? {
            break;
        }
        new.generation += 1;
    }
    let then = match decision {
        Decision::Back { pinned: true, .. } => "pinned: it stays until `telltale models unpin`",
        Decision::Back { pinned: false, .. } => "it stays until the trainer's next version",
        Decision::Unpin => "no longer pinned: the trainer's next version follows it",
    };
    out.line(format_args!(
        "model {} version {} is published as generation {}: scorers take it over now; {then}",
        new.name, new.version, new.generation
    ))
}

fn publish(
    producer: &mut Transactional,
    new: &Manifest,
    signer: &Signer,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let record = manifest_record(&new.name, &artifact::sign(new, signer));
    let mut outgoing = Outgoing::new();
    for topic in [topics::MODELS, topics::MODELS_AUDIT] {
        let to =
            Destination { topic: outgoing.topic(topic), partition: None, timestamp_ms: Some(new.created_ms) };
        outgoing.push(to, Some(&record.key), Some(&record.value), None, &[]);
    }
    producer.publish(&outgoing, stop).map_err(Error::Rollback)
}

/// Whether another manifest has the generation of `new`.
fn is_taken(kafka: &KafkaConfig, new: &Manifest, stop: &CancellationToken) -> Result<bool, Error> {
    let mut taken = false;
    let mut reader = Reader::open(kafka, Isolation::Committed)?;
    each(&mut reader, topics::MODELS_AUDIT, stop, |record| {
        let found = record.value().and_then(manifest).map(|(found, _)| found);
        taken |= found.is_some_and(|it| it.generation == new.generation && it != *new);
    })?;
    Ok(taken)
}
