//! What the broker holds for one client: its queue, what is on its way to it, and what it has sent.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use bytes::BytesMut;
use tokio::sync::Notify;

use super::index::Subscription;
use super::packet::Version;
use super::write::{self, Delivery, Message};

/// Stop filling the buffer towards a client at this size and wait until it is written.
const OUT_BYTES: usize = 64 * 1024;

/// Messages that may be on their way to a client at once, unless it asks for fewer.
pub(super) const WINDOW: u16 = 1000;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) client_id: String,
    /// Filters subscribed to, as the client wrote them.
    pub(super) filters: HashSet<String>,
    queue: VecDeque<Queued>,
    pub(super) queued_bytes: usize,
    in_flight: VecDeque<InFlight>,
    last_packet_id: u16,
    /// Messages of QoS 2 that were taken and not yet released by the client.
    pub(super) unreleased: HashSet<u16>,
    /// Number of the connection that serves the session; rises with every connection.
    pub(super) connection: u64,
    /// Since when no connection serves the session; `None` while one does.
    pub(super) absent_since: Option<Instant>,
    /// Seconds the session lives without a connection.
    pub(super) expiry_seconds: u32,
    /// Messages that were dropped because the session was away for too long.
    pub(super) dropped: u64,
    /// Wakes the connection when there is something to send.
    pub(super) wake: Rc<Notify>,
}

#[derive(Debug)]
pub(super) struct Queued {
    message: Rc<Message>,
    qos: u8,
    retain: bool,
    identifier: u32,
    /// The filter of the shared subscription that the message came by, if it was one.
    pub(super) group: Option<Rc<str>>,
}

#[derive(Debug)]
struct InFlight {
    packet_id: u16,
    queued: Queued,
    /// Whether the client has a message of QoS 2 and only the release is missing.
    received: bool,
}

/// Limits of the client on the other side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) version: Version,
    pub(super) window: u16,
    pub(super) max_packet_bytes: usize,
}

impl Session {
    pub(super) fn new(client_id: String) -> Self {
        Self {
            client_id,
            filters: HashSet::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            in_flight: VecDeque::new(),
            last_packet_id: 0,
            unreleased: HashSet::new(),
            connection: 0,
            absent_since: None,
            expiry_seconds: 0,
            dropped: 0,
            wake: Rc::new(Notify::new()),
        }
    }

    pub(super) fn enqueue(&mut self, message: &Rc<Message>, by: &Subscription, retain: bool) {
        let qos = by.qos.min(message.qos);
        let (message, group) = (Rc::clone(message), by.group.clone());
        self.requeue(Queued { message, qos, retain, identifier: by.identifier, group });
    }

    /// Queues what was queued for another session before.
    pub(super) fn requeue(&mut self, queued: Queued) {
        self.queued_bytes += queued.message.size();
        self.queue.push_back(queued);
        if self.absent_since.is_none() {
            self.wake.notify_one();
        }
    }

    /// Takes what waits out of the queue, if it came by a shared subscription.
    pub(super) fn take_shared(&mut self) -> VecDeque<Queued> {
        let queue = std::mem::take(&mut self.queue);
        let (taken, kept): (VecDeque<_>, VecDeque<_>) = queue.into_iter().partition(|it| it.group.is_some());
        self.queue = kept;
        self.queued_bytes -= taken.iter().map(|it| it.message.size()).sum::<usize>();
        taken
    }

    /// What the members of its groups inherit of a session that ends; a message of QoS 2 that is on its way
    /// may have arrived and goes to nobody else.
    pub(super) fn into_shared(self) -> Vec<Queued> {
        let on_the_way = self.in_flight.into_iter().map(|it| it.queued).filter(|it| it.qos == 1);
        on_the_way.chain(self.queue).filter(|it| it.group.is_some()).collect()
    }

    /// Writes what was on its way when the last connection ended, in its old order and with its old packet
    /// ids, as the standard demands.
    pub(super) fn resend(&mut self, peer: Peer, out: &mut BytesMut) {
        for it in &self.in_flight {
            if it.received {
                write::acknowledgement(out, peer.version, 0x62, it.packet_id, 0);
            } else {
                write_publish(out, peer, &it.queued, it.packet_id, true);
            }
        }
    }

