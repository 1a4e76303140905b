//! Writes the packets that the broker sends, and holds the messages on their way.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};

use super::packet::{Publish, Version, Will};

/// A message on its way, in one allocation that all its receivers share.
#[derive(Debug)]
pub(super) struct Message {
    /// Topic, properties as in MQTT 5, payload.
    bytes: Box<[u8]>,
    topic_length: usize,
    properties_length: usize,
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// When it is of no more use, and where in its properties the seconds stand.
    expiry: Option<(Instant, usize)>,
}

impl Message {
    pub(super) fn from_publish(publish: &Publish<'_>) -> Rc<Self> {
        let expiry = publish.expiry.map(|(seconds, at)| (after(seconds), at));
        let parts = [publish.topic.as_bytes(), publish.properties, publish.payload];
        Self::new(parts, publish.qos, publish.retain, expiry)
    }

    pub(super) fn from_will(will: &Will) -> Rc<Self> {
        Self::new([will.topic.as_bytes(), &will.properties, &will.payload], will.qos, will.retain, None)
    }

    fn new(parts: [&[u8]; 3], qos: u8, retain: bool, expiry: Option<(Instant, usize)>) -> Rc<Self> {
        let (topic_length, properties_length) = (parts[0].len(), parts[1].len());
        let bytes = parts.concat().into_boxed_slice();
        Rc::new(Self { bytes, topic_length, properties_length, qos, retain, expiry })
    }

    pub(super) fn topic(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.topic_length]).expect("a topic was checked when it was read")
    }

    fn properties(&self) -> &[u8] {
        &self.bytes[self.topic_length..self.topic_length + self.properties_length]
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.bytes[self.topic_length + self.properties_length..]
    }

    /// Memory it takes, roughly, with its place in a queue.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + 160
    }

    pub(super) fn is_expired(&self) -> bool {
        self.expiry.is_some_and(|(at, _)| at <= Instant::now())
    }
}

fn after(seconds: u32) -> Instant {
    let now = Instant::now();
    now.checked_add(Duration::from_secs(seconds.into())).unwrap_or(now)
}

/// How one receiver gets a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery {
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) duplicate: bool,
    pub(super) packet_id: u16,
    /// 0 where there is none.
    pub(super) identifier: u32,
}

/// Size of the packet that [`publish`] writes, at most.
pub(super) fn publish_size(message: &Message) -> usize {
    message.bytes.len() + 5 + 2 + 2 + 4 + 5
}

pub(super) fn publish(out: &mut BytesMut, version: Version, message: &Message, delivery: Delivery) {
    let Delivery { qos, retain, duplicate, packet_id, identifier } = delivery;
    let (topic, payload) = (message.topic(), message.payload());
    let properties = message.properties();
    let identifier_length = if identifier == 0 { 0 } else { 1 + variable_length(identifier as usize) };
    let list_length = properties.len() + identifier_length;
    let mut length = 2 + topic.len() + payload.len() + if qos > 0 { 2 } else { 0 };
    if version == Version::V5 {
        length += variable_length(list_length) + list_length;
    }
    out.reserve(length + 5);
    out.put_u8(0x30 | u8::from(duplicate) << 3 | qos << 1 | u8::from(retain));
    variable(out, length);
    text(out, topic);
    if qos > 0 {
        out.put_u16(packet_id);
    }
    if version == Version::V5 {
        variable(out, list_length);
        let start = out.len();
        out.put_slice(properties);
        if let Some((at, place)) = message.expiry {
            let left = at.saturating_duration_since(Instant::now()).as_secs().max(1);
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            out[start + place..start + place + 4].copy_from_slice(&left.to_be_bytes());
        }
        if identifier != 0 {
            out.put_u8(0x0b);
            variable(out, identifier as usize);
        }
    }
    out.put_slice(payload);
}

/// What a broker says to a CONNECT.
#[derive(Debug, Default)]
pub(super) struct ConnAck {
    pub(super) session_present: bool,
    pub(super) assigned_client_id: Option<String>,
    pub(super) max_packet_bytes: u32,
}

