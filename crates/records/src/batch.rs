//! A batch: consecutive records of one partition, as bytes in one arena.
//!
//! ```text
//! Kafka ─▶ Batch (bytes, offsets) ─▶ codec ─▶ columns ─▶ step ─▶ Outgoing (bytes, sources) ─▶ Kafka
//! ```
//!
//! Keys, values and headers of all records lie in one buffer that is reused from batch to batch, so
//! taking a record in costs one copy and no allocation.

use std::ops::Range;
use std::sync::Arc;

use crate::source::Source;

/// Consecutive records of one partition, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    topic: Arc<str>,
    partition: i32,
    arena: Vec<u8>,
    entries: Vec<Entry>,
    headers: Vec<HeaderEntry>,
}

#[derive(Debug, Clone)]
struct Entry {
    offset: i64,
    timestamp_ms: Option<i64>,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
}

#[derive(Debug, Clone)]
struct HeaderEntry {
    name: Range<usize>,
    value: Option<Range<usize>>,
}

/// One record of a [`Batch`], borrowed from its arena.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    batch: &'a Batch,
    entry: &'a Entry,
}

impl Batch {
    /// Makes an empty batch of `partition` of `topic`.
    #[must_use]
    pub fn new(topic: Arc<str>, partition: i32) -> Self {
        Self { topic, partition, ..Self::default() }
    }

    /// Appends a record; `headers` are names with values, in order.
    pub fn push<'h>(
        &mut self,
        offset: i64,
        timestamp_ms: Option<i64>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) {
        let key = key.map(|it| append(&mut self.arena, it));
        let value = value.map(|it| append(&mut self.arena, it));
        let first = self.headers.len();
        for (name, value) in headers {
            let name = append(&mut self.arena, name.as_bytes());
            let value = value.map(|it| append(&mut self.arena, it));
            self.headers.push(HeaderEntry { name, value });
        }
        let headers = first..self.headers.len();
        self.entries.push(Entry { offset, timestamp_ms, key, value, headers });
    }

    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
        self.headers.clear();
    }

    /// The topic the records came from.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The partition the records came from.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all keys, values and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// Offset of the newest record.
    #[must_use]
    pub fn last_offset(&self) -> Option<i64> {
        self.entries.last().map(|it| it.offset)
    }

    /// The record at `index`.
    ///
    /// # Panics
    ///
    /// Panics when `index` is not below [`Batch::len`].
    #[must_use]
    pub fn record(&self, index: usize) -> Record<'_> {
        Record { batch: self, entry: &self.entries[index] }
    }

    /// The records, oldest first.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.entries.iter().map(|entry| Record { batch: self, entry })
    }
}

impl<'a> Record<'a> {
    /// The partition it came from.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.batch.partition
    }

    /// Position in its partition.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.entry.offset
    }

    /// Kafka's time stamp in ms since 1970, if the record has one.
    #[must_use]
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.entry.timestamp_ms
    }

    /// The key, `None` where Kafka has null.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.slice(self.entry.key.as_ref())
    }

    /// The value, `None` for a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.slice(self.entry.value.as_ref())
    }

    /// Names and values of the headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let batch = self.batch;
        batch.headers[self.entry.headers.clone()].iter().map(move |header| {
            let name = std::str::from_utf8(&batch.arena[header.name.clone()])
                .expect("a header name was a str when it was appended");
            (name, header.value.as_ref().map(|it| &batch.arena[it.clone()]))
        })
    }

    /// The value of the last header called `name`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().filter(|(it, _)| *it == name).last().and_then(|(_, value)| value)
    }

    /// Where the record lies, as its descendants' `src` header says it.
    #[must_use]
    pub fn source(&self) -> Source {
        Source {
            topic: Arc::clone(&self.batch.topic),
            partition: self.batch.partition,
            offset: self.entry.offset,
        }
    }

    fn slice(&self, range: Option<&Range<usize>>) -> Option<&'a [u8]> {
        range.map(|it| &self.batch.arena[it.clone()])
    }
}

fn append(arena: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = arena.len();
    arena.extend_from_slice(bytes);
    start..arena.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_pushed() {
        let mut batch = Batch::new("cars".into(), 3);
        batch.push(7, Some(1000), Some(b"car1"), Some(b"{}"), [("a", Some(&b"1"[..])), ("a", None)]);
        batch.push(9, None, None, None, []);
        let first = batch.record(0);
        assert_eq!((first.offset(), first.timestamp_ms()), (7, Some(1000)));
        assert_eq!((first.key(), first.value()), (Some(&b"car1"[..]), Some(&b"{}"[..])));
        assert_eq!(first.headers().collect::<Vec<_>>(), [("a", Some(&b"1"[..])), ("a", None)]);
        assert_eq!(first.source().to_string(), "cars-3-7");
        let second = batch.record(1);
        assert_eq!((second.key(), second.value(), second.headers().count()), (None, None, 0));
        assert_eq!(batch.last_offset(), Some(9));
    }

    #[test]
    fn a_cleared_batch_is_empty_and_keeps_its_place() {
        let mut batch = Batch::new("cars".into(), 3);
        batch.push(7, None, Some(b"k"), Some(b"v"), []);
        batch.clear();
        assert!(batch.is_empty());
        assert_eq!((batch.partition(), batch.bytes(), batch.last_offset()), (3, 0, None));
    }
}
