//! The heart of the broker: takes a message from one client and gives it to the sessions it is for.
//!
//! Everything here runs on one thread and never waits.

mod dropped;
mod sharing;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::sync::Notify;
use tracing::warn;

use super::index::{Index, SessionKey, Subscription, matches, split_shared};
use super::packet::{Filter, Subscribe};
use super::session::{Peer, Session};
use super::write::Message;

/// Filters that one session may subscribe to.
const MOST_FILTERS: usize = 10_000;

/// How much the broker holds for sessions that are slower than what is published to them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes queued for one session; beyond it, who publishes to it waits.
    pub(super) queued_bytes: usize,
    /// Bytes of all retained messages; beyond it, new ones are not retained.
    pub(super) retained_bytes: usize,
    /// How long publishers wait for a session without a connection, before its messages are dropped.
    pub(super) patience: Duration,
}

#[derive(Debug)]
pub(super) struct Hub {
    limits: Limits,
    sessions: HashMap<SessionKey, Session>,
    by_client: HashMap<String, SessionKey>,
    next_key: SessionKey,
    index: Index,
    retained: BTreeMap<String, Rc<Message>>,
    retained_bytes: usize,
    /// Wakes publishers that wait because a session's queue was full.
    pub(super) relieved: Rc<Notify>,
    found: Vec<Subscription>,
    /// Messages dropped since the start, and how many were told last.
    dropped: u64,
    told: Option<u64>,
}

/// A connection's hold on its session.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) key: SessionKey,
    pub(super) connection: u64,
    /// Whether there was a session to go on with.
    pub(super) present: bool,
    pub(super) wake: Rc<Notify>,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It is queued for so many sessions.
    Taken(usize),
    /// A session's queue is full: offer it again later.
    Held,
}

