//! Records inside a batch, read in place: what counting, looking up by time and compaction need of them.

/// One record where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Raw<'a> {
    /// The whole record with its length.
    pub(crate) bytes: &'a [u8],
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) has_value: bool,
}

/// The bytes are not records, or not of the compression they claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the records of a batch cannot be read")]
pub(crate) struct Unreadable;

/// Walks over uncompressed records until they end or one of them is broken.
pub(crate) fn records(bytes: &[u8]) -> impl Iterator<Item = Result<Raw<'_>, Unreadable>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let read = record(&mut rest);
        if read.is_none() {
            rest = &[];
        }
        Some(read.ok_or(Unreadable))
    })
}

fn record<'a>(rest: &mut &'a [u8]) -> Option<Raw<'a>> {
    let whole = *rest;
    let length = usize::try_from(varint(rest)?).ok()?;
    let prefix = whole.len() - rest.len();
    let mut body = rest.get(..length)?;
    *rest = &rest[length..];
    body = body.get(1..)?; // attributes, unused by Kafka
    let timestamp_delta = varint(&mut body)?;
    let offset_delta = i32::try_from(varint(&mut body)?).ok()?;
    let key = field(&mut body)?;
    let value = field(&mut body)?;
    let headers = varint(&mut body)?;
    for _ in 0..headers {
        field(&mut body)??;
        field(&mut body)?;
    }
    (headers >= 0 && body.is_empty()).then_some(Raw {
        bytes: &whole[..prefix + length],
        timestamp_delta,
        offset_delta,
        key,
        has_value: value.is_some(),
    })
}

/// Bytes behind their length, where -1 stands for null: `Some(None)`.
fn field<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match varint(rest)? {
        -1 => Some(None),
        length => {
            let (field, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            *rest = tail;
            Some(Some(field))
        }
    }
}

/// A zigzag variable-length integer.
fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for (index, &byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *rest = &rest[index + 1..];
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn put_varint(out: &mut Vec<u8>, value: i64) {
        let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
        while zigzag >= 0x80 {
            out.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        out.push(zigzag as u8);
    }

    pub(crate) fn record(
        out: &mut Vec<u8>,
        offset_delta: i32,
        time_delta: i64,
        key: Option<&str>,
        value: Option<&str>,
    ) {
        let mut body = vec![0];
        put_varint(&mut body, time_delta);
        put_varint(&mut body, i64::from(offset_delta));
        for field in [key, value] {
            put_varint(&mut body, field.map_or(-1, |it| it.len() as i64));
            body.extend_from_slice(field.unwrap_or("").as_bytes());
        }
        put_varint(&mut body, 0);
        put_varint(out, body.len() as i64);
        out.extend_from_slice(&body);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            written in prop::collection::vec((any::<i64>(), prop::option::of(".{0,40}"), prop::option::of(".{0,200}")), 0..20)
        ) {
            let mut bytes = Vec::new();
            for (delta, (time, key, value)) in written.iter().enumerate() {
                record(&mut bytes, delta as i32, *time, key.as_deref(), value.as_deref());
            }
            let read: Vec<_> = records(&bytes).map(Result::unwrap).collect();
            prop_assert_eq!(read.len(), written.len());
            prop_assert_eq!(read.iter().map(|it| it.bytes.len()).sum::<usize>(), bytes.len());
            for (read, (time, key, value)) in read.iter().zip(&written) {
                prop_assert_eq!(read.timestamp_delta, *time);
                prop_assert_eq!(read.key, key.as_deref().map(str::as_bytes));
                prop_assert_eq!(read.has_value, value.is_some());
            }
        }

        #[test]
        fn any_bytes_end_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(records(&bytes).count() <= bytes.len());
        }
    }
}
