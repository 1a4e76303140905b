//! The chunks of one model's artifacts, as the topic `models` holds them.

use std::collections::BTreeMap;

use telltale_records::manifest::Manifest;

use super::{CHUNK, CHUNK_LIMIT, HEADER, MAGIC, SLOTS, raw_hash};
use crate::loader::{LoadError, SIZE_LIMIT, load_verified};
use crate::score::Model;

/// Chunks by slot and index.
///
/// Memory is bounded whatever the records hold: at most [`SLOTS`] times [`SIZE_LIMIT`].
#[derive(Debug, Default)]
pub struct Chunks {
    chunks: BTreeMap<(u64, usize), Chunk>,
}

#[derive(Debug)]
struct Chunk {
    hash: [u8; 32],
    bytes: Vec<u8>,
}

impl Chunks {
    /// Takes in the record whose key is the model's name, a slash and `place`.
    ///
    /// # Errors
    ///
    /// Says why it is no chunk.
    pub fn insert(&mut self, place: &str, value: &[u8]) -> Result<(), String> {
        let (place, chunk) = parse_chunk(place, value)?;
        self.chunks.insert(place, chunk);
        Ok(())
    }

    /// Forgets the chunk whose record was deleted.
    pub fn remove(&mut self, place: &str) {
        if let Some(place) = parse_place(place) {
            self.chunks.remove(&place);
        }
    }

    /// The model of `manifest`, loaded with every check but that of the signature, which is the caller's;
    /// `None` where later versions have taken its chunks' place.
    pub fn load(&self, manifest: &Manifest) -> Option<Result<Model, LoadError>> {
        let sensible = (1..=CHUNK_LIMIT).contains(&(manifest.chunks as usize));
        let whole = sensible && self.missing(manifest) == 0;
        whole.then(|| load_verified(manifest, &self.bytes(manifest)))
    }

    /// How many chunks of the artifact of `manifest` are not here.
    pub(super) fn missing(&self, manifest: &Manifest) -> u32 {
        let hash = raw_hash(&manifest.sha256);
        let absent = places(manifest).filter(|it| self.chunks.get(it).map(|it| it.hash) != hash).count();
        u32::try_from(absent).unwrap_or(u32::MAX)
    }

    /// The artifact of `manifest`, as far as it is here.
    pub(super) fn bytes(&self, manifest: &Manifest) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(usize::try_from(manifest.size).unwrap_or(0).min(SIZE_LIMIT));
        for place in places(manifest) {
            bytes.extend_from_slice(self.chunks.get(&place).map_or(&[][..], |it| &it.bytes));
        }
        bytes
    }
}

fn places(manifest: &Manifest) -> impl Iterator<Item = (u64, usize)> + use<> {
    let slot = manifest.version % SLOTS;
    (0..manifest.chunks as usize).map(move |index| (slot, index))
}

fn parse_place(place: &str) -> Option<(u64, usize)> {
    let (slot, index) = place.split_once('/')?;
    let (slot, index) = (slot.parse().ok()?, index.parse().ok()?);
    let canonical = format!("{slot}/{index}") == place;
    (canonical && slot < SLOTS && index < CHUNK_LIMIT).then_some((slot, index))
}

fn parse_chunk(place: &str, value: &[u8]) -> Result<((u64, usize), Chunk), String> {
    let place = parse_place(place).ok_or_else(|| {
        format!("key must end in /SLOT/INDEX, slot below {SLOTS}, index below {CHUNK_LIMIT}")
    })?;
    if value.len() > HEADER + CHUNK {
        return Err(format!("{} bytes; a chunk has at most {}", value.len(), HEADER + CHUNK));
    }
    let rest = value.strip_prefix(MAGIC).ok_or("does not begin with the format TTC1")?;
    let (hash, bytes) = rest.split_first_chunk::<32>().ok_or("ends before the hash does")?;
    Ok((place, Chunk { hash: *hash, bytes: bytes.to_vec() }))
}
