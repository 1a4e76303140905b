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
//! window bounds memory and is the only queue. A session at rest holds no buffers, so that one process holds
//! tens of thousands.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use crate::codec::{self, Connect, Packet, Publish};
use crate::config::{Endpoint, Version};
use crate::connection::{self, Buffers, Connection, Outbox};
use crate::fault::Fault;
use crate::qos::Qos;
use crate::reconnect;
use crate::topic::check_topic;

mod shape;
mod window;

pub use shape::{Event, LastWill, Options, PublishError, Token};
use window::{SPARE_PACKET_ID, Settled, Window};

/// Publishes on a session; clones share it. Never waits, so it may be used from any thread.
#[derive(Debug, Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

/// Drives a session: connects, sends, receives, and connects again.
pub struct Session {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    options: Options,
    connection: Option<Connection>,
    seed: u64,
    /// Failed attempts in a row.
    failures: u32,
    /// Whether an attempt was given up that the broker may still come to.
    unanswered: bool,
    ended: bool,
}

#[derive(Debug)]
struct Shared {
    version: Version,
    state: Mutex<State>,
    closing: Notify,
}

#[derive(Debug)]
struct State {
    /// Whether there is a connection and no farewell was said on it.
    connected: bool,
    closing: bool,
    /// Most bytes of a packet.
    limit: usize,
    window: Window,
    /// Woken when there is something to write again.
    waker: Option<Waker>,
}

/// Makes a session; nothing connects before the first call of [`Session::next`].
#[must_use]
pub fn open(endpoint: &Endpoint, options: Options) -> (Publisher, Session) {
    let mut hasher = DefaultHasher::new();
    options.client_id.hash(&mut hasher);
    let state = State {
        connected: false,
        closing: false,
        limit: own_limit(&options),
        window: Window::new(options.window.max(1)),
        waker: None,
    };
    let version = endpoint.version;
    let shared = Arc::new(Shared { version, state: Mutex::new(state), closing: Notify::new() });
    let session = Session {
        shared: Arc::clone(&shared),
        endpoint: endpoint.clone(),
        options,
        connection: None,
        seed: hasher.finish(),
        failures: 0,
        unanswered: false,
        ended: false,
    };
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
        let (bytes, limit) = (topic.len() + payload.len() + codec::PUBLISH_HEAD, state.limit);
        if bytes > limit {
            return Err(PublishError::TooLarge { bytes, limit });
        }
        if qos == Qos::AtMostOnce && !state.connected {
            return Err(PublishError::NotConnected);
        }
        let full = PublishError::WindowFull { window: state.window.size() };
        let publish = Publish { topic: Arc::clone(topic), qos, retain, payload };
        let token = state.window.push(publish).ok_or(full)?;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(token)
    }

    /// Number of publishes that wait for their acknowledgement.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.shared.lock().window.unacknowledged()
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
        self.shared.lock().closing = true;
        self.shared.closing.notify_one();
    }
}

impl Session {
    /// Waits for the next event; `None` once the session was closed.
    ///
    /// Safe to cancel, but nothing is read or written between calls. Run it in a task of its own, and end that
    /// task by [`Publisher::close`].
    pub async fn next(&mut self) -> Option<Event> {
        while !self.ended {
            let outcome = if self.connection.is_some() { self.proceed().await } else { self.connect().await };
            match outcome {
                Ok(Some(event)) => return Some(event),
                Ok(None) => {}
                Err(fault) => {
                    self.failures += 1;
                    if self.forget_connection() {
                        break;
                    }
                    return Some(Event::Disconnected(self.blame(fault)));
                }
            }
        }
        self.ended = true;
        None
    }

    async fn connect(&mut self) -> Result<Option<Event>, Fault> {
        if self.failures > 0 {
            reconnect::wait(&self.shared.closing, self.seed, self.failures).await;
        }
        if self.shared.lock().closing {
            self.ended = true;
            return Ok(None);
        }
        let options = &self.options;
        let ask = Connect {
            client_id: &options.client_id,
            clean_start: options.clean_start,
            session_expiry: options.session_expiry,
            receive_maximum: None,
            max_packet_bytes: options.max_packet_bytes,
            last_will: options.last_will.as_ref(),
        };
        // Much larger than what a session is for the rest of its life, so not a part of it.
        let (endpoint, outbox) = (&self.endpoint, &*self.shared);
        let attempt = Box::pin(connection::connect(endpoint, &ask, self.failures, Buffers::Shared, outbox));
        let (mut connection, welcome) = attempt.await?;
        if !options.subscriptions.is_empty() {
            let mut subscribe = BytesMut::new();
            let version = self.shared.version;
            codec::put_subscribe(version, SPARE_PACKET_ID, &options.subscriptions, &mut subscribe);
            connection.answer(&subscribe)?;
        }
        self.connection = Some(connection);
        self.failures = 0;
        let mut state = self.shared.lock();
        state.connected = true;
        let own = own_limit(options);
        state.limit = welcome.max_packet_bytes.map_or(own, |theirs| own.min(theirs as usize));
        state.window.resume(welcome.session_present, welcome.receive_maximum);
        Ok(Some(Event::Connected { session_present: welcome.session_present }))
    }

