//! What a device's session is asked for, and what it answers.

use std::time::Duration;

use bytes::Bytes;

use crate::fault::Fault;
use crate::qos::Qos;
use crate::topic::TopicError;

/// What a device's session is like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Client id, unique at the broker.
    pub client_id: String,
    /// Whether the broker forgets what it held for this client id before.
    pub clean_start: bool,
    /// How long the broker keeps the session after the connection (MQTT 5).
    pub session_expiry: Duration,
    /// Message that the broker publishes when the device goes without a farewell.
    pub last_will: Option<LastWill>,
    /// Publishes of QoS 1 and 2 that may be unacknowledged, at least 1.
    pub window: u16,
    /// Largest packet to send or accept, in bytes; the broker may set a lower limit.
    pub max_packet_bytes: u32,
    /// Filters to subscribe to with QoS 1 on every connection.
    pub subscriptions: Vec<String>,
}

impl Options {
    /// A clean session with a window of 20 and packets of up to 1 MiB.
    #[must_use]
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            clean_start: true,
            session_expiry: Duration::ZERO,
            last_will: None,
            window: 20,
            max_packet_bytes: 1 << 20,
            subscriptions: Vec::new(),
        }
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

/// Names a publish in the events that follow; rises by one with each publish of QoS 1 or 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// Why a publish was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// As many publishes as the window holds are unacknowledged.
    #[error("all {window} places of the window wait for acknowledgements")]
    WindowFull {
        /// [`Options::window`]
        window: u16,
    },
    /// A publish of QoS 0 is not kept for later.
    #[error("there is no connection, and a publish of quality of service 0 is not kept")]
    NotConnected,
    /// The packet would be larger than the broker takes; sending it would end the connection again and again.
    #[error("a packet of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Size of the packet.
        bytes: usize,
        /// The broker's limit, or [`Options::max_packet_bytes`].
        limit: usize,
    },
    /// The topic is not one.
    #[error("the topic cannot be published to: {0}")]
    Topic(TopicError),
    /// The session was closed.
    #[error("the session is closed")]
    Closed,
}

/// What happened to a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The connection stands; what the window holds was sent again.
    Connected {
        /// Whether the broker still held the session.
        session_present: bool,
    },
    /// The broker has taken a publish over.
    Acknowledged {
        /// Which one.
        token: Token,
        /// Time since [`super::Publisher::publish`].
        waited: Duration,
    },
    /// The broker refused a publish for good; it has left the window.
    Refused {
        /// Which one.
        token: Token,
        /// The broker's reason.
        reason: String,
    },
    /// A message arrived on a subscription.
    Received {
        /// Its topic.
        topic: Bytes,
        /// Its payload.
        payload: Bytes,
    },
    /// The connection ended; the next call waits a little and connects again.
    Disconnected(Fault),
}
