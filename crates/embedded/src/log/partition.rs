//! The log of one partition: segments, the offsets that bound them, and its producers.
//!
//! ```text
//! produce ─▶ append ─▶ last segment ──▶ wakes waiting fetches
//! fetch   ─▶ read ──▶ whole batches up to the last stable offset (read_committed) or the end
//! ```
//!
//! Reading the files from the start rebuilds everything kept in memory, so there is no second truth.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::Notify;
use tracing::{error, info};

use super::batch::{self, HEADER_BYTES, Header, Refusal};
use super::codec;
use super::producers::{Aborted, Producers, Verdict};
use super::raw;
use super::segment::Segment;
use super::topic_config::TopicConfig;

/// Segments in memory are smaller, so that retention gives memory back in small steps.
const MEMORY_SEGMENT_BYTES: u64 = 4 << 20;
/// What a fetch reads beyond what it wants: a read begins at an index entry before the offset.
const READ_SLACK: usize = 4096 + HEADER_BYTES;

/// The log of one partition.
#[derive(Debug)]
pub(crate) struct PartitionLog {
    pub(super) name: String,
    pub(super) folder: Option<PathBuf>,
    /// Never empty; the last one is written to.
    pub(super) segments: VecDeque<Segment>,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) producers: Producers,
    waiters: Vec<Arc<Notify>>,
    /// The topic is gone; requests that still hold the partition are told so.
    deleted: bool,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    /// -1 unless the topic stamps batches itself.
    pub(crate) append_time: i64,
}

/// What a fetch finds.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) records: Bytes,
    pub(crate) end: i64,
    pub(crate) last_stable: i64,
    pub(crate) start: i64,
    pub(crate) aborted: Vec<Aborted>,
}

/// What a fetch wants of one partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) offset: i64,
    pub(crate) max_bytes: usize,
    /// Only what no open transaction can take back.
    pub(crate) committed: bool,
    /// Return the first batch even if it is larger than `max_bytes`, so that a consumer always gets on.
    pub(crate) at_least_one: bool,
}

