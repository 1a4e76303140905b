//! The session of a service that takes messages over: each is acknowledged once it is safe elsewhere.
//!
//! ```text
//! broker ══▶ Session::next ──▶ Message { receipt } ──▶ (made safe) ──▶ Acks::acknowledge(receipt) ══▶ broker
//!                │ a connection ends: epoch + 1                              │ receipt of an older epoch:
//!                └───────────────────────────────────────────────────────────┘ dropped, the broker sends again
//! ```
//!
//! A packet id means something only on the connection it came on: brokers use the lowest free id again at
//! once, so an acknowledgement that is late by one reconnect would acknowledge a message that nobody has
//! stored. Every receipt therefore carries the epoch of its connection, and the check of the epoch, the
//! queueing of an acknowledgement and the end of a connection exclude each other by one lock. What is queued
//! while the session works or waits goes out by one write.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::mem::swap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use crate::codec::{self, Connect, Packet};
use crate::config::{Endpoint, Version};
use crate::connection::{self, Buffers, Connection, MOST_WAITING, Outbox};
use crate::fault::Fault;
use crate::qos::Qos;
use crate::reconnect;

/// What a subscribing session is like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Client id, unique at the broker; the broker keeps the session under it.
    pub client_id: String,
    /// What to subscribe to. Order holds within what one session receives.
    pub filters: Vec<String>,
    /// How long the broker keeps messages while the service is away (MQTT 5).
    pub session_expiry: Duration,
    /// Messages that may be unacknowledged, at least 1: the bound of memory and the back-pressure (MQTT 5; in
    /// 3.1.1 the broker sets its own).
    pub receive_maximum: u16,
    /// Largest packet to accept, in bytes; the broker keeps larger ones from a session of MQTT 5.
    pub max_packet_bytes: u32,
}

/// Proof of receipt of one message, to be given back once the message is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    epoch: u64,
    packet_id: u16,
    qos: Qos,
}

/// A message that arrived.
#[derive(Debug)]
pub struct Message {
    /// Topic it was published to.
    pub topic: Bytes,
    /// Its payload.
    pub payload: Bytes,
    /// Quality of service of the delivery.
    pub qos: Qos,
    /// Whether it is one that the broker kept from before the subscription.
    pub retain: bool,
    /// Whether the broker has sent it before.
    pub duplicate: bool,
    /// User properties, in order (MQTT 5).
    pub user_properties: Vec<(String, String)>,
    /// What to acknowledge; `None` for QoS 0, which knows no acknowledgement.
    pub receipt: Option<Receipt>,
}

/// What happened to a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The connection stands.
    Connected {
        /// Whether the broker still held the session and its messages.
        session_present: bool,
    },
    /// The broker granted the subscription.
    Subscribed,
    /// A message arrived.
    Message(Box<Message>),
    /// The connection ended; the broker will send what was not acknowledged again.
    Disconnected(Fault),
}

/// Acknowledges messages; clones share the session. Never waits, so it may be used from any thread.
#[derive(Debug, Clone)]
pub struct Acks {
    shared: Arc<Shared>,
}

/// Drives a session: connects, subscribes, receives, and connects again.
pub struct Session {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    options: Options,
    connection: Option<Connection>,
    /// As in the state, which only the session changes it in.
    epoch: u64,
    /// Whether this process has subscribed; the session at the broker may be of one with other filters.
    subscribed: bool,
    /// Whether the connection only lasts until all is written, the farewell last.
    leaving: bool,
    /// What [`Session::ready`] found and could not say.
    broken: Option<Fault>,
    seed: u64,
    /// Failed attempts in a row.
    failures: u32,
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
    /// Rises with the end of each connection.
    epoch: u64,
    /// Whether there is a connection and no farewell was said on it.
    connected: bool,
    closing: bool,
    last_packet_id: u16,
    /// What is to be written on the connection.
    outgoing: BytesMut,
    /// Woken when `outgoing` is no longer empty.
    waker: Option<Waker>,
}

/// Makes a session; nothing connects before the first call of [`Session::next`].
#[must_use]
pub fn open(endpoint: &Endpoint, options: Options) -> (Acks, Session) {
    let mut hasher = DefaultHasher::new();
    options.client_id.hash(&mut hasher);
    let state = State {
        epoch: 0,
        connected: false,
        closing: false,
        last_packet_id: 0,
        outgoing: BytesMut::new(),
        waker: None,
    };
    let version = endpoint.version;
    let shared = Arc::new(Shared { version, state: Mutex::new(state), closing: Notify::new() });
    let session = Session {
        shared: Arc::clone(&shared),
        endpoint: endpoint.clone(),
        options,
        connection: None,
        epoch: 0,
        subscribed: false,
        leaving: false,
        broken: None,
        seed: hasher.finish(),
        failures: 0,
        ended: false,
    };
    (Acks { shared }, session)
}

impl Acks {
    /// Acknowledges a message that is safe; call it in the order of receipt.
    ///
    /// Returns whether the acknowledgement will go out: it does not where the message's connection has ended,
    /// and then the broker sends the message again.
    #[must_use]
    pub fn acknowledge(&self, receipt: Receipt) -> bool {
        let mut state = self.shared.lock();
        if receipt.epoch != state.epoch || !state.connected || state.outgoing.len() >= MOST_WAITING {
            return false;
        }
        state.outgoing.extend_from_slice(&codec::acknowledgement(receipt.packet_id, receipt.qos));
        wake(state);
        true
    }

    /// Ends the connection and begins another one: the broker sends everything that is not acknowledged again.
    ///
    /// It is the way to take back messages that were passed over.
    pub fn renew(&self) {
        self.shared.barrier(self.shared.lock());
    }

