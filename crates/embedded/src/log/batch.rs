//! A record batch as Kafka stores and sends it: its header, its checks, and the marker that ends a transaction.
//!
//! ```text
//! base offset 8 | length 4 | leader epoch 4 | magic 1 | CRC 4 | attributes 2 | … | count 4 | records
//! └─ written by the log ──────────────────┘             └─ covered by the CRC, never changed ────────
//! ```
//!
//! Batches stay opaque on their way: the log writes the base offset and the leader epoch, which the CRC does
//! not cover, and everything else is stored as the producer sent it.

use kafka_protocol::ResponseError;

use super::{codec, raw};

/// Bytes of a batch before its records.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes of a batch that its length field does not count.
const PREFIX_BYTES: usize = 12;
/// Where the part that the CRC covers begins.
const CRC_FROM: usize = 21;
/// The leader epoch of every partition: there is one node, and it never changes.
pub(crate) const LEADER_EPOCH: i32 = 0;

const COMPRESSION_BITS: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// The fixed part of a record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) base_offset: i64,
    /// Bytes after the length field.
    pub(crate) length: i32,
    pub(crate) magic: i8,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) count: i32,
}

impl Header {
    /// Reads the header at the front of `bytes`; `None` when there are too few or the length is impossible.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let read = Self {
            base_offset: i64::from_be_bytes(part(header, 0)),
            length: i32::from_be_bytes(part(header, 8)),
            magic: i8::from_be_bytes(part(header, 16)),
            crc: u32::from_be_bytes(part(header, 17)),
            attributes: i16::from_be_bytes(part(header, 21)),
            last_offset_delta: i32::from_be_bytes(part(header, 23)),
            base_timestamp: i64::from_be_bytes(part(header, 27)),
            max_timestamp: i64::from_be_bytes(part(header, 35)),
            producer_id: i64::from_be_bytes(part(header, 43)),
            producer_epoch: i16::from_be_bytes(part(header, 51)),
            base_sequence: i32::from_be_bytes(part(header, 53)),
            count: i32::from_be_bytes(part(header, 57)),
        };
        let smallest = HEADER_BYTES - PREFIX_BYTES;
        (usize::try_from(read.length).is_ok_and(|it| it >= smallest)).then_some(read)
    }

    /// Bytes of the whole batch.
    pub(crate) fn size(&self) -> usize {
        PREFIX_BYTES + self.length as usize
    }

    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The sequence number of the last record, which wraps from the largest `i32` to 0.
    pub(crate) fn last_sequence(&self) -> i32 {
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (last % (i64::from(i32::MAX) + 1)) as i32
    }

    pub(crate) fn compression(&self) -> i16 {
        self.attributes & COMPRESSION_BITS
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub(crate) fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Whether a producer with an identity wrote it, so that sequence numbers count.
    pub(crate) fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }
}

fn part<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|index| header[at + index])
}

/// Why a batch from a producer is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) error: ResponseError,
    pub(crate) why: &'static str,
}

fn refuse<T>(error: ResponseError, why: &'static str) -> Result<T, Refusal> {
    Err(Refusal { error, why })
}

/// Checks what a producer sent for one partition: exactly one batch, whole and consistent, whose records can be
/// read and are as many as it says.
pub(crate) fn check(bytes: &[u8]) -> Result<Header, Refusal> {
    let Some(header) = Header::read(bytes) else {
        // As Kafka tells them apart: an impossible length is damage, a batch that is not all there is none.
        return match bytes.len() {
            HEADER_BYTES.. => {
                refuse(ResponseError::CorruptMessage, "the length of the record batch is impossible")
            }
            _ => refuse(ResponseError::InvalidRecord, "there is no whole record batch"),
        };
    };
    if header.magic != 2 {
        return refuse(
            ResponseError::UnsupportedForMessageFormat,
            "only record batches of format 2 are stored",
        );
    }
    if header.size() > bytes.len() {
        return refuse(ResponseError::InvalidRecord, "the record batch ends before its length");
    }
    if header.size() < bytes.len() {
        return refuse(ResponseError::InvalidRecord, "more than one record batch for one partition");
    }
    if crc(bytes) != header.crc {
        return refuse(ResponseError::CorruptMessage, "the CRC of the record batch does not match");
    }
    if header.is_control() {
        return refuse(ResponseError::InvalidRecord, "only the log writes control batches");
    }
    if header.count <= 0 || header.last_offset_delta != header.count - 1 {
        return refuse(
            ResponseError::InvalidRecord,
            "the number of records and the last offset delta disagree",
        );
    }
    if header.has_producer() && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return refuse(ResponseError::InvalidRecord, "a producer id without sequence number and epoch");
    }
    if header.is_transactional() && !header.has_producer() {
        return refuse(ResponseError::InvalidRecord, "a transactional batch without a producer id");
    }
    if header.compression() > 4 {
        return refuse(ResponseError::UnsupportedCompressionType, "the compression type is unknown");
    }
    let Ok(plain) = codec::decompressed(&header, bytes) else {
        return refuse(ResponseError::CorruptMessage, "the records cannot be decompressed");
    };
    let mut expected = 0;
    for record in raw::records(&plain) {
        match record {
            Ok(record) if record.offset_delta == expected => expected += 1,
            Ok(_) => {
                return refuse(ResponseError::InvalidRecord, "the offset deltas of the records have gaps");
            }
            Err(_) => return refuse(ResponseError::CorruptMessage, "a record does not end where it says"),
        }
    }
    if expected != header.count {
        return refuse(ResponseError::CorruptMessage, "the number of records is not the one in the header");
    }
    Ok(header)
}

