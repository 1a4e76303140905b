//! Takes the parts of a packet off its front, none of them trusted.

use super::packet::{Malformed, malformed};

/// Takes values off the front of a packet.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

const SHORT: Malformed = malformed("the packet ends before its content does");

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = tail;
        Ok(head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(super) fn packet_id(&mut self) -> Result<u16, Malformed> {
        match self.u16()? {
            0 => Err(malformed("a packet id of 0")),
            id => Ok(id),
        }
    }

    pub(super) fn variable(&mut self) -> Result<u32, Malformed> {
        let mut value = 0;
        for index in 0..4 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a number of more than four bytes"))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u16()?;
        self.take(length.into())
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| malformed("a text that is not UTF-8"))?;
        if text.contains('\0') { Err(malformed("a text with the character NUL")) } else { Ok(text) }
    }

    pub(super) fn properties(&mut self) -> Result<Properties<'a>, Malformed> {
        let length = self.variable()? as usize;
        Ok(Properties(self.take(length)?, 0))
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(malformed("bytes after the end of the content")) }
    }
}

/// A list of properties, and the place in it.
pub(super) struct Properties<'a>(pub(super) &'a [u8], usize);

pub(super) struct Property {
    /// Identifier and value.
    pub(super) value: (u8, Value),
    /// Where in the list it stands.
    pub(super) start: usize,
    pub(super) end: usize,
}

pub(super) enum Value {
    Number(u32),
    Other,
}

impl Iterator for Properties<'_> {
    type Item = Result<Property, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.1;
        let mut reader = Reader(&self.0[start..]);
        let whole = reader.0.len();
        if whole == 0 {
            return None;
        }
        let read = property(&mut reader);
        self.1 = if read.is_ok() { start + whole - reader.0.len() } else { self.0.len() };
        Some(read.map(|value| Property { value, start, end: self.1 }))
    }
}

fn property(reader: &mut Reader<'_>) -> Result<(u8, Value), Malformed> {
    let id = reader.u8()?;
    let value = match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Value::Number(reader.u8()?.into()),
        0x13 | 0x21 | 0x22 | 0x23 => Value::Number(reader.u16()?.into()),
        0x02 | 0x11 | 0x18 | 0x27 => Value::Number(reader.u32()?),
        0x0b => Value::Number(reader.variable()?),
        0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => {
            reader.text()?;
            Value::Other
        }
        0x09 | 0x16 => {
            reader.bytes()?;
            Value::Other
        }
        0x26 => {
            reader.text()?;
            reader.text()?;
            Value::Other
        }
        _ => return Err(malformed("an unknown property")),
    };
    Ok((id, value))
}