pub(super) fn connack(out: &mut BytesMut, version: Version, answer: &ConnAck) {
    out.put_u8(0x20);
    let present = u8::from(answer.session_present);
    if version == Version::V311 {
        out.put_slice(&[2, present, 0]);
        return;
    }
    let assigned = answer.assigned_client_id.as_deref();
    let list_length = 5 + assigned.map_or(0, |it| 3 + it.len());
    variable(out, 2 + variable_length(list_length) + list_length);
    out.put_slice(&[present, 0]);
    variable(out, list_length);
    out.put_u8(0x27);
    out.put_u32(answer.max_packet_bytes);
    if let Some(id) = assigned {
        out.put_u8(0x12);
        text(out, id);
    }
}

/// Refuses a connection; `code` is of MQTT 5.
pub(super) fn connack_refusal(out: &mut BytesMut, version: Version, code: u8) {
    if version == Version::V5 {
        out.put_slice(&[0x20, 3, 0, code, 0]);
        return;
    }
    let code = match code {
        0x84 => 1,
        0x85 => 2,
        0x86 => 4,
        0x87 | 0x8c => 5,
        _ => 3,
    };
    out.put_slice(&[0x20, 2, 0, code]);
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP, by their first byte; a `code` of 0 is success.
pub(super) fn acknowledgement(out: &mut BytesMut, version: Version, first: u8, packet_id: u16, code: u8) {
    let with_code = version == Version::V5 && code != 0;
    out.put_u8(first);
    out.put_u8(if with_code { 3 } else { 2 });
    out.put_u16(packet_id);
    if with_code {
        out.put_u8(code);
    }
}

/// SUBACK or UNSUBACK, by their first byte.
pub(super) fn subscription_answer(
    out: &mut BytesMut,
    version: Version,
    first: u8,
    packet_id: u16,
    codes: &[u8],
) {
    // The UNSUBACK of 3.1.1 has no codes.
    let codes = if version == Version::V311 && first == 0xb0 { &[] } else { codes };
    out.put_u8(first);
    variable(out, 2 + usize::from(version == Version::V5) + codes.len());
    out.put_u16(packet_id);
    if version == Version::V5 {
        out.put_u8(0);
    }
    out.put_slice(codes);
}

pub(super) fn ping_response(out: &mut BytesMut) {
    out.put_slice(&[0xd0, 0]);
}

/// DISCONNECT with a reason; clients of 3.1.1 know none.
pub(super) fn disconnect(out: &mut BytesMut, version: Version, code: u8) {
    if version == Version::V5 {
        out.put_slice(&[0xe0, 2, code, 0]);
    }
}

fn text(out: &mut BytesMut, text: &str) {
    out.put_u16(u16::try_from(text.len()).expect("a text that was read from a packet fits into one"));
    out.put_slice(text.as_bytes());
}

fn variable(out: &mut BytesMut, mut value: usize) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        out.put_u8(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return;
        }
    }
}

fn variable_length(value: usize) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::{Packet, frame, parse};
    use super::*;

    #[test]
    fn a_publish_reads_as_it_was_written_in_both_versions() {
        let properties = [0x01, 1, 0x02, 0, 0, 0, 60];
        for size in [0, 10, 200, 20_000, 3_000_000] {
            let payload = vec![7; size];
            let publish_in = Publish {
                qos: 1,
                retain: false,
                packet_id: 3,
                topic: "ü/x",
                properties: &properties,
                expiry: Some((60, 3)),
                payload: &payload,
            };
            let message = Message::from_publish(&publish_in);
            for version in [Version::V311, Version::V5] {
                let mut out = BytesMut::new();
                let delivery =
                    Delivery { qos: 2, retain: true, duplicate: true, packet_id: 9, identifier: 0 };
                publish(&mut out, version, &message, delivery);
                assert!(out.len() <= publish_size(&message));
                let (body, end) = frame(&out, usize::MAX).unwrap().unwrap();
                assert_eq!(end, out.len());
                let Packet::Publish(read) = parse(version, out[0], &out[body..end]).unwrap() else {
                    panic!()
                };
                assert_eq!((read.qos, read.retain, read.packet_id, read.topic), (2, true, 9, "ü/x"));
                assert_eq!(read.payload, payload);
                if version == Version::V5 {
                    assert!((1..=60).contains(&read.expiry.unwrap().0));
                }
            }
        }
    }
}
