//! A segment: a run of record batches in one file, or in memory, with a sparse index.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::batch::{HEADER_BYTES, Header};

/// Bytes of log between two index entries: what a read may have to step over.
const INDEX_INTERVAL: u64 = 4096;

/// Batches from `base` on. The bytes are exactly what a fetch sends.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: i64,
    store: Store,
    size: u64,
    index: Vec<IndexEntry>,
    /// The largest time stamp, `i64::MIN` while empty.
    pub(crate) max_timestamp: i64,
    /// When the first batch was written, in ms of the log's clock.
    pub(crate) opened_at: i64,
    /// Nothing was added since compaction looked at it.
    pub(crate) cleaned: bool,
}

#[derive(Debug)]
enum Store {
    File { file: File, path: PathBuf },
    Memory { bytes: Vec<u8>, written: SystemTime },
}

#[derive(Debug, Clone, Copy)]
struct IndexEntry {
    offset: i64,
    position: u64,
    /// The largest time stamp of everything before this entry.
    max_timestamp_before: i64,
}

impl Segment {
    /// An empty segment, a new file in `folder` or in memory.
    pub(crate) fn create(folder: Option<&Path>, base: i64, now: i64) -> io::Result<Self> {
        let store = match folder {
            Some(folder) => {
                let path = folder.join(format!("{base:020}.log"));
                let file =
                    OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
                Store::File { file, path }
            }
            None => Store::Memory { bytes: Vec::new(), written: SystemTime::UNIX_EPOCH },
        };
        Ok(Self {
            base,
            store,
            size: 0,
            index: Vec::new(),
            max_timestamp: i64::MIN,
            opened_at: now,
            cleaned: false,
        })
    }

    /// An existing file; its batches are then taken in with [`Segment::admit`].
    pub(crate) fn open(path: &Path, base: i64, now: i64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let store = Store::File { file, path: path.to_owned() };
        Ok(Self {
            base,
            store,
            size: 0,
            index: Vec::new(),
            max_timestamp: i64::MIN,
            opened_at: now,
            cleaned: false,
        })
    }

    /// Adds a batch that is placed already.
    pub(crate) fn append(&mut self, header: &Header, batch: &[u8], now: SystemTime) -> io::Result<()> {
        match &mut self.store {
            // At the known size, not at the end of the file: a write that failed half-way is overwritten.
            Store::File { file, .. } => file.write_all_at(batch, self.size)?,
            Store::Memory { bytes, written } => {
                bytes.extend_from_slice(batch);
                *written = now;
            }
        }
        self.admit(header);
        Ok(())
    }