/// The time stamps of the oldest and the youngest record.
pub(crate) fn time_span(header: &Header, batch: &[u8]) -> (i64, i64) {
    let oldest = codec::decompressed(header, batch).ok().and_then(|plain| {
        let delta = raw::records(&plain).filter_map(|it| it.ok().map(|it| it.timestamp_delta)).min();
        delta.map(|it| header.base_timestamp.saturating_add(it))
    });
    (oldest.unwrap_or(header.base_timestamp), header.max_timestamp)
}

/// Whether a batch has a record without a key.
pub(crate) fn has_missing_key(header: &Header, batch: &[u8]) -> bool {
    let Ok(plain) = codec::decompressed(header, batch) else {
        return true;
    };
    raw::records(&plain).any(|it| it.is_ok_and(|record| record.key.is_none()))
}

/// The CRC that a whole batch should carry.
pub(crate) fn crc(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[CRC_FROM..])
}

/// Writes the place in the log into a batch.
pub(crate) fn place(batch: &mut [u8], base_offset: i64) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&LEADER_EPOCH.to_be_bytes());
}

/// Stamps a batch with the time at which the log wrote it, for topics with `LogAppendTime`.
pub(crate) fn stamp(batch: &mut [u8], now: i64) {
    let attributes = i16::from_be_bytes([batch[21], batch[22]]) | LOG_APPEND_TIME;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[35..43].copy_from_slice(&now.to_be_bytes());
    seal(batch);
}

