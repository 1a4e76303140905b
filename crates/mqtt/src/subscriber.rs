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
//! queueing of an acknowledgement and the end of a connection exclude each other by one lock.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::config::Endpoint;
use crate::fault::Fault;
use crate::reconnect;
use crate::wire::{Connect, Happening, Loop, Qos, Requests, open as open_wire};

/// Requests besides acknowledgements that may wait for the loop: a subscription and a farewell.
const SPARE_REQUESTS: usize = 16;

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
    event_loop: Loop,
    filters: Vec<String>,
    /// Whether this process has subscribed; the session at the broker may be of one with other filters.
    subscribed: bool,
    seed: u64,
    /// Failed attempts in a row.
    failures: u32,
    ended: bool,
}

#[derive(Debug)]
struct Shared {
    requests: Requests,
    state: Mutex<State>,
    closing: Notify,
}

#[derive(Debug)]
struct State {
    /// Rises with the end of each connection.
    epoch: u64,
    connected: bool,
    closing: bool,
}

/// Makes a session; nothing connects before the first call of [`Session::next`].
#[must_use]
pub fn open(endpoint: &Endpoint, options: Options) -> (Acks, Session) {
    let mut hasher = DefaultHasher::new();
    options.client_id.hash(&mut hasher);
    let receive_maximum = options.receive_maximum.max(1);
    let connect = Connect {
        client_id: options.client_id,
        clean_start: false,
        session_expiry: options.session_expiry,
        last_will: None,
        manual_acks: true,
        window: 1,
        receive_maximum: Some(receive_maximum),
        max_packet_bytes: options.max_packet_bytes,
        // A broker of MQTT 3.1.1 knows no receive maximum: room for the largest window there can be. The
        // queue takes memory only for what is in it.
        requests: usize::from(u16::MAX) + SPARE_REQUESTS,
    };
    let (requests, event_loop) = open_wire(endpoint, connect);
    let state = Mutex::new(State { epoch: 0, connected: false, closing: false });
    let shared = Arc::new(Shared { requests, state, closing: Notify::new() });
    let session = Session {
        shared: Arc::clone(&shared),
        event_loop,
        filters: options.filters,
        subscribed: false,
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
        let state = self.shared.lock();
        receipt.epoch == state.epoch
            && state.connected
            && self.shared.requests.acknowledge(receipt.packet_id, receipt.qos).is_ok()
    }

    /// Ends the connection and begins another one: the broker sends everything that is not acknowledged again.
    ///
    /// It is the way to take back messages that were passed over.
    pub fn renew(&self) {
        let state = self.shared.lock();
        if state.connected {
            // Without room there are acknowledgements on their way, and the caller will come back.
            let _full = self.shared.requests.barrier();
        }
    }

    /// Says farewell to the broker and ends the session, once the broker has all acknowledgements given before.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.closing = true;
        if state.connected {
            // The queue has room for every acknowledgement and these.
            let _gone_anyway = self.shared.requests.barrier();
        }
        self.shared.closing.notify_one();
    }
}

impl Session {
    /// Waits for the next event; `None` once the session was closed.
    ///
    /// Not safe to cancel: run it in a task of its own, end that task by [`Acks::close`], and never stop
    /// calling it to slow the broker down; not acknowledging does that.
    ///
    /// # Errors
    ///
    /// Returns a fault that trying again will not mend.
    pub async fn next(&mut self) -> Result<Option<Event>, Fault> {
        while !self.ended {
            if self.failures > 0 {
                reconnect::wait(&self.shared.closing, self.seed, self.failures).await;
                if self.shared.lock().closing {
                    break;
                }
            }
            match self.event_loop.poll().await {
                Ok(happening) => {
                    if let Some(event) = self.on(happening)? {
                        return Ok(Some(event));
                    }
                }
                Err(fault) => {
                    self.failures += 1;
                    let closing = self.end_epoch();
                    if closing {
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

    fn on(&mut self, happening: Happening) -> Result<Option<Event>, Fault> {
        Ok(match happening {
            Happening::Connected { session_present, .. } => {
                self.failures = 0;
                let mut state = self.shared.lock();
                state.connected = true;
                let requests = &self.shared.requests;
                if !session_present || !self.subscribed {
                    let sent = requests.subscribe(&self.filters, Qos::AtLeastOnce);
                    sent.expect("a new connection's queue is empty");
                }
                if state.closing {
                    let _sent_later = requests.disconnect();
                }
                Some(Event::Connected { session_present })
            }
            Happening::Subscribed(granted) => {
                if let Some(refused) = granted.iter().position(|it| !it) {
                    self.ended = true;
                    let filter = self.filters.get(refused).cloned().unwrap_or_default();
                    return Err(Fault::Subscription { filter });
                }
                self.subscribed = true;
                Some(Event::Subscribed)
            }
            Happening::Received(it) => {
                let epoch = self.shared.lock().epoch;
                let (qos, packet_id) = (it.qos, it.packet_id);
                let receipt = (qos != Qos::AtMostOnce).then_some(Receipt { epoch, packet_id, qos });
                Some(Event::Message(Box::new(Message {
                    topic: it.topic,
                    payload: it.payload,
                    qos,
                    retain: it.retain,
                    duplicate: it.duplicate,
                    user_properties: it.user_properties,
                    receipt,
                })))
            }
            Happening::Farewell => {
                self.ended = self.end_epoch();
                None
            }
            Happening::Passed => {
                // A socket that is closed while messages arrive takes what was written last with it, so
                // acknowledgements are known to be there before the farewell.
                let _gone_anyway = self.shared.requests.disconnect();
                None
            }
            Happening::Other | Happening::Sent(_) | Happening::Settled(..) => None,
        })
    }

    /// Makes all receipts given out so far worthless; returns whether the session is being closed.
    fn end_epoch(&mut self) -> bool {
        let mut state = self.shared.lock();
        state.epoch += 1;
        state.connected = false;
        // Under the lock: no acknowledgement can slip into the queue between the new epoch and the reset.
        self.event_loop.reset();
        state.closing
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
