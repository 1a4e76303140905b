//! The compressions of record batches.
//!
//! Decompressing is bounded: a megabyte can hold gigabytes, and any client may send it.

use std::borrow::Cow;
use std::io::Read;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::compression::{Compressor, Decompressor, Gzip, Lz4, Snappy, Zstd};

use super::batch::{HEADER_BYTES, Header};
use super::raw::Unreadable;

/// The most that the records of one batch may take, a little more than the largest request.
const MAX_PLAIN_BYTES: usize = 128 << 20;
/// What Java's snappy puts before its blocks.
const XERIAL: &[u8; 16] = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";

/// The records of a batch, decompressed.
pub(crate) fn decompressed<'a>(header: &Header, batch: &'a [u8]) -> Result<Cow<'a, [u8]>, Unreadable> {
    let packed = batch.get(HEADER_BYTES..).ok_or(Unreadable)?;
    let plain = match header.compression() {
        0 => return Ok(Cow::Borrowed(packed)),
        1 => bounded(flate2::read::GzDecoder::new(packed)),
        2 => snappy(packed),
        3 => bounded(lz4::Decoder::new(packed).map_err(|_| Unreadable)?),
        4 => bounded(zstd::Decoder::new(packed).map_err(|_| Unreadable)?),
        _ => Err(Unreadable),
    };
    plain.map(Cow::Owned)
}

fn bounded(reader: impl Read) -> Result<Vec<u8>, Unreadable> {
    let mut plain = Vec::new();
    let read = reader.take(MAX_PLAIN_BYTES as u64 + 1).read_to_end(&mut plain).map_err(|_| Unreadable)?;
    if read > MAX_PLAIN_BYTES { Err(Unreadable) } else { Ok(plain) }
}

/// Snappy says its size in advance, in one block or in many.
fn snappy(packed: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let size = match packed.strip_prefix(XERIAL) {
        None => snappy_size(packed),
        Some(mut blocks) => {
            let mut size = Some(0_usize);
            while let Some((length, rest)) = blocks.split_first_chunk::<4>() {
                let (block, rest) =
                    rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(Unreadable)?;
                size = size.zip(snappy_size(block)).map(|(sum, more)| sum.saturating_add(more));
                blocks = rest;
            }
            size
        }
    };
    if size.is_none_or(|it| it > MAX_PLAIN_BYTES) {
        return Err(Unreadable);
    }
    let mut packed = packed;
    Snappy::decompress(&mut packed, |plain: &mut Bytes| Ok(plain.to_vec())).map_err(|_| Unreadable)
}

/// The size that a block of snappy begins with.
fn snappy_size(block: &[u8]) -> Option<usize> {
    let mut size = 0;
    for (index, &byte) in block.iter().take(5).enumerate() {
        size |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some(size);
        }
    }
    None
}

/// Records compressed the way the batch says.
pub(crate) fn compressed(header: &Header, plain: &[u8]) -> Result<Bytes, Unreadable> {
    /// The writers of the library differ in type and share this.
    macro_rules! copy {
        () => {
            |out| {
                out.put_slice(plain);
                Ok(())
            }
        };
    }
    let mut packed = BytesMut::new();
    match header.compression() {
        0 => return Ok(Bytes::copy_from_slice(plain)),
        1 => Gzip::compress(&mut packed, copy!()),
        2 => Snappy::compress(&mut packed, copy!()),
        3 => Lz4::compress(&mut packed, copy!()),
        4 => Zstd::compress(&mut packed, copy!()),
        _ => return Err(Unreadable),
    }
    .map_err(|_| Unreadable)?;
    Ok(packed.freeze())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::batch::tests::batch;

    /// A batch that claims compression `kind` and holds `packed`.
    pub(crate) fn holding(kind: i16, packed: &[u8]) -> (Header, Vec<u8>) {
        let mut bytes = batch((-1, -1), -1, 1, false)[..HEADER_BYTES].to_vec();
        bytes[21..23].copy_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(packed);
        (Header::read(&bytes).unwrap(), bytes)
    }

    #[test]
    fn what_would_take_gigabytes_is_refused() {
        let zeros = vec![0; MAX_PLAIN_BYTES + 1];
        for kind in 1..=4 {
            let (header, _) = holding(kind, &[]);
            let packed = compressed(&header, &zeros).unwrap();
            assert!(packed.len() < zeros.len() / 10);
            let (header, bytes) = holding(kind, &packed);
            assert_eq!(decompressed(&header, &bytes), Err(Unreadable), "compression {kind}");
            let packed = compressed(&header, &zeros[1..]).unwrap();
            let (header, bytes) = holding(kind, &packed);
            assert_eq!(
                decompressed(&header, &bytes).map(|it| it.len()),
                Ok(MAX_PLAIN_BYTES),
                "compression {kind}"
            );
        }
        let (header, bytes) = holding(2, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
        assert_eq!(decompressed(&header, &bytes), Err(Unreadable), "4 GB announced");
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(kind in 0..5_i16, plain in prop::collection::vec(0..9_u8, 0..100_000)) {
            let (header, _) = holding(kind, &[]);
            let (header, bytes) = holding(kind, &compressed(&header, &plain).unwrap());
            prop_assert_eq!(decompressed(&header, &bytes).unwrap(), plain);
        }

        #[test]
        fn any_bytes_end_without_a_panic(kind in 0..8_i16, packed in prop::collection::vec(any::<u8>(), 0..200)) {
            let (header, bytes) = holding(kind, &packed);
            let _ = decompressed(&header, &bytes);
        }
    }
}