    async fn proceed(&mut self) -> Result<Option<Event>, Fault> {
        let connection = self.connection.as_mut().expect("there is a connection");
        if self.shared.lock().closing {
            // The farewell is the last thing to write.
            let _gone_anyway = connection.flush(&*self.shared).await;
            self.forget_connection();
            self.ended = true;
            return Ok(None);
        }
        // Both are safe to cancel.
        let packet = tokio::select! {
            biased;
            packet = connection.next(&*self.shared) => packet?,
            () = self.shared.closing.notified() => return Ok(None),
        };
        match packet {
            Packet::Publish(message, packet_id) => {
                if message.qos != Qos::AtMostOnce {
                    connection.answer(&codec::acknowledgement(packet_id, message.qos))?;
                }
                Ok(Some(Event::Received { topic: message.topic, payload: message.payload }))
            }
            Packet::Granted(granted) => {
                let Some(refused) = granted.iter().position(|it| !it) else { return Ok(None) };
                let filter = self.options.subscriptions.get(refused).cloned().unwrap_or_default();
                Ok(Some(Event::Disconnected(Fault::Subscription { filter })))
            }
            Packet::Recorded(packet_id, None) => {
                let recorded = self.shared.lock().window.record(packet_id);
                recorded.ok_or_else(|| codec::unsolicited(packet_id))?;
                connection.answer(&codec::release(packet_id))?;
                Ok(None)
            }
            Packet::Acknowledged(packet_id, refusal) => {
                let settled = self.shared.lock().window.acknowledge(packet_id);
                outcome(packet_id, settled, refusal)
            }
            Packet::Recorded(packet_id, refusal) => {
                let settled = self.shared.lock().window.refuse(packet_id);
                outcome(packet_id, settled, refusal)
            }
            Packet::Completed(packet_id, refusal) => {
                let (settled, recovered) = self.shared.lock().window.complete(packet_id).unzip();
                // A broker that was done with it on an earlier connection no longer knows the packet id.
                outcome(packet_id, settled, refusal.filter(|_| recovered == Some(false)))
            }
            Packet::Connected(_) | Packet::Unsubscribed | Packet::Release(_) | Packet::Pong => {
                Err(codec::out_of_place())
            }
        }
    }

    /// Tells a takeover by an attempt of this session, which the broker came to late, from one by another client.
    fn blame(&mut self, fault: Fault) -> Fault {
        match fault {
            Fault::Silent { .. } => self.unanswered = true,
            Fault::TakenOver if self.unanswered => {
                // With another client there may be a tug of war, but it has an end.
                self.unanswered = false;
                return Fault::LateAnswer;
            }
            _ => {}
        }
        fault
    }

    /// Marks the connection gone; returns whether the session is being closed.
    fn forget_connection(&mut self) -> bool {
        self.connection = None;
        let mut state = self.shared.lock();
        state.connected = false;
        state.window.disconnect();
        state.waker = None;
        state.closing
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox for Shared {
    fn take(&self, writing: &mut BytesMut, waker: &Waker) {
        let mut state = self.lock();
        if state.connected {
            state.window.write(self.version, writing);
            if writing.is_empty() && state.closing {
                writing.extend_from_slice(&codec::FAREWELL);
                state.connected = false;
            }
        }
        if writing.is_empty() && !state.waker.as_ref().is_some_and(|it| it.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
    }
}

/// The largest packet as the device has it.
fn own_limit(options: &Options) -> usize {
    codec::LARGEST.min(options.max_packet_bytes as usize)
}

/// What the device is told of a publish that has left the window.
fn outcome(
    packet_id: u16,
    settled: Option<Settled>,
    refusal: Option<String>,
) -> Result<Option<Event>, Fault> {
    let Settled { token, since } = settled.ok_or_else(|| codec::unsolicited(packet_id))?;
    Ok(Some(match refusal {
        None => Event::Acknowledged { token, waited: since.elapsed() },
        Some(reason) => Event::Refused { token, reason },
    }))
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
