//! The shapes of requests, to look at their lengths before they are decoded.
//!
//! The decoder of `kafka-protocol` makes room for an array as long as the request says it is, and room that the
//! system cannot give ends the whole process. So each request is first walked with its shape: every length
//! must fit into what has arrived, and the elements of all arrays together must be a sensible number.

use kafka_protocol::messages::ApiKey;

use Kind::{Bytes, Fixed, Plain, Structs, Text};

/// The most array elements in one request: a topic of 1,000 partitions and names to spare.
const MAX_ELEMENTS: usize = 200_000;

/// A field and the versions of the request that have it.
#[derive(Debug, Clone, Copy)]
struct Field {
    from: i16,
    to: i16,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string, possibly null.
    Text,
    /// Bytes, possibly null.
    Bytes,
    /// An array of plain values.
    Plain(&'static Kind),
    /// An array of structures.
    Structs(&'static [Field]),
}

const fn always(kind: Kind) -> Field {
    Field { from: 0, to: i16::MAX, kind }
}

const fn since(from: i16, kind: Kind) -> Field {
    Field { from, to: i16::MAX, kind }
}

const fn until(to: i16, kind: Kind) -> Field {
    Field { from: 0, to, kind }
}

const fn between(from: i16, to: i16, kind: Kind) -> Field {
    Field { from, to, kind }
}

const TEXT: Field = always(Text);
const BYTES: Field = always(Bytes);
const I8: Field = always(Fixed(1));
const I16: Field = always(Fixed(2));
const I32: Field = always(Fixed(4));
const I64: Field = always(Fixed(8));

/// The fields of a request in the order of the wire, for the versions that are served.
const SHAPES: &[(ApiKey, &[Field])] = &[
    (ApiKey::Produce, &[TEXT, I16, I32, always(Structs(&[TEXT, always(Structs(&[I32, BYTES]))]))]),
    (
        ApiKey::Fetch,
        &[
            until(14, Fixed(4)),
            I32,
            I32,
            I32,
            I8,
            since(7, Fixed(4)),
            since(7, Fixed(4)),
            always(Structs(&[
                until(12, Text),
                since(13, Fixed(16)),
                always(Structs(&[
                    I32,
                    since(9, Fixed(4)),
                    I64,
                    since(12, Fixed(4)),
                    since(5, Fixed(8)),
                    I32,
                ])),
            ])),
            since(7, Structs(&[between(7, 12, Text), since(13, Fixed(16)), since(7, Plain(&Fixed(4)))])),
            since(11, Text),
        ],
    ),
    (
        ApiKey::ListOffsets,
        &[
            I32,
            since(2, Fixed(1)),
            always(Structs(&[TEXT, always(Structs(&[I32, since(4, Fixed(4)), I64]))])),
        ],
    ),
    (
        ApiKey::Metadata,
        &[
            always(Structs(&[since(10, Fixed(16)), TEXT])),
            since(4, Fixed(1)),
            between(8, 10, Fixed(1)),
            since(8, Fixed(1)),
        ],
    ),
    (
        ApiKey::OffsetCommit,
        &[
            TEXT,
            I32,
            TEXT,
            since(7, Text),
            until(4, Fixed(8)),
            always(Structs(&[TEXT, always(Structs(&[I32, I64, since(6, Fixed(4)), TEXT]))])),
        ],
    ),
    (
        ApiKey::OffsetFetch,
        &[
            until(7, Text),
            until(7, Structs(&[until(7, Text), until(7, Plain(&Fixed(4)))])),
            since(
                8,
                Structs(&[
                    since(8, Text),
                    since(9, Text),
                    since(9, Fixed(4)),
                    since(8, Structs(&[since(8, Text), since(8, Plain(&Fixed(4)))])),
                ]),
            ),
            since(7, Fixed(1)),
        ],
    ),
    (ApiKey::FindCoordinator, &[until(3, Text), since(1, Fixed(1)), since(4, Plain(&Text))]),
    (
        ApiKey::JoinGroup,
        &[
            TEXT,
            I32,
            since(1, Fixed(4)),
            TEXT,
            since(5, Text),
            TEXT,
            always(Structs(&[TEXT, BYTES])),
            since(8, Text),
        ],
    ),
    (ApiKey::Heartbeat, &[TEXT, I32, TEXT, since(3, Text)]),
    (
        ApiKey::LeaveGroup,
        &[TEXT, until(2, Text), since(3, Structs(&[since(3, Text), since(3, Text), since(5, Text)]))],
    ),
    (
        ApiKey::SyncGroup,
        &[TEXT, I32, TEXT, since(3, Text), since(5, Text), since(5, Text), always(Structs(&[TEXT, BYTES]))],
    ),
    (ApiKey::DescribeGroups, &[always(Plain(&Text)), since(3, Fixed(1))]),
    (ApiKey::ListGroups, &[since(4, Plain(&Text)), since(5, Plain(&Text))]),
    (ApiKey::ApiVersions, &[since(3, Text), since(3, Text)]),
    (
        ApiKey::CreateTopics,
        &[
            always(Structs(&[
                TEXT,
                I32,
                I16,
                always(Structs(&[I32, always(Plain(&Fixed(4)))])),
                always(Structs(&[TEXT, TEXT])),
            ])),
            I32,
            I8,
        ],
    ),
    (
        ApiKey::DeleteTopics,
        &[since(6, Structs(&[since(6, Text), since(6, Fixed(16))])), until(5, Plain(&Text)), I32],
    ),
    (ApiKey::DeleteRecords, &[always(Structs(&[TEXT, always(Structs(&[I32, I64]))])), I32]),
    (ApiKey::InitProducerId, &[TEXT, I32, since(3, Fixed(8)), since(3, Fixed(2))]),
    (
        ApiKey::OffsetForLeaderEpoch,
        &[since(3, Fixed(4)), always(Structs(&[TEXT, always(Structs(&[I32, I32, I32]))]))],
    ),
    (ApiKey::AddPartitionsToTxn, &[TEXT, I64, I16, always(Structs(&[TEXT, always(Plain(&Fixed(4)))]))]),
    (ApiKey::AddOffsetsToTxn, &[TEXT, I64, I16, TEXT]),
    (ApiKey::EndTxn, &[TEXT, I64, I16, I8]),
    (
        ApiKey::TxnOffsetCommit,
        &[
            TEXT,
            TEXT,
            I64,
            I16,
            since(3, Fixed(4)),
            since(3, Text),
            since(3, Text),
            always(Structs(&[TEXT, always(Structs(&[I32, I64, since(2, Fixed(4)), TEXT]))])),
        ],
    ),
    (ApiKey::DescribeConfigs, &[always(Structs(&[I8, TEXT, always(Plain(&Text))])), I8, since(3, Fixed(1))]),
    (ApiKey::AlterConfigs, &[always(Structs(&[I8, TEXT, always(Structs(&[TEXT, TEXT]))])), I8]),
    (ApiKey::DescribeLogDirs, &[always(Structs(&[TEXT, always(Plain(&Fixed(4)))]))]),
    (
        ApiKey::CreatePartitions,
        &[always(Structs(&[TEXT, I32, always(Structs(&[always(Plain(&Fixed(4)))]))])), I32, I8],
    ),
    (ApiKey::DeleteGroups, &[always(Plain(&Text))]),
    (
        ApiKey::IncrementalAlterConfigs,
        &[always(Structs(&[I8, TEXT, always(Structs(&[TEXT, I8, TEXT]))])), I8],
    ),
    (ApiKey::ListPartitionReassignments, &[I32, always(Structs(&[TEXT, always(Plain(&Fixed(4)))]))]),
    (ApiKey::OffsetDelete, &[TEXT, always(Structs(&[TEXT, always(Structs(&[I32]))]))]),
    (ApiKey::DescribeCluster, &[I8, since(1, Fixed(1)), since(2, Fixed(1))]),
    (ApiKey::DescribeProducers, &[always(Structs(&[TEXT, always(Plain(&Fixed(4)))]))]),
    (ApiKey::DescribeTransactions, &[always(Plain(&Text))]),
    (
        ApiKey::ListTransactions,
        &[always(Plain(&Text)), always(Plain(&Fixed(8))), since(1, Fixed(8)), since(2, Text)],
    ),
];

fn shape(key: ApiKey) -> Option<&'static [Field]> {
    SHAPES.iter().find(|(it, _)| *it == key).map(|(_, fields)| *fields)
}

/// The lengths in a request do not fit its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its lengths do not fit its bytes")]
pub(crate) struct Misshapen;

/// Walks a request without its header; returns the bytes behind it, which are none in a good one.
pub(crate) fn walk(key: ApiKey, version: i16, body: &[u8]) -> Result<&[u8], Misshapen> {
    let shape = shape(key).ok_or(Misshapen)?;
    let flexible = key.request_header_version(version) >= 2;
    let mut walker = Walker { rest: body, version, flexible, elements: 0 };
    walker.fields(shape).ok_or(Misshapen)?;
    Ok(walker.rest)
}

struct Walker<'a> {
    rest: &'a [u8],
    version: i16,
    /// Lengths are variable, and structures end with tagged fields.
    flexible: bool,
    elements: usize,
}

