//! The publishes of a session that the broker is not done with, and which of them may go on the wire.
//!
//! ```text
//!  oldest                                               newest
//! ├── written on this connection ──┤── wait to be written ──┤
//!   at most the broker's receive maximum
//! ```
//!
//! Each publish of QoS 1 or 2 has one packet id for as long as it is here, on all connections; it follows from
//! the token. What may have been written before is sent as a duplicate; of what a broker that holds the session
//! has recorded, only the release is sent again, so that a message of QoS 2 arrives once.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::BytesMut;

use super::Token;
use crate::codec::{self, Publish};
use crate::config::Version;
use crate::qos::Qos;

/// Packet id that no publish uses.
pub(super) const SPARE_PACKET_ID: u16 = u16::MAX;
/// Packet ids of publishes, from 1 on.
const PACKET_IDS: u64 = 65_534;
/// Publishes of QoS 0 that may wait to be written, beyond the size of the window.
const SPARE: usize = 16;
/// Bytes to write at once, more only for a single publish that is larger.
const BATCH: usize = 64 * 1024;

/// Publishes in order, and how far they are.
#[derive(Debug)]
pub(super) struct Window {
    size: u16,
    next_token: u64,
    /// Publishes that may be under way on the connection in hand.
    quota: usize,
    /// How many at the front were written on the connection in hand; none of these is of QoS 0.
    written: usize,
    /// How many are of QoS 0.
    fleeting: usize,
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// `None` for QoS 0, which leaves once it is written.
    token: Option<Token>,
    publish: Publish,
    progress: Progress,
    since: Instant,
}

/// How far a publish is on all connections together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    New,
    /// It was written, so the broker may have it.
    Sent,
    /// The broker has recorded a publish of QoS 2, on the connection in hand.
    Recorded,
    /// The broker had recorded it before, and may be done with it, too.
    Recovered,
}

/// A publish that has left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) token: Token,
    pub(super) since: Instant,
}

impl Window {
    pub(super) fn new(size: u16) -> Self {
        Self { size, next_token: 0, quota: 0, written: 0, fleeting: 0, entries: VecDeque::new() }
    }

    pub(super) fn size(&self) -> u16 {
        self.size
    }

    /// Publishes of QoS 1 and 2.
    pub(super) fn unacknowledged(&self) -> usize {
        self.entries.len() - self.fleeting
    }

    /// Adds a publish and returns its token, if it is to have one; `None` where there is no room.
    pub(super) fn push(&mut self, publish: Publish) -> Option<Option<Token>> {
        let size = usize::from(self.size);
        let token = if publish.qos == Qos::AtMostOnce {
            if self.fleeting >= size + SPARE {
                return None;
            }
            self.fleeting += 1;
            None
        } else {
            // One that stays while 65,534 others come and go would share its packet id with the next.
            let oldest = self.entries.iter().find_map(|it| it.token);
            let is_free = oldest.is_none_or(|it| self.next_token - it.0 < PACKET_IDS);
            if self.unacknowledged() >= size || !is_free {
                return None;
            }
            self.next_token += 1;
            Some(Token(self.next_token - 1))
        };
        self.entries.push_back(Entry { token, publish, progress: Progress::New, since: Instant::now() });
        Some(token)
    }

    /// Writes what may go now, in order, and no more than a batch.
    pub(super) fn write(&mut self, version: Version, bytes: &mut BytesMut) {
        while bytes.len() < BATCH
            && let Some(next) = self.entries.get_mut(self.written)
        {
            let Some(token) = next.token else {
                codec::put_publish(version, &next.publish, 0, false, bytes);
                self.entries.remove(self.written);
                self.fleeting -= 1;
                self.give_back();
                continue;
            };
            if self.written >= self.quota {
                break;
            }
            match next.progress {
                Progress::New | Progress::Sent => {
                    let again = next.progress == Progress::Sent;
                    codec::put_publish(version, &next.publish, packet_id(token), again, bytes);
                    next.progress = Progress::Sent;
                }
                Progress::Recorded | Progress::Recovered => {
                    bytes.extend_from_slice(&codec::release(packet_id(token)));
                }
            }
            self.written += 1;
        }
    }

    /// Takes out a publish of QoS 1 that the broker is done with; `None` where no such one is under way.
    pub(super) fn acknowledge(&mut self, packet_id: u16) -> Option<Settled> {
        let index = self.find(packet_id, Qos::AtLeastOnce)?;
        self.remove(index)
    }

    /// Notes that the broker has recorded a publish of QoS 2; `None` where no such one is under way.
    pub(super) fn record(&mut self, packet_id: u16) -> Option<()> {
        let index = self.find(packet_id, Qos::ExactlyOnce)?;
        let entry = &mut self.entries[index];
        if entry.progress == Progress::Sent {
            entry.progress = Progress::Recorded;
        }
        Some(())
    }

