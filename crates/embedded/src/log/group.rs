//! One consumer group of the classic protocol, as a pure state machine.
//!
//! ```text
//!            join                 all joined, or time is up        leader synced
//!   Empty ──────────▶ Preparing ───────────────────────▶ Completing ───────────▶ Stable
//!     ▲                   ▲  ▲                               │ join, leave          │ join, leave,
//!     └─ last one leaves ─┘  └───────────────────────────────┴──────────────────────┘ session over
//! ```
//!
//! A request that must wait is parked under its ticket and answered by a later call through `replies`. The
//! machine reads no clock: every call says what time it is, and [`Group::deadline`] when to call
//! [`Group::tick`] next. Errors are those of Kafka's own coordinator.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::group_member::{Join, JoinRefused, Member, Reply, Synced, Ticket};

/// How long a client may take to come back with the id it was given.
const PENDING_FOR: Duration = Duration::from_secs(30);

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    /// The name that tools show.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// A consumer group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) state: State,
    pub(crate) generation: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) members: BTreeMap<String, Member>,
    pub(super) leader: String,
    /// Group instance id → member id.
    pub(super) statics: BTreeMap<String, String>,
    /// Ids that were handed out and not used yet, with the time at which they lapse.
    pub(super) pending: BTreeMap<String, Instant>,
    /// When joining or syncing ends for those who are late.
    pub(super) rebalance_ends: Option<Instant>,
    /// While the first members of an empty group gather: the latest end of that.
    pub(super) gathering_until: Option<Instant>,
    /// How long an empty group waits for more members after each one that joins.
    pub(super) gather: Duration,
}

/// Who calls, for requests of a member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) member_id: &'a str,
    pub(crate) instance: Option<&'a str>,
    pub(crate) generation: i32,
}

/// What the leader, or a follower with an empty list, sends to sync.
#[derive(Debug, Clone)]
pub(crate) struct Sync {
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignments: Vec<(String, Bytes)>,
}

impl Group {
    /// A group without members that lets its first members gather for a while.
    pub(crate) fn new(gather: Duration) -> Self {
        Self {
            state: State::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            members: BTreeMap::new(),
            leader: String::new(),
            statics: BTreeMap::new(),
            pending: BTreeMap::new(),
            rebalance_ends: None,
            gathering_until: None,
            gather,
        }
    }

    /// Lets a member join, or a known one join again. A new one gets `new_id`.
    pub(crate) fn join(
        &mut self,
        ticket: Ticket,
        join: Join,
        new_id: String,
        now: Instant,
        replies: &mut Vec<Reply>,
    ) {
        let refused = |error, member_id| Reply::Join(ticket, Err(JoinRefused { error, member_id }));
        let member_id = join.member_id.clone();
        if !self.accepts(&join) {
            return replies.push(refused(ResponseError::InconsistentGroupProtocol, member_id));
        }
        let known = join.instance.as_ref().and_then(|it| self.statics.get(it)).cloned();
        if member_id.is_empty() {
            if let Some(old_id) = known {
                self.replace_static(ticket, &old_id, join, new_id, now, replies);
            } else if join.must_know_id && join.instance.is_none() {
                self.pending.insert(new_id.clone(), now + PENDING_FOR);
                replies.push(refused(ResponseError::MemberIdRequired, new_id));
            } else {
                self.add(ticket, new_id, join, now, replies);
            }
        } else if known.is_some_and(|it| it != member_id) {
            replies.push(refused(ResponseError::FencedInstanceId, member_id));
        } else if self.pending.remove(&member_id).is_some() {
            self.add(ticket, member_id, join, now, replies);
        } else if self.members.contains_key(&member_id) {
            self.rejoin(ticket, &member_id, join, now, replies);
        } else {
            replies.push(refused(ResponseError::UnknownMemberId, member_id));
        }
    }