    /// Says farewell to the broker and ends the session, once the broker has all acknowledgements given before.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.barrier(state);
        self.shared.closing.notify_one();
    }
}

impl Session {
    /// Waits for the next event; `None` once the session was closed.
    ///
    /// Safe to cancel, but nothing is read or written between calls: never stop calling it to slow the broker
    /// down, not acknowledging does that. End it by [`Acks::close`].
    ///
    /// # Errors
    ///
    /// Returns a fault that trying again will not mend.
    pub async fn next(&mut self) -> Result<Option<Event>, Fault> {
        while !self.ended {
            let outcome = if self.connection.is_some() { self.proceed().await } else { self.connect().await };
            match outcome {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                Err(fault) => {
                    self.failures += 1;
                    if self.end_epoch() {
                        break;
                    }
                    if fault.is_permanent() {
                        self.ended = true;
                        return Err(fault);
                    }
                    return Ok(Some(Event::Disconnected(fault)));
                }
            }
        }
        self.ended = true;
        Ok(None)
    }

    /// The next message where [`Session::next`] would return one without waiting: one read brings many.
    pub fn ready(&mut self) -> Option<Box<Message>> {
        let connection = self.connection.as_mut().filter(|it| !self.leaving && it.is_message_next())?;
        match connection.at_hand() {
            Ok(Some(Packet::Publish(message, packet_id))) => Some(self.received(message, packet_id)),
            Ok(None) => None,
            Ok(Some(_)) => unreachable!("the packet's kind was looked at"),
            Err(fault) => {
                self.broken = Some(fault);
                None
            }
        }
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
            clean_start: false,
            session_expiry: options.session_expiry,
            receive_maximum: Some(options.receive_maximum.max(1)),
            max_packet_bytes: options.max_packet_bytes,
            last_will: None,
        };
        let (connection, welcome) =
            connection::connect(&self.endpoint, &ask, self.failures, Buffers::Own, &*self.shared).await?;
        let session_present = welcome.session_present;
        self.connection = Some(connection);
        self.failures = 0;
        let mut state = self.shared.lock();
        state.connected = true;
        if !session_present || !self.subscribed {
            let packet_id = state.packet_id();
            codec::put_subscribe(self.shared.version, packet_id, &self.options.filters, &mut state.outgoing);
        }
        if state.closing {
            self.leaving = true;
            state.farewell();
        }
        Ok(Some(Event::Connected { session_present }))
    }

    async fn proceed(&mut self) -> Result<Option<Event>, Fault> {
        if let Some(fault) = self.broken.take() {
            return Err(fault);
        }
        let connection = self.connection.as_mut().expect("there is a connection");
        if self.leaving {
            let _gone_anyway = connection.flush(&*self.shared).await;
            self.ended = self.end_epoch();
            return Ok(None);
        }
        match connection.next(&*self.shared).await? {
            Packet::Publish(message, packet_id) => {
                Ok(Some(Event::Message(self.received(message, packet_id))))
            }
            Packet::Granted(granted) => {
                if let Some(refused) = granted.iter().position(|it| !it) {
                    let filter = self.options.filters.get(refused).cloned().unwrap_or_default();
                    return Err(Fault::Subscription { filter });
                }
                self.subscribed = true;
                Ok(Some(Event::Subscribed))
            }
            Packet::Unsubscribed => {
                // A socket that is closed while messages arrive takes what was written last with it, so
                // acknowledgements are known to be there before the farewell.
                self.leaving = true;
                self.shared.lock().farewell();
                Ok(None)
            }
            Packet::Connected(_)
            | Packet::Acknowledged(..)
            | Packet::Recorded(..)
            | Packet::Completed(..)
            | Packet::Release(_)
            | Packet::Pong => Err(codec::out_of_place()),
        }
    }

    fn received(&self, mut message: Box<Message>, packet_id: u16) -> Box<Message> {
        let (epoch, qos) = (self.epoch, message.qos);
        message.receipt = (qos != Qos::AtMostOnce).then_some(Receipt { epoch, packet_id, qos });
        message
    }

    /// Makes all receipts given out so far worthless; returns whether the session is being closed.
    fn end_epoch(&mut self) -> bool {
        self.connection = None;
        (self.leaving, self.broken) = (false, None);
        self.epoch += 1;
        let mut state = self.shared.lock();
        state.epoch = self.epoch;
        state.connected = false;
        // Under the lock: no acknowledgement can slip in between the new epoch and this.
        state.outgoing.clear();
        state.waker = None;
        state.closing
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the broker for an answer that leads to the farewell.
    fn barrier(&self, mut state: MutexGuard<'_, State>) {
        // With so much waiting the broker does not read, and the connection will end without it.
        if state.connected && state.outgoing.len() < MOST_WAITING {
            let packet_id = state.packet_id();
            codec::put_barrier(self.version, packet_id, &mut state.outgoing);
            wake(state);
        }
    }
}

impl Outbox for Shared {
    fn take(&self, writing: &mut BytesMut, waker: &Waker) {
        let mut state = self.lock();
        if !state.outgoing.is_empty() {
            swap(&mut state.outgoing, writing);
        } else if !state.waker.as_ref().is_some_and(|it| it.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
    }
}

impl State {
    fn packet_id(&mut self) -> u16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        self.last_packet_id
    }

    /// Nothing may be written behind it.
    fn farewell(&mut self) {
        self.connected = false;
        self.outgoing.extend_from_slice(&codec::FAREWELL);
    }
}

/// Wakes the session where it waits for something to write.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}