    /// Takes out a publish of QoS 2 that the broker refused to record; `None` where no such one is under way.
    pub(super) fn refuse(&mut self, packet_id: u16) -> Option<Settled> {
        let index = self.find(packet_id, Qos::ExactlyOnce)?;
        self.remove(index)
    }

    /// Takes out a publish of QoS 2 that the broker is done with, and says whether it may have been so before the
    /// connection in hand; `None` where no such one is under way.
    pub(super) fn complete(&mut self, packet_id: u16) -> Option<(Settled, bool)> {
        let index = self.find(packet_id, Qos::ExactlyOnce)?;
        let recovered = match self.entries[index].progress {
            Progress::New | Progress::Sent => return None,
            Progress::Recorded => false,
            Progress::Recovered => true,
        };
        Some((self.remove(index)?, recovered))
    }

    /// Begins anew on a connection that has just come about: everything is to be written again, in order.
    pub(super) fn resume(&mut self, session_present: bool, receive_maximum: Option<u16>) {
        // 0 is against the protocol, and would hold everything up for good.
        self.quota = receive_maximum.map_or(usize::MAX, |it| usize::from(it.max(1)));
        for it in &mut self.entries {
            it.progress = match it.progress {
                Progress::Recorded | Progress::Recovered if session_present => Progress::Recovered,
                Progress::Recorded | Progress::Recovered => Progress::Sent,
                other => other,
            };
        }
    }

    /// Ends what belongs to a connection.
    pub(super) fn disconnect(&mut self) {
        self.written = 0;
        self.fleeting = 0;
        self.entries.retain(|it| it.token.is_some());
    }

    /// The place of a publish of this quality that was written on the connection in hand.
    fn find(&self, packet_id: u16, qos: Qos) -> Option<usize> {
        let is_it = |it: &Entry| it.token.is_some_and(|it| self::packet_id(it) == packet_id);
        let index = self.entries.iter().take(self.written).position(is_it)?;
        (self.entries[index].publish.qos == qos).then_some(index)
    }

    fn remove(&mut self, index: usize) -> Option<Settled> {
        let entry = self.entries.remove(index)?;
        self.written -= 1;
        self.give_back();
        Some(Settled { token: entry.token?, since: entry.since })
    }

    /// Holds no memory at rest.
    fn give_back(&mut self) {
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }
}

