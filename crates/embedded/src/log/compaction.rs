//! Compaction: keeps the last record of each key in the segments that are closed.
//!
//! ```text
//! closed segments below the last stable offset ─▶ last offset of each key ─▶ each segment rewritten, oldest first
//! ```
//!
//! Offsets never change. Records of aborted transactions go, those of committed ones become ordinary records, so
//! the markers behind them can go too: markers stand behind their records, and segments are rewritten in order, so a
//! crash in between leaves no record without its marker. A tombstone goes once its segment is older than
//! `delete.retention.ms`. The last batch of a producer stays, empty if need be, because it carries its sequence number.

use std::collections::HashMap;
use std::io;
use std::time::SystemTime;

use bytes::Bytes;
use tracing::debug;

use super::batch::{self, Header};
use super::catalog::{Partition, lock};
use super::partition::PartitionLog;
use super::producers::Producers;
use super::raw::{self, Unreadable};
use super::segment::Segment;
use super::topic_config::TopicConfig;
use super::{clock, codec};

/// Compacts a partition if enough of it is new. The partition is locked for one segment at a time.
pub(crate) fn apply(partition: &Partition, config: &TopicConfig, now: SystemTime) -> io::Result<()> {
    let bases = due(&lock(partition), config, clock::millis(now));
    let mut latest = HashMap::new();
    for base in &bases {
        let log = lock(partition);
        if let Some(segment) = log.segments.iter().find(|it| it.base == *base) {
            note_keys(segment, &log.producers, &mut latest)?;
        }
    }
    for base in &bases {
        rewrite(&mut lock(partition), *base, &latest, config, now)?;
    }
    Ok(())
}

/// The closed segments to compact; none when too little of them is new.
fn due(log: &PartitionLog, config: &TopicConfig, now: i64) -> Vec<i64> {
    if !config.compacts {
        return Vec::new();
    }
    let stable = log.last_stable();
    let settled = |(segment, next): &(&Segment, &Segment)| {
        next.base <= stable && now.saturating_sub(segment.max_timestamp) >= config.min_compaction_lag_ms
    };
    let closed = log.segments.iter().zip(log.segments.iter().skip(1));
    let closed: Vec<_> = closed.take_while(settled).map(|(segment, _)| segment).collect();
    let total: u64 = closed.iter().map(|it| it.size()).sum();
    let dirty = || closed.iter().filter(|it| !it.cleaned);
    let share = dirty().map(|it| it.size()).sum::<u64>() as f64 / total.max(1) as f64;
    let overdue = dirty().any(|it| now.saturating_sub(it.max_timestamp) > config.max_compaction_lag_ms);
    if dirty().next().is_none() || (share < config.min_cleanable_dirty_ratio && !overdue) {
        return Vec::new();
    }
    closed.iter().map(|it| it.base).collect()
}

/// Notes the last offset of each key.
fn note_keys(
    segment: &Segment,
    producers: &Producers,
    latest: &mut HashMap<Box<[u8]>, i64>,
) -> io::Result<()> {
    segment.walk(0, |header, batch| {
        if !header.is_control() && !producers.was_aborted(header.producer_id, header.base_offset) {
            let Ok(plain) = codec::decompressed(header, &batch) else {
                return true; // kept as it is
            };
            for record in raw::records(&plain).flatten() {
                if let Some(key) = record.key {
                    latest.insert(key.into(), header.base_offset + i64::from(record.offset_delta));
                }
            }
        }
        true
    })
}

fn rewrite(
    log: &mut PartitionLog,
    base: i64,
    latest: &HashMap<Box<[u8]>, i64>,
    config: &TopicConfig,
    now: SystemTime,
) -> io::Result<()> {
    let Some(at) = log.segments.iter().position(|it| it.base == base) else {
        return Ok(()); // retention was faster
    };
    let segment = &log.segments[at];
    let keep_tombstones = !segment.is_older_than(config.delete_retention, now);
    let before = segment.size();
    let mut kept = Vec::new();
    let mut markers = Vec::new();
    segment.walk(0, |header, batch| {
        if header.is_control() {
            markers.push(header.base_offset);
        } else if let Some(batch) = compacted(header, &batch, &log.producers, latest, keep_tombstones) {
            kept.extend(Header::read(&batch).map(|it| (it, batch)));
        }
        true
    })?;
    let after: usize = kept.iter().map(|(_, batch)| batch.len()).sum();
    let segment = &mut log.segments[at];
    segment.replace(&kept)?;
    segment.cleaned = true;
    log.producers.forget_markers(&markers);
    debug!(partition = log.name, base, before, after, "compacted a segment");
    if kept.is_empty() && at > 0 {
        // The first segment stays, empty, because its name says where the log begins.
        if let Some(empty) = log.segments.remove(at) {
            empty.delete()?;
        }
    }
    Ok(())
}

/// What is left of a batch; `None` for nothing.
fn compacted(
    header: &Header,
    batch: &Bytes,
    producers: &Producers,
    latest: &HashMap<Box<[u8]>, i64>,
    keep_tombstones: bool,
) -> Option<Vec<u8>> {
    let aborted = header.is_transactional() && producers.was_aborted(header.producer_id, header.base_offset);
    let mut kept = Vec::new();
    let mut count = 0;
    let mut newest = header.base_timestamp;
    let packed = codec::decompressed(header, batch).and_then(|plain| {
        for record in raw::records(&plain) {
            let record = record?;
            let offset = header.base_offset + i64::from(record.offset_delta);
            let is_latest = record.key.is_none_or(|key| latest.get(key).is_none_or(|it| *it == offset));
            if !aborted && is_latest && (record.has_value || keep_tombstones) {
                kept.extend_from_slice(record.bytes);
                newest = newest.max(header.base_timestamp.saturating_add(record.timestamp_delta));
                count += 1;
            }
        }
        if count == 0 { Ok(Bytes::new()) } else { codec::compressed(header, &kept) }
    });
    match packed {
        _ if count == 0
            && !producers.is_last_batch(header.producer_id, header.base_offset)
            && packed.is_ok() =>
        {
            None
        }
        Ok(_) if count == header.count && !header.is_transactional() => Some(batch.to_vec()),
        Ok(packed) => {
            let newest = if header.is_log_append_time() { header.max_timestamp } else { newest };
            Some(batch::rebuilt(header, count, newest, &packed))
        }
        Err(Unreadable) if aborted => None,
        Err(Unreadable) => {
            let records = &batch[batch::HEADER_BYTES..];
            Some(batch::rebuilt(header, header.count, header.max_timestamp, records))
        }
    }
}

#[cfg(test)]
#[path = "compaction_tests.rs"]
mod tests;
