//! What a step makes of a batch: records on their way to topics, each with the source it answers for.

use std::ops::Range;
use std::sync::Arc;

use crate::batch::Record;
use crate::dead_letter::Rejection;
use crate::source::{Source, TRACE_HEADER};

/// Records to be written, in order, in one arena.
#[derive(Debug, Default)]
pub struct Outgoing {
    topics: Vec<Arc<str>>,
    arena: Vec<u8>,
    entries: Vec<Entry>,
    headers: Vec<(Range<usize>, Range<usize>)>,
}

#[derive(Debug)]
struct Entry {
    topic: usize,
    partition: Option<i32>,
    timestamp_ms: Option<i64>,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
}

/// Handle of a topic that an [`Outgoing`] writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicHandle(usize);

/// Where and when an output record goes; the rest are bytes.
#[derive(Debug, Clone, Copy)]
pub struct Destination {
    /// Topic, from [`Outgoing::topic`].
    pub topic: TopicHandle,
    /// Partition, or `None` to let the partitioner choose by key.
    pub partition: Option<i32>,
    /// Kafka time stamp in ms since 1970, or `None` for the time of sending.
    pub timestamp_ms: Option<i64>,
}

/// One record of an [`Outgoing`].
#[derive(Debug, Clone, Copy)]
pub struct OutgoingRecord<'a> {
    outgoing: &'a Outgoing,
    entry: &'a Entry,
}

impl Outgoing {
    /// Makes an empty collection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The handle of `name`, the same for the same name also after [`Outgoing::clear`].
    pub fn topic(&mut self, name: &str) -> TopicHandle {
        if let Some(index) = self.topics.iter().position(|it| &**it == name) {
            return TopicHandle(index);
        }
        self.topics.push(name.into());
        TopicHandle(self.topics.len() - 1)
    }

    /// Appends a record whose value `write` puts into the arena, without a buffer between.
    ///
    /// `source` becomes the header `src`: the one record that this one is the outcome of.
    pub fn push_with(
        &mut self,
        to: Destination,
        key: Option<&[u8]>,
        source: Option<&Source>,
        headers: &[(&str, &[u8])],
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.arena.len();
        write(&mut self.arena);
        let value = Some(start..self.arena.len());
        self.finish(to, key, value, source, headers);
    }

    /// Appends a record; a `value` of `None` is a tombstone.
    pub fn push(
        &mut self,
        to: Destination,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        source: Option<&Source>,
        headers: &[(&str, &[u8])],
    ) {
        let value = value.map(|it| append(&mut self.arena, it));
        self.finish(to, key, value, source, headers);
    }

    /// Appends `record` as it is as a dead letter to `topic`, with the reason in its headers.
    pub fn dead_letter(&mut self, topic: TopicHandle, record: Record<'_>, rejection: &Rejection) {
        let source = record.source();
        let to = Destination { topic, partition: None, timestamp_ms: record.timestamp_ms() };
        let headers = rejection.headers();
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        let trace = record.header(TRACE_HEADER).map(|it| (TRACE_HEADER, it));
        let headers: Vec<(&str, &[u8])> = headers.chain(trace).collect();
        self.push(to, record.key(), record.value(), Some(&source), &headers);
    }

    /// Forgets the records, keeps the memory and the topics.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
        self.headers.clear();
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

    /// The records, in the order they were appended.
    pub fn records(&self) -> impl ExactSizeIterator<Item = OutgoingRecord<'_>> {
        self.entries.iter().map(|entry| OutgoingRecord { outgoing: self, entry })
    }

    fn finish(
        &mut self,
        to: Destination,
        key: Option<&[u8]>,
        value: Option<Range<usize>>,
        source: Option<&Source>,
        headers: &[(&str, &[u8])],
    ) {
        let key = key.map(|it| append(&mut self.arena, it));
        let first = self.headers.len();
        if let Some(source) = source {
            let name = append(&mut self.arena, crate::source::SOURCE_HEADER.as_bytes());
            let start = self.arena.len();
            source.write(&mut self.arena);
            self.headers.push((name, start..self.arena.len()));
        }
        for (name, value) in headers {
            let name = append(&mut self.arena, name.as_bytes());
            let value = append(&mut self.arena, value);
            self.headers.push((name, value));
        }
        self.entries.push(Entry {
            topic: to.topic.0,
            partition: to.partition,
            timestamp_ms: to.timestamp_ms,
            key,
            value,
            headers: first..self.headers.len(),
        });
    }
}

impl<'a> OutgoingRecord<'a> {
    /// Topic to write to.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        &self.outgoing.topics[self.entry.topic]
    }

    /// Partition to write to, or `None` to let the partitioner choose.
    #[must_use]
    pub fn partition(&self) -> Option<i32> {
        self.entry.partition
    }

    /// Kafka time stamp in ms since 1970, or `None` for the time of sending.
    #[must_use]
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.entry.timestamp_ms
    }

    /// The key.
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
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let outgoing = self.outgoing;
        outgoing.headers[self.entry.headers.clone()].iter().map(move |(name, value)| {
            let name = std::str::from_utf8(&outgoing.arena[name.clone()])
                .expect("a header name was a str when it was appended");
            (name, &outgoing.arena[value.clone()])
        })
    }

    fn slice(&self, range: Option<&Range<usize>>) -> Option<&'a [u8]> {
        range.map(|it| &self.outgoing.arena[it.clone()])
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
    use crate::batch::Batch;
    use crate::dead_letter::Reason;

    #[test]
    fn a_dead_letter_is_the_record_with_where_it_was_and_why() {
        let mut batch = Batch::new("cars".into(), 3);
        let headers = [("a", Some(&b"1"[..])), (TRACE_HEADER, Some(&b"00-1-2-01"[..]))];
        batch.push(7, Some(1000), Some(b"car1"), None, headers);
        let mut out = Outgoing::new();
        let topic = out.topic("dead-letters");
        let rejection = Rejection { reason: Reason::Empty, detail: "no value".to_owned(), service: "scorer" };
        out.dead_letter(topic, batch.record(0), &rejection);
        let written = out.records().next().unwrap();
        assert_eq!((written.topic(), written.partition()), ("dead-letters", None));
        assert_eq!((written.key(), written.value()), (Some(&b"car1"[..]), None));
        assert_eq!(written.timestamp_ms(), Some(1000));
        let headers: Vec<_> =
            written.headers().map(|(name, it)| (name, std::str::from_utf8(it).unwrap())).collect();
        let expected = [
            ("src", "cars-3-7"),
            ("reason", "empty"),
            ("detail", "no value"),
            ("service", "scorer"),
            (TRACE_HEADER, "00-1-2-01"),
        ];
        assert_eq!(headers, expected);
    }

    #[test]
    fn topics_keep_their_handles_and_memory_is_used_again() {
        let mut out = Outgoing::new();
        let (a, b) = (out.topic("a"), out.topic("b"));
        let to = |topic| Destination { topic, partition: Some(1), timestamp_ms: None };
        out.push_with(to(b), None, None, &[("h", b"v")], |bytes| bytes.extend_from_slice(b"value"));
        assert_eq!(out.records().next().unwrap().value(), Some(&b"value"[..]));
        out.clear();
        assert!(out.is_empty());
        assert_eq!((out.topic("b"), out.topic("a")), (b, a));
    }
}