fn packet_id(token: Token) -> u16 {
    (token.0 % PACKET_IDS) as u16 + 1
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use proptest::prelude::*;

    fn message(qos: Qos, name: u64) -> Publish {
        Publish { topic: Arc::from("a"), qos, retain: false, payload: name.to_string().into() }
    }

    /// What a write brings: whether it is a duplicate, the packet id, and the payload; a release has none.
    fn written(window: &mut Window) -> Vec<(bool, u16, Option<u64>)> {
        let mut bytes = BytesMut::new();
        window.write(Version::V311, &mut bytes);
        let (mut found, mut rest) = (Vec::new(), &bytes[..]);
        while let [first, length, ..] = *rest {
            let (packet, behind) = rest.split_at(2 + usize::from(length));
            let from = if first == 0x62 { 2 } else { 5 };
            let text = std::str::from_utf8(packet.get(from + 2..).unwrap()).unwrap();
            let packet_id = u16::from_be_bytes([packet[from], packet[from + 1]]);
            found.push((first & 8 != 0, packet_id, (first != 0x62).then(|| text.parse().unwrap())));
            rest = behind;
        }
        found
    }

    #[derive(Debug, Clone)]
    enum Step {
        Publish(bool),
        Write,
        /// The broker answers one of what is under way.
        Answer(prop::sample::Index),
        Reconnect {
            session_present: bool,
            receive_maximum: Option<u16>,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let reconnect = (any::<bool>(), prop::option::of(1..8_u16))
            .prop_map(|(session_present, it)| Step::Reconnect { session_present, receive_maximum: it });
        prop_oneof![
            8 => any::<bool>().prop_map(Step::Publish),
            8 => Just(Step::Write),
            12 => any::<prop::sample::Index>().prop_map(Step::Answer),
            1 => reconnect,
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the broker answers and whenever connections end: publishes go out in order, as duplicates
        /// if they did before, one packet id each, and no more at a time than the broker takes.
        #[test]
        fn publishes_go_out_in_order_and_no_more_than_the_broker_takes(
            steps in prop::collection::vec(step(), 1..300),
        ) {
            let mut window = Window::new(10);
            let mut quota = 3;
            window.resume(false, Some(3));
            // By packet id: what it is, and what the broker has of it on this connection.
            let mut under_way: Vec<(u16, Qos, bool)> = Vec::new();
            let (mut sent_before, mut last, mut published, mut settled) = (0, None, 0, 0);
            for step in steps {
                match step {
                    Step::Publish(twice) => {
                        let qos = if twice { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
                        let room = window.unacknowledged() < 10;
                        let token = window.push(message(qos, published));
                        prop_assert_eq!(token, room.then_some(Some(Token(published))));
                        published += u64::from(room);
                    }
                    Step::Write => {
                        for (again, packet_id, name) in written(&mut window) {
                            let number = u64::from(packet_id) - 1;
                            prop_assert!(last.is_none_or(|it| it < number), "{} after {:?}", number, last);
                            last = Some(number);
                            if let Some(name) = name {
                                prop_assert_eq!((number, again), (name, name < sent_before));
                            }
                            let entry = window.entries.iter().find(|it| it.token == Some(Token(number)));
                            under_way.push((packet_id, entry.unwrap().publish.qos, name.is_none()));
                        }
                        prop_assert!(under_way.len() <= quota);
                    }
                    Step::Answer(choice) if !under_way.is_empty() => {
                        let index = choice.index(under_way.len());
                        let (packet_id, qos, recorded) = under_way[index];
                        match (qos, recorded) {
                            (Qos::ExactlyOnce, false) => {
                                prop_assert!(window.complete(packet_id).is_none());
                                prop_assert!(window.record(packet_id).is_some());
                                under_way[index].2 = true;
                                continue;
                            }
                            (Qos::ExactlyOnce, true) => prop_assert!(window.complete(packet_id).is_some()),
                            _ => prop_assert!(window.acknowledge(packet_id).is_some()),
                        }
                        under_way.remove(index);
                        settled += 1;
                        prop_assert!(window.acknowledge(packet_id).is_none(), "it has left");
                    }
                    Step::Reconnect { session_present, receive_maximum } => {
                        window.disconnect();
                        sent_before = last.map_or(sent_before, |it: u64| sent_before.max(it + 1));
                        (last, quota) = (None, receive_maximum.map_or(10, usize::from));
                        under_way.clear();
                        window.resume(session_present, receive_maximum);
                    }
                    Step::Answer(_) => {}
                }
                prop_assert_eq!(window.unacknowledged() as u64, published - settled);
            }
        }
    }

    #[test]
    fn best_effort_keeps_its_place_and_ends_with_the_connection() {
        let mut window = Window::new(2);
        window.resume(false, None);
        assert_eq!(window.push(message(Qos::AtLeastOnce, 0)), Some(Some(Token(0))));
        assert_eq!(window.push(message(Qos::AtMostOnce, 1)), Some(None));
        assert_eq!(window.push(message(Qos::AtLeastOnce, 2)), Some(Some(Token(1))));
        assert_eq!(window.unacknowledged(), 2);
        let mut bytes = BytesMut::new();
        window.write(Version::V311, &mut bytes);
        let expected = [
            &[0x32, 6, 0, 1, b'a', 0, 1, b'0'][..],
            &[0x30, 4, 0, 1, b'a', b'1'],
            &[0x32, 6, 0, 1, b'a', 0, 2, b'2'],
        ];
        assert_eq!(bytes, expected.concat());
        let waiting = (0..20).filter(|it| window.push(message(Qos::AtMostOnce, *it)).is_some()).count();
        assert_eq!((waiting, window.unacknowledged()), (18, 2), "a queue of best effort has an end, too");
        window.disconnect();
        assert_eq!(window.entries.len(), 2);
    }

    #[test]
    fn a_packet_id_in_use_is_never_given_twice() {
        let mut window = Window::new(2);
        window.resume(false, None);
        for number in 0..PACKET_IDS {
            assert_eq!(window.push(message(Qos::AtLeastOnce, number)), Some(Some(Token(number))));
            written(&mut window);
            if number > 0 {
                assert!(window.acknowledge(packet_id(Token(number))).is_some());
            }
        }
        assert_eq!(window.push(message(Qos::AtLeastOnce, 0)), None, "its packet id is the oldest one's");
        assert_eq!(window.acknowledge(1).map(|it| it.token), Some(Token(0)));
        assert_eq!(window.push(message(Qos::AtLeastOnce, 0)), Some(Some(Token(PACKET_IDS))));
        assert_eq!(written(&mut window), [(false, 1, Some(0))]);
    }

    #[test]
    fn a_window_at_rest_holds_nothing() {
        let mut window = Window::new(20);
        window.resume(false, None);
        (0..20).for_each(|it| assert!(window.push(message(Qos::AtLeastOnce, it)).is_some()));
        written(&mut window);
        (1..=20).for_each(|it| assert!(window.acknowledge(it).is_some()));
        assert_eq!(window.entries.capacity(), 0);
    }
}
