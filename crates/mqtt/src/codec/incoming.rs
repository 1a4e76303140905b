//! What a broker sends.

use std::fmt::Debug;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::{self as four, v4};
use rumqttc::v5::mqttbytes::{self as five, v5};
use rumqttc::v5::{ConnectionError, StateError};

use crate::config::Version;
use crate::fault::{self, Fault};
use crate::qos::Qos;
use crate::subscriber::Message;

/// A packet of the broker's.
#[derive(Debug)]
pub(crate) enum Packet {
    /// The connection stands.
    Connected(Welcome),
    /// The broker is done with a publish of QoS 1; a text is why it refused it.
    Acknowledged(u16, Option<String>),
    /// First step of the broker's for a publish of QoS 2; a text is why it refused it.
    Recorded(u16, Option<String>),
    /// The broker is done with a publish of QoS 2; a text is why that surprised it.
    Completed(u16, Option<String>),
    /// A message, whose receipt is not made out yet.
    Publish(Box<Message>, u16),
    /// Second step of QoS 2, of a message of the broker's.
    Release(u16),
    /// Whether each filter of the subscription was granted.
    Granted(Vec<bool>),
    Unsubscribed,
    Pong,
}

/// What a broker says about a connection that it lets in.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Welcome {
    /// Whether it still held the session.
    pub(crate) session_present: bool,
    /// Where it wants another one than it was asked for.
    pub(crate) keep_alive: Option<Duration>,
    /// Largest packet that it takes.
    pub(crate) max_packet_bytes: Option<u32>,
    /// Publishes of QoS 1 and 2 that may be under way to it.
    pub(crate) receive_maximum: Option<u16>,
}

/// Takes the first packet off `bytes`; `None` where it is not whole yet.
///
/// # Errors
///
/// Returns a refusal or farewell of the broker's as a fault, and one for what is no packet, is larger than
/// `most` bytes or not for a client. `bytes` is of no use then.
pub(crate) fn take(version: Version, bytes: &mut BytesMut, most: u32) -> Result<Option<Packet>, Fault> {
    let before = bytes.len();
    // The codec also calls bytes that are missing within a packet insufficient.
    match version {
        Version::V311 => match v4::Packet::read(bytes, most as usize) {
            Ok(packet) => of_v311(packet).map(Some),
            Err(four::Error::InsufficientBytes(_)) if bytes.len() == before => Ok(None),
            Err(error) => Err(fault::of_v311(rumqttc::StateError::Deserialization(error).into())),
        },
        Version::V5 => {
            if let Some(fault) = brief_farewell(bytes) {
                return Err(fault);
            }
            match v5::Packet::read(bytes, Some(most)) {
                Ok(packet) => of_v5(packet).map(Some),
                Err(five::Error::InsufficientBytes(_)) if bytes.len() == before => Ok(None),
                Err(error) => Err(fault::of_v5(StateError::Deserialization(error).into())),
            }
        }
    }
}

/// A farewell without properties, which the protocol allows and the codec does not.
fn brief_farewell(bytes: &[u8]) -> Option<Fault> {
    let reason_code = match *bytes {
        [0xe0, 0, ..] => v5::DisconnectReasonCode::NormalDisconnection,
        [0xe0, 1, code, ..] => v5::DisconnectReasonCode::try_from(code).ok()?,
        _ => return None,
    };
    Some(fault::of_v5(StateError::ServerDisconnect { reason_code, reason_string: None }.into()))
}

/// An answer to a publish that waits for none such.
pub(crate) fn unsolicited(packet_id: u16) -> Fault {
    fault::of_v5(StateError::Unsolicited(packet_id).into())
}

/// What such a session is not sent.
pub(crate) fn out_of_place() -> Fault {
    fault::of_v5(StateError::WrongPacket.into())
}