    /// Whether a member can speak with those who are there.
    fn accepts(&self, join: &Join) -> bool {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return false;
        }
        let others = || self.members.iter().filter(|(id, _)| **id != join.member_id).map(|(_, it)| it);
        others().next().is_none()
            || join.protocol_type == self.protocol_type
                && join.protocols.iter().any(|(name, _)| others().all(|it| it.supports(name)))
    }

    fn add(&mut self, ticket: Ticket, id: String, join: Join, now: Instant, replies: &mut Vec<Reply>) {
        if self.members.is_empty() {
            self.protocol_type = join.protocol_type.clone();
            self.leader = id.clone();
        }
        if let Some(instance) = &join.instance {
            self.statics.insert(instance.clone(), id.clone());
        }
        let mut member = Member::new(join, now);
        member.joining = Some(ticket);
        self.members.insert(id, member);
        match self.gathering_until {
            Some(latest) if self.state == State::PreparingRebalance => {
                self.rebalance_ends = Some(latest.min(now + self.gather));
            }
            _ if self.state != State::PreparingRebalance => self.prepare_rebalance(now, replies),
            _ => {}
        }
        self.complete_if_all_joined(now, replies);
    }

    fn rejoin(&mut self, ticket: Ticket, id: &str, join: Join, now: Instant, replies: &mut Vec<Reply>) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.touch(now);
        let same = member.protocols == join.protocols;
        let is_leader = self.leader == id;
        let current = match self.state {
            State::CompletingRebalance => same,
            State::Stable => same && !is_leader,
            State::PreparingRebalance | State::Empty => false,
        };
        if current {
            return replies.push(Reply::Join(ticket, Ok(self.joined(id, false))));
        }
        if let Some(earlier) = member.joining.replace(ticket) {
            let error = ResponseError::RebalanceInProgress;
            replies.push(Reply::Join(earlier, Err(JoinRefused { error, member_id: id.to_owned() })));
        }
        (member.session, member.rebalance) = (join.session, join.rebalance);
        member.protocols = join.protocols;
        if self.state != State::PreparingRebalance {
            self.prepare_rebalance(now, replies);
        }
        self.complete_if_all_joined(now, replies);
    }

    /// Takes the leader's assignments, gives each member its own.
    pub(crate) fn sync(
        &mut self,
        ticket: Ticket,
        caller: Caller<'_>,
        sync: Sync,
        now: Instant,
        replies: &mut Vec<Reply>,
    ) {
        let refused = match self.check(caller) {
            Err(error) => Some(error),
            Ok(())
                if sync.protocol_type.is_some_and(|it| it != self.protocol_type)
                    || sync.protocol.is_some_and(|it| it != self.protocol) =>
            {
                Some(ResponseError::InconsistentGroupProtocol)
            }
            Ok(()) if self.state == State::PreparingRebalance => Some(ResponseError::RebalanceInProgress),
            Ok(()) => None,
        };
        if let Some(error) = refused {
            return replies.push(Reply::Sync(ticket, Err(error)));
        }
        if let Some(member) = self.members.get_mut(caller.member_id) {
            member.touch(now);
            if let Some(earlier) = member.syncing.replace(ticket) {
                replies.push(Reply::Sync(earlier, Err(ResponseError::RebalanceInProgress)));
            }
        }
        if self.state == State::CompletingRebalance && self.leader == caller.member_id {
            let mut assigned: BTreeMap<_, _> = sync.assignments.into_iter().collect();
            for (id, member) in &mut self.members {
                member.assignment = assigned.remove(id).unwrap_or_default();
            }
            self.state = State::Stable;
            self.rebalance_ends = None;
        }
        if self.state == State::Stable {
            for member in self.members.values_mut() {
                if let Some(ticket) = member.syncing.take() {
                    member.touch(now);
                    let synced = Synced {
                        protocol_type: self.protocol_type.clone(),
                        protocol: self.protocol.clone(),
                        assignment: member.assignment.clone(),
                    };
                    replies.push(Reply::Sync(ticket, Ok(synced)));
                }
            }
        }
    }

    /// Whether the caller is a member of the present generation.
    fn check(&self, caller: Caller<'_>) -> Result<(), ResponseError> {
        self.check_member(caller.member_id, caller.instance)?;
        if caller.generation == self.generation { Ok(()) } else { Err(ResponseError::IllegalGeneration) }
    }

    fn check_member(&self, member_id: &str, instance: Option<&str>) -> Result<(), ResponseError> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(known) if known != member_id => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
    }

    /// Keeps a member alive and tells it whether to join again.
    pub(crate) fn heartbeat(&mut self, caller: Caller<'_>, now: Instant) -> Result<(), ResponseError> {
        self.check(caller)?;
        if let Some(member) = self.members.get_mut(caller.member_id) {
            member.touch(now);
        }
        if self.state == State::PreparingRebalance { Err(ResponseError::RebalanceInProgress) } else { Ok(()) }
    }

    /// Lets a member go; returns its id.
    pub(crate) fn leave(
        &mut self,
        member_id: &str,
        instance: Option<&str>,
        now: Instant,
        replies: &mut Vec<Reply>,
    ) -> Result<String, ResponseError> {
        if self.pending.remove(member_id).is_some() {
            self.complete_if_all_joined(now, replies);
            return Ok(member_id.to_owned());
        }
        let known = instance.and_then(|it| self.statics.get(it)).cloned();
        let id = match known {
            Some(id) if member_id.is_empty() => id, // an administrator removes a static member by its name
            _ => {
                self.check_member(member_id, instance)?;
                member_id.to_owned()
            }
        };
        self.remove(&id, now, replies);
        Ok(id)
    }

    fn remove(&mut self, id: &str, now: Instant, replies: &mut Vec<Reply>) {
        let Some(member) = self.members.remove(id) else {
            return;
        };
        if let Some(instance) = &member.instance {
            self.statics.remove(instance);
        }
        let error = ResponseError::UnknownMemberId;
        if let Some(ticket) = member.joining {
            replies.push(Reply::Join(ticket, Err(JoinRefused { error, member_id: id.to_owned() })));
        }
        if let Some(ticket) = member.syncing {
            replies.push(Reply::Sync(ticket, Err(error)));
        }
        if self.leader == id {
            self.leader = self.members.keys().next().cloned().unwrap_or_default();
        }
        if matches!(self.state, State::Stable | State::CompletingRebalance) {
            self.prepare_rebalance(now, replies);
        }
        self.complete_if_all_joined(now, replies);
    }

    /// Whether a member, or a consumer outside the group, may commit offsets now.
    pub(crate) fn may_commit(
        &mut self,
        caller: Caller<'_>,
        transactional: bool,
        now: Instant,
    ) -> Result<(), ResponseError> {
        if caller.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if caller.generation >= 0 || !caller.member_id.is_empty() || caller.instance.is_some() {
            self.check(caller)?;
        } else if !transactional {
            return Err(ResponseError::UnknownMemberId);
        }
        if !transactional && self.state == State::CompletingRebalance {
            return Err(ResponseError::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(caller.member_id) {
            member.touch(now);
        }
        Ok(())
    }

    /// Removes who is silent for too long and ends rebalances whose time is up.
    pub(crate) fn tick(&mut self, now: Instant, replies: &mut Vec<Reply>) {
        self.pending.retain(|_, lapses| *lapses > now);
        let silent = |it: &Member| !it.is_waiting() && it.expires <= now;
        let mut gone: Vec<_> =
            self.members.iter().filter(|(_, it)| silent(it)).map(|(id, _)| id.clone()).collect();
        if self.rebalance_ends.is_some_and(|it| it <= now) {
            match self.state {
                State::PreparingRebalance => self.complete_join(now, replies),
                State::CompletingRebalance => {
                    let late = self.members.iter().filter(|(_, it)| it.syncing.is_none());
                    gone.extend(late.map(|(id, _)| id.clone()));
                }
                State::Empty | State::Stable => self.rebalance_ends = None,
            }
        }
        for id in gone {
            self.remove(&id, now, replies);
        }
        self.complete_if_all_joined(now, replies);
    }

    /// When [`Group::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let members = self.members.values().filter(|it| !it.is_waiting()).map(|it| it.expires);
        members.chain(self.pending.values().copied()).chain(self.rebalance_ends).min()
    }

    /// Whether a member subscribes to the topic, as far as the metadata of consumers tells.
    pub(crate) fn subscribes_to(&self, topic: &str) -> bool {
        let named = |metadata: &Bytes| metadata.windows(topic.len()).any(|it| it == topic.as_bytes());
        self.members.values().any(|it| it.protocols.iter().any(|(_, metadata)| named(metadata)))
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
