//! Reads the packets that clients of MQTT 3.1.1 and 5 send.
//!
//! Nothing here trusts a byte: every length is checked against what is there before it is used.

use super::index::{valid_filter, valid_topic};
use super::reader::{Reader, Value};

/// Version of the protocol that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V311,
    V5,
}

/// The bytes are not a packet that this broker accepts; closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(super) struct Malformed {
    pub(super) what: &'static str,
    /// Reason code of MQTT 5.
    pub(super) code: u8,
}

pub(super) const fn malformed(what: &'static str) -> Malformed {
    Malformed { what, code: 0x81 }
}

const fn protocol_error(what: &'static str) -> Malformed {
    Malformed { what, code: 0x82 }
}

#[derive(Debug, PartialEq)]
pub(super) enum Packet<'a> {
    Connect(Box<Connect>),
    Publish(Publish<'a>),
    PubAck(u16),
    /// Packet id, and whether the client refused the message.
    PubRec(u16, bool),
    PubRel(u16),
    PubComp(u16),
    Subscribe(Subscribe),
    Unsubscribe {
        packet_id: u16,
        filters: Vec<String>,
    },
    PingReq,
    Disconnect {
        with_will: bool,
        session_expiry: Option<u32>,
    },
}

#[derive(Debug, PartialEq)]
pub(super) struct Connect {
    pub(super) version: Version,
    pub(super) client_id: String,
    pub(super) clean_start: bool,
    pub(super) keep_alive: u16,
    pub(super) session_expiry: u32,
    pub(super) receive_maximum: u16,
    pub(super) max_packet_bytes: u32,
    pub(super) authentication: bool,
    pub(super) will: Option<Will>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Vec<u8>>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Will {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// Properties of the message, in the encoding of MQTT 5, without the delay.
    pub(super) properties: Vec<u8>,
    pub(super) delay_seconds: u32,
    pub(super) qos: u8,
    pub(super) retain: bool,
}

#[derive(Debug, PartialEq)]
pub(super) struct Publish<'a> {
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) packet_id: u16,
    pub(super) topic: &'a str,
    /// Encoded as in MQTT 5, without their length; empty in 3.1.1.
    pub(super) properties: &'a [u8],
    /// Seconds, and where in `properties` their four bytes stand.
    pub(super) expiry: Option<(u32, usize)>,
    pub(super) payload: &'a [u8],
}

#[derive(Debug, PartialEq)]
pub(super) struct Subscribe {
    pub(super) packet_id: u16,
    /// 0 where there is none.
    pub(super) identifier: u32,
    pub(super) filters: Vec<Filter>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Filter {
    pub(super) text: String,
    pub(super) qos: u8,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    /// 0: send retained messages, 1: only for a new subscription, 2: not.
    pub(super) retain_handling: u8,
}

/// Where the first packet of `bytes` has its body and its end; `None` while it is incomplete.
pub(super) fn frame(bytes: &[u8], limit: usize) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0_usize;
    for index in 0..4 {
        let Some(&byte) = bytes.get(1 + index) else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let (body, end) = (2 + index, 2 + index + length);
            if end > limit {
                return Err(Malformed { what: "the packet is larger than this broker takes", code: 0x95 });
            }
            return Ok((bytes.len() >= end).then_some((body, end)));
        }
    }
    Err(malformed("the length of the packet takes more than four bytes"))
}

/// Reads the packet whose first byte is `first` and whose body is `body`.
pub(super) fn parse(version: Version, first: u8, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    let mut reader = Reader(body);
    let flags = first & 0x0f;
    match (first >> 4, flags) {
        (1, 0) => Ok(Packet::Connect(Box::new(connect(&mut reader)?))),
        (3, _) => publish(version, flags, reader),
        (4, 0) => acknowledgement(version, &mut reader).map(|(id, _)| Packet::PubAck(id)),
        (5, 0) => acknowledgement(version, &mut reader).map(|(id, code)| Packet::PubRec(id, code >= 0x80)),
        (6, 2) => acknowledgement(version, &mut reader).map(|(id, _)| Packet::PubRel(id)),
        (7, 0) => acknowledgement(version, &mut reader).map(|(id, _)| Packet::PubComp(id)),
        (8, 2) => subscribe(version, &mut reader),
        (10, 2) => unsubscribe(version, &mut reader),
        (12, 0) => Ok(Packet::PingReq),
        (14, 0) => disconnect(version, &mut reader),
        _ => Err(malformed("a packet of this type and flags does not come from a client")),
    }
}

