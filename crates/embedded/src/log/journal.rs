//! The journal: what the log knows besides records – topics, offsets of groups, transactions – as an
//! append-only file.
//!
//! ```text
//! length 4 | CRC-32C 4 | JSON    (repeated; big-endian)
//! ```
//!
//! An entry counts once it is written to the operating system; nothing is synced, so a killed process loses
//! nothing and a power cut may lose the last moments. A tail that is half-written or damaged is cut at start.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::committed::Committed;
use super::transaction::Transaction;

/// The file in the data folder.
const FILE: &str = "journal";
/// Below this size the journal is not worth rewriting.
const REWRITE_FROM_BYTES: u64 = 16 << 20;

/// One change, written before it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// The identity of the log, written once.
    Cluster {
        id: String,
    },
    /// A topic is created or changed. The id is its UUID as 32 hexadecimal digits.
    Topic {
        name: String,
        id: String,
        partitions: i32,
        config: BTreeMap<String, String>,
    },
    TopicDeleted {
        name: String,
    },
    /// Records below an offset were deleted by request.
    LogStart {
        topic: String,
        partition: i32,
        offset: i64,
    },
    /// Every producer id below `next` may be in use.
    ProducerIds {
        next: i64,
    },
    Transaction(Transaction),
    Offsets {
        group: String,
        offsets: Vec<Committed>,
    },
    OffsetsDeleted {
        group: String,
        topic: String,
        partitions: Vec<i32>,
    },
    OffsetsStaged {
        group: String,
        producer_id: i64,
        offsets: Vec<Committed>,
    },
    StagedEnded {
        group: String,
        producer_id: i64,
        committed: bool,
    },
    GroupDeleted {
        group: String,
    },
}

/// The journal of a data folder, or of none: then it forgets.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Option<File>,
    path: PathBuf,
    size: u64,
    size_when_rewritten: u64,
}

/// What a folder's journal holds.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) journal: Journal,
    pub(crate) entries: Vec<Entry>,
    /// A damaged tail was cut, so what is not in the entries may yet have been.
    pub(crate) damaged: bool,
}

impl Journal {
    /// A journal that keeps nothing.
    pub(crate) fn in_memory() -> Self {
        Self { file: None, path: PathBuf::new(), size: 0, size_when_rewritten: 0 }
    }

    /// A journal on a disk that takes nothing.
    #[cfg(test)]
    pub(crate) fn unwritable() -> Self {
        let file = File::open("/dev/null").expect("every system has it"); // to read only
        Self { file: Some(file), ..Self::in_memory() }
    }

    /// Opens the journal of a folder and reads what it holds.
    pub(crate) fn open(folder: &Path) -> io::Result<Opened> {
        let path = folder.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let bytes = std::fs::read(&path)?;
        let (entries, good) = decode(&bytes);
        if good < bytes.len() {
            warn!(path = %path.display(), kept = good, cut = bytes.len() - good, "the tail of the journal is damaged and was cut");
            file.set_len(good as u64)?;
        }
        let size = good as u64;
        let journal = Self { file: Some(file), path, size, size_when_rewritten: 0 };
        Ok(Opened { journal, entries, damaged: good < bytes.len() })
    }

    /// Writes entries together.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let bytes = encode(entries)?;
        // At the known size: a write that failed half-way is overwritten by the next one.
        file.write_all_at(&bytes, self.size)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Whether most of the journal is history.
    pub(crate) fn is_worth_rewriting(&self) -> bool {
        self.size > REWRITE_FROM_BYTES && self.size > 4 * self.size_when_rewritten
    }

    /// Replaces the history by what is true now, in one step.
    pub(crate) fn rewrite(&mut self, entries: &[Entry]) -> io::Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        let bytes = encode(entries)?;
        let next_path = self.path.with_extension("next");
        let mut next =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&next_path)?;
        next.write_all(&bytes)?;
        next.sync_all()?;
        std::fs::rename(&next_path, &self.path)?;
        self.file = Some(next);
        self.size = bytes.len() as u64;
        self.size_when_rewritten = self.size;
        Ok(())
    }
}

fn encode(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for entry in entries {
        let json = serde_json::to_vec(entry)?;
        bytes.extend_from_slice(&(json.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&json).to_be_bytes());
        bytes.extend_from_slice(&json);
    }
    Ok(bytes)
}

/// The entries up to the first damage, and the bytes they take.
fn decode(bytes: &[u8]) -> (Vec<Entry>, usize) {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while let Some((entry, tail)) = decode_one(rest) {
        entries.push(entry);
        rest = tail;
    }
    (entries, bytes.len() - rest.len())
}

fn decode_one(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let (json, tail) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    if crc32c::crc32c(json) != u32::from_be_bytes(*crc) {
        return None;
    }
    Some((serde_json::from_slice(json).ok()?, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        vec![
            Entry::Cluster { id: "c".to_owned() },
            Entry::ProducerIds { next: 1000 },
            Entry::TopicDeleted { name: "t".to_owned() },
        ]
    }

    #[test]
    fn what_is_written_is_read_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let Opened { mut journal, entries: found, .. } = Journal::open(folder.path()).unwrap();
        assert_eq!(found, []);
        journal.append(&entries()).unwrap();
        assert_eq!(Journal::open(folder.path()).unwrap().entries, entries());
        journal.rewrite(&entries()[1..]).unwrap();
        journal.append(&entries()[..1]).unwrap();
        let found = Journal::open(folder.path()).unwrap().entries;
        assert_eq!(found, [&entries()[1..], &entries()[..1]].concat());
    }

    #[test]
    fn a_tail_cut_anywhere_or_damaged_costs_the_last_entry_only() {
        let bytes = encode(&entries()).unwrap();
        let before_last = encode(&entries()[..2]).unwrap().len();
        for length in before_last..bytes.len() {
            assert_eq!(decode(&bytes[..length]), (entries()[..2].to_vec(), before_last), "{length}");
        }
        for at in before_last..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged).1, before_last, "{at}");
        }
    }
}