    /// Writes queued messages until the client's window or the buffer is full; returns how many were too large
    /// for the client.
    pub(super) fn fill(&mut self, peer: Peer, out: &mut BytesMut) -> u64 {
        let mut too_large = 0;
        while out.len() < OUT_BYTES {
            let Some(front) = self.queue.front() else { break };
            if front.qos > 0 && self.in_flight.len() >= usize::from(peer.window) {
                break;
            }
            let queued = self.queue.pop_front().expect("the queue has a front");
            self.queued_bytes -= queued.message.size();
            if queued.message.is_expired() {
                continue;
            }
            if write::publish_size(&queued.message) > peer.max_packet_bytes {
                too_large += 1;
                continue; // the standard says to go on as if it were sent
            }
            if queued.qos == 0 {
                write_publish(out, peer, &queued, 0, false);
                continue;
            }
            let packet_id = self.free_packet_id();
            write_publish(out, peer, &queued, packet_id, false);
            self.in_flight.push_back(InFlight { packet_id, queued, received: false });
        }
        if self.queue.is_empty() && self.queue.capacity() > 4096 {
            self.queue.shrink_to(0);
        }
        too_large
    }

    /// The client has a message of QoS 1, or is done with one of QoS 2; returns whether it was on its way.
    pub(super) fn settled(&mut self, packet_id: u16) -> bool {
        // Clients settle in order as a rule, so the first is it.
        let Some(index) = self.in_flight.iter().position(|it| it.packet_id == packet_id) else {
            return false;
        };
        self.in_flight.remove(index);
        true
    }

    /// The client has received a message of QoS 2; returns whether it was on its way.
    pub(super) fn received(&mut self, packet_id: u16) -> bool {
        let found = self.in_flight.iter_mut().find(|it| it.packet_id == packet_id);
        found.is_some_and(|it| {
            it.received = true;
            true
        })
    }

    /// A packet id that is not in use.
    ///
    /// Ids are given out in a circle, so those in use stand in the circle's order, and the next one can only
    /// be taken by the oldest.
    fn free_packet_id(&mut self) -> u16 {
        let mut used = self.in_flight.iter();
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            if used.next().is_none_or(|oldest| oldest.packet_id != self.last_packet_id) {
                return self.last_packet_id;
            }
        }
    }
}

fn write_publish(out: &mut BytesMut, peer: Peer, queued: &Queued, packet_id: u16, duplicate: bool) {
    let Queued { message, qos, retain, identifier, group: _ } = queued;
    let delivery = Delivery { qos: *qos, retain: *retain, duplicate, packet_id, identifier: *identifier };
    write::publish(out, peer.version, message, delivery);
}

#[cfg(test)]
mod tests {
    use super::super::packet::Publish;
    use super::*;

    fn message(payload: &[u8]) -> Rc<Message> {
        Message::from_publish(&Publish {
            qos: 1,
            retain: false,
            packet_id: 1,
            topic: "t",
            properties: &[],
            expiry: None,
            payload,
        })
    }

    const BY: Subscription = Subscription {
        session: 0,
        qos: 1,
        no_local: false,
        retain_as_published: false,
        identifier: 0,
        group: None,
    };
    const PEER: Peer = Peer { version: Version::V311, window: 2, max_packet_bytes: 1000 };

    #[test]
    fn the_window_holds_messages_back_until_they_are_settled() {
        let mut session = Session::new("c".into());
        for _ in 0..3 {
            session.enqueue(&message(b"x"), &BY, false);
        }
        let mut out = BytesMut::new();
        session.fill(PEER, &mut out);
        assert_eq!((session.queue.len(), session.in_flight.len()), (1, 2));
        assert!(!session.settled(9));
        assert!(session.settled(1));
        session.fill(PEER, &mut out);
        assert_eq!((session.queue.len(), session.queued_bytes), (0, 0));
        assert!(session.settled(2) && session.settled(3));
    }

    #[test]
    fn a_message_that_is_too_large_for_the_client_does_not_stop_the_others() {
        let mut session = Session::new("c".into());
        session.enqueue(&message(&[0; 2000]), &BY, false);
        session.enqueue(&message(b"x"), &BY, false);
        let mut out = BytesMut::new();
        assert_eq!(session.fill(PEER, &mut out), 1);
        assert_eq!(session.in_flight.len(), 1);
        assert!(out.len() < 20);
    }

    #[test]
    fn a_packet_id_in_use_is_passed_over_when_the_circle_closes() {
        let mut session = Session::new("c".into());
        let mut out = BytesMut::new();
        for round in 0..70_000 {
            session.enqueue(&message(b"x"), &BY, false);
            session.fill(PEER, &mut out);
            out.clear();
            if round > 0 {
                let newest = session.last_packet_id;
                assert_ne!(newest, 1, "1 is never settled");
                assert!(session.settled(newest));
            }
        }
    }
}