impl Hub {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            sessions: HashMap::new(),
            by_client: HashMap::new(),
            next_key: 0,
            index: Index::default(),
            retained: BTreeMap::new(),
            retained_bytes: 0,
            relieved: Rc::new(Notify::new()),
            found: Vec::new(),
            dropped: 0,
            told: None,
        }
    }

    /// Gives the session of `client_id` to a new connection, away from the one that may hold it.
    pub(super) fn attach(&mut self, client_id: &str, clean_start: bool, expiry_seconds: u32) -> Attached {
        let mut connection = 1;
        if let Some(&key) = self.by_client.get(client_id) {
            let session = self.sessions.get_mut(&key).expect("every client has its session");
            connection = session.connection + 1;
            session.connection = connection;
            // Wakes the connection that held the session, so that it sees that it no longer does.
            session.wake.notify_one();
            if !clean_start {
                session.wake = Rc::new(Notify::new());
                session.absent_since = None;
                session.expiry_seconds = expiry_seconds;
                let wake = Rc::clone(&session.wake);
                self.take_over(key);
                return Attached { key, connection, present: true, wake };
            }
            self.remove(key);
        }
        let key = self.next_key;
        self.next_key += 1;
        let mut session = Session::new(client_id.to_owned());
        session.connection = connection;
        session.expiry_seconds = expiry_seconds;
        let wake = Rc::clone(&session.wake);
        self.sessions.insert(key, session);
        self.by_client.insert(client_id.to_owned(), key);
        Attached { key, connection, present: false, wake }
    }

    /// Lets go of a session; returns the seconds after which to call [`Hub::expire`], if it lives on.
    pub(super) fn detach(&mut self, key: SessionKey, connection: u64) -> Option<u32> {
        let session = self.session(key, connection)?;
        session.absent_since = Some(Instant::now());
        match session.expiry_seconds {
            0 => {
                self.remove(key);
                None
            }
            seconds => {
                self.hand_over(key);
                Some(seconds)
            }
        }
    }

    /// Removes a session that `connection` was the last to serve.
    pub(super) fn expire(&mut self, key: SessionKey, connection: u64) {
        if self.session(key, connection).is_some_and(|it| it.absent_since.is_some()) {
            self.remove(key);
        }
    }

    /// The session, unless another connection has taken it over.
    pub(super) fn session(&mut self, key: SessionKey, connection: u64) -> Option<&mut Session> {
        self.sessions.get_mut(&key).filter(|it| it.connection == connection)
    }

    /// Whether the session waits for a client to come back since `connection` ended.
    pub(super) fn is_absent(&mut self, key: SessionKey, connection: u64) -> bool {
        self.session(key, connection).is_none_or(|it| it.absent_since.is_some())
    }

    /// Whether a client of that name has a session.
    pub(super) fn knows(&self, client_id: &str) -> bool {
        self.by_client.contains_key(client_id)
    }

    /// Gives `message` to every session that subscribes to its topic, or to none where one has no room.
    pub(super) fn offer(&mut self, publisher: Option<SessionKey>, message: &Rc<Message>) -> Offer {
        let mut found = std::mem::take(&mut self.found);
        let sessions = &self.sessions;
        let absent = |key| sessions.get(&key).is_none_or(|it| it.absent_since.is_some());
        self.index.find(message.topic(), &mut found, absent);
        let offer = self.give(publisher, message, &found);
        self.found = found;
        if message.retain && offer != Offer::Held {
            self.retain(message);
        }
        offer
    }

    fn give(
        &mut self,
        publisher: Option<SessionKey>,
        message: &Rc<Message>,
        found: &[Subscription],
    ) -> Offer {
        let limits = self.limits;
        let must_wait = |it: &Subscription| {
            let session = self.sessions.get(&it.session);
            it.qos.min(message.qos) > 0
                && session.is_some_and(|it| {
                    it.queued_bytes > limits.queued_bytes
                        && it.absent_since.is_none_or(|since| since.elapsed() < limits.patience)
                })
        };
        if found.iter().any(must_wait) {
            return Offer::Held;
        }
        let mut given = 0;
        for it in found {
            if it.no_local && publisher == Some(it.session) {
                continue;
            }
            let Some(session) = self.sessions.get_mut(&it.session) else { continue };
            if session.queued_bytes > limits.queued_bytes {
                self.count_dropped(it.session, 1, "its queue is full");
                continue;
            }
            session.enqueue(message, it, message.retain && it.retain_as_published);
            given += 1;
        }
        Offer::Taken(given)
    }

    fn retain(&mut self, message: &Rc<Message>) {
        if let Some(old) = self.retained.remove(message.topic()) {
            self.retained_bytes -= old.size();
        }
        if message.payload().is_empty() {
            return; // an empty payload only removes
        }
        if self.retained_bytes + message.size() > self.limits.retained_bytes {
            warn!(limit_bytes = self.limits.retained_bytes, "no room for another retained message");
            return;
        }
        self.retained_bytes += message.size();
        self.retained.insert(message.topic().to_owned(), Rc::clone(message));
    }

    /// Adds subscriptions and queues the retained messages they take in; returns a code for each.
    pub(super) fn subscribe(&mut self, key: SessionKey, request: &Subscribe) -> Vec<u8> {
        request.filters.iter().map(|filter| self.subscribe_one(key, filter, request.identifier)).collect()
    }

    fn subscribe_one(&mut self, key: SessionKey, filter: &Filter, identifier: u32) -> u8 {
        let Some((group, text)) = split_shared(&filter.text) else { return 0x8f };
        let Some(session) = self.sessions.get_mut(&key) else { return 0x80 };
        if session.filters.len() >= MOST_FILTERS && !session.filters.contains(&filter.text) {
            return 0x97;
        }
        session.filters.insert(filter.text.clone());
        let subscription = Subscription {
            session: key,
            qos: filter.qos,
            no_local: filter.no_local,
            retain_as_published: filter.retain_as_published,
            identifier,
            group: group.map(|_| filter.text.as_str().into()),
        };
        let new = self.index.insert(group, text, subscription.clone());
        if group.is_none() && (filter.retain_handling == 0 || (filter.retain_handling == 1 && new)) {
            self.retained.retain(|_, it| !it.is_expired());
            let kept: Vec<_> = if text.contains(['+', '#']) {
                self.retained.iter().filter(|(topic, _)| matches(text, topic)).map(|(_, it)| it).collect()
            } else {
                self.retained.get(text).into_iter().collect()
            };
            let mut left_out = 0;
            for message in kept {
                if session.queued_bytes > self.limits.queued_bytes {
                    left_out += 1;
                } else {
                    session.enqueue(message, &subscription, true);
                }
            }
            self.count_dropped(key, left_out, "its queue is full");
        }
        if group.is_some() {
            self.take_over(key);
        }
        filter.qos
    }

    /// Ends subscriptions; returns a code for each.
    pub(super) fn unsubscribe(&mut self, key: SessionKey, filters: &[String]) -> Vec<u8> {
        let mut end = |filter: &String| {
            if let Some(session) = self.sessions.get_mut(&key) {
                session.filters.remove(filter);
            }
            let removed =
                split_shared(filter).is_some_and(|(group, text)| self.index.remove(group, text, key));
            if removed { 0 } else { 0x11 }
        };
        filters.iter().map(&mut end).collect()
    }

    /// Writes queued messages of a session towards its client, and wakes publishers that wait for room.
    pub(super) fn fill(&mut self, key: SessionKey, peer: Peer, out: &mut BytesMut) {
        let low = self.limits.queued_bytes / 2;
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let before = session.queued_bytes;
        let too_large = session.fill(peer, out);
        if before > low && session.queued_bytes <= low {
            self.relieved.notify_waiters();
        }
        self.count_dropped(key, too_large, "they are larger than its client takes");
    }

    fn remove(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.remove(&key) else { return };
        for filter in &session.filters {
            if let Some((group, text)) = split_shared(filter) {
                self.index.remove(group, text, key);
            }
        }
        self.by_client.remove(&session.client_id);
        if session.dropped > 0 {
            let (client_id, dropped) = (&session.client_id, session.dropped);
            warn!(client_id, dropped, "session ends, messages for it were dropped");
        }
        self.inherit(session.into_shared());
        // Publishers may have waited for its queue.
        self.relieved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::Publish;
    use super::*;

    pub(super) fn hub(patience: Duration) -> Hub {
        Hub::new(Limits { queued_bytes: 500, retained_bytes: 1000, patience })
    }

    pub(super) fn message(topic: &str, qos: u8, retain: bool, payload: &[u8]) -> Rc<Message> {
        let publish = Publish { qos, retain, packet_id: 1, topic, properties: &[], expiry: None, payload };
        Message::from_publish(&publish)
    }

    pub(super) fn subscribe(hub: &mut Hub, key: SessionKey, text: &str, qos: u8) -> Vec<u8> {
        let text = text.to_owned();
        let filter = Filter { text, qos, no_local: false, retain_as_published: false, retain_handling: 0 };
        hub.subscribe(key, &Subscribe { packet_id: 1, identifier: 0, filters: vec![filter] })
    }

    #[test]
    fn a_full_queue_holds_publishers_back_and_only_best_effort_is_dropped() {
        let mut hub = hub(Duration::from_secs(3600));
        let slow = hub.attach("slow", true, 0);
        assert_eq!(subscribe(&mut hub, slow.key, "a/+", 1), [1]);
        let one = message("a/b", 1, false, &[0; 100]);
        let mut taken = 0;
        while hub.offer(None, &one) == Offer::Taken(1) {
            taken += 1;
            assert!(taken < 10, "the limit of 500 bytes must hold publishers back");
        }
        assert_eq!(hub.offer(None, &one), Offer::Held);
        assert_eq!(hub.offer(None, &message("a/b", 0, false, b"x")), Offer::Taken(0));
        let peer = Peer { version: super::super::packet::Version::V5, window: 100, max_packet_bytes: 1000 };
        hub.fill(slow.key, peer, &mut BytesMut::new());
        assert_eq!(hub.offer(None, &one), Offer::Taken(1));
    }

    #[test]
    fn patience_with_a_session_that_is_away_has_an_end() {
        let mut hub = hub(Duration::ZERO);
        let away = hub.attach("away", false, 100);
        subscribe(&mut hub, away.key, "a", 1);
        assert_eq!(hub.detach(away.key, away.connection), Some(100));
        let one = message("a", 1, false, &[0; 600]);
        assert_eq!(hub.offer(None, &one), Offer::Taken(1));
        assert_eq!(hub.offer(None, &one), Offer::Taken(0));
        let back = hub.attach("away", false, 100);
        assert!(back.present && hub.session(away.key, away.connection).is_none());
        assert_eq!(hub.session(back.key, back.connection).unwrap().dropped, 1);
    }

    #[test]
    fn a_session_ends_with_its_expiry_unless_its_client_came_back() {
        let mut hub = hub(Duration::ZERO);
        let first = hub.attach("c", false, 5);
        hub.detach(first.key, first.connection);
        let second = hub.attach("c", false, 5);
        hub.expire(first.key, first.connection);
        assert!(hub.knows("c"));
        hub.detach(second.key, second.connection);
        hub.expire(second.key, second.connection);
        assert!(!hub.knows("c"));
        let clean = hub.attach("c", true, 0);
        assert!(!clean.present);
        assert_eq!(hub.detach(clean.key, clean.connection), None);
        assert!(!hub.knows("c"));
    }

    #[test]
    fn retained_messages_reach_later_subscribers_until_an_empty_one_removes_them() {
        let mut hub = hub(Duration::ZERO);
        hub.offer(None, &message("a/b", 1, true, b"kept"));
        let one = hub.attach("one", true, 0);
        subscribe(&mut hub, one.key, "a/#", 1);
        assert!(hub.session(one.key, one.connection).unwrap().queued_bytes > 0);
        hub.offer(None, &message("a/b", 1, true, b""));
        let two = hub.attach("two", true, 0);
        subscribe(&mut hub, two.key, "a/b", 1);
        assert_eq!(hub.session(two.key, two.connection).unwrap().queued_bytes, 0);
        hub.offer(None, &message("big", 1, true, &[0; 2000]));
        assert!(hub.retained.is_empty());
        assert_eq!(subscribe(&mut hub, two.key, "a/#/b", 1), [0x8f]);
        hub.offer(None, &message("a/b", 1, true, b"kept"));
        for _ in 0..50 {
            subscribe(&mut hub, two.key, "a/b", 1);
        }
        let two = hub.session(two.key, two.connection).unwrap();
        assert!(two.queued_bytes < 1000 && two.dropped > 40, "who asks again and again gets a queue full");
    }
}
