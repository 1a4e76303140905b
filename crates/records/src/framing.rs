//! Confluent's wire format: a zero byte and a schema id before the Avro bytes.

/// Bytes before the payload: magic byte 0, then the schema id, big-endian.
pub const HEADER_LENGTH: usize = 5;

/// Splits a framed value into schema id and payload; `None` when it is not framed.
#[must_use]
pub fn split(value: &[u8]) -> Option<(u32, &[u8])> {
    let [0, a, b, c, d, payload @ ..] = value else { return None };
    Some((u32::from_be_bytes([*a, *b, *c, *d]), payload))
}

/// Appends the header for `schema_id`.
pub fn write_header(schema_id: u32, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&schema_id.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_what_it_writes_and_nothing_else() {
        let mut framed = Vec::new();
        write_header(0x0102_0304, &mut framed);
        assert_eq!(framed, [0, 1, 2, 3, 4]);
        assert_eq!(split(&framed), Some((0x0102_0304, &[][..])));
        assert_eq!(split(&[0, 0, 0, 1]), None);
        assert_eq!(split(&[1, 0, 0, 0, 1, 9]), None);
    }
}
