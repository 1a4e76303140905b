//! How models travel through the compacted topic `models`: pure functions between artifacts and records.
//!
//! ```text
//! key <name>                  the newest signed manifest
//! key <name>/<slot>/<index>   a chunk of an artifact; slot = version mod 8
//! ```
//!
//! Slots are used again, so compaction leaves the chunks of the last eight versions: what a rollback can reach.
//! Chunks and manifest are written in one transaction, but compaction and a restart in the middle may show them
//! in any order; an [`Assembler`] therefore keeps both until they agree.

mod chunks;

use std::collections::BTreeMap;

use telltale_records::manifest::{Manifest, ManifestError, SignedManifest};

use crate::artifact::Artifact;
use crate::keys::TrustedKeys;
use crate::loader::{LoadError, SIZE_LIMIT, load_verified, verify_manifest};
use crate::score::Model;

pub use chunks::Chunks;

/// Bytes of an artifact in one record; brokers refuse records above 1 MB by default.
pub const CHUNK: usize = 512 << 10;
/// Versions whose chunks compaction leaves.
pub const SLOTS: u64 = 8;
/// Most chunks of one artifact.
pub const CHUNK_LIMIT: usize = SIZE_LIMIT / CHUNK;

/// First bytes of a chunk's value: format, then the SHA-256 of the whole artifact.
const MAGIC: &[u8; 4] = b"TTC1";
const HEADER: usize = MAGIC.len() + 32;
/// Accepted versions whose hashes are remembered, so that a number is not used for another model.
const REMEMBERED: usize = 256;

/// A record for the topic `models`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRecord {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// The records that deliver `artifact`, in the order to write them, in one transaction: chunks, then the manifest.
#[must_use]
pub fn records(artifact: &Artifact, manifest: &Manifest, signed: &SignedManifest) -> Vec<KeyedRecord> {
    let hash = raw_hash(&artifact.sha256).unwrap_or_default();
    let chunks = artifact.bytes.chunks(CHUNK).enumerate().map(|(index, chunk)| KeyedRecord {
        key: chunk_key(&manifest.name, manifest.version, index).into_bytes(),
        value: [MAGIC, &hash[..], chunk].concat(),
    });
    chunks.chain([manifest_record(&manifest.name, signed)]).collect()
}

/// The record that puts the model of `signed` in force if its chunks are still in the topic: a rollback needs
/// nothing else.
#[must_use]
pub fn manifest_record(name: &str, signed: &SignedManifest) -> KeyedRecord {
    KeyedRecord { key: name.as_bytes().to_vec(), value: signed.to_bytes() }
}

/// The manifest that puts `old` in force again, to be signed by [`crate::artifact::sign`]; `pinned` says whether it stays
/// there until somebody lifts it, or until the next version.
#[must_use]
pub fn rollback(old: &Manifest, generation: u64, created_ms: i64, pinned: bool) -> Manifest {
    Manifest { generation, created_ms, pinned, ..old.clone() }
}

/// Number of chunks of an artifact of `size` bytes.
#[must_use]
pub fn chunk_count(size: usize) -> u32 {
    u32::try_from(size.div_ceil(CHUNK)).unwrap_or(u32::MAX)
}

/// Collects the records of one model name until a manifest and its chunks make a verified model.
///
/// Memory is bounded whatever the records hold: at most [`SLOTS`] times [`SIZE_LIMIT`].
#[derive(Debug)]
pub struct Assembler {
    name: String,
    trusted: TrustedKeys,
    chunks: Chunks,
    pending: Option<Manifest>,
    accepted: Option<Manifest>,
    /// Hashes of accepted versions.
    versions: BTreeMap<u64, String>,
}

/// What a record led to.
#[derive(Debug)]
pub enum Outcome {
    /// A verified model that should be put in force.
    Candidate(Box<Candidate>),
    /// Something was refused; what is in force stays.
    Rejected(Rejected),
}

/// A verified model.
#[derive(Debug)]
pub struct Candidate {
    /// Its manifest.
    pub manifest: Manifest,
    /// The model.
    pub model: Model,
}

/// What was refused and why.
#[derive(Debug, thiserror::Error)]
#[error("model {name:?}{} is refused", numbers(*version, *generation))]
pub struct Rejected {
    /// Name of the model.
    pub name: String,
    /// Version, as far as a signed manifest says one.
    pub version: Option<u64>,
    /// Generation, as far as a signed manifest says one.
    pub generation: Option<u64>,
    /// Why.
    #[source]
    pub reason: RejectedReason,
}