fn of_v311(packet: v4::Packet) -> Result<Packet, Fault> {
    use v4::{ConnectReturnCode, SubscribeReasonCode};
    Ok(match packet {
        v4::Packet::Publish(it) => {
            let message = Message {
                topic: Bytes::from(it.topic),
                payload: it.payload,
                qos: qos(it.qos as u8),
                retain: it.retain,
                duplicate: it.dup,
                user_properties: Vec::new(),
                receipt: None,
            };
            Packet::Publish(Box::new(message), it.pkid)
        }
        v4::Packet::PubAck(it) => Packet::Acknowledged(it.pkid, None),
        v4::Packet::PubRec(it) => Packet::Recorded(it.pkid, None),
        v4::Packet::PubComp(it) => Packet::Completed(it.pkid, None),
        v4::Packet::PubRel(it) => Packet::Release(it.pkid),
        v4::Packet::PingResp => Packet::Pong,
        v4::Packet::UnsubAck(_) => Packet::Unsubscribed,
        v4::Packet::SubAck(it) => Packet::Granted(
            it.return_codes.iter().map(|it| !matches!(it, SubscribeReasonCode::Failure)).collect(),
        ),
        v4::Packet::ConnAck(it) if it.code == ConnectReturnCode::Success => {
            Packet::Connected(Welcome { session_present: it.session_present, ..Welcome::default() })
        }
        v4::Packet::ConnAck(it) => {
            return Err(fault::of_v311(rumqttc::ConnectionError::ConnectionRefused(it.code)));
        }
        _ => return Err(out_of_place()),
    })
}

