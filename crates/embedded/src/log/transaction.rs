//! The transactions of all producers, as a pure state machine.
//!
//! ```text
//!   init            add partitions, groups       end            markers written
//!  ──────▶ Empty ──────────────────────▶ Ongoing ──▶ Preparing ───────────────▶ Ended ─┐
//!                                          ▲                                           │
//!                                          └───────────────────────────────────────────┘
//! ```
//!
//! Ending has two halves, because markers are written in between: [`Transactions::end`] decides and names the
//! partitions and groups, [`Transactions::finished`] closes. The caller keeps both halves under one lock and
//! journals in between, so that a crash between them is completed at the next start.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kafka_protocol::ResponseError;
use serde::{Deserialize, Serialize};

/// The last epoch that is handed out; then the transactional id gets a new producer id.
const LAST_EPOCH: i16 = i16::MAX - 1;
/// `transaction.max.timeout.ms` of Kafka.
const MAX_TIMEOUT_MS: i32 = 900_000;

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

impl Phase {
    /// The name that tools show.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }
}

/// A transactional id and its latest transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transaction {
    pub(crate) id: String,
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) timeout_ms: i32,
    pub(crate) phase: Phase,
    /// When it began, in ms of the wall clock.
    pub(crate) started: i64,
    pub(crate) partitions: BTreeSet<(String, i32)>,
    pub(crate) groups: BTreeSet<String>,
}

/// Who calls: a producer id and the epoch it believes to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
}

/// What is to be written to end a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) id: String,
    pub(crate) producer: Identity,
    pub(crate) committed: bool,
    pub(crate) partitions: BTreeSet<(String, i32)>,
    pub(crate) groups: BTreeSet<String>,
}

/// Every transactional id.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    by_id: BTreeMap<String, Transaction>,
    by_producer: HashMap<i64, String>,
    next_producer_id: i64,
}

impl Transactions {
    /// Hands out a producer id that was never used.
    pub(crate) fn new_producer_id(&mut self) -> i64 {
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        id
    }

    /// The first producer id that was never used.
    pub(crate) fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// Never hands out an id below `next` again.
    pub(crate) fn skip_producer_ids(&mut self, next: i64) {
        self.next_producer_id = self.next_producer_id.max(next);
    }

    /// Takes over a transaction from the journal.
    pub(crate) fn restore(&mut self, transaction: Transaction) {
        self.skip_producer_ids(transaction.producer_id + 1);
        if let Some(before) = self.by_id.get(&transaction.id) {
            self.by_producer.remove(&before.producer_id);
        }
        self.by_producer.insert(transaction.producer_id, transaction.id.clone());
        self.by_id.insert(transaction.id.clone(), transaction);
    }