/// Why a record of the topic `models` was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RejectedReason {
    /// The record is no signed manifest.
    #[error("the record is no signed manifest")]
    Record(#[source] ManifestError),
    /// The record is no chunk.
    #[error("chunk record {key:?}: {problem}")]
    Chunk {
        /// Its key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// Manifest or artifact did not pass its checks.
    #[error("it did not pass its checks")]
    Load(#[from] LoadError),
    /// The manifest is of another model than its record's key says.
    #[error("the manifest under key {key:?} is of model {name:?}")]
    Name {
        /// Key of the record.
        key: String,
        /// Name in the manifest.
        name: String,
    },
    /// A decision that is not newer than the one in force.
    #[error("generation {found} is not above {in_force}, which is in force")]
    Older {
        /// Generation of the refused manifest.
        found: u64,
        /// Generation in force.
        in_force: u64,
    },
    /// A version number was used for another model before.
    #[error("version {version} was another model before, SHA-256 {before}")]
    VersionReused {
        /// The version.
        version: u64,
        /// Hash of the model that had it.
        before: String,
    },
    /// The manifest says more or fewer chunks than its size makes.
    #[error("the manifest says {chunks} chunks for {size} bytes")]
    ChunkCount {
        /// Chunks, as the manifest says.
        chunks: u32,
        /// Size, as the manifest says.
        size: u64,
    },
    /// Chunks are not there, or are of another artifact.
    #[error("{missing} of {chunks} chunks are not in the topic (any more)")]
    Incomplete {
        /// Chunks that are missing.
        missing: u32,
        /// Chunks that there should be.
        chunks: u32,
    },
}

impl Assembler {
    /// Starts without a model. `trusted` keys may sign models called `name`.
    #[must_use]
    pub fn new(name: impl Into<String>, trusted: TrustedKeys) -> Self {
        Self {
            name: name.into(),
            trusted,
            chunks: Chunks::default(),
            pending: None,
            accepted: None,
            versions: BTreeMap::new(),
        }
    }

    /// Takes the next record of the topic in; records of other models are nothing.
    pub fn take(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Option<Outcome> {
        let key = std::str::from_utf8(key?).ok()?;
        let rest = key.strip_prefix(self.name.as_str())?;
        match (rest.strip_prefix('/'), value) {
            (None, Some(value)) if rest.is_empty() => self.take_manifest(value),
            (Some(place), Some(value)) => self.take_chunk(key, place, value),
            (Some(place), None) => {
                self.chunks.remove(place);
                None
            }
            // Deleting the manifest's record takes no model out of force.
            _ => None,
        }
    }

    /// Says, once the end of the topic is reached, what is still not complete.
    pub fn caught_up(&mut self) -> Option<Outcome> {
        let manifest = self.pending.take()?;
        let missing = self.chunks.missing(&manifest);
        let reason = RejectedReason::Incomplete { missing, chunks: manifest.chunks };
        let outcome = self.rejected(Some(&manifest), reason);
        self.pending = Some(manifest);
        Some(outcome)
    }

    /// The manifest of the candidate handed out last.
    #[must_use]
    pub fn in_force(&self) -> Option<&Manifest> {
        self.accepted.as_ref()
    }

    fn take_manifest(&mut self, value: &[u8]) -> Option<Outcome> {
        let signed = match SignedManifest::parse(value) {
            Ok(signed) => signed,
            Err(error) => return Some(self.rejected(None, RejectedReason::Record(error))),
        };
        let manifest = match verify_manifest(&signed, &self.trusted) {
            Ok(manifest) => manifest,
            Err(error) => return Some(self.rejected(None, error.into())),
        };
        if [&self.accepted, &self.pending].into_iter().flatten().any(|it| *it == manifest) {
            return None; // read again after a restart of the reader
        }
        if let Some(reason) = self.objection(&manifest) {
            return Some(self.rejected(Some(&manifest), reason));
        }
        self.pending = Some(manifest);
        self.complete()
    }

    fn objection(&self, manifest: &Manifest) -> Option<RejectedReason> {
        if manifest.name != self.name {
            return Some(RejectedReason::Name { key: self.name.clone(), name: manifest.name.clone() });
        }
        let in_force = [&self.accepted, &self.pending].into_iter().flatten().map(|it| it.generation).max();
        if let Some(in_force) = in_force.filter(|it| manifest.generation <= *it) {
            return Some(RejectedReason::Older { found: manifest.generation, in_force });
        }
        if let Some(before) = self.versions.get(&manifest.version).filter(|it| **it != manifest.sha256) {
            return Some(RejectedReason::VersionReused { version: manifest.version, before: before.clone() });
        }
        let Manifest { chunks, size, .. } = *manifest;
        let expected = usize::try_from(size).ok().filter(|it| *it <= SIZE_LIMIT).map(chunk_count);
        if expected != Some(chunks) {
            return Some(RejectedReason::ChunkCount { chunks, size });
        }
        None
    }

    fn take_chunk(&mut self, key: &str, place: &str, value: &[u8]) -> Option<Outcome> {
        match self.chunks.insert(place, value) {
            Ok(()) => self.complete(),
            Err(problem) => {
                let key = key.chars().take(100).collect();
                Some(self.rejected(None, RejectedReason::Chunk { key, problem }))
            }
        }
    }

    /// Verifies the pending model if its chunks are all there.
    fn complete(&mut self) -> Option<Outcome> {
        let manifest = self.pending.take_if(|it| self.chunks.missing(it) == 0)?;
        let bytes = self.chunks.bytes(&manifest);
        match load_verified(&manifest, &bytes) {
            Ok(model) => {
                self.versions.insert(manifest.version, manifest.sha256.clone());
                if self.versions.len() > REMEMBERED {
                    self.versions.pop_first();
                }
                self.accepted = Some(manifest.clone());
                Some(Outcome::Candidate(Box::new(Candidate { manifest, model })))
            }
            Err(error) => Some(self.rejected(Some(&manifest), error.into())),
        }
    }

    fn rejected(&self, manifest: Option<&Manifest>, reason: RejectedReason) -> Outcome {
        Outcome::Rejected(Rejected {
            name: self.name.clone(),
            version: manifest.map(|it| it.version),
            generation: manifest.map(|it| it.generation),
            reason,
        })
    }
}

/// A version and a generation as part of a sentence, as far as a signed manifest says them.
fn numbers(version: Option<u64>, generation: Option<u64>) -> String {
    let part = |name, number: Option<u64>| number.map_or_else(String::new, |it| format!(" {name} {it}"));
    part("version", version) + &part("generation", generation)
}

fn chunk_key(name: &str, version: u64, index: usize) -> String {
    format!("{name}/{}/{index}", version % SLOTS)
}

fn raw_hash(digits: &str) -> Option<[u8; 32]> {
    let (pairs, _) = digits.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes = pairs.iter().map(byte).collect::<Option<Vec<u8>>>()?;
    bytes.try_into().ok()
}
