//! The session of a device: it publishes, and learns what the broker made of each publish.
//!
//! ```text
//! Publisher::publish ──▶ window of unacknowledged publishes ──▶ broker
//!      (any thread)            │ sent again, in order, after a reconnect
//!                              ▼
//!                    Session::next: Connected, Acknowledged, Refused, Received, Disconnected
//! ```
//!
//! A publish of quality of service 1 or 2 stays in the window until the broker has acknowledged it; the
//! window bounds memory and is the only queue. It is small on purpose: with room for 20 publishes a client
//! takes some 20 KB, so that one process holds thousands.

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::config::Endpoint;
use crate::fault::Fault;
use crate::reconnect;
use crate::topic::check_topic;
use crate::wire::{Connect, Happening, Loop, Qos, Requests, open as open_wire};

mod shape;

pub use shape::{Event, Options, PublishError, Token};

/// Requests besides publishes of the window that may wait for the loop: publishes of QoS 0, a subscription
/// and a farewell.
const SPARE_REQUESTS: usize = 16;

/// Publishes on a session; clones share it. Never waits, so it may be used from any thread.
#[derive(Debug, Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

/// Drives a session: connects, sends, receives, and connects again.
pub struct Session {
    shared: Arc<Shared>,
    event_loop: Loop,
    options: SessionOptions,
    /// Failed attempts in a row.
    failures: u32,
    ended: bool,
}

struct SessionOptions {
    seed: u64,
    subscriptions: Vec<String>,
    max_packet_bytes: usize,
}

#[derive(Debug)]
struct Shared {
    requests: Requests,
    window: u16,
    state: Mutex<State>,
    closing: Notify,
}

#[derive(Debug)]
struct State {
    connected: bool,
    closing: bool,
    next_token: u64,
    limit: usize,
    /// Oldest first. Entries without packet id wait for the loop to write them, in this order.
    unacknowledged: VecDeque<Unacknowledged>,
}

#[derive(Debug)]
struct Unacknowledged {
    token: Token,
    packet_id: Option<u16>,
    topic: Arc<str>,
    payload: Bytes,
    qos: Qos,
    retain: bool,
    since: Instant,
}

/// Makes a session; nothing connects before the first call of [`Session::next`].
#[must_use]
pub fn open(endpoint: &Endpoint, options: Options) -> (Publisher, Session) {
    let window = options.window.max(1);
    let mut hasher = DefaultHasher::new();
    options.client_id.hash(&mut hasher);
    let connect = Connect {
        client_id: options.client_id,
        clean_start: options.clean_start,
        session_expiry: options.session_expiry,
        last_will: options.last_will,
        window,
        max_packet_bytes: options.max_packet_bytes,
        requests: usize::from(window) + SPARE_REQUESTS,
    };
    let (requests, event_loop) = open_wire(endpoint, connect);
    let limit = options.max_packet_bytes as usize;
    let state =
        State { connected: false, closing: false, next_token: 0, limit, unacknowledged: VecDeque::new() };
    let shared = Arc::new(Shared { requests, window, state: Mutex::new(state), closing: Notify::new() });
    let options = SessionOptions {
        seed: hasher.finish(),
        subscriptions: options.subscriptions,
        max_packet_bytes: limit,
    };
    let session = Session { shared: Arc::clone(&shared), event_loop, options, failures: 0, ended: false };
    (Publisher { shared }, session)
}

impl Publisher {
    /// Publishes a message, or keeps it until the connection stands.
    ///
    /// Returns a token for QoS 1 and 2, which [`Event::Acknowledged`] or [`Event::Refused`] will name.
    ///
    /// # Errors
    ///
    /// Returns why the message was not taken; nothing was sent.
    pub fn publish(
        &self,
        topic: &Arc<str>,
        qos: Qos,
        retain: bool,
        payload: Bytes,
    ) -> Result<Option<Token>, PublishError> {
        check_topic(topic).map_err(PublishError::Topic)?;
        let mut state = self.shared.lock();
        if state.closing {
            return Err(PublishError::Closed);
        }
        // Fixed header, topic length, packet id and an empty list of properties.
        let bytes = topic.len() + payload.len() + 10;
        if bytes > state.limit {
            return Err(PublishError::TooLarge { bytes, limit: state.limit });
        }
        let full = PublishError::WindowFull { window: self.shared.window };
        if qos == Qos::AtMostOnce {
            if !state.connected {
                return Err(PublishError::NotConnected);
            }
            return self
                .shared
                .requests
                .publish(topic, qos, retain, payload)
                .map(|()| None)
                .map_err(|_| full);
        }
        if state.unacknowledged.len() >= usize::from(self.shared.window) {
            return Err(full);
        }
        if state.connected {
            self.shared.requests.publish(topic, qos, retain, payload.clone()).map_err(|_| full)?;
        }
        let token = Token(state.next_token);
        state.next_token += 1;
        let topic = Arc::clone(topic);
        let since = Instant::now();
        state.unacknowledged.push_back(Unacknowledged {
            token,
            packet_id: None,
            topic,
            payload,
            qos,
            retain,
            since,
        });
        Ok(Some(token))
    }

    /// Number of publishes that wait for their acknowledgement.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.shared.lock().unacknowledged.len()
    }

    /// Whether the connection stands.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.lock().connected
    }

    /// Says farewell to the broker, so that it does not publish the last will, and ends the session.
    ///
    /// Publishes that are not acknowledged yet may or may not arrive; wait for them first.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.closing = true;
        if state.connected {
            // Without room the session says it itself, after its next event.
            let _sent_later = self.shared.requests.disconnect();
        }
        self.shared.closing.notify_one();
    }
}

