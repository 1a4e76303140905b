//! Both versions of the client behind one shape, for devices: what happened on a connection, and what to ask of it.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::v5::mqttbytes as five;
use rumqttc::{NetworkOptions, Outgoing, TlsConfiguration, Transport};

use crate::config::{Endpoint, Version};
use crate::fault::{self, Fault};

/// Quality of service: how often a message arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// 0: at most once, best effort.
    AtMostOnce,
    /// 1: at least once.
    AtLeastOnce,
    /// 2: once, while the session lives.
    ExactlyOnce,
}

impl FromStr for Qos {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "0" => Ok(Self::AtMostOnce),
            "1" => Ok(Self::AtLeastOnce),
            "2" => Ok(Self::ExactlyOnce),
            _ => Err(format!("{text:?} is not a quality of service: 0, 1 or 2")),
        }
    }
}

impl fmt::Display for Qos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", *self as u8)
    }
}

/// Message that the broker publishes when a device goes without a farewell.
#[derive(Debug, Clone)]
pub struct LastWill {
    /// Topic of the message.
    pub topic: String,
    /// Its payload.
    pub payload: Bytes,
    /// Its quality of service.
    pub qos: Qos,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
}

/// What a session asks for when it connects.
#[derive(Debug, Clone)]
pub(crate) struct Connect {
    pub(crate) client_id: String,
    pub(crate) clean_start: bool,
    pub(crate) session_expiry: Duration,
    pub(crate) last_will: Option<LastWill>,
    /// Publishes of ours that may be unacknowledged.
    pub(crate) window: u16,
    pub(crate) max_packet_bytes: u32,
    /// Requests that may wait for the connection's loop.
    pub(crate) requests: usize,
}

/// A message that arrived.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) topic: Bytes,
    pub(crate) payload: Bytes,
}

/// What happened on a connection.
#[derive(Debug)]
pub(crate) enum Happening {
    Connected {
        session_present: bool,
        max_packet_bytes: Option<u32>,
    },
    /// A publish with this packet id was written.
    Sent(u16),
    /// The broker is done with a publish; a text is why it refused it.
    Settled(u16, Option<String>),
    Received(Received),
    /// Whether each filter of the subscription was granted.
    Subscribed(Vec<bool>),
    /// Our farewell was written.
    Farewell,
    Other,
}