fn connect(reader: &mut Reader<'_>) -> Result<Connect, Malformed> {
    let name = reader.bytes()?;
    let level = reader.u8()?;
    let version = match (name, level) {
        (b"MQTT", 4) => Version::V311,
        (b"MQTT", 5) => Version::V5,
        _ => return Err(Malformed { what: "the protocol is neither MQTT 3.1.1 nor MQTT 5", code: 0x84 }),
    };
    let flags = reader.u8()?;
    if flags & 1 != 0 {
        return Err(malformed("a reserved flag of CONNECT is set"));
    }
    let keep_alive = reader.u16()?;
    let clean_start = flags & 2 != 0;
    let mut connect = Connect {
        version,
        client_id: String::new(),
        clean_start,
        keep_alive,
        // In 3.1.1 a session that is not clean has no end.
        session_expiry: if version == Version::V311 && !clean_start { u32::MAX } else { 0 },
        receive_maximum: u16::MAX,
        max_packet_bytes: u32::MAX,
        authentication: false,
        will: None,
        user: None,
        password: None,
    };
    if version == Version::V5 {
        for property in reader.properties()? {
            match property?.value {
                (0x11, Value::Number(it)) => connect.session_expiry = it,
                (0x15, _) => connect.authentication = true,
                (0x21, Value::Number(0)) | (0x27, Value::Number(0)) => {
                    return Err(protocol_error("a maximum of 0 in CONNECT"));
                }
                (0x21, Value::Number(it)) => connect.receive_maximum = it as u16,
                (0x27, Value::Number(it)) => connect.max_packet_bytes = it,
                _ => {}
            }
        }
    }
    connect.client_id = reader.text()?.to_owned();
    let will_qos = (flags >> 3) & 3;
    if flags & 4 != 0 {
        let mut will = Will {
            topic: String::new(),
            payload: Vec::new(),
            properties: Vec::new(),
            delay_seconds: 0,
            qos: will_qos,
            retain: flags & 0x20 != 0,
        };
        if version == Version::V5 {
            let properties = reader.properties()?;
            let all = properties.0;
            for property in properties {
                let property = property?;
                match property.value {
                    (0x18, Value::Number(it)) => will.delay_seconds = it,
                    _ => will.properties.extend_from_slice(&all[property.start..property.end]),
                }
            }
        }
        will.topic = reader.text()?.to_owned();
        will.payload = reader.bytes()?.to_vec();
        if will_qos > 2 || !valid_topic(&will.topic) {
            return Err(malformed("the last will has no valid topic or quality of service"));
        }
        connect.will = Some(will);
    } else if flags & 0x38 != 0 {
        return Err(malformed("flags of a last will without a last will"));
    }
    if flags & 0x80 != 0 {
        connect.user = Some(reader.text()?.to_owned());
    }
    if flags & 0x40 != 0 {
        connect.password = Some(reader.bytes()?.to_vec());
    }
    reader.end()?;
    Ok(connect)
}