impl Session {
    /// Waits for the next event; `None` once the session was closed.
    ///
    /// Not safe to cancel: run it in a task of its own, and end that task by [`Publisher::close`].
    pub async fn next(&mut self) -> Option<Event> {
        while !self.ended {
            if self.failures > 0 {
                reconnect::wait(&self.shared.closing, self.options.seed, self.failures).await;
                if self.shared.lock().closing {
                    break;
                }
            }
            match self.event_loop.poll().await {
                Ok(happening) => {
                    if let Some(event) = self.on(happening) {
                        return Some(event);
                    }
                }
                Err(fault) => {
                    self.failures += 1;
                    let closing = self.forget_connection();
                    if closing {
                        break;
                    }
                    return Some(Event::Disconnected(fault));
                }
            }
        }
        self.ended = true;
        None
    }

    fn on(&mut self, happening: Happening) -> Option<Event> {
        match happening {
            Happening::Connected { session_present, max_packet_bytes } => {
                self.failures = 0;
                self.resume(max_packet_bytes);
                Some(Event::Connected { session_present })
            }
            Happening::Sent(packet_id) => {
                let mut state = self.shared.lock();
                if let Some(first) = state.unacknowledged.iter_mut().find(|it| it.packet_id.is_none()) {
                    first.packet_id = Some(packet_id);
                }
                None
            }
            Happening::Settled(packet_id, refusal) => {
                let mut state = self.shared.lock();
                let index = state.unacknowledged.iter().position(|it| it.packet_id == Some(packet_id))?;
                let settled = state.unacknowledged.remove(index)?;
                Some(match refusal {
                    None => Event::Acknowledged { token: settled.token, waited: settled.since.elapsed() },
                    Some(reason) => Event::Refused { token: settled.token, reason },
                })
            }
            Happening::Received(message) => {
                Some(Event::Received { topic: message.topic, payload: message.payload })
            }
            Happening::Subscribed(granted) => {
                let refused = granted.iter().position(|it| !it)?;
                let filter = self.options.subscriptions.get(refused).cloned().unwrap_or_default();
                Some(Event::Disconnected(Fault::Subscription { filter }))
            }
            Happening::Farewell => {
                self.forget_connection();
                self.ended = true;
                None
            }
            Happening::Other => {
                let state = self.shared.lock();
                if state.closing && state.connected {
                    let _sent_later = self.shared.requests.disconnect();
                }
                None
            }
        }
    }

    /// Sends everything in the window again, in order, on a connection that has just come about.
    fn resume(&mut self, max_packet_bytes: Option<u32>) {
        let mut state = self.shared.lock();
        state.connected = true;
        let own = self.options.max_packet_bytes;
        state.limit = max_packet_bytes.map_or(own, |theirs| own.min(theirs as usize));
        let requests = &self.shared.requests;
        if !self.options.subscriptions.is_empty() {
            let sent = requests.subscribe(&self.options.subscriptions, Qos::AtLeastOnce);
            sent.expect("a new connection's queue is empty");
        }
        for it in &state.unacknowledged {
            let sent = requests.publish(&it.topic, it.qos, it.retain, it.payload.clone());
            sent.expect("the queue of requests has room for the whole window");
        }
        if state.closing {
            let _sent_later = requests.disconnect();
        }
    }

    /// Marks the connection gone; returns whether the session is being closed.
    fn forget_connection(&mut self) -> bool {
        let mut state = self.shared.lock();
        state.connected = false;
        // Under the lock: no publish can slip into the queue between the mark and the reset.
        self.event_loop.reset();
        for it in &mut state.unacknowledged {
            it.packet_id = None;
        }
        state.closing
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Version;
    use crate::topic::TopicError;

    fn unconnected(window: u16) -> (Publisher, Session) {
        let endpoint = Endpoint::plain("127.0.0.1:1".parse().unwrap(), Version::V5);
        let options = Options { window, max_packet_bytes: 1000, ..Options::new("car-1") };
        open(&endpoint, options)
    }

    #[test]
    fn a_publish_that_cannot_be_sent_is_refused_before_it_is_queued() {
        let (publisher, _session) = unconnected(2);
        let topic: Arc<str> = "a/b".into();
        let publish = |topic: &Arc<str>, qos, bytes: usize| {
            publisher.publish(topic, qos, false, Bytes::from(vec![0; bytes]))
        };
        assert_eq!(publish(&topic, Qos::AtMostOnce, 1), Err(PublishError::NotConnected));
        let large = PublishError::TooLarge { bytes: 1013, limit: 1000 };
        assert_eq!(publish(&topic, Qos::AtLeastOnce, 1000), Err(large));
        let wild = PublishError::Topic(TopicError::Wildcard);
        assert_eq!(publish(&"a/+".into(), Qos::AtLeastOnce, 1), Err(wild));
        assert_eq!(publish(&topic, Qos::AtLeastOnce, 1), Ok(Some(Token(0))));
        assert_eq!(publish(&topic, Qos::ExactlyOnce, 1), Ok(Some(Token(1))));
        assert_eq!(publish(&topic, Qos::AtLeastOnce, 1), Err(PublishError::WindowFull { window: 2 }));
        assert_eq!(publisher.unacknowledged(), 2);
        publisher.close();
        assert_eq!(publish(&topic, Qos::AtLeastOnce, 1), Err(PublishError::Closed));
    }

    #[tokio::test]
    async fn a_session_that_cannot_connect_says_so_and_ends_when_closed() {
        let (publisher, mut session) = unconnected(1);
        let event = session.next().await;
        assert!(matches!(event, Some(Event::Disconnected(Fault::Connection(_)))), "{event:?}");
        publisher.close();
        assert!(session.next().await.is_none());
        assert!(session.next().await.is_none());
    }
}