/// Writes length and CRC of a batch whose content is complete.
fn seal(batch: &mut [u8]) {
    let length = (batch.len() - PREFIX_BYTES) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc(batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Builds a batch like `header` with other records, as compaction needs it; it is no longer part of a transaction.
pub(crate) fn rebuilt(header: &Header, count: i32, max_timestamp: i64, records: &[u8]) -> Vec<u8> {
    let header = Header { attributes: header.attributes & !TRANSACTIONAL, count, max_timestamp, ..*header };
    assemble(&header, records)
}

/// Builds the control batch that ends a transaction in a partition.
pub(crate) fn marker(producer_id: i64, producer_epoch: i16, committed: bool, now: i64) -> Vec<u8> {
    // One record: attributes, timestamp delta, offset delta, key (version 0, type), value (version 0,
    // coordinator epoch 0), no headers. Lengths are zigzag varints.
    let record = [32, 0, 0, 0, 8, 0, 0, 0, u8::from(committed), 12, 0, 0, 0, 0, 0, 0, 0];
    let header = Header {
        base_offset: 0,
        length: 0,
        magic: 2,
        crc: 0,
        attributes: TRANSACTIONAL | CONTROL,
        last_offset_delta: 0,
        base_timestamp: now,
        max_timestamp: now,
        producer_id,
        producer_epoch,
        base_sequence: -1,
        count: 1,
    };
    assemble(&header, &record)
}

/// Whether a control batch commits its transaction; `None` for other control records.
pub(crate) fn marker_commits(batch: &[u8]) -> Option<bool> {
    let record = raw::records(batch.get(HEADER_BYTES..)?).next()?.ok()?;
    match record.key? {
        [0, _, 0, 0] => Some(false),
        [0, _, 0, 1] => Some(true),
        _ => None,
    }
}

fn assemble(header: &Header, records: &[u8]) -> Vec<u8> {
    let mut batch = Vec::with_capacity(HEADER_BYTES + records.len());
    batch.extend_from_slice(&header.base_offset.to_be_bytes());
    batch.extend_from_slice(&0_i32.to_be_bytes());
    batch.extend_from_slice(&LEADER_EPOCH.to_be_bytes());
    batch.push(2);
    batch.extend_from_slice(&0_u32.to_be_bytes());
    batch.extend_from_slice(&header.attributes.to_be_bytes());
    batch.extend_from_slice(&header.last_offset_delta.to_be_bytes());
    batch.extend_from_slice(&header.base_timestamp.to_be_bytes());
    batch.extend_from_slice(&header.max_timestamp.to_be_bytes());
    batch.extend_from_slice(&header.producer_id.to_be_bytes());
    batch.extend_from_slice(&header.producer_epoch.to_be_bytes());
    batch.extend_from_slice(&header.base_sequence.to_be_bytes());
    batch.extend_from_slice(&header.count.to_be_bytes());
    batch.extend_from_slice(records);
    seal(&mut batch);
    batch
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A batch of `count` records as a producer would send it.
    pub(crate) fn batch(producer: (i64, i16), sequence: i32, count: i32, transactional: bool) -> Vec<u8> {
        let values: Vec<_> =
            (0..count).map(|it| (Some(format!("k{it}")), Some(format!("v{it}")), i64::from(it))).collect();
        keyed(producer, sequence, transactional, 1000, &values)
    }

    /// A batch of given keys, values and time stamps (relative to `base`).
    pub(crate) fn keyed(
        (producer_id, producer_epoch): (i64, i16),
        base_sequence: i32,
        transactional: bool,
        base: i64,
        records: &[(Option<String>, Option<String>, i64)],
    ) -> Vec<u8> {
        let mut body = Vec::new();
        for (delta, (key, value, time)) in records.iter().enumerate() {
            raw::tests::record(&mut body, delta as i32, *time, key.as_deref(), value.as_deref());
        }
        let header = Header {
            base_offset: 0,
            length: 0,
            magic: 2,
            crc: 0,
            attributes: if transactional { TRANSACTIONAL } else { 0 },
            last_offset_delta: records.len() as i32 - 1,
            base_timestamp: base,
            max_timestamp: base + records.iter().map(|it| it.2).max().unwrap_or(0),
            producer_id,
            producer_epoch,
            base_sequence,
            count: records.len() as i32,
        };
        assemble(&header, &body)
    }

    #[test]
    fn a_good_batch_passes_and_keeps_its_crc_when_placed() {
        let mut bytes = batch((7, 0), 0, 3, false);
        let header = check(&bytes).unwrap();
        assert_eq!((header.count, header.last_offset(), header.max_timestamp), (3, 2, 1002));
        place(&mut bytes, 40);
        let placed = check(&bytes).unwrap();
        assert_eq!((placed.base_offset, placed.last_offset()), (40, 42));
        stamp(&mut bytes, 5000);
        let stamped = check(&bytes).unwrap();
        assert!(stamped.is_log_append_time());
        assert_eq!(stamped.max_timestamp, 5000);
    }

    #[test]
    fn every_flipped_byte_behind_the_crc_is_found() {
        let good = batch((7, 0), 0, 2, false);
        for at in 16..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(check(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn bad_batches_are_refused_with_the_error_of_kafka() {
        use ResponseError::{
            CorruptMessage, InvalidRecord, UnsupportedCompressionType, UnsupportedForMessageFormat,
        };
        let good = batch((7, 0), 0, 2, false);
        let changed = |at: usize, value: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + value.len()].copy_from_slice(value);
            let crc = crc(&bad);
            bad[17..21].copy_from_slice(&crc.to_be_bytes());
            bad
        };
        let cases = [
            ("empty", Vec::new(), InvalidRecord),
            ("cut", good[..good.len() - 1].to_vec(), InvalidRecord),
            ("two batches", [good.clone(), good.clone()].concat(), InvalidRecord),
            ("old format", changed(16, &[1]), UnsupportedForMessageFormat),
            ("negative length", changed(8, &[0xff; 4]), CorruptMessage),
            ("count too high", changed(57, &3_i32.to_be_bytes()), InvalidRecord),
            (
                "count and delta too high",
                {
                    let mut bad = changed(57, &3_i32.to_be_bytes());
                    bad[23..27].copy_from_slice(&2_i32.to_be_bytes());
                    let crc = crc(&bad);
                    bad[17..21].copy_from_slice(&crc.to_be_bytes());
                    bad
                },
                CorruptMessage,
            ),
            ("control", changed(21, &CONTROL.to_be_bytes()), InvalidRecord),
            ("compression 5", changed(21, &5_i16.to_be_bytes()), UnsupportedCompressionType),
            ("transaction without producer", batch((-1, -1), -1, 1, true), InvalidRecord),
        ];
        for (name, bytes, error) in cases {
            assert_eq!(check(&bytes).map_err(|it| it.error), Err(error), "{name}");
        }
    }

    #[test]
    fn markers_say_what_they_do() {
        for committed in [true, false] {
            let bytes = marker(9, 2, committed, 77);
            let header = Header::read(&bytes).unwrap();
            assert_eq!(crc(&bytes), header.crc);
            assert!(header.is_control() && header.is_transactional());
            assert_eq!(marker_commits(&bytes), Some(committed));
        }
    }

    #[test]
    fn sequences_wrap() {
        let header = Header::read(&batch((7, 0), i32::MAX - 1, 4, false)).unwrap();
        assert_eq!(header.last_sequence(), 1);
    }
}
