//! The rebalance of a consumer group: who belongs to the next generation, and with which protocol.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::group::{Group, State};
use super::group_member::{Join, JoinRefused, Joined, JoinedMember, Member, Reply, Ticket};

impl Group {
    /// A static member came back without its id: the new process takes the place of the old one.
    pub(super) fn replace_static(
        &mut self,
        ticket: Ticket,
        old_id: &str,
        join: Join,
        new_id: String,
        now: Instant,
        replies: &mut Vec<Reply>,
    ) {
        let Some(mut member) = self.members.remove(old_id) else {
            return;
        };
        let fenced = ResponseError::FencedInstanceId;
        if let Some(ticket) = member.joining.take() {
            replies
                .push(Reply::Join(ticket, Err(JoinRefused { error: fenced, member_id: old_id.to_owned() })));
        }
        if let Some(ticket) = member.syncing.take() {
            replies.push(Reply::Sync(ticket, Err(fenced)));
        }
        let unchanged =
            self.state == State::Stable && member.metadata(&self.protocol) == metadata(&join, &self.protocol);
        let may_skip = join.may_skip_assignment;
        let assignment = std::mem::take(&mut member.assignment);
        let mut replacing = Member::new(join, now);
        replacing.assignment = assignment;
        if let Some(instance) = &replacing.instance {
            self.statics.insert(instance.clone(), new_id.clone());
        }
        let was_leader = self.leader == old_id;
        if was_leader {
            self.leader.clone_from(&new_id);
        }
        self.members.insert(new_id.clone(), replacing);
        if unchanged && self.protocol_is_still_chosen() {
            let mut joined = self.joined(&new_id, was_leader);
            if was_leader && !may_skip {
                // An older client that believed itself leader would assign anew; it follows its old self.
                joined.leader = old_id.to_owned();
                joined.skip_assignment = false;
                joined.members.clear();
            }
            return replies.push(Reply::Join(ticket, Ok(joined)));
        }
        if let Some(member) = self.members.get_mut(&new_id) {
            member.joining = Some(ticket);
        }
        if self.state != State::PreparingRebalance {
            self.prepare_rebalance(now, replies);
        }
        self.complete_if_all_joined(now, replies);
    }

    fn protocol_is_still_chosen(&self) -> bool {
        self.choose_protocol() == self.protocol
    }

    pub(super) fn prepare_rebalance(&mut self, now: Instant, replies: &mut Vec<Reply>) {
        for member in self.members.values_mut() {
            if let Some(ticket) = member.syncing.take() {
                replies.push(Reply::Sync(ticket, Err(ResponseError::RebalanceInProgress)));
                member.touch(now);
            }
        }
        let longest = self.longest_rebalance();
        let gathers = self.state == State::Empty && !self.gather.is_zero();
        self.gathering_until = gathers.then(|| now + longest);
        self.rebalance_ends = Some(now + if gathers { self.gather.min(longest) } else { longest });
        self.state = State::PreparingRebalance;
    }

    fn longest_rebalance(&self) -> Duration {
        self.members.values().map(|it| it.rebalance).max().unwrap_or_default()
    }

    pub(super) fn complete_if_all_joined(&mut self, now: Instant, replies: &mut Vec<Reply>) {
        let all = self.pending.is_empty() && self.members.values().all(|it| it.joining.is_some());
        let gathering = self.gathering_until.is_some() && !self.members.is_empty();
        if self.state == State::PreparingRebalance && all && !gathering {
            self.complete_join(now, replies);
        }
    }

    /// Begins the next generation with those who joined. Static members keep their place although late.
    pub(super) fn complete_join(&mut self, now: Instant, replies: &mut Vec<Reply>) {
        self.members.retain(|_, it| it.joining.is_some() || it.instance.is_some());
        self.gathering_until = None;
        let first_joined = self.members.iter().find(|(_, it)| it.joining.is_some()).map(|(id, _)| id.clone());
        let Some(first_joined) = first_joined.or_else(|| self.members.keys().next().cloned()) else {
            self.generation += 1;
            self.state = State::Empty;
            self.protocol.clear();
            self.leader.clear();
            self.rebalance_ends = None;
            return;
        };
        self.rebalance_ends = Some(now + self.longest_rebalance());
        if self.members.values().all(|it| it.joining.is_none()) {
            return; // only static members, all late: wait on, until their sessions end
        }
        if self.members.get(&self.leader).is_none_or(|it| it.joining.is_none()) {
            self.leader = first_joined;
        }
        self.generation += 1;
        self.protocol = self.choose_protocol();
        self.state = State::CompletingRebalance;
        let joined: Vec<_> = self.members.keys().cloned().collect();
        for id in joined {
            let ticket = self.members.get_mut(&id).and_then(|member| {
                member.touch(now);
                member.joining.take()
            });
            if let Some(ticket) = ticket {
                replies.push(Reply::Join(ticket, Ok(self.joined(&id, false))));
            }
        }
    }

    /// The protocol that all support and most put first.
    fn choose_protocol(&self) -> String {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let common = |name: &str| self.members.values().all(|it| it.supports(name));
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| common(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes
            .into_iter()
            .max_by_key(|(_, votes)| *votes)
            .map_or_else(String::new, |(name, _)| name.to_owned())
    }

    pub(super) fn joined(&self, id: &str, skip_assignment: bool) -> Joined {
        let member = |(id, it): (&String, &Member)| JoinedMember {
            id: id.clone(),
            instance: it.instance.clone(),
            metadata: it.metadata(&self.protocol),
        };
        let is_leader = self.leader == id;
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member_id: id.to_owned(),
            skip_assignment,
            members: if is_leader { self.members.iter().map(member).collect() } else { Vec::new() },
        }
    }
}

fn metadata(join: &Join, protocol: &str) -> Bytes {
    let found = join.protocols.iter().find(|(name, _)| name == protocol);
    found.map_or_else(Bytes::new, |(_, metadata)| metadata.clone())
}
