//! The packets of MQTT 3.1.1 and 5 as a client writes and reads them, byte by byte: no client library is asked for its opinion.

pub(crate) use telltale_testkit::by_hand::{text, variable};

/// Version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V311,
    V5,
}

/// Both, for tests of what they have in common.
pub(crate) const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

/// A property of MQTT 5: its identifier and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Property {
    Byte(u8, u8),
    Two(u8, u16),
    Four(u8, u32),
    Variable(u8, u32),
    Text(u8, String),
    Binary(u8, Vec<u8>),
    Pair(String, String),
}

/// A message, to publish or as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) duplicate: bool,
    pub(crate) id: u16,
    pub(crate) properties: Vec<Property>,
}

impl Message {
    pub(crate) fn new(topic: &str, qos: u8, payload: impl AsRef<[u8]>) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.as_ref().to_vec(),
            qos,
            retain: false,
            duplicate: false,
            id: 1,
            properties: Vec::new(),
        }
    }

    pub(crate) fn retained(topic: &str, qos: u8, payload: impl AsRef<[u8]>) -> Self {
        Self { retain: true, ..Self::new(topic, qos, payload) }
    }

    pub(crate) fn bytes(&self, version: Version) -> Vec<u8> {
        let first = 0x30 | u8::from(self.duplicate) << 3 | self.qos << 1 | u8::from(self.retain);
        let id = if self.qos > 0 { self.id.to_be_bytes().to_vec() } else { Vec::new() };
        let head = [text(&self.topic), id, properties(version, &self.properties)].concat();
        packet(first, &[&head[..], &self.payload].concat())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }
}

/// What a broker sends; the last one is the end of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    ConnAck { present: bool, code: u8, properties: Vec<Property> },
    Publish(Message),
    PubAck { id: u16, code: u8 },
    PubRec { id: u16, code: u8 },
    PubRel { id: u16 },
    PubComp { id: u16, code: u8 },
    SubAck { id: u16, codes: Vec<u8> },
    UnsubAck { id: u16, codes: Vec<u8> },
    Pong,
    Disconnect { code: u8 },
    End,
}

/// A packet: its first byte, and what follows the length.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &variable(body.len()), body].concat()
}

pub(crate) fn binary(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A list of properties with its length; nothing in 3.1.1, which has none.
pub(crate) fn properties(version: Version, list: &[Property]) -> Vec<u8> {
    if version == Version::V311 {
        assert!(list.is_empty(), "MQTT 3.1.1 has no properties");
        return Vec::new();
    }
    let mut bytes = Vec::new();
    for property in list {
        match property {
            Property::Byte(id, it) => bytes.extend([*id, *it]),
            Property::Two(id, it) => bytes.extend([&[*id][..], &it.to_be_bytes()].concat()),
            Property::Four(id, it) => bytes.extend([&[*id][..], &it.to_be_bytes()].concat()),
            Property::Variable(id, it) => bytes.extend([&[*id][..], &variable(*it as usize)].concat()),
            Property::Text(id, it) => bytes.extend([&[*id][..], &text(it)].concat()),
            Property::Binary(id, it) => bytes.extend([&[*id][..], &binary(it)].concat()),
            Property::Pair(name, value) => bytes.extend([&[0x26][..], &text(name), &text(value)].concat()),
        }
    }
    [variable(bytes.len()), bytes].concat()
}

/// Takes values off the front of a packet's body.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(count);
        self.0 = tail;
        head
    }

    fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn variable(&mut self) -> u32 {
        let mut value = 0;
        for index in 0..4 {
            let byte = self.u8();
            value |= u32::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }

    fn binary(&mut self) -> Vec<u8> {
        let length = self.u16();
        self.take(length.into()).to_vec()
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.binary()).unwrap()
    }

    fn properties(&mut self, version: Version) -> Vec<Property> {
        let mut found = Vec::new();
        if version == Version::V311 || self.0.is_empty() {
            return found;
        }
        let length = self.variable() as usize;
        let mut list = Cursor(self.take(length));
        while !list.0.is_empty() {
            let id = list.u8();
            found.push(match id {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Property::Byte(id, list.u8()),
                0x13 | 0x21 | 0x22 | 0x23 => Property::Two(id, list.u16()),
                0x02 | 0x11 | 0x18 | 0x27 => Property::Four(id, list.u32()),
                0x0b => Property::Variable(id, list.variable()),
                0x09 | 0x16 => Property::Binary(id, list.binary()),
                0x26 => Property::Pair(list.text(), list.text()),
                _ => Property::Text(id, list.text()),
            });
        }
        found
    }

    /// A reason code at the end of a packet; left out it means success.
    fn code(&mut self) -> u8 {
        if self.0.is_empty() { 0 } else { self.u8() }
    }
}

/// Reads a packet of a broker from its first byte and its body.
pub(crate) fn read(version: Version, first: u8, body: &[u8]) -> Packet {
    let mut cursor = Cursor(body);
    match first >> 4 {
        2 => {
            let present = cursor.u8() & 1 == 1;
            let code = cursor.u8();
            Packet::ConnAck { present, code, properties: cursor.properties(version) }
        }
        3 => {
            let qos = (first >> 1) & 3;
            let topic = cursor.text();
            let id = if qos > 0 { cursor.u16() } else { 0 };
            let properties = cursor.properties(version);
            let (retain, duplicate) = (first & 1 == 1, first & 8 == 8);
            let payload = cursor.0.to_vec();
            Packet::Publish(Message { topic, payload, qos, retain, duplicate, id, properties })
        }
        4 => Packet::PubAck { id: cursor.u16(), code: cursor.code() },
        5 => Packet::PubRec { id: cursor.u16(), code: cursor.code() },
        6 => Packet::PubRel { id: cursor.u16() },
        7 => Packet::PubComp { id: cursor.u16(), code: cursor.code() },
        kind @ (9 | 11) => {
            let id = cursor.u16();
            cursor.properties(version);
            let codes = cursor.0.to_vec();
            if kind == 9 { Packet::SubAck { id, codes } } else { Packet::UnsubAck { id, codes } }
        }
        13 => Packet::Pong,
        14 => Packet::Disconnect { code: cursor.code() },
        _ => panic!("a packet that no broker sends: {first:#x} {body:?}"),
    }
}
