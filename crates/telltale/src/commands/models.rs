//! `telltale models`: what was learnt, what is in force, and the way back.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use telltale_kafka::{Isolation, KafkaConfig, Reader, Transactional};
use telltale_model::delivery::{Assembler, Outcome, manifest_record, rollback};
use telltale_model::{Signer, TrustedKeys, artifact};
use telltale_records::manifest::{Manifest, SignedManifest};
use telltale_records::{Destination, Outgoing, Record, topics};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::cli::{Connection, ModelsCommand};
use crate::demo::watch::now_ms;
use crate::show;
use crate::view::numbers::{figure, grouped, percent};

/// Longest time to take over the transactional id for a rollback.
const PATIENCE: Duration = Duration::from_secs(30);
/// Refusals shown by `list`, the newest.
const REFUSALS: usize = 20;

/// Runs one of the commands.
///
/// # Errors
///
/// Returns why it could not be done.
pub fn run(command: ModelsCommand, stop: &CancellationToken) -> Result<(), Error> {
    match command {
        ModelsCommand::List { connection } => list(&connection, stop),
        ModelsCommand::Show { version, verifying_key, connection } => {
            show_one(&connection, version, verifying_key, stop)
        }
        ModelsCommand::Rollback { version, signing_key, connection } => {
            go_back(&connection, version, &signing_key, stop)
        }
    }
}

/// Everything the topics say of models.
#[derive(Debug, Default)]
pub struct Known {
    /// Each decision that put a model in force, by generation.
    pub decisions: BTreeMap<u64, Manifest>,
    /// The key that signed the newest decision, with its generation.
    newest_key: Option<(u64, String)>,
    /// Records of the audit that are not decisions: mostly refusals.
    pub others: Vec<String>,
}

impl Known {
    /// Reads both topics.
    ///
    /// # Errors
    ///
    /// Returns an error when a topic is missing or Kafka cannot be read.
    pub fn read(kafka: &KafkaConfig, stop: &CancellationToken) -> Result<Self, telltale_kafka::Error> {
        let mut known = Self::default();
        let mut reader = Reader::open(kafka, Isolation::Committed)?;
        each(&mut reader, topics::MODELS_AUDIT, stop, |record| known.take(record, true))?;
        each(&mut reader, topics::MODELS, stop, |record| known.take(record, false))?;
        Ok(known)
    }

    fn take(&mut self, record: Record<'_>, audit: bool) {
        let Some(value) = record.value() else { return };
        if let Some((manifest, key_id)) = manifest(value) {
            let newest = self.newest_key.as_ref().map_or(0, |it| it.0);
            if let Some(key_id) = key_id.filter(|_| manifest.generation >= newest) {
                self.newest_key = Some((manifest.generation, key_id));
            }
            self.decisions.insert(manifest.generation, manifest);
        } else if audit {
            let time = record.timestamp_ms().map_or_else(|| "no time".to_owned(), show::time);
            self.others.push(format!("{time}  {}", show::value::plain(value)));
        }
    }

    /// The decision in force.
    #[must_use]
    pub fn in_force(&self) -> Option<&Manifest> {
        self.decisions.last_key_value().map(|(_, it)| it)
    }

    /// Whether somebody went back to version `to` after version `from` was in force.
    #[must_use]
    pub fn rolled_back(&self, from: i64, to: i64) -> bool {
        let generations = |version: i64| {
            self.decisions
                .iter()
                .filter(move |(_, it)| i64::try_from(it.version) == Ok(version))
                .map(|(it, _)| *it)
        };
        generations(to).max().zip(generations(from).min()).is_some_and(|(back, before)| back > before)
    }

    /// The latest decision for `version`, or the one in force.
    fn find(&self, version: Option<u64>) -> Result<&Manifest, Error> {
        let found = match version {
            Some(version) => self.decisions.values().rev().find(|it| it.version == version),
            None => self.in_force(),
        };
        found.ok_or_else(|| {
            let mut versions: Vec<u64> = self.decisions.values().map(|it| it.version).collect();
            versions.sort_unstable();
            versions.dedup();
            let versions = versions.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            match version {
                Some(version) if !versions.is_empty() => Error::NoSuchModel { version, versions },
                _ => Error::NoModel,
            }
        })
    }
}

/// The manifest in a record of either topic, signed or alone, with the id of its key.
fn manifest(value: &[u8]) -> Option<(Manifest, Option<String>)> {
    if let Ok(signed) = SignedManifest::parse(value) {
        return Some((Manifest::parse(&signed.manifest).ok()?, Some(signed.key_id)));
    }
    Some((Manifest::parse(std::str::from_utf8(value).ok()?).ok()?, None))
}