    /// Whether a producer that begins, or begins again, must first have its open transaction aborted.
    ///
    /// # Errors
    ///
    /// Those of `InitProducerId`, when the time-out is out of range or another producer has taken over.
    pub(crate) fn before_init(
        &self,
        id: &str,
        timeout_ms: i32,
        claimed: Option<Identity>,
    ) -> Result<bool, ResponseError> {
        if timeout_ms <= 0 || timeout_ms > MAX_TIMEOUT_MS {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let Some(known) = self.by_id.get(id) else {
            return Ok(false);
        };
        if let Some(claimed) = claimed {
            // An id that was replaced because its epochs ran out is as fenced as an old epoch.
            if claimed.producer_id != known.producer_id || claimed.epoch != known.epoch {
                return Err(ResponseError::ProducerFenced);
            }
        }
        match known.phase {
            Phase::PrepareCommit | Phase::PrepareAbort => Err(ResponseError::ConcurrentTransactions),
            phase => Ok(phase == Phase::Ongoing),
        }
    }

    /// Gives a producer its identity; whoever had the transactional id before is fenced from now on.
    pub(crate) fn init(&mut self, id: &str, timeout_ms: i32) -> &Transaction {
        let (producer_id, epoch) = match self.by_id.get(id) {
            Some(known) if known.epoch < LAST_EPOCH => (known.producer_id, known.epoch + 1),
            _ => (self.new_producer_id(), 0),
        };
        self.restore(Transaction {
            id: id.to_owned(),
            producer_id,
            epoch,
            timeout_ms,
            phase: Phase::Empty,
            started: -1,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
        });
        &self.by_id[id]
    }

    fn find(&mut self, id: &str, caller: Identity) -> Result<&mut Transaction, ResponseError> {
        let known = self.by_id.get_mut(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        if known.producer_id != caller.producer_id {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if known.epoch != caller.epoch {
            return Err(ResponseError::ProducerFenced);
        }
        Ok(known)
    }

    /// Adds partitions and groups, which begins a transaction if none is open. Returns it if that changed it.
    pub(crate) fn add(
        &mut self,
        id: &str,
        caller: Identity,
        partitions: impl IntoIterator<Item = (String, i32)>,
        groups: impl IntoIterator<Item = String>,
        now: i64,
    ) -> Result<Option<&Transaction>, ResponseError> {
        let known = self.find(id, caller)?;
        if matches!(known.phase, Phase::PrepareCommit | Phase::PrepareAbort) {
            return Err(ResponseError::ConcurrentTransactions);
        }
        let mut changed = false;
        if known.phase != Phase::Ongoing {
            known.phase = Phase::Ongoing;
            known.started = now;
            known.partitions.clear();
            known.groups.clear();
            changed = true;
        }
        for partition in partitions {
            changed |= known.partitions.insert(partition);
        }
        for group in groups {
            changed |= known.groups.insert(group);
        }
        Ok(changed.then_some(known))
    }

    /// Whether a producer may write transactional records to a partition now.
    pub(crate) fn may_write(
        &self,
        caller: Identity,
        topic: &str,
        partition: i32,
    ) -> Result<(), ResponseError> {
        let known = self.by_producer.get(&caller.producer_id).and_then(|it| self.by_id.get(it));
        let known = known.ok_or(ResponseError::InvalidProducerIdMapping)?;
        if caller.epoch != known.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        let added = || known.partitions.iter().any(|(name, index)| name == topic && *index == partition);
        if known.phase == Phase::Ongoing && added() { Ok(()) } else { Err(ResponseError::InvalidTxnState) }
    }

    /// Whether a producer may stage offsets of a group now.
    pub(crate) fn may_stage(&self, id: &str, caller: Identity, group: &str) -> Result<(), ResponseError> {
        let known = self.by_id.get(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        if known.producer_id != caller.producer_id {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if known.epoch != caller.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        let added = known.phase == Phase::Ongoing && known.groups.contains(group);
        if added { Ok(()) } else { Err(ResponseError::InvalidTxnState) }
    }

    /// Decides the end of a transaction; `None` when it has ended that way already.
    pub(crate) fn end(
        &mut self,
        id: &str,
        caller: Identity,
        commit: bool,
    ) -> Result<Option<Ending>, ResponseError> {
        let known = self.find(id, caller)?;
        match (known.phase, commit) {
            // Preparing still: the markers could not be written before; try again.
            (Phase::Ongoing, _) | (Phase::PrepareCommit, true) | (Phase::PrepareAbort, false) => {
                Ok(Some(known.prepare(commit)))
            }
            (Phase::CompleteCommit, true) | (Phase::CompleteAbort, false) => Ok(None),
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// Decides to abort an open transaction from above; its producer is fenced by a new epoch.
    pub(crate) fn fence(&mut self, id: &str) -> Option<Ending> {
        let known = self.by_id.get_mut(id).filter(|it| it.phase == Phase::Ongoing)?;
        known.epoch += 1; // below i16::MAX, because LAST_EPOCH leaves one
        Some(known.prepare(false))
    }

    /// Closes a transaction whose markers are written.
    pub(crate) fn finished(&mut self, id: &str) -> Option<&Transaction> {
        let known = self.by_id.get_mut(id)?;
        known.phase = match known.phase {
            Phase::PrepareCommit => Phase::CompleteCommit,
            Phase::PrepareAbort => Phase::CompleteAbort,
            _ => return None,
        };
        known.partitions.clear();
        known.groups.clear();
        Some(known)
    }

    /// Transactions that were being ended when the log stopped.
    pub(crate) fn half_ended(&self) -> Vec<Ending> {
        let half = |it: &&Transaction| matches!(it.phase, Phase::PrepareCommit | Phase::PrepareAbort);
        self.by_id.values().filter(half).map(|it| it.ending(it.phase == Phase::PrepareCommit)).collect()
    }

    /// Open transactions whose time is up.
    pub(crate) fn overdue(&self, now: i64) -> Vec<String> {
        let late =
            |it: &&Transaction| it.phase == Phase::Ongoing && now - it.started >= i64::from(it.timeout_ms);
        self.by_id.values().filter(late).map(|it| it.id.clone()).collect()
    }

    /// The state of a transactional id.
    pub(crate) fn get(&self, id: &str) -> Option<&Transaction> {
        self.by_id.get(id)
    }

    /// Every transactional id.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Transaction> {
        self.by_id.values()
    }
}

impl Transaction {
    fn prepare(&mut self, commit: bool) -> Ending {
        self.phase = if commit { Phase::PrepareCommit } else { Phase::PrepareAbort };
        self.ending(commit)
    }

    fn ending(&self, committed: bool) -> Ending {
        Ending {
            id: self.id.clone(),
            producer: Identity { producer_id: self.producer_id, epoch: self.epoch },
            committed,
            partitions: self.partitions.clone(),
            groups: self.groups.clone(),
        }
    }
}

#[cfg(test)]
#[path = "transaction_tests.rs"]
mod tests;