fn publish(version: Version, flags: u8, mut reader: Reader<'_>) -> Result<Packet<'_>, Malformed> {
    let qos = (flags >> 1) & 3;
    if qos > 2 {
        return Err(malformed("quality of service 3"));
    }
    let topic = reader.text()?;
    let packet_id = if qos > 0 { reader.packet_id()? } else { 0 };
    let mut expiry = None;
    let mut properties: &[u8] = &[];
    if version == Version::V5 {
        let list = reader.properties()?;
        properties = list.0;
        for property in list {
            let property = property?;
            match property.value {
                (0x02, Value::Number(it)) => expiry = Some((it, property.end - 4)),
                (0x23, _) => {
                    return Err(Malformed { what: "a topic alias, though none is offered", code: 0x94 });
                }
                (0x0b, _) => return Err(protocol_error("a subscription identifier in a client's publish")),
                _ => {}
            }
        }
    }
    if !valid_topic(topic) {
        return Err(Malformed { what: "the topic is empty or has wildcards", code: 0x90 });
    }
    let retain = flags & 1 != 0;
    Ok(Packet::Publish(Publish { qos, retain, packet_id, topic, properties, expiry, payload: reader.0 }))
}

fn acknowledgement(version: Version, reader: &mut Reader<'_>) -> Result<(u16, u8), Malformed> {
    let id = reader.packet_id()?;
    let code = if version == Version::V5 && !reader.0.is_empty() { reader.u8()? } else { 0 };
    Ok((id, code))
}

fn subscribe(version: Version, reader: &mut Reader<'_>) -> Result<Packet<'static>, Malformed> {
    let packet_id = reader.packet_id()?;
    let mut identifier = 0;
    if version == Version::V5 {
        for property in reader.properties()? {
            match property?.value {
                (0x0b, Value::Number(0)) => return Err(protocol_error("a subscription identifier of 0")),
                (0x0b, Value::Number(it)) => identifier = it,
                _ => {}
            }
        }
    }
    let mut filters = Vec::new();
    while !reader.0.is_empty() {
        let text = reader.text()?.to_owned();
        let options = reader.u8()?;
        let (qos, retain_handling) = (options & 3, (options >> 4) & 3);
        if qos > 2 || retain_handling > 2 || (version == Version::V311 && options > 2) {
            return Err(malformed("options of a subscription that do not exist"));
        }
        if options & 4 != 0 && text.starts_with("$share/") {
            return Err(protocol_error("a shared subscription without a client's own messages"));
        }
        filters.push(Filter {
            text,
            qos,
            no_local: options & 4 != 0,
            retain_as_published: options & 8 != 0,
            retain_handling,
        });
    }
    if filters.is_empty() {
        return Err(protocol_error("a subscription to nothing"));
    }
    Ok(Packet::Subscribe(Subscribe { packet_id, identifier, filters }))
}

fn unsubscribe(version: Version, reader: &mut Reader<'_>) -> Result<Packet<'static>, Malformed> {
    let packet_id = reader.packet_id()?;
    if version == Version::V5 {
        for property in reader.properties()? {
            property?;
        }
    }
    let mut filters = Vec::new();
    while !reader.0.is_empty() {
        filters.push(reader.text()?.to_owned());
    }
    if filters.is_empty() || filters.iter().any(|it| !valid_filter(it)) {
        return Err(protocol_error("an end of no subscription"));
    }
    Ok(Packet::Unsubscribe { packet_id, filters })
}

fn disconnect(version: Version, reader: &mut Reader<'_>) -> Result<Packet<'static>, Malformed> {
    let mut session_expiry = None;
    let code = if version == Version::V5 && !reader.0.is_empty() { reader.u8()? } else { 0 };
    if version == Version::V5 && !reader.0.is_empty() {
        for property in reader.properties()? {
            if let (0x11, Value::Number(it)) = property?.value {
                session_expiry = Some(it);
            }
        }
    }
    Ok(Packet::Disconnect { with_will: code != 0, session_expiry })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_is_found_once_it_is_whole() {
        assert_eq!(frame(&[0x30], 100), Ok(None));
        assert_eq!(frame(&[0x30, 3, 0, 1], 100), Ok(None));
        assert_eq!(frame(&[0x30, 3, 0, 1, b'a', 0xc0], 100), Ok(Some((2, 5))));
        assert_eq!(frame(&[0x30, 0x80, 0x01], 100).unwrap_err().code, 0x95);
        assert!(frame(&[0x30, 0xff, 0xff, 0xff, 0xff], usize::MAX).is_err());
    }

    #[test]
    fn a_publish_of_mqtt_5_says_where_its_expiry_stands() {
        let body = [0, 1, b't', 0, 9, 9, 0x01, 1, 0x02, 0, 0, 0, 60, b'p'];
        let mut body = body.to_vec();
        body[5] = 7;
        let Packet::Publish(publish) = parse(Version::V5, 0x32, &body).unwrap() else { panic!() };
        assert_eq!((publish.qos, publish.packet_id, publish.topic), (1, 9, "t"));
        assert_eq!(publish.expiry, Some((60, 3)));
        assert_eq!(publish.payload, b"p");
    }

    proptest! {
        /// No bytes may panic the reader: it runs beside all other connections.
        #[test]
        fn any_bytes_are_a_packet_or_an_error(
            first in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..64), five in any::<bool>(),
        ) {
            let version = if five { Version::V5 } else { Version::V311 };
            let _either = parse(version, first, &body);
            let mut with_name = vec![0, 4, b'M', b'Q', b'T', b'T', if five { 5 } else { 4 }];
            with_name.extend_from_slice(&body);
            let _either = parse(version, 0x10, &with_name);
            let _either = frame(&body, 1000);
        }
    }
}