fn each(
    reader: &mut Reader,
    topic: &str,
    stop: &CancellationToken,
    mut take: impl FnMut(Record<'_>),
) -> Result<(), telltale_kafka::Error> {
    for partition in reader.partitions(topic)? {
        let range = reader.watermarks(topic, partition)?;
        reader.read(topic, partition, range, stop, |batch| {
            batch.records().for_each(&mut take);
            ControlFlow::Continue(())
        })?;
    }
    Ok(())
}

fn list(connection: &Connection, stop: &CancellationToken) -> Result<(), Error> {
    let known = Known::read(&connection.kafka, stop)?;
    let Some(in_force) = known.in_force().map(|it| it.generation) else {
        println!("no model yet");
        return Ok(());
    };
    println!(
        "{:<12} {:>7} {:>10}  {:<24} {:>12} {:>10}  {:<16}",
        "model", "version", "generation", "signed", "readings", "threshold", "sha256"
    );
    for (generation, it) in &known.decisions {
        let (time, rows, threshold) =
            (show::time(it.created_ms), grouped(it.rows), figure(f64::from(it.threshold)));
        let sha256 = it.sha256.get(..16).unwrap_or(&it.sha256);
        let note = if *generation == in_force { "  ◀ in force" } else { "" };
        println!(
            "{:<12} {:>7} {generation:>10}  {time:<24} {rows:>12} {threshold:>10}  {sha256:<16}{note}",
            it.name, it.version
        );
    }
    if !known.others.is_empty() {
        println!("\nalso in {}:", topics::MODELS_AUDIT);
        known.others.iter().rev().take(REFUSALS).rev().for_each(|it| println!("  {it}"));
    }
    Ok(())
}

fn show_one(
    connection: &Connection,
    version: Option<u64>,
    verifying_key: Option<PathBuf>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let known = Known::read(&connection.kafka, stop)?;
    let it = known.find(version)?;
    let in_force = known.in_force().is_some_and(|newest| newest.generation == it.generation);
    println!(
        "model {} version {}, generation {}{}",
        it.name,
        it.version,
        it.generation,
        if in_force { ", in force" } else { "" }
    );
    println!("  kind              {}", it.kind);
    println!("  signed            {}", show::time(it.created_ms));
    println!(
        "  learnt from       {} readings in {:.1} s, seed {}, code {}",
        grouped(it.rows),
        it.seconds,
        it.seed,
        it.code_version
    );
    println!(
        "  threshold         {} for a false alarm rate of {}",
        figure(f64::from(it.threshold)),
        percent(it.false_alarm_rate)
    );
    println!("  artifact          {} bytes in {} chunks, sha256 {}", grouped(it.size), it.chunks, it.sha256);
    for range in &it.ranges {
        println!(
            "  read              {}-{} from {} up to {}",
            range.topic, range.partition, range.from, range.to
        );
    }
    if let Some(path) = verifying_key {
        verify(connection, it, path, stop)?;
        println!("  signature, hash, shapes and golden scores hold");
    }
    Ok(())
}

/// Puts the model together from the topic as a scorer does.
fn verify(
    connection: &Connection,
    wanted: &Manifest,
    key: PathBuf,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let trusted = TrustedKeys::load(&[key]).map_err(Error::Key)?;
    let mut assembler = Assembler::new(&wanted.name, trusted);
    let (mut found, mut refused) = (false, None);
    let mut reader = Reader::open(&connection.kafka, Isolation::Committed)?;
    let mut judge = |outcome: Option<Outcome>| match outcome {
        Some(Outcome::Candidate(it)) => found |= it.manifest.generation == wanted.generation,
        Some(Outcome::Rejected(it)) => refused = Some(telltale_service::chain(&it)),
        None => {}
    };
    each(&mut reader, topics::MODELS, stop, |record| judge(assembler.take(record.key(), record.value())))?;
    judge(assembler.caught_up());
    if found {
        return Ok(());
    }
    let reason = refused.unwrap_or_else(|| {
        "its manifest was compacted away: only the newest is kept in the topic".to_owned()
    });
    Err(Error::NotVerified { version: wanted.version, reason })
}

fn go_back(connection: &Connection, version: u64, key: &Path, stop: &CancellationToken) -> Result<(), Error> {
    let signer = Signer::load(key).map_err(Error::Key)?;
    let known = Known::read(&connection.kafka, stop)?;
    // Scorers would refuse it, and the manifest that they accept would be compacted away behind it.
    if let Some((_, in_force)) = known.newest_key.as_ref().filter(|it| it.1 != signer.id()) {
        return Err(Error::OtherKey { given: signer.id(), in_force: in_force.clone() });
    }
    let old = known.find(Some(version))?;
    let newest = known.in_force().map_or(0, |it| it.generation);
    if old.generation == newest {
        return Err(Error::InForce { version });
    }
    let manifest = rollback(old, newest + 1, now_ms());
    let record = manifest_record(&manifest.name, &artifact::sign(&manifest, &signer));
    let mut outgoing = Outgoing::new();
    for topic in [topics::MODELS, topics::MODELS_AUDIT] {
        let to = Destination {
            topic: outgoing.topic(topic),
            partition: None,
            timestamp_ms: Some(manifest.created_ms),
        };
        outgoing.push(to, Some(&record.key), Some(&record.value), None, &[]);
    }
    // Not the trainer's id: it would be fenced, and must go on.
    let id = format!("telltale-rollback-{}", manifest.name);
    let mut producer = Transactional::open(&connection.kafka, &id, PATIENCE, stop)?;
    producer.publish(&outgoing, stop).map_err(Error::Rollback)?;
    println!(
        "model {} version {version} is published as generation {}: scorers take it over now",
        manifest.name, manifest.generation
    );
    Ok(())
}