impl PartitionLog {
    /// An empty log, in memory or in a new folder.
    pub(crate) fn create(name: String, folder: Option<PathBuf>, now: i64) -> io::Result<Self> {
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder)?;
        }
        let first = Segment::create(folder.as_deref(), 0, now)?;
        Ok(Self::of(name, folder, VecDeque::from([first])))
    }

    pub(super) fn of(name: String, folder: Option<PathBuf>, segments: VecDeque<Segment>) -> Self {
        let start = segments.front().map_or(0, |it| it.base);
        Self {
            name,
            folder,
            segments,
            start,
            end: start,
            producers: Producers::default(),
            waiters: Vec::new(),
            deleted: false,
        }
    }

    /// Appends what a producer sent, or recognises that it is there already.
    pub(crate) fn append(
        &mut self,
        sent: &[u8],
        header: &Header,
        config: &TopicConfig,
        now: SystemTime,
    ) -> Result<Appended, Refusal> {
        let refuse = |error, why| Err(Refusal { error, why });
        if self.deleted {
            return refuse(ResponseError::UnknownTopicOrPartition, "the topic is deleted");
        }
        if sent.len() > config.max_message_bytes {
            return refuse(
                ResponseError::MessageTooLarge,
                "the record batch is larger than max.message.bytes",
            );
        }
        match self.producers.check(header) {
            Ok(Verdict::Append) => {}
            Ok(Verdict::Duplicate { base_offset, timestamp }) => {
                return Ok(Appended { base_offset, append_time: timestamp });
            }
            Err(error) => return refuse(error, "the record batch does not continue what its producer sent"),
        }
        let mut stored = sent.to_vec();
        let mut append_time = -1;
        if config.log_append_time {
            append_time = super::clock::millis(now);
            batch::stamp(&mut stored, append_time);
        }
        match self.write(&mut stored, config, now) {
            Ok(placed) => {
                self.producers.applied(&placed);
                Ok(Appended { base_offset: placed.base_offset, append_time })
            }
            Err(source) => {
                error!(partition = self.name, %source, "a record batch could not be written");
                refuse(ResponseError::KafkaStorageError, "the record batch could not be written")
            }
        }
    }

    /// Ends a producer's transaction here.
    pub(crate) fn append_marker(
        &mut self,
        producer: (i64, i16),
        committed: bool,
        config: &TopicConfig,
        now: SystemTime,
    ) -> io::Result<()> {
        if self.deleted {
            return Ok(());
        }
        let mut marker = batch::marker(producer.0, producer.1, committed, super::clock::millis(now));
        let placed = self.write(&mut marker, config, now)?;
        self.producers.ended(&placed, committed);
        Ok(())
    }

    /// Places a batch at the end and wakes whoever waits for it.
    fn write(&mut self, batch: &mut [u8], config: &TopicConfig, now: SystemTime) -> io::Result<Header> {
        batch::place(batch, self.end);
        let header = Header::read(batch).ok_or(io::ErrorKind::InvalidData)?;
        self.roll_if_due(batch.len() as u64, config, super::clock::millis(now))?;
        let last = self.segments.back_mut().expect("a log has a segment");
        last.append(&header, batch, now)?;
        self.end = header.last_offset() + 1;
        for waiter in self.waiters.drain(..) {
            waiter.notify_one();
        }
        Ok(header)
    }

    fn roll_if_due(&mut self, more: u64, config: &TopicConfig, now: i64) -> io::Result<()> {
        let last = self.segments.back().expect("a log has a segment");
        let limit = match self.folder {
            Some(_) => config.segment_bytes,
            None => config.segment_bytes.min(MEMORY_SEGMENT_BYTES),
        };
        let full = last.size() + more > limit;
        let old = now.saturating_sub(last.opened_at) >= config.segment_ms;
        if last.size() > 0 && (full || old) {
            self.roll(now)?;
        }
        Ok(())
    }

    /// Begins a new segment at the end of the log.
    pub(super) fn roll(&mut self, now: i64) -> io::Result<()> {
        let next = Segment::create(self.folder.as_deref(), self.end, now)?;
        if let Some(last) = self.segments.back_mut() {
            last.close();
        }
        self.segments.push_back(next);
        Ok(())
    }

    /// Reads whole batches for a consumer.
    pub(crate) fn fetch(&self, wanted: Wanted) -> Result<Fetched, ResponseError> {
        if self.deleted {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
        if wanted.offset < self.start || wanted.offset > self.end {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let limit = self.limit(wanted.committed);
        let mut fetched = Fetched {
            end: self.end,
            last_stable: self.last_stable(),
            start: self.start,
            ..Fetched::default()
        };
        if wanted.offset >= limit {
            return Ok(fetched);
        }
        let (records, next) = self.read(wanted, limit).map_err(|source| {
            error!(partition = self.name, %source, "records could not be read");
            ResponseError::KafkaStorageError
        })?;
        fetched.records = records;
        if wanted.committed {
            fetched.aborted = self.producers.aborted(wanted.offset, next).collect();
        }
        Ok(fetched)
    }

    /// Whole batches from the offset on, and the offset behind them.
    fn read(&self, wanted: Wanted, limit: i64) -> io::Result<(Bytes, i64)> {
        let after = self.segments.partition_point(|it| it.base <= wanted.offset);
        for segment in self.segments.range(after.saturating_sub(1)..) {
            let mut position = segment.position_of(wanted.offset);
            let mut chunk = segment.read(position, wanted.max_bytes.saturating_add(READ_SLACK))?;
            let mut from = None;
            let mut to = 0;
            let mut next = wanted.offset;
            while let Some(header) = Header::read(&chunk[to..]) {
                if header.base_offset >= limit {
                    break;
                }
                if from.is_none() && header.last_offset() < wanted.offset {
                    if header.size() > chunk.len() - to {
                        // Too large to step over within the chunk: go on behind it.
                        position += (to + header.size()) as u64;
                        chunk = segment.read(position, wanted.max_bytes.saturating_add(READ_SLACK))?;
                        to = 0;
                    } else {
                        to += header.size();
                    }
                    continue;
                }
                let first = *from.get_or_insert(to);
                if to + header.size() - first > wanted.max_bytes {
                    if to > first || !wanted.at_least_one {
                        break;
                    }
                    if header.size() > chunk.len() - to {
                        let at = self.position_in(segment, header.base_offset)?;
                        return Ok((segment.read(at, header.size())?, header.last_offset() + 1));
                    }
                }
                to += header.size();
                next = header.last_offset() + 1;
            }
            if let Some(from) = from {
                return Ok((chunk.slice(from..to), next));
            }
        }
        Ok((Bytes::new(), wanted.offset))
    }

    /// Where the batch that begins at `base_offset` stands.
    fn position_in(&self, segment: &Segment, base_offset: i64) -> io::Result<u64> {
        let mut position = segment.position_of(base_offset);
        segment.walk(position, |header, _| {
            let before = header.base_offset < base_offset;
            position += if before { header.size() as u64 } else { 0 };
            before
        })?;
        Ok(position)
    }

    /// Asks to be woken at the next append.
    pub(crate) fn wake(&mut self, waiter: &Arc<Notify>) {
        // A waiter nobody else holds belongs to a connection that is gone.
        self.waiters.retain(|it| Arc::strong_count(it) > 1 && !Arc::ptr_eq(it, waiter));
        self.waiters.push(Arc::clone(waiter));
    }

    /// The first offset that is still there.
    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    /// The offset of the next record.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// The offset below which every transaction has ended.
    pub(crate) fn last_stable(&self) -> i64 {
        self.producers.last_stable_offset(self.end)
    }

    fn limit(&self, committed: bool) -> i64 {
        if committed { self.last_stable() } else { self.end }
    }

    /// Bytes stored.
    pub(crate) fn size(&self) -> u64 {
        self.segments.iter().map(Segment::size).sum()
    }

    /// What is known of the producers.
    pub(crate) fn producers(&self) -> &Producers {
        &self.producers
    }

    /// The first record that is at least as young as `timestamp`: its time stamp and offset.
    pub(crate) fn at_time(&self, timestamp: i64, committed: bool) -> io::Result<Option<(i64, i64)>> {
        let limit = self.limit(committed);
        let mut found = None;
        for segment in self.segments.iter().filter(|it| it.max_timestamp >= timestamp) {
            segment.walk(segment.position_of_time(timestamp), |header, batch| {
                if header.base_offset >= limit {
                    return false;
                }
                if header.max_timestamp >= timestamp && header.last_offset() >= self.start {
                    found = times(header, &batch)
                        .into_iter()
                        .find(|(time, offset)| *time >= timestamp && *offset >= self.start);
                }
                found.is_none()
            })?;
            if found.is_some() {
                break;
            }
        }
        Ok(found)
    }

    /// The record with the largest time stamp: its time stamp and offset.
    pub(crate) fn newest(&self, committed: bool) -> io::Result<Option<(i64, i64)>> {
        let newest = self.segments.iter().map(|it| it.max_timestamp).max().unwrap_or(i64::MIN);
        if newest == i64::MIN { Ok(None) } else { self.at_time(newest, committed) }
    }

    /// Moves the start of the log; what lies wholly below it is deleted.
    pub(crate) fn delete_before(&mut self, offset: i64) -> io::Result<()> {
        if offset <= self.start {
            return Ok(());
        }
        self.start = offset.min(self.end);
        while self.segments.len() > 1 && self.segments[1].base <= self.start {
            self.delete_oldest()?;
        }
        self.producers.forget_before(self.start);
        Ok(())
    }

    pub(super) fn delete_oldest(&mut self) -> io::Result<()> {
        let Some(oldest) = self.segments.pop_front() else {
            return Ok(());
        };
        let next = self.segments.front().map_or(self.end, |it| it.base);
        self.start = self.start.max(next);
        oldest.delete()
    }

    /// Ends the log with its topic.
    pub(crate) fn delete(&mut self) {
        self.deleted = true;
        self.waiters.drain(..).for_each(|it| it.notify_one());
        info!(partition = self.name, "deleted");
    }
}

/// Time stamp and offset of each record; of the batch as a whole when its records cannot be read.
fn times(header: &Header, batch: &Bytes) -> Vec<(i64, i64)> {
    let whole = vec![(header.max_timestamp, header.base_offset)];
    if header.is_log_append_time() {
        return whole;
    }
    let Ok(plain) = codec::decompressed(header, batch) else {
        return whole;
    };
    let time = |it: raw::Raw<'_>| {
        (
            header.base_timestamp.saturating_add(it.timestamp_delta),
            header.base_offset + i64::from(it.offset_delta),
        )
    };
    raw::records(&plain).map(|it| it.map(time)).collect::<Result<_, _>>().unwrap_or(whole)
}
