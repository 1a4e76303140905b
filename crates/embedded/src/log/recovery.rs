//! Start: reads the files of a partition, cuts what is damaged, and rebuilds what is kept in memory.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use tracing::warn;

use super::batch::{self, Header};
use super::partition::PartitionLog;
use super::producers::Producers;
use super::segment::{SMALLEST_BATCH, Segment};

/// What is read at once.
const CHUNK: usize = 1 << 20;

/// Opens the log of a partition.
///
/// A segment is good up to the first batch that is cut, damaged, or out of order; the rest of its file is cut
/// off and a warning says where.
pub(crate) fn open(name: String, folder: &Path, start: i64, now: i64) -> io::Result<PartitionLog> {
    std::fs::create_dir_all(folder)?;
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "cleaned") {
            std::fs::remove_file(&path)?; // compaction was killed before it could swap
        } else if let Some(base) =
            path.file_stem().and_then(|it| it.to_str()).and_then(|it| it.parse::<i64>().ok())
        {
            bases.push((base, path));
        }
    }
    bases.sort();
    if bases.is_empty() {
        return PartitionLog::create(name, Some(folder.to_owned()), now);
    }
    let mut producers = Producers::default();
    let mut segments = VecDeque::new();
    let mut end = bases[0].0;
    for (base, path) in bases {
        let mut segment = Segment::open(&path, base, now)?;
        end = end.max(base);
        read_in(&name, &path, &mut segment, &mut end, &mut producers)?;
        segments.push_back(segment);
    }
    let mut log = PartitionLog::of(name, Some(folder.to_owned()), segments);
    log.end = end;
    log.start = log.start.max(start).min(end);
    producers.forget_before(log.start);
    log.producers = producers;
    Ok(log)
}

fn read_in(
    name: &str,
    path: &Path,
    segment: &mut Segment,
    end: &mut i64,
    producers: &mut Producers,
) -> io::Result<()> {
    let length = segment.stored_length()?;
    let mut chunk = Vec::new();
    let mut at = 0;
    while segment.size() < length {
        if Header::read(&chunk[at..]).is_none_or(|it| it.size() > chunk.len() - at) {
            let wanted = Header::read(&chunk[at..]).map_or(CHUNK, |it| it.size().max(CHUNK));
            chunk = segment.read_stored(segment.size(), wanted)?;
            at = 0;
        }
        let Some(header) = good_batch(&chunk[at..], *end) else {
            let first = Header::read(&chunk[at..]).map(|it| it.size());
            if at == 0 && first.is_some_and(|it| it > chunk.len() && it as u64 <= length - segment.size()) {
                continue; // the header is now known; the next round reads the whole batch
            }
            let cut = length - segment.size();
            warn!(partition = name, path = %path.display(), kept = segment.size(), cut, next_offset = *end,
                "the tail of a segment is damaged and was cut");
            return segment.cut_tail();
        };
        let batch = &chunk[at..at + header.size()];
        if header.is_control() {
            if let Some(committed) = batch::marker_commits(batch) {
                producers.ended(&header, committed);
            }
        } else {
            producers.applied(&header);
        }
        segment.admit(&header);
        *end = header.last_offset() + 1;
        at += header.size();
    }
    Ok(())
}

/// The header of a batch that is whole, undamaged and in order.
fn good_batch(bytes: &[u8], end: i64) -> Option<Header> {
    let header = Header::read(bytes)?;
    let batch = bytes.get(..header.size())?;
    // The check sum does not cover the offset: one beyond all others is damage, and none could follow it.
    let last = header.base_offset.checked_add(i64::from(header.last_offset_delta));
    let follows = last.is_some_and(|it| it < i64::MAX);
    let in_order = header.base_offset >= end && header.last_offset_delta >= 0 && follows;
    (bytes.len() >= SMALLEST_BATCH && header.magic == 2 && in_order && batch::crc(batch) == header.crc)
        .then_some(header)
}