/// Asks the loop of a connection to send something; never waits.
#[derive(Debug, Clone)]
pub(crate) enum Requests {
    V311(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

/// The loop of a connection.
pub(crate) struct Loop {
    wire: Wire,
    /// Whether connections are not encrypted.
    plain: bool,
    /// Whether the broker has answered on the connection in hand.
    answered: bool,
}

enum Wire {
    V311(Box<rumqttc::EventLoop>),
    V5(Box<rumqttc::v5::EventLoop>),
}

/// The loop has no room for a request, or it is gone.
#[derive(Debug)]
pub(crate) struct Busy;

/// Makes a connection's loop and the handle that asks things of it; nothing connects before the first poll.
pub(crate) fn open(endpoint: &Endpoint, connect: Connect) -> (Requests, Loop) {
    let transport = match &endpoint.tls {
        Some(connector) => Transport::tls_with_config(TlsConfiguration::NativeConnector(connector.clone())),
        None => Transport::tcp(),
    };
    // With Nagle's algorithm on, a window of acknowledgements waits 40 ms for a delayed ACK of TCP.
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    let (host, port) = (endpoint.address.host.clone(), endpoint.address.port);
    let plain = endpoint.tls.is_none();
    match endpoint.version {
        Version::V311 => {
            let mut options = rumqttc::MqttOptions::new(connect.client_id, host, port);
            options.set_transport(transport).set_keep_alive(endpoint.keep_alive);
            options.set_clean_session(connect.clean_start);
            options.set_inflight(connect.window);
            let limit = connect.max_packet_bytes as usize;
            options.set_max_packet_size(limit, limit);
            if let Some((user, password)) = &endpoint.credentials {
                options.set_credentials(user, password);
            }
            if let Some(will) = connect.last_will {
                let qos = qos_v311(will.qos);
                options.set_last_will(rumqttc::LastWill::new(will.topic, will.payload, qos, will.retain));
            }
            let (client, mut event_loop) = rumqttc::AsyncClient::new(options, connect.requests);
            event_loop.set_network_options(network);
            event_loop.state.events = VecDeque::new();
            (Requests::V311(client), Loop { wire: Wire::V311(Box::new(event_loop)), plain, answered: false })
        }
        Version::V5 => {
            let mut options = rumqttc::v5::MqttOptions::new(connect.client_id, host, port);
            options.set_transport(transport).set_keep_alive(endpoint.keep_alive);
            options.set_clean_start(connect.clean_start);
            options.set_network_options(network);
            let expiry = u32::try_from(connect.session_expiry.as_secs()).unwrap_or(u32::MAX);
            options.set_session_expiry_interval(Some(expiry));
            options.set_max_packet_size(Some(connect.max_packet_bytes));
            // 65,535 slots are made otherwise: 13.8 MiB for each client.
            options.set_outgoing_inflight_upper_limit(connect.window);
            if let Some((user, password)) = &endpoint.credentials {
                options.set_credentials(user, password);
            }
            if let Some(will) = connect.last_will {
                let qos = qos_v5(will.qos);
                let will = five::v5::LastWill::new(will.topic, will.payload, qos, will.retain, None);
                options.set_last_will(will);
            }
            let (client, mut event_loop) = rumqttc::v5::AsyncClient::new(options, connect.requests);
            // Room for a hundred events is made otherwise and used slot by slot, where a device has a handful at a time.
            event_loop.state.events = VecDeque::new();
            (Requests::V5(client), Loop { wire: Wire::V5(Box::new(event_loop)), plain, answered: false })
        }
    }
}

impl Requests {
    pub(crate) fn publish(&self, topic: &str, qos: Qos, retain: bool, payload: Bytes) -> Result<(), Busy> {
        match self {
            Self::V311(client) => client.try_publish(topic, qos_v311(qos), retain, payload).map_err(|_| Busy),
            Self::V5(client) => client.try_publish(topic, qos_v5(qos), retain, payload).map_err(|_| Busy),
        }
    }

    pub(crate) fn subscribe(&self, filters: &[String], qos: Qos) -> Result<(), Busy> {
        match self {
            Self::V311(client) => {
                let filters =
                    filters.iter().map(|it| rumqttc::SubscribeFilter::new(it.clone(), qos_v311(qos)));
                client.try_subscribe_many(filters).map_err(|_| Busy)
            }
            Self::V5(client) => {
                let filter = |text: &String| {
                    let mut filter = five::v5::Filter::new(text.clone(), qos_v5(qos));
                    // Subscribing again must not bring what the broker retains once more.
                    filter.retain_forward_rule = five::v5::RetainForwardRule::OnNewSubscribe;
                    filter
                };
                client.try_subscribe_many(filters.iter().map(filter)).map_err(|_| Busy)
            }
        }
    }

    pub(crate) fn disconnect(&self) -> Result<(), Busy> {
        match self {
            Self::V311(client) => client.try_disconnect().map_err(|_| Busy),
            Self::V5(client) => client.try_disconnect().map_err(|_| Busy),
        }
    }
}

impl Loop {
    /// Waits for the next happening, connecting first where there is no connection.
    ///
    /// Not safe to cancel: a packet may be half written.
    pub(crate) async fn poll(&mut self) -> Result<Happening, Fault> {
        let result = match &mut self.wire {
            Wire::V311(it) => it.poll().await.map(event_v311).map_err(fault::of_v311),
            Wire::V5(it) => it.poll().await.map(event_v5).map_err(fault::of_v5),
        };
        match &result {
            Ok(Happening::Connected { .. }) => self.answered = true,
            Ok(_) => {}
            Err(Fault::Connection(source)) if self.plain && !self.answered && fault::is_closed(&**source) => {
                return Err(Fault::NoAnswer);
            }
            Err(_) => self.answered = false,
        }
        result
    }

    /// Forgets everything that belonged to the connection that ended: events not yet seen, requests not yet
    /// sent, publishes not yet acknowledged. Who keeps a promise about them keeps its own list.
    pub(crate) fn reset(&mut self) {
        match &mut self.wire {
            Wire::V311(it) => {
                it.clean();
                it.pending.clear();
                it.state.events.clear();
                it.state.collision = None;
            }
            Wire::V5(it) => {
                it.clean();
                it.pending.clear();
                it.state.events.clear();
                it.state.collision = None;
            }
        }
    }
}

fn event_v311(event: rumqttc::Event) -> Happening {
    use rumqttc::{Event, Packet, SubscribeReasonCode};
    match event {
        Event::Outgoing(outgoing) => sent(&outgoing),
        Event::Incoming(packet) => match packet {
            Packet::ConnAck(it) => {
                Happening::Connected { session_present: it.session_present, max_packet_bytes: None }
            }
            Packet::PubAck(it) => Happening::Settled(it.pkid, None),
            Packet::PubComp(it) => Happening::Settled(it.pkid, None),
            Packet::SubAck(it) => Happening::Subscribed(
                it.return_codes.iter().map(|it| !matches!(it, SubscribeReasonCode::Failure)).collect(),
            ),
            Packet::Publish(it) => {
                Happening::Received(Received { topic: Bytes::from(it.topic), payload: it.payload })
            }
            _ => Happening::Other,
        },
    }
}

fn event_v5(event: rumqttc::v5::Event) -> Happening {
    use five::v5::{Packet, PubAckReason, PubCompReason, PubRecReason, SubscribeReasonCode};
    use rumqttc::v5::Event;
    match event {
        Event::Outgoing(outgoing) => sent(&outgoing),
        Event::Incoming(packet) => match packet {
            Packet::ConnAck(it) => Happening::Connected {
                session_present: it.session_present,
                max_packet_bytes: it.properties.and_then(|it| it.max_packet_size),
            },
            Packet::PubAck(it) => {
                let taken = matches!(it.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
                Happening::Settled(it.pkid, (!taken).then(|| format!("{:?}", it.reason)))
            }
            Packet::PubRec(it)
                if !matches!(it.reason, PubRecReason::Success | PubRecReason::NoMatchingSubscribers) =>
            {
                Happening::Settled(it.pkid, Some(format!("{:?}", it.reason)))
            }
            Packet::PubComp(it) => {
                let taken = it.reason == PubCompReason::Success;
                Happening::Settled(it.pkid, (!taken).then(|| format!("{:?}", it.reason)))
            }
            Packet::SubAck(it) => Happening::Subscribed(
                it.return_codes.iter().map(|it| matches!(it, SubscribeReasonCode::Success(_))).collect(),
            ),
            Packet::Publish(it) => Happening::Received(Received { topic: it.topic, payload: it.payload }),
            _ => Happening::Other,
        },
    }
}

fn sent(outgoing: &Outgoing) -> Happening {
    match outgoing {
        Outgoing::Publish(packet_id) if *packet_id != 0 => Happening::Sent(*packet_id),
        Outgoing::Disconnect => Happening::Farewell,
        _ => Happening::Other,
    }
}

fn qos_v311(qos: Qos) -> rumqttc::QoS {
    match qos {
        Qos::AtMostOnce => rumqttc::QoS::AtMostOnce,
        Qos::AtLeastOnce => rumqttc::QoS::AtLeastOnce,
        Qos::ExactlyOnce => rumqttc::QoS::ExactlyOnce,
    }
}

fn qos_v5(qos: Qos) -> five::QoS {
    match qos {
        Qos::AtMostOnce => five::QoS::AtMostOnce,
        Qos::AtLeastOnce => five::QoS::AtLeastOnce,
        Qos::ExactlyOnce => five::QoS::ExactlyOnce,
    }
}
