//! The group coordinator: every group with its offsets, and the requests that wait for a rebalance.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::committed::Offsets;
use super::group::{Group, State};
use super::group_member::{JoinRefused, Joined, Reply, Synced, Ticket};
use kafka_protocol::ResponseError;

/// Where the answer to a parked join comes out.
pub(crate) type JoinAnswer = oneshot::Receiver<Result<Joined, JoinRefused>>;
/// Where the answer to a parked sync comes out.
pub(crate) type SyncAnswer = oneshot::Receiver<Result<Synced, ResponseError>>;

/// How long a group is kept that nobody would miss (`offsets.retention.check.interval.ms` of Kafka).
const IDLE_FOR: Duration = Duration::from_secs(600);

/// A group and what it has committed.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) group: Group,
    pub(crate) offsets: Offsets,
    /// Since when nobody would miss it.
    idle_since: Option<Instant>,
}

impl Slot {
    /// A group nobody would miss: no members, no offsets.
    fn is_idle(&self) -> bool {
        self.group.state == State::Empty && self.offsets.is_empty() && self.group.deadline().is_none()
    }
}

/// All groups.
#[derive(Debug)]
pub(crate) struct Groups {
    by_id: BTreeMap<String, Slot>,
    joining: HashMap<Ticket, oneshot::Sender<Result<Joined, JoinRefused>>>,
    syncing: HashMap<Ticket, oneshot::Sender<Result<Synced, ResponseError>>>,
    next_ticket: u64,
    gather: Duration,
}

impl Groups {
    /// No groups yet; a new one lets its first members gather for a while.
    pub(crate) fn new(gather: Duration) -> Self {
        Self {
            by_id: BTreeMap::new(),
            joining: HashMap::new(),
            syncing: HashMap::new(),
            next_ticket: 0,
            gather,
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Slot> {
        self.by_id.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Slot> {
        self.by_id.get_mut(id)
    }

    /// The group, new if there is none of that name.
    pub(crate) fn entry(&mut self, id: &str) -> &mut Slot {
        let fresh = || Slot { group: Group::new(self.gather), offsets: Offsets::default(), idle_since: None };
        self.by_id.entry(id.to_owned()).or_insert_with(fresh)
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Slot> {
        self.by_id.remove(id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&String, &Slot)> {
        self.by_id.iter()
    }

    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = (&String, &mut Slot)> {
        self.by_id.iter_mut()
    }

    /// A place in the queue for a join.
    pub(crate) fn park_join(&mut self) -> (Ticket, JoinAnswer) {
        let (answer, answered) = oneshot::channel();
        let ticket = self.ticket();
        self.joining.insert(ticket, answer);
        (ticket, answered)
    }

    /// A place in the queue for a sync.
    pub(crate) fn park_sync(&mut self) -> (Ticket, SyncAnswer) {
        let (answer, answered) = oneshot::channel();
        let ticket = self.ticket();
        self.syncing.insert(ticket, answer);
        (ticket, answered)
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// Sends answers to those who wait; one whose connection is gone gets none.
    pub(crate) fn deliver(&mut self, replies: Vec<Reply>) {
        for reply in replies {
            match reply {
                Reply::Join(ticket, answer) => {
                    self.joining.remove(&ticket).map(|it| it.send(answer));
                }
                Reply::Sync(ticket, answer) => {
                    self.syncing.remove(&ticket).map(|it| it.send(answer));
                }
            }
        }
    }

    /// Lets time pass for every group.
    pub(crate) fn tick(&mut self, now: Instant) {
        let mut replies = Vec::new();
        for slot in self.by_id.values_mut() {
            if slot.group.deadline().is_some_and(|it| it <= now) {
                slot.group.tick(now, &mut replies);
            }
        }
        self.by_id.retain(|_, slot| {
            let since = slot.is_idle().then(|| slot.idle_since.unwrap_or(now));
            slot.idle_since = since;
            since.is_none_or(|it| now.saturating_duration_since(it) < IDLE_FOR)
        });
        self.deliver(replies);
    }

    /// When a group has something to do next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.by_id.values().filter_map(|it| it.group.deadline()).min()
    }
}
