//! Shared subscriptions whose members come and go: what waits for one that is away goes to one that is there.
//!
//! What is on its way to a member stays with it while its session lives; what nobody acknowledged when the
//! session ends goes to another member, as the standard asks for.

use std::rc::Rc;

use super::Hub;
use crate::mqtt::index::{SessionKey, split_shared};
use crate::mqtt::session::Queued;

impl Hub {
    /// Gives what waits for a member that is away to members that are there.
    pub(super) fn hand_over(&mut self, from: SessionKey) {
        let Some(session) = self.sessions.get_mut(&from).filter(|it| it.absent_since.is_some()) else {
            return;
        };
        for queued in session.take_shared() {
            if let Err(kept) = self.give_to_member(queued)
                && let Some(session) = self.sessions.get_mut(&from)
            {
                session.requeue(kept);
            }
        }
    }

    /// Gives a member that has come what waits for the members of its groups that are away.
    pub(super) fn take_over(&mut self, by: SessionKey) {
        let shares = |it: &&String| it.starts_with("$share/");
        let Some(session) = self.sessions.get(&by) else { return };
        if !session.filters.iter().any(|it| shares(&it)) {
            return;
        }
        let mut away: Vec<_> = self.sessions.iter().filter(|(_, it)| it.absent_since.is_some()).collect();
        away.retain(|(_, other)| other.filters.iter().filter(shares).any(|it| session.filters.contains(it)));
        let away: Vec<_> = away.into_iter().map(|(key, _)| *key).collect();
        away.into_iter().for_each(|it| self.hand_over(it));
    }

    /// Gives what a session that has ended held of its groups to their other members.
    pub(super) fn inherit(&mut self, left: Vec<Queued>) {
        for queued in left {
            if let Err(kept) = self.give_to_member(queued) {
                let any = self.member(kept.group.as_ref(), |_| false);
                // Without members there is no subscription any more.
                if let Some(session) = any.and_then(|it| self.sessions.get_mut(&it)) {
                    session.requeue(kept);
                }
            }
        }
    }

    /// Queues for the next member that is there; gives the message back where all are away.
    fn give_to_member(&mut self, queued: Queued) -> Result<(), Queued> {
        let sessions = &self.sessions;
        let absent = |key| sessions.get(&key).is_none_or(|it| it.absent_since.is_some());
        let present = self.index.next_member(queued.group.as_ref().map_or("", |it| it), absent);
        match present.and_then(|it| self.sessions.get_mut(&it)) {
            Some(session) => {
                session.requeue(queued);
                Ok(())
            }
            None => Err(queued),
        }
    }

    fn member(&mut self, group: Option<&Rc<str>>, absent: impl Fn(SessionKey) -> bool) -> Option<SessionKey> {
        self.index.next_member(group?, absent)
    }
}

impl crate::mqtt::index::Index {
    /// The member of the shared subscription `text` whose turn it is, of those that are not absent.
    fn next_member(&mut self, text: &str, absent: impl Fn(SessionKey) -> bool) -> Option<SessionKey> {
        let (group, filter) = split_shared(text)?;
        self.turn(group?, filter, absent)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hub, message, subscribe};
    use super::super::{Attached, Hub, Offer};
    use std::time::Duration;

    fn queued(hub: &mut Hub, of: &Attached) -> usize {
        hub.session(of.key, of.connection)
            .map_or(0, |it| it.queued_bytes / message("a", 1, false, b"x").size())
    }

    #[test]
    fn what_waits_for_an_absent_member_goes_to_who_is_there_or_comes() {
        let mut hub = hub(Duration::from_secs(3600));
        let (one, two) = (hub.attach("one", false, 100), hub.attach("two", false, 100));
        for member in [&one, &two] {
            subscribe(&mut hub, member.key, "$share/g/a", 1);
        }
        for _ in 0..2 {
            assert_eq!(hub.offer(None, &message("a", 1, false, b"x")), Offer::Taken(1));
        }
        assert_eq!((queued(&mut hub, &one), queued(&mut hub, &two)), (1, 1), "they take turns");
        hub.detach(one.key, one.connection);
        assert_eq!((queued(&mut hub, &one), queued(&mut hub, &two)), (0, 2), "who stays takes over");
        hub.detach(two.key, two.connection);
        hub.offer(None, &message("a", 1, false, b"x"));
        let back = hub.attach("one", false, 100);
        assert_eq!(queued(&mut hub, &back), 3, "who comes back takes all that waits");
        hub.detach(back.key, back.connection);
        let third = hub.attach("three", true, 0);
        subscribe(&mut hub, third.key, "$share/g/a", 1);
        assert_eq!(queued(&mut hub, &third), 3, "so does who is new");
        hub.detach(third.key, third.connection);
        let back = hub.attach("two", false, 100);
        assert_eq!(queued(&mut hub, &back), 3, "a session that ends leaves what it held to the group");
    }
}
