//! Reads and writes single Avro values.

use crate::dead_letter::Reason;
use crate::schema::{Field, Scalar, Type};

/// The unread rest of one record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    total: usize,
}

/// Why a value could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Truncated,
    Overflow,
    Overlong,
    IntRange,
    NegativeLength,
    Boolean,
    Branch,
    Symbol,
    Text,
    BlockSize,
    TooLarge,
}

impl Fault {
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Truncated => Reason::Truncated,
            Self::TooLarge => Reason::TooLarge,
            _ => Reason::Malformed,
        }
    }

    /// What was wrong with the value of `field` whose reading stopped at `cursor`.
    #[cold]
    pub(crate) fn describe(self, field: &str, cursor: &Cursor<'_>) -> String {
        let what = match self {
            Self::Truncated => "the bytes end inside its value",
            Self::Overflow => "its number has more than 64 bits",
            Self::Overlong => "its number is written with needless bytes",
            Self::IntRange => "its number has more than 32 bits",
            Self::NegativeLength => "its length is negative",
            Self::Boolean => "its byte is neither 0 nor 1",
            Self::Branch => "its union has no such branch",
            Self::Symbol => "its enum has no such symbol",
            Self::Text => "its text is not UTF-8",
            Self::BlockSize => "the size of its block is not that of the items in it",
            Self::TooLarge => "the batch's column of it is full",
        };
        format!("field {field} at byte {} of {}: {what}", cursor.position(), cursor.total)
    }
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, total: bytes.len() }
    }

    /// Bytes not read yet.
    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The bytes not read yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The cursor behind `count` bytes that were read from [`Cursor::rest`].
    #[inline]
    pub(crate) fn skip_bytes(self, count: usize) -> Self {
        Self { rest: &self.rest[count..], ..self }
    }

    fn position(&self) -> usize {
        self.total - self.rest.len()
    }

    #[inline(always)]
    pub(crate) fn long(&mut self) -> Result<i64, Fault> {
        let raw = match self.rest {
            [a, rest @ ..] if *a < 0x80 => {
                self.rest = rest;
                u64::from(*a)
            }
            [a, b, rest @ ..] if *b < 0x80 && *b != 0 => {
                self.rest = rest;
                u64::from(*a & 0x7f) | u64::from(*b) << 7
            }
            rest => {
                let (raw, rest) = long_varint(rest)?;
                self.rest = rest;
                raw
            }
        };
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    #[inline(always)]
    pub(crate) fn int(&mut self) -> Result<i32, Fault> {
        i32::try_from(self.long()?).map_err(|_| Fault::IntRange)
    }

    #[inline(always)]
    pub(crate) fn float(&mut self) -> Result<f32, Fault> {
        let (value, rest) = self.rest.split_first_chunk().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(f32::from_le_bytes(*value))
    }

    #[inline(always)]
    pub(crate) fn double(&mut self) -> Result<f64, Fault> {
        let (value, rest) = self.rest.split_first_chunk().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(f64::from_le_bytes(*value))
    }

    #[inline(always)]
    pub(crate) fn boolean(&mut self) -> Result<bool, Fault> {
        match self.rest {
            [byte @ (0 | 1), rest @ ..] => {
                self.rest = rest;
                Ok(*byte == 1)
            }
            [] => Err(Fault::Truncated),
            _ => Err(Fault::Boolean),
        }
    }

    #[inline(always)]
    pub(crate) fn fixed(&mut self, size: usize) -> Result<&'a [u8], Fault> {
        let (value, rest) = self.rest.split_at_checked(size).ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(value)
    }

    #[inline(always)]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.long()?;
        let length = usize::try_from(length).map_err(|_| Fault::NegativeLength)?;
        self.fixed(length)
    }

    #[inline(always)]
    pub(crate) fn text(&mut self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Fault::Text)
    }

    /// Index of an enum's symbol or of a union's branch, below `count`.
    #[inline(always)]
    pub(crate) fn index(&mut self, count: usize, otherwise: Fault) -> Result<usize, Fault> {
        let index = self.long()?;
        usize::try_from(index).ok().filter(|it| *it < count).ok_or(otherwise)
    }

    /// Reads the branch of a union of null and one type; returns whether the value is null.
    #[inline(always)]
    pub(crate) fn is_null(&mut self, null_branch: u8) -> Result<bool, Fault> {
        match self.rest {
            [byte @ (0 | 2), rest @ ..] => {
                self.rest = rest;
                Ok(byte >> 1 == null_branch)
            }
            [] => Err(Fault::Truncated),
            _ => Err(self.long().err().unwrap_or(Fault::Branch)),
        }
    }

    /// The cursor after a value of any type, which is checked as if it were kept.
    ///
    /// By value, so that a plan's cursor stays in registers.
    pub(crate) fn after(mut self, of: &Type) -> Result<Self, (Self, Fault)> {
        match self.skip(of) {
            Ok(()) => Ok(self),
            Err(fault) => Err((self, fault)),
        }
    }

    fn skip(&mut self, of: &Type) -> Result<(), Fault> {
        match of {
            Type::Null => Ok(()),
            Type::Scalar(scalar) => self.skip_scalar(scalar),
            Type::Array(item) => self.skip_blocks(item.smallest(), |it| it.skip(item)),
            Type::Map(value) => self.skip_blocks(1 + value.smallest(), |it| {
                it.text()?;
                it.skip(value)
            }),
            Type::Record(fields) => fields.iter().try_for_each(|field: &Field| self.skip(&field.of)),
            Type::Union(branches) => {
                let index = self.index(branches.len(), Fault::Branch)?;
                self.skip(&branches[index])
            }
        }
    }

    fn skip_scalar(&mut self, scalar: &Scalar) -> Result<(), Fault> {
        match scalar {
            Scalar::Boolean => self.boolean().map(drop),
            Scalar::Int | Scalar::Date | Scalar::TimeMillis => self.int().map(drop),
            Scalar::Long | Scalar::TimeMicros | Scalar::Timestamp(..) => self.long().map(drop),
            Scalar::Float => self.fixed(4).map(drop),
            Scalar::Double => self.fixed(8).map(drop),
            Scalar::Bytes => self.bytes().map(drop),
            Scalar::String => self.text().map(drop),
            Scalar::Fixed(size) => self.fixed(*size).map(drop),
            Scalar::Enum(symbols) => self.index(symbols.len(), Fault::Symbol).map(drop),
        }
    }

    /// Reads the blocks of an array or a map whose items take at least `smallest` bytes each.
    fn skip_blocks(
        &mut self,
        smallest: usize,
        mut item: impl FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        while let Some((count, end)) = self.block()? {
            // Items without bytes need no reading, however many there are said to be.
            if let Some(most) = self.remaining().checked_div(smallest) {
                if count > most as u64 {
                    return Err(Fault::Truncated);
                }
                for _ in 0..count {
                    item(self)?;
                }
            }
            if end.is_some_and(|it| it != self.remaining()) {
                return Err(Fault::BlockSize);
            }
        }
        Ok(())
    }

    /// Reads the head of a block: its number of items and, where it is stated, how many bytes are left after it.
    ///
    /// `None` at the end of the blocks.
    pub(crate) fn block(&mut self) -> Result<Option<(u64, Option<usize>)>, Fault> {
        let count = self.long()?;
        if count == 0 {
            return Ok(None);
        }
        if count > 0 {
            return Ok(Some((count.unsigned_abs(), None)));
        }
        let size = usize::try_from(self.long()?).map_err(|_| Fault::NegativeLength)?;
        let end = self.remaining().checked_sub(size).ok_or(Fault::Truncated)?;
        Ok(Some((count.unsigned_abs(), Some(end))))
    }
}

/// A number of any length, and what follows it.
#[inline(never)]
fn long_varint(bytes: &[u8]) -> Result<(u64, &[u8]), Fault> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            if index == 9 && byte > 1 {
                return Err(Fault::Overflow);
            }
            if byte == 0 && index > 0 {
                return Err(Fault::Overlong);
            }
            return Ok((value, &bytes[index + 1..]));
        }
    }
    Err(if bytes.len() < 10 { Fault::Truncated } else { Fault::Overflow })
}

/// Appends a number as Avro writes int and long.
#[inline]
pub(crate) fn write_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    if rest < 0x80 {
        out.push(rest as u8);
        return;
    }
    let mut bytes = [0; 10];
    let mut length = 0;
    while rest >= 0x80 {
        bytes[length] = (rest as u8) | 0x80;
        rest >>= 7;
        length += 1;
    }
    bytes[length] = rest as u8;
    out.extend_from_slice(&bytes[..=length]);
}