fn of_v5(packet: v5::Packet) -> Result<Packet, Fault> {
    use v5::{ConnectReturnCode, PubAckReason, PubCompReason, PubRecReason, SubscribeReasonCode};
    Ok(match packet {
        v5::Packet::Publish(it) => {
            let message = Message {
                topic: it.topic,
                payload: it.payload,
                qos: qos(it.qos as u8),
                retain: it.retain,
                duplicate: it.dup,
                user_properties: it.properties.map(|it| it.user_properties).unwrap_or_default(),
                receipt: None,
            };
            Packet::Publish(Box::new(message), it.pkid)
        }
        v5::Packet::PubAck(it) => {
            let taken = matches!(it.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
            Packet::Acknowledged(it.pkid, refusal(taken, &it.reason))
        }
        v5::Packet::PubRec(it) => {
            let taken = matches!(it.reason, PubRecReason::Success | PubRecReason::NoMatchingSubscribers);
            Packet::Recorded(it.pkid, refusal(taken, &it.reason))
        }
        v5::Packet::PubComp(it) => {
            Packet::Completed(it.pkid, refusal(it.reason == PubCompReason::Success, &it.reason))
        }
        v5::Packet::PubRel(it) => Packet::Release(it.pkid),
        v5::Packet::PingResp(_) => Packet::Pong,
        v5::Packet::UnsubAck(_) => Packet::Unsubscribed,
        v5::Packet::SubAck(it) => Packet::Granted(
            it.return_codes.iter().map(|it| matches!(it, SubscribeReasonCode::Success(_))).collect(),
        ),
        v5::Packet::ConnAck(it) if it.code == ConnectReturnCode::Success => {
            let properties = it.properties.as_ref();
            let keep_alive = properties.and_then(|it| it.server_keep_alive);
            Packet::Connected(Welcome {
                session_present: it.session_present,
                keep_alive: keep_alive.map(|it| Duration::from_secs(it.into())),
                max_packet_bytes: properties.and_then(|it| it.max_packet_size),
                receive_maximum: properties.and_then(|it| it.receive_max),
            })
        }
        v5::Packet::ConnAck(it) => return Err(fault::of_v5(ConnectionError::ConnectionRefused(it.code))),
        v5::Packet::Disconnect(it) => {
            let (reason_code, properties) = (it.reason_code, it.properties);
            let reason_string = properties.and_then(|it| it.reason_string);
            return Err(fault::of_v5(StateError::ServerDisconnect { reason_code, reason_string }.into()));
        }
        _ => return Err(out_of_place()),
    })
}

fn refusal(taken: bool, reason: &impl Debug) -> Option<String> {
    (!taken).then(|| format!("{reason:?}"))
}

fn qos(number: u8) -> Qos {
    match number {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VERSIONS: [Version; 2] = [Version::V311, Version::V5];
    const MOST: u32 = 1000;

    /// One packet of each kind that a client is sent.
    fn stream(version: Version) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        let qos = [(0, 0), (1, 7), (2, 300)];
        match version {
            Version::V311 => {
                let code = v4::ConnectReturnCode::Success;
                v4::ConnAck { session_present: true, code }.write(&mut bytes).unwrap();
                v4::SubAck::new(1, vec![v4::SubscribeReasonCode::Failure]).write(&mut bytes).unwrap();
                for (qos, packet_id) in qos {
                    let qos = four::qos(qos).unwrap();
                    let publish = v4::Publish::new("cars/1", qos, vec![b'x'; 200]);
                    v4::Publish { pkid: packet_id, retain: true, ..publish }.write(&mut bytes).unwrap();
                }
            }
            Version::V5 => {
                let code = v5::ConnectReturnCode::Success;
                v5::ConnAck { session_present: true, code, properties: None }.write(&mut bytes).unwrap();
                let return_codes = vec![v5::SubscribeReasonCode::NotAuthorized];
                v5::SubAck { pkid: 1, return_codes, properties: None }.write(&mut bytes).unwrap();
                for (qos, packet_id) in qos {
                    let properties = v5::PublishProperties {
                        user_properties: vec![("name".into(), "value".into())],
                        subscription_identifiers: vec![1, 1000],
                        message_expiry_interval: Some(1),
                        correlation_data: Some("data".into()),
                        content_type: Some("type".into()),
                        ..v5::PublishProperties::default()
                    };
                    let qos = five::qos(qos).unwrap();
                    let publish = v5::Publish::new("cars/1", qos, vec![b'x'; 200], Some(properties));
                    v5::Publish { pkid: packet_id, retain: true, ..publish }.write(&mut bytes).unwrap();
                }
            }
        }
        let unsubscribed: &[u8] =
            if version == Version::V5 { &[0xb0, 4, 0, 2, 0, 0x11] } else { &[0xb0, 2, 0, 2] };
        let settled = [0x40, 2, 0, 1, 0x50, 2, 0, 2, 0x70, 2, 0, 2];
        // With a reason, and with one and an empty list of properties.
        let refused: &[u8] = &[0x40, 3, 0, 3, 0x97, 0x50, 4, 0, 4, 0x87, 0, 0x70, 3, 0, 4, 0x92];
        let refused = if version == Version::V5 { refused } else { &[] };
        [&bytes, &[0x62, 2, 1, 44][..], unsubscribed, &[0xd0, 0], &settled, refused].concat()
    }

    /// What comes of bytes that arrive in two pieces.
    fn taken(version: Version, bytes: &[u8], first: usize) -> Vec<String> {
        let (mut buffer, mut found) = (BytesMut::from(&bytes[..first]), Vec::new());
        for rest in [&bytes[first..], &[]] {
            while let Some(packet) = take(version, &mut buffer, MOST).unwrap() {
                found.push(format!("{packet:?}"));
            }
            buffer.extend_from_slice(rest);
        }
        assert!(buffer.is_empty());
        found
    }

    #[test]
    fn packets_come_out_whole_wherever_the_stream_is_split() {
        for version in VERSIONS {
            let bytes = stream(version);
            let whole = taken(version, &bytes, bytes.len());
            let expected = if version == Version::V5 { 14 } else { 11 };
            assert_eq!(whole.len(), expected, "{whole:?}");
            for first in 0..bytes.len() {
                assert_eq!(taken(version, &bytes, first), whole, "split at {first}");
            }
        }
    }

    #[test]
    fn a_packet_is_as_large_as_agreed_and_no_larger() {
        for version in VERSIONS {
            let head = |length: usize| {
                [&[0x30, (length % 128) as u8 | 128, (length / 128) as u8][..], &[0; 3]].concat()
            };
            let mut agreed = BytesMut::from(&head(MOST as usize)[..]);
            assert!(take(version, &mut agreed, MOST).unwrap().is_none());
            let mut larger = BytesMut::from(&head(MOST as usize + 1)[..]);
            assert!(take(version, &mut larger, MOST).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        /// Nothing that a broker sends makes the codec panic or go on for ever.
        #[test]
        fn hostile_bytes_end_as_packets_or_as_a_fault(
            noise in prop::collection::vec(any::<u8>(), 0..80),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            // The kind of the first packet of noise, with a length that fits most of the time.
            kind in any::<u8>(),
            first in any::<prop::sample::Index>(),
        ) {
            for version in VERSIONS {
                let mut mutated = stream(version);
                let length = mutated.len();
                changes.iter().for_each(|(at, byte)| mutated[at.index(length)] = *byte);
                let mut framed = vec![kind, noise.len() as u8];
                framed.extend(&noise);
                for bytes in [&mutated, &noise, &framed] {
                    let first = first.index(bytes.len() + 1);
                    let mut buffer = BytesMut::from(&bytes[..first]);
                    for rest in [&bytes[first..], &[]] {
                        let mut left = buffer.len();
                        while let Ok(Some(_)) = take(version, &mut buffer, MOST) {
                            prop_assert!(buffer.len() < left, "a packet takes bytes");
                            left = buffer.len();
                        }
                        buffer.extend_from_slice(rest);
                    }
                }
            }
        }
    }
}