    /// Takes note of a batch that stands at the end of the segment.
    pub(crate) fn admit(&mut self, header: &Header) {
        let due = self.index.last().is_none_or(|it| self.size - it.position >= INDEX_INTERVAL);
        if due {
            self.index.push(IndexEntry {
                offset: header.base_offset,
                position: self.size,
                max_timestamp_before: self.max_timestamp,
            });
        }
        self.size += header.size() as u64;
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        self.cleaned = false;
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Where to begin to look for `offset`.
    pub(crate) fn position_of(&self, offset: i64) -> u64 {
        let after = self.index.partition_point(|it| it.offset <= offset);
        after.checked_sub(1).map_or(0, |it| self.index[it].position)
    }

    /// Where to begin to look for the first time stamp of at least `timestamp`.
    pub(crate) fn position_of_time(&self, timestamp: i64) -> u64 {
        let after = self.index.partition_point(|it| it.max_timestamp_before < timestamp);
        after.checked_sub(1).map_or(0, |it| self.index[it].position)
    }

    /// Reads up to `length` bytes.
    pub(crate) fn read(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let length = length.min((self.size.saturating_sub(position)) as usize);
        match &self.store {
            Store::File { file, .. } => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, position)?;
                Ok(Bytes::from(bytes))
            }
            Store::Memory { bytes, .. } => {
                let from = position as usize;
                Ok(Bytes::copy_from_slice(bytes.get(from..from + length).unwrap_or_default()))
            }
        }
    }

    /// Walks over whole batches from `position` on; stops when `visit` returns false.
    pub(crate) fn walk(
        &self,
        mut position: u64,
        mut visit: impl FnMut(&Header, Bytes) -> bool,
    ) -> io::Result<()> {
        const CHUNK: usize = 256 << 10;
        while position < self.size {
            let mut chunk = self.read(position, CHUNK)?;
            let first = Header::read(&chunk).ok_or_else(damaged)?.size();
            if first > chunk.len() {
                chunk = self.read(position, first)?;
            }
            let mut at = 0;
            while let Some(header) = Header::read(&chunk[at..]) {
                if header.size() > chunk.len() - at {
                    break;
                }
                if !visit(&header, chunk.slice(at..at + header.size())) {
                    return Ok(());
                }
                at += header.size();
            }
            if at == 0 {
                return Err(damaged());
            }
            position += at as u64;
        }
        Ok(())
    }

    /// When something was last written, for the age of deletions.
    pub(crate) fn written(&self) -> SystemTime {
        match &self.store {
            Store::File { file, .. } => {
                file.metadata().and_then(|it| it.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
            }
            Store::Memory { written, .. } => *written,
        }
    }

    /// Whether it was last written longer than `age` before `now`.
    pub(crate) fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        now.duration_since(self.written()).is_ok_and(|it| it >= age)
    }

    /// Gives back memory that growing took in advance, when nothing more is added.
    pub(crate) fn close(&mut self) {
        if let Store::Memory { bytes, .. } = &mut self.store {
            bytes.shrink_to_fit();
        }
    }

    /// Cuts everything behind what was admitted.
    pub(crate) fn cut_tail(&self) -> io::Result<()> {
        match &self.store {
            Store::File { file, .. } => file.set_len(self.size),
            Store::Memory { .. } => Ok(()),
        }
    }

    /// Length of the file, which differs from the size while it is being read in.
    pub(crate) fn stored_length(&self) -> io::Result<u64> {
        match &self.store {
            Store::File { file, .. } => Ok(file.metadata()?.len()),
            Store::Memory { bytes, .. } => Ok(bytes.len() as u64),
        }
    }

    /// Reads bytes of the file whether admitted or not.
    pub(crate) fn read_stored(&self, position: u64, length: usize) -> io::Result<Vec<u8>> {
        let length = length.min(self.stored_length()?.saturating_sub(position) as usize);
        match &self.store {
            Store::File { file, .. } => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, position)?;
                Ok(bytes)
            }
            Store::Memory { bytes, .. } => Ok(bytes[position as usize..][..length].to_vec()),
        }
    }

    /// Replaces the content by fewer batches, in one step: a crash leaves the old file or the new one.
    pub(crate) fn replace(&mut self, batches: &[(Header, Vec<u8>)]) -> io::Result<()> {
        let written = self.written();
        match &mut self.store {
            Store::File { file, path } => {
                let cleaned = path.with_extension("cleaned");
                let mut next =
                    OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&cleaned)?;
                for (_, batch) in batches {
                    next.write_all(batch)?;
                }
                next.set_modified(written)?;
                std::fs::rename(&cleaned, path)?;
                *file = next;
            }
            Store::Memory { bytes, .. } => *bytes = batches.iter().flat_map(|it| &it.1).copied().collect(),
        }
        self.size = 0;
        self.index.clear();
        self.max_timestamp = i64::MIN;
        for (header, _) in batches {
            self.admit(header);
        }
        Ok(())
    }

    /// Deletes the file.
    pub(crate) fn delete(self) -> io::Result<()> {
        match self.store {
            Store::File { path, .. } => std::fs::remove_file(path),
            Store::Memory { .. } => Ok(()),
        }
    }
}

/// The length of the header that a tail must have to be looked at.
pub(crate) const SMALLEST_BATCH: usize = HEADER_BYTES;

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a stored record batch is damaged")
}
