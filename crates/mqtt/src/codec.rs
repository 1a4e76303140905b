//! The packets of a subscribing session in both versions of the protocol: bytes from and to one shape.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::{self as four, v4};
use rumqttc::v5::mqttbytes::{self as five, v5};
use rumqttc::v5::{ConnectionError, StateError};

use crate::config::{Endpoint, Version};
use crate::fault::{self, Fault};
use crate::subscriber::{Message, Options};
use crate::wire::Qos;

/// Bytes that ask whether the other side is still there.
pub(crate) const PING: [u8; 2] = [0xc0, 0];
/// Bytes that say farewell.
pub(crate) const FAREWELL: [u8; 2] = [0xe0, 0];

/// Invariant of all packets that are written here.
const SHORT: &str = "names and filters are far below the protocol's 256 MiB";

/// A packet of the broker's.
#[derive(Debug)]
pub(crate) enum Packet {
    /// The connection stands.
    Connected {
        session_present: bool,
        /// Where the broker wants another one than it was asked for.
        keep_alive: Option<Duration>,
    },
    /// A message, whose receipt is not made out yet.
    Publish(Box<Message>, u16),
    /// Second step of QoS 2.
    Release(u16),
    /// Whether each filter of the subscription was granted.
    Granted(Vec<bool>),
    Unsubscribed,
    Pong,
}

/// The bytes that acknowledge a message of QoS 1, or take the first step of QoS 2: the same in both versions.
pub(crate) fn acknowledgement(packet_id: u16, qos: Qos) -> [u8; 4] {
    let [high, low] = packet_id.to_be_bytes();
    [if qos == Qos::ExactlyOnce { 0x50 } else { 0x40 }, 2, high, low]
}

/// The bytes of the last step of QoS 2.
pub(crate) fn completion(packet_id: u16) -> [u8; 4] {
    let [high, low] = packet_id.to_be_bytes();
    [0x70, 2, high, low]
}

/// Writes what asks for a connection.
pub(crate) fn put_connect(endpoint: &Endpoint, options: &Options, bytes: &mut BytesMut) {
    let keep_alive = u16::try_from(endpoint.keep_alive.as_secs()).unwrap_or(u16::MAX);
    let client_id = options.client_id.clone();
    match endpoint.version {
        Version::V311 => {
            let login = endpoint.credentials.as_ref().map(|(user, password)| v4::Login::new(user, password));
            let start = v4::Connect::new(client_id);
            v4::Connect { keep_alive, clean_session: false, login, ..start }.write(bytes).expect(SHORT);
        }
        Version::V5 => {
            let expiry = u32::try_from(options.session_expiry.as_secs()).unwrap_or(u32::MAX);
            let properties = v5::ConnectProperties {
                session_expiry_interval: Some(expiry),
                receive_maximum: Some(options.receive_maximum.max(1)),
                max_packet_size: Some(options.max_packet_bytes),
                ..v5::ConnectProperties::new()
            };
            let login =
                endpoint.credentials.as_ref().map(|(user, password)| v5::Login::new(user.as_str(), password));
            let connect =
                v5::Connect { keep_alive, client_id, clean_start: false, properties: Some(properties) };
            connect.write(&None, &login, bytes).expect(SHORT);
        }
    }
}

/// Writes a subscription with QoS 1.
pub(crate) fn put_subscribe(version: Version, packet_id: u16, filters: &[String], bytes: &mut BytesMut) {
    match version {
        Version::V311 => {
            let filter = |it: &String| v4::SubscribeFilter::new(it.clone(), four::QoS::AtLeastOnce);
            let subscribe = v4::Subscribe::new_many(filters.iter().map(filter));
            v4::Subscribe { pkid: packet_id, ..subscribe }.write(bytes).expect(SHORT);
        }
        Version::V5 => {
            let filter = |it: &String| v5::Filter {
                // Subscribing again must not bring what the broker retains once more.
                retain_forward_rule: v5::RetainForwardRule::OnNewSubscribe,
                ..v5::Filter::new(it.clone(), five::QoS::AtLeastOnce)
            };
            let subscribe = v5::Subscribe::new_many(filters.iter().map(filter), None);
            v5::Subscribe { pkid: packet_id, ..subscribe }.write(bytes).expect(SHORT);
        }
    }
}

/// Writes the end of a subscription that does not exist: its answer comes after everything written before it is
/// done.
pub(crate) fn put_barrier(version: Version, packet_id: u16, bytes: &mut BytesMut) {
    const NOTHING: &str = "telltale/barrier";
    match version {
        Version::V311 => {
            let unsubscribe = v4::Unsubscribe { pkid: packet_id, topics: vec![NOTHING.to_owned()] };
            unsubscribe.write(bytes).expect(SHORT);
        }
        Version::V5 => {
            let unsubscribe = v5::Unsubscribe { pkid: packet_id, ..v5::Unsubscribe::new(NOTHING, None) };
            unsubscribe.write(bytes).expect(SHORT);
        }
    }
}

/// Takes the first packet off `bytes`; `None` where it is not whole yet.
///
/// # Errors
///
/// Returns a refusal or farewell of the broker's as a fault, and one for what is no packet, is larger than
/// `most` bytes or not for a subscriber. `bytes` is of no use then.
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

/// What a subscriber is not sent.
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
        v4::Packet::PubRel(it) => Packet::Release(it.pkid),
        v4::Packet::PingResp => Packet::Pong,
        v4::Packet::UnsubAck(_) => Packet::Unsubscribed,
        v4::Packet::SubAck(it) => Packet::Granted(
            it.return_codes.iter().map(|it| !matches!(it, SubscribeReasonCode::Failure)).collect(),
        ),
        v4::Packet::ConnAck(it) if it.code == ConnectReturnCode::Success => {
            Packet::Connected { session_present: it.session_present, keep_alive: None }
        }
        v4::Packet::ConnAck(it) => {
            return Err(fault::of_v311(rumqttc::ConnectionError::ConnectionRefused(it.code)));
        }
        _ => return Err(out_of_place()),
    })
}

fn of_v5(packet: v5::Packet) -> Result<Packet, Fault> {
    use v5::{ConnectReturnCode, SubscribeReasonCode};
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
        v5::Packet::PubRel(it) => Packet::Release(it.pkid),
        v5::Packet::PingResp(_) => Packet::Pong,
        v5::Packet::UnsubAck(_) => Packet::Unsubscribed,
        v5::Packet::SubAck(it) => Packet::Granted(
            it.return_codes.iter().map(|it| matches!(it, SubscribeReasonCode::Success(_))).collect(),
        ),
        v5::Packet::ConnAck(it) if it.code == ConnectReturnCode::Success => {
            let keep_alive = it.properties.and_then(|it| it.server_keep_alive);
            let keep_alive = keep_alive.map(|it| Duration::from_secs(it.into()));
            Packet::Connected { session_present: it.session_present, keep_alive }
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

    /// One packet of each kind that a subscriber is sent.
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
        [&bytes, &[0x62, 2, 1, 44][..], unsubscribed, &[0xd0, 0]].concat()
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
            assert_eq!(whole.len(), 8, "{whole:?}");
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
