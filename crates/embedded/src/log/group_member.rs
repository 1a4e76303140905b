//! The members of a consumer group, and what they are told.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;

/// Names a request that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// The answer to a request that may have waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Join(Ticket, Result<Joined, JoinRefused>),
    Sync(Ticket, Result<Synced, ResponseError>),
}

/// A member is not let in, and the id it should use from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinRefused {
    pub(crate) error: ResponseError,
    pub(crate) member_id: String,
}

/// A member belongs to a new generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) leader: String,
    pub(crate) member_id: String,
    /// The leader was replaced by its own restart: it must not assign again.
    pub(crate) skip_assignment: bool,
    /// Everybody, for the leader only.
    pub(crate) members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
    pub(crate) metadata: Bytes,
}

/// What a member was assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) assignment: Bytes,
}

/// A request to join.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    /// Empty for a new member.
    pub(crate) member_id: String,
    /// The name of a static member.
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session: Duration,
    pub(crate) rebalance: Duration,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// The client comes back with the id it is given before it counts as a member.
    pub(crate) must_know_id: bool,
    /// The client understands [`Joined::skip_assignment`].
    pub(crate) may_skip_assignment: bool,
}

/// A member of a group.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session: Duration,
    pub(crate) rebalance: Duration,
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    pub(crate) joining: Option<Ticket>,
    pub(crate) syncing: Option<Ticket>,
    /// When it counts as gone, unless a request of it is waiting.
    pub(crate) expires: Instant,
}

impl Member {
    pub(crate) fn new(join: Join, now: Instant) -> Self {
        Self {
            instance: join.instance,
            client_id: join.client_id,
            client_host: join.client_host,
            session: join.session,
            rebalance: join.rebalance,
            protocols: join.protocols,
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            expires: now + join.session,
        }
    }

    /// Shows that the member lives.
    pub(crate) fn touch(&mut self, now: Instant) {
        self.expires = now + self.session;
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }

    pub(crate) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// What the member says of itself for a protocol.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map_or_else(Bytes::new, |(_, metadata)| metadata.clone())
    }
}
