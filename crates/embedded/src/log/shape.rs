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
        ApiKey::ConsumerGroupHeartbeat,
        &[
            TEXT,
            TEXT,
            I32,
            TEXT,
            TEXT,
            I32,
            always(Plain(&Text)),
            since(1, Text),
            TEXT,
            always(Structs(&[always(Fixed(16)), always(Plain(&Fixed(4)))])),
        ],
    ),
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
#[path = "shape_tests.rs"]
mod tests;
