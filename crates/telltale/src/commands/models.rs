//! `telltale models`: what was learnt, what is in force, and the way back.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use telltale_kafka::{Isolation, KafkaConfig, Reader};
use telltale_model::TrustedKeys;
use telltale_model::delivery::{Assembler, Outcome};
use telltale_model::loader::verify_manifest;
use telltale_records::manifest::{Manifest, SignedManifest};
use telltale_records::{Record, topics};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::rollback::{Decision, decide};
use crate::cli::{Connection, ModelsCommand};
use crate::output::Output;
use crate::show;
use crate::view::numbers::{figure, grouped, percent};

/// Refusals shown by `list`, the newest.
const REFUSALS: usize = 20;

/// Runs one of the commands.
///
/// # Errors
///
/// Returns why it could not be done.
pub fn run(command: ModelsCommand, out: &mut Output, stop: &CancellationToken) -> Result<(), Error> {
    match command {
        ModelsCommand::List { verifying_key, connection } => list(&connection, &verifying_key, out, stop),
        ModelsCommand::Show { version, verifying_key, connection } => {
            show_one(&connection, version, verifying_key, out, stop)
        }
        ModelsCommand::Rollback { version, no_pin, signing_key, connection } => {
            decide(&connection.kafka, Decision::Back { version, pinned: !no_pin }, &signing_key, out, stop)
        }
        ModelsCommand::Unpin { signing_key, connection } => {
            decide(&connection.kafka, Decision::Unpin, &signing_key, out, stop)
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
    /// What was signed, by generation.
    signed: BTreeMap<u64, SignedManifest>,
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
        if let Some((manifest, signed)) = manifest(value) {
            let newest = self.newest_key.as_ref().map_or(0, |it| it.0);
            if let Some(signed) = signed {
                if manifest.generation >= newest {
                    self.newest_key = Some((manifest.generation, signed.key_id.clone()));
                }
                self.signed.insert(manifest.generation, signed);
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

    /// What was signed for the decision `generation`, where it was.
    pub(crate) fn signed(&self, generation: u64) -> Option<&SignedManifest> {
        self.signed.get(&generation)
    }

    /// Id of the key that signed the newest decision.
    pub(super) fn newest_key(&self) -> Option<&str> {
        self.newest_key.as_ref().map(|(_, id)| id.as_str())
    }

    /// Whether the signature of a decision holds, in a word; without keys, who says to have signed.
    fn signature(&self, generation: u64, trusted: Option<&TrustedKeys>) -> String {
        let Some(signed) = self.signed.get(&generation) else { return "none".to_owned() };
        let id = signed.key_id.get(..8).unwrap_or(&signed.key_id);
        match trusted.map(|it| verify_manifest(signed, it)) {
            None => format!("{id}, not checked"),
            Some(Ok(_)) => format!("{id}, holds"),
            Some(Err(_)) => format!("{id}, REFUSED"),
        }
    }

    /// The latest decision for `version`, or the one in force.
    pub(super) fn find(&self, version: Option<u64>) -> Result<&Manifest, Error> {
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

/// The manifest in a record of either topic, signed or alone.
pub(super) fn manifest(value: &[u8]) -> Option<(Manifest, Option<SignedManifest>)> {
    if let Ok(signed) = SignedManifest::parse(value) {
        return Some((Manifest::parse(&signed.manifest).ok()?, Some(signed)));
    }
    Some((Manifest::parse(std::str::from_utf8(value).ok()?).ok()?, None))
}

pub(crate) fn each(
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

fn list(
    connection: &Connection,
    keys: &[PathBuf],
    out: &mut Output,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let trusted = match keys {
        [] => None,
        keys => Some(TrustedKeys::load(keys).map_err(Error::Key)?),
    };
    let known = Known::read(&connection.kafka, stop)?;
    let Some(in_force) = known.in_force().map(|it| it.generation) else {
        out.line("no model yet")?;
        return Ok(());
    };
    out.line(format_args!(
        "{:<12} {:>7} {:>10}  {:<24} {:>12} {:>10}  {:<16}  {:<22}",
        "model", "version", "generation", "signed", "readings", "threshold", "sha256", "signature"
    ))?;
    for (generation, it) in &known.decisions {
        let (time, rows, threshold) =
            (show::time(it.created_ms), grouped(it.rows), figure(f64::from(it.threshold)));
        let sha256 = it.sha256.get(..16).unwrap_or(&it.sha256);
        let signature = known.signature(*generation, trusted.as_ref());
        let note = match *generation == in_force {
            true if it.pinned => "  ◀ in force, pinned",
            true => "  ◀ in force",
            false => "",
        };
        out.line(format_args!(
            "{:<12} {:>7} {generation:>10}  {time:<24} {rows:>12} {threshold:>10}  {sha256:<16}  {signature:<22}{note}",
            it.name, it.version
        ))?;
    }
    if !known.others.is_empty() {
        out.line(format_args!("\nalso in {}:", topics::MODELS_AUDIT))?;
        for it in known.others.iter().rev().take(REFUSALS).rev() {
            out.line(format_args!("  {it}"))?;
        }
    }
    Ok(())
}

fn show_one(
    connection: &Connection,
    version: Option<u64>,
    verifying_key: Option<PathBuf>,
    out: &mut Output,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let known = Known::read(&connection.kafka, stop)?;
    let it = known.find(version)?;
    let in_force = known.in_force().is_some_and(|newest| newest.generation == it.generation);
    out.line(format_args!(
        "model {} version {}, generation {}{}",
        it.name,
        it.version,
        it.generation,
        match (in_force, it.pinned) {
            (true, true) => ", in force, pinned",
            (true, false) => ", in force",
            _ => "",
        }
    ))?;
    out.line(format_args!("  kind              {}", it.kind))?;
    out.line(format_args!("  signed            {}", show::time(it.created_ms)))?;
    out.line(format_args!(
        "  learnt from       {} readings in {:.1} s, seed {}, code {}",
        grouped(it.rows),
        it.seconds,
        it.seed,
        it.code_version
    ))?;
    out.line(format_args!(
        "  threshold         {} for a false alarm rate of {}",
        figure(f64::from(it.threshold)),
        percent(it.false_alarm_rate)
    ))?;
    out.line(format_args!(
        "  artifact          {} bytes in {} chunks, sha256 {}",
        grouped(it.size),
        it.chunks,
        it.sha256
    ))?;
    for range in &it.ranges {
        out.line(format_args!(
            "  read              {}-{} from {} up to {}",
            range.topic, range.partition, range.from, range.to
        ))?;
    }
    if let Some(path) = verifying_key {
        verify(connection, it, path, stop)?;
        out.line("  signature, hash, shapes and golden scores hold")?;
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
