//! The packets of a session in both versions of the protocol: bytes from and to one shape.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::{self as four, v4};
use rumqttc::v5::mqttbytes::{self as five, v5};

use crate::config::{Endpoint, Version};
use crate::device::LastWill;
use crate::qos::Qos;

mod incoming;

pub(crate) use incoming::{Packet, Welcome, out_of_place, take, unsolicited};

/// Bytes that ask whether the other side is still there.
pub(crate) const PING: [u8; 2] = [0xc0, 0];
/// Bytes that say farewell.
pub(crate) const FAREWELL: [u8; 2] = [0xe0, 0];

/// Most bytes of a packet that the protocol allows.
pub(crate) const LARGEST: usize = 5 + 268_435_455;
/// Most bytes of a publish besides its topic and payload, in both versions: type, length, length of the topic,
/// packet id and an empty list of properties.
pub(crate) const PUBLISH_HEAD: usize = 10;

/// Invariant of all packets that are written here.
const SHORT: &str = "names and filters are far below the protocol's 256 MiB, and publishes were measured";

/// What a session asks for when it connects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connect<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) clean_start: bool,
    pub(crate) session_expiry: Duration,
    /// Messages that the broker may leave unacknowledged; as many as the protocol allows where there is none.
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) max_packet_bytes: u32,
    pub(crate) last_will: Option<&'a LastWill>,
}

/// A message to publish.
#[derive(Debug, Clone)]
pub(crate) struct Publish {
    pub(crate) topic: Arc<str>,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) payload: Bytes,
}

/// The bytes that acknowledge a message of QoS 1, or take the first step of QoS 2: the same in both versions.
pub(crate) fn acknowledgement(packet_id: u16, qos: Qos) -> [u8; 4] {
    let [high, low] = packet_id.to_be_bytes();
    [if qos == Qos::ExactlyOnce { 0x50 } else { 0x40 }, 2, high, low]
}

/// The bytes of the second step of QoS 2, of a message of ours.
pub(crate) fn release(packet_id: u16) -> [u8; 4] {
    let [high, low] = packet_id.to_be_bytes();
    [0x62, 2, high, low]
}

/// The bytes of the last step of QoS 2.
pub(crate) fn completion(packet_id: u16) -> [u8; 4] {
    let [high, low] = packet_id.to_be_bytes();
    [0x70, 2, high, low]
}

/// Writes what asks for a connection.
pub(crate) fn put_connect(endpoint: &Endpoint, connect: &Connect<'_>, bytes: &mut BytesMut) {
    let keep_alive = u16::try_from(endpoint.keep_alive.as_secs()).unwrap_or(u16::MAX);
    let client_id = connect.client_id.to_owned();
    let clean_start = connect.clean_start;
    let login = endpoint.credentials.as_ref();
    match endpoint.version {
        Version::V311 => {
            let login = login.map(|(user, password)| v4::Login::new(user, password));
            let last_will = connect.last_will.map(|it| v4::LastWill {
                topic: it.topic.clone(),
                message: it.payload.clone(),
                qos: qos_v311(it.qos),
                retain: it.retain,
            });
            let start = v4::Connect::new(client_id);
            v4::Connect { keep_alive, clean_session: clean_start, last_will, login, ..start }
                .write(bytes)
                .expect(SHORT);
        }
        Version::V5 => {
            let login = login.map(|(user, password)| v5::Login::new(user.as_str(), password));
            let last_will = connect.last_will.map(|it| v5::LastWill {
                topic: Bytes::from(it.topic.clone()),
                message: it.payload.clone(),
                qos: qos_v5(it.qos),
                retain: it.retain,
                properties: None,
            });
            let expiry = u32::try_from(connect.session_expiry.as_secs()).unwrap_or(u32::MAX);
            let properties = v5::ConnectProperties {
                session_expiry_interval: Some(expiry),
                receive_maximum: connect.receive_maximum,
                max_packet_size: Some(connect.max_packet_bytes),
                ..v5::ConnectProperties::new()
            };
            let connect = v5::Connect { keep_alive, client_id, clean_start, properties: Some(properties) };
            connect.write(&last_will, &login, bytes).expect(SHORT);
        }
    }
}

/// Writes a message; the packet id is of no meaning for QoS 0.
pub(crate) fn put_publish(
    version: Version,
    publish: &Publish,
    packet_id: u16,
    again: bool,
    bytes: &mut BytesMut,
) {
    let Publish { topic, qos, retain, payload } = publish;
    bytes.reserve(PUBLISH_HEAD + topic.len() + payload.len());
    let (dup, retain, pkid, payload) = (again, *retain, packet_id, payload.clone());
    match version {
        Version::V311 => {
            let (qos, topic) = (qos_v311(*qos), topic.to_string());
            v4::Publish { dup, qos, retain, topic, pkid, payload }.write(bytes).expect(SHORT);
        }
        Version::V5 => {
            let (qos, topic) = (qos_v5(*qos), Bytes::copy_from_slice(topic.as_bytes()));
            let publish = v5::Publish { dup, qos, retain, topic, pkid, payload, properties: None };
            publish.write(bytes).expect(SHORT);
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

fn qos_v311(qos: Qos) -> four::QoS {
    match qos {
        Qos::AtMostOnce => four::QoS::AtMostOnce,
        Qos::AtLeastOnce => four::QoS::AtLeastOnce,
        Qos::ExactlyOnce => four::QoS::ExactlyOnce,
    }
}

fn qos_v5(qos: Qos) -> five::QoS {
    match qos {
        Qos::AtMostOnce => five::QoS::AtMostOnce,
        Qos::AtLeastOnce => five::QoS::AtLeastOnce,
        Qos::ExactlyOnce => five::QoS::ExactlyOnce,
    }
}