impl Walker<'_> {
    fn fields(&mut self, fields: &[Field]) -> Option<()> {
        for field in fields {
            if (field.from..=field.to).contains(&self.version) {
                self.value(&field.kind)?;
            }
        }
        if self.flexible { self.tagged() } else { Some(()) }
    }

    fn value(&mut self, kind: &Kind) -> Option<()> {
        match kind {
            Fixed(size) => self.skip(*size),
            Text => {
                let length = self.length(2)?;
                self.skip(length)
            }
            Bytes => {
                let length = self.length(4)?;
                self.skip(length)
            }
            Plain(kind) => {
                for _ in 0..self.count()? {
                    self.value(kind)?;
                }
                Some(())
            }
            Structs(fields) => {
                for _ in 0..self.count()? {
                    self.fields(fields)?;
                }
                Some(())
            }
        }
    }

    fn count(&mut self) -> Option<usize> {
        let count = self.length(4)?;
        self.elements = self.elements.checked_add(count)?;
        (count <= self.rest.len() && self.elements <= MAX_ELEMENTS).then_some(count)
    }

    /// A length of so many bytes, or a variable one that is one more; null counts as 0.
    fn length(&mut self, size: usize) -> Option<usize> {
        if self.flexible {
            return Some(self.varint()?.saturating_sub(1) as usize);
        }
        let (bytes, rest) = self.rest.split_at_checked(size)?;
        self.rest = rest;
        let length = match *bytes {
            [a, b] => i32::from(i16::from_be_bytes([a, b])),
            [a, b, c, d] => i32::from_be_bytes([a, b, c, d]),
            _ => return None,
        };
        if length == -1 { Some(0) } else { usize::try_from(length).ok() }
    }

    fn tagged(&mut self) -> Option<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let size = self.varint()?;
            self.skip(size as usize)?;
        }
        Some(())
    }

    fn skip(&mut self, size: usize) -> Option<()> {
        self.rest = self.rest.get(size..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0_u64;
        for (index, &byte) in self.rest.iter().take(5).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return u32::try_from(value).ok();
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes as Buffer;
    use kafka_protocol::messages::RequestKind;
    use proptest::prelude::*;

    use super::*;
    use crate::log::api::SERVED;

    /// Numbers that look random and are the same in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % bound
        }
    }

    /// Writes a random request of a shape.
    struct Writer<'a> {
        out: Vec<u8>,
        version: i16,
        flexible: bool,
        random: &'a mut Random,
    }

    impl Writer<'_> {
        fn fields(&mut self, fields: &[Field]) {
            for field in fields {
                if (field.from..=field.to).contains(&self.version) {
                    self.value(&field.kind);
                }
            }
            if self.flexible {
                self.out.push(0);
            }
        }

        fn value(&mut self, kind: &Kind) {
            match kind {
                Fixed(size) => (0..*size).for_each(|_| self.out.push(self.random.below(2) as u8)),
                Text => self.length(2, 4),
                Bytes => self.length(4, 4),
                Plain(_) | Structs(_) => {
                    let count = self.random.below(3);
                    self.number(4, count);
                    for _ in 0..count {
                        match kind {
                            Plain(kind) => self.value(kind),
                            Structs(fields) => self.fields(fields),
                            _ => {}
                        }
                    }
                }
            }
        }

        fn length(&mut self, size: usize, most: usize) {
            let length = self.random.below(most + 1);
            self.number(size, length);
            self.out.extend(std::iter::repeat_n(b'x', length));
        }

        fn number(&mut self, size: usize, value: usize) {
            if self.flexible {
                self.out.push(value as u8 + 1);
            } else {
                self.out.extend_from_slice(&(value as u32).to_be_bytes()[4 - size..]);
            }
        }
    }

    /// What a shape describes is what the library reads, to the last byte, for every version that is served.
    #[test]
    fn shapes_are_those_of_the_library() {
        let mut random = Random(7);
        for &(key, least, most) in SERVED {
            for version in least..=most {
                for _ in 0..50 {
                    let flexible = key.request_header_version(version) >= 2;
                    let mut writer = Writer { out: Vec::new(), version, flexible, random: &mut random };
                    writer.fields(shape(key).unwrap());
                    let bytes = writer.out;
                    assert_eq!(walk(key, version, &bytes), Ok(&[][..]), "{key:?} {version}");
                    let mut rest = Buffer::from(bytes.clone());
                    RequestKind::decode(key, &mut rest, version)
                        .unwrap_or_else(|it| panic!("{key:?} {version} {bytes:?}: {it}"));
                    assert!(rest.is_empty(), "{key:?} {version}: {} bytes left of {bytes:?}", rest.len());
                }
            }
        }
    }

    #[test]
    fn an_array_longer_than_its_request_is_refused() {
        let plain = [&[0xff, 0xff][..], &[0, 1], &[0; 4], &0x7fff_ffff_i32.to_be_bytes()].concat();
        assert_eq!(walk(ApiKey::Produce, 3, &plain), Err(Misshapen));
        let flexible = [0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(walk(ApiKey::Produce, 9, &flexible), Err(Misshapen));
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_a_panic(
            which in 0..SERVED.len(), version in 0..14_i16, bytes in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            let _ = walk(SERVED[which].0, version, &bytes);
        }
    }
}
