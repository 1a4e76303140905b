//! The state that connections share, and how it changes: first journal, then memory, under one lock.
//!
//! Locks are taken in the order of the fields: transactions, groups, catalog, one partition, journal.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use kafka_protocol::ResponseError;
use tokio::sync::Notify;
use tracing::{error, info};
use uuid::Uuid;

use super::catalog::{Catalog, Partition, Topic, lock, topic_folder};
use super::clock;
use super::groups::Groups;
use super::journal::{Entry, Journal};
use super::partition::PartitionLog;
use super::topic_config::TopicConfig;
use super::transaction::{Ending, Transaction, Transactions};

/// The number of the one node.
pub(crate) const NODE_ID: i32 = 1;
/// Producer ids are reserved in the journal by this many, so that most cost no write.
const RESERVED_PRODUCER_IDS: i64 = 1000;

/// What a new topic gets unless it asks otherwise, and whether asking for metadata creates one.
#[derive(Debug, Clone)]
pub(crate) struct Defaults {
    pub(crate) partitions: i32,
    pub(crate) auto_create: bool,
}

/// The one node.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) cluster_id: String,
    pub(crate) defaults: Defaults,
    pub(super) data: Option<PathBuf>,
    pub(super) transactions: Mutex<Transactions>,
    pub(super) groups: Mutex<Groups>,
    pub(super) catalog: RwLock<Catalog>,
    pub(super) journal: Mutex<Journal>,
    /// A deadline of a group may have come nearer.
    pub(super) deadlines: Notify,
}

impl Broker {
    /// The topics, to look up.
    pub(crate) fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn catalog_mut(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A topic and one of its partitions.
    pub(crate) fn partition(
        &self,
        topic: &str,
        index: i32,
    ) -> Result<(Arc<Topic>, Partition), ResponseError> {
        let topic = self.catalog().get(topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
        let partition = topic.partition(index).cloned().ok_or(ResponseError::UnknownTopicOrPartition)?;
        Ok((topic, partition))
    }

    /// Writes changes to the journal.
    pub(crate) fn record(&self, entries: &[Entry]) -> Result<(), ResponseError> {
        lock(&self.journal).append(entries).map_err(|source| {
            error!(%source, "the journal could not be written");
            ResponseError::KafkaStorageError
        })
    }

    /// Runs `change` on the groups and makes the housekeeping look at their deadlines.
    pub(crate) fn with_groups<T>(&self, change: impl FnOnce(&mut Groups) -> T) -> T {
        let result = change(&mut lock(&self.groups));
        self.deadlines.notify_one();
        result
    }

    /// Creates a topic.
    pub(crate) fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        config: TopicConfig,
    ) -> Result<Arc<Topic>, ResponseError> {
        let mut catalog = self.catalog_mut();
        if catalog.get(name).is_some() {
            return Err(ResponseError::TopicAlreadyExists);
        }
        let id = Uuid::from_bytes(super::random_bytes());
        let mut topic = Topic { name: name.to_owned(), id, config, partitions: Vec::new() };
        self.extend(&mut topic, partitions)?;
        self.record(&[topic_entry(&topic)])?;
        info!(topic = name, partitions, "created");
        Ok(catalog.put(topic))
    }

    /// Gives a topic more partitions.
    pub(crate) fn add_partitions(&self, name: &str, count: i32) -> Result<(), ResponseError> {
        let mut catalog = self.catalog_mut();
        let known = catalog.get(name).ok_or(ResponseError::UnknownTopicOrPartition)?;
        let mut topic = Topic::clone(&known);
        self.extend(&mut topic, count)?;
        self.record(&[topic_entry(&topic)])?;
        catalog.put(topic);
        Ok(())
    }

    fn extend(&self, topic: &mut Topic, count: i32) -> Result<(), ResponseError> {
        let now = clock::millis(clock::now());
        let folder = self.data.as_ref().map(|it| topic_folder(it, &topic.name, topic.id));
        for index in topic.partitions.len()..count.max(0) as usize {
            let name = format!("{}-{index}", topic.name);
            let folder = folder.as_ref().map(|it| it.join(index.to_string()));
            let log = PartitionLog::create(name, folder, now).map_err(|source| {
                error!(topic = topic.name, index, %source, "a partition could not be created");
                ResponseError::KafkaStorageError
            })?;
            topic.partitions.push(Arc::new(Mutex::new(log)));
        }
        Ok(())
    }

    /// Changes a topic's settings.
    pub(crate) fn configure(&self, name: &str, config: TopicConfig) -> Result<(), ResponseError> {
        let mut catalog = self.catalog_mut();
        let known = catalog.get(name).ok_or(ResponseError::UnknownTopicOrPartition)?;
        let topic = Topic { config, ..Topic::clone(&known) };
        self.record(&[topic_entry(&topic)])?;
        catalog.put(topic);
        Ok(())
    }

    /// Deletes a topic with its records and the offsets committed for it.
    pub(crate) fn delete_topic(&self, name: &str) -> Result<Arc<Topic>, ResponseError> {
        let mut groups = lock(&self.groups);
        let mut catalog = self.catalog_mut();
        if catalog.get(name).is_none() {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
        self.record(&[Entry::TopicDeleted { name: name.to_owned() }])?;
        let topic = catalog.remove(name).ok_or(ResponseError::UnknownTopicOrPartition)?;
        for (_, slot) in groups.all_mut() {
            slot.offsets.forget_topic(name);
        }
        for partition in &topic.partitions {
            lock(partition).delete();
        }
        if let Some(data) = &self.data {
            let folder = topic_folder(data, name, topic.id);
            if let Err(source) = std::fs::remove_dir_all(&folder) {
                error!(topic = name, %source, "the files of a deleted topic could not be removed");
            }
        }
        info!(topic = name, "deleted");
        Ok(topic)
    }

    /// Hands out a producer id.
    pub(crate) fn new_producer_id(&self, transactions: &mut Transactions) -> Result<i64, ResponseError> {
        let id = transactions.next_producer_id();
        self.reserve_producer_id(id)?;
        Ok(transactions.new_producer_id())
    }

    /// Makes sure that `id` is not handed out again after a restart.
    pub(crate) fn reserve_producer_id(&self, id: i64) -> Result<(), ResponseError> {
        // A restart continues at the reserved end, so the multiples tell where a block begins.
        if id % RESERVED_PRODUCER_IDS == 0 {
            self.record(&[Entry::ProducerIds { next: id + RESERVED_PRODUCER_IDS }])?;
        }
        Ok(())
    }

    /// Journals what a transaction has become. If that fails, it is again what it was `before`, where that is given.
    ///
    /// # Errors
    ///
    /// Fails as Kafka does when its log of transactions cannot be written: with an error after which producers ask again.
    pub(crate) fn record_transaction(
        &self,
        transactions: &mut Transactions,
        id: &str,
        before: Option<Transaction>,
    ) -> Result<(), ResponseError> {
        let Some(changed) = transactions.get(id) else { return Ok(()) };
        let recorded = self.record(&[Entry::Transaction(changed.clone())]);
        if let (Err(_), Some(before)) = (&recorded, before) {
            transactions.restore(before);
        }
        recorded.map_err(|_logged| ResponseError::NotCoordinator)
    }

    /// Writes the markers and offsets that end a transaction, then closes it. The caller holds `transactions`.
    ///
    /// Until the end is journalled it is not decided, and the transaction goes on as it was `before`, where that is given.
    /// From then on it will end that way: what cannot be written now is tried again by [`Broker::tick`].
    pub(crate) fn end_transaction(
        &self,
        transactions: &mut Transactions,
        ending: &Ending,
        before: Option<Transaction>,
    ) -> Result<(), ResponseError> {
        self.record_transaction(transactions, &ending.id, before)?;
        self.write_markers(ending).map_err(|source| {
            error!(transaction = ending.id, %source, "a transaction marker could not be written");
            ResponseError::NotCoordinator
        })?;
        self.end_staged(ending).map_err(|_logged| ResponseError::NotCoordinator)?;
        if let Some(finished) = transactions.finished(&ending.id) {
            self.record(&[Entry::Transaction(finished.clone())])?;
        }
        Ok(())
    }

    fn write_markers(&self, ending: &Ending) -> io::Result<()> {
        let now = clock::now();
        for (name, index) in &ending.partitions {
            let Ok((topic, partition)) = self.partition(name, *index) else {
                continue; // deleted meanwhile
            };
            let mut log = lock(&partition);
            // Nothing to end where nothing was written, but a newer epoch must still fence the older one there.
            let producer = (ending.producer.producer_id, ending.producer.epoch);
            if log.producers().is_open(producer.0) || !ending.committed {
                log.append_marker(producer, ending.committed, &topic.config, now)?;
            }
        }
        Ok(())
    }

    fn end_staged(&self, ending: &Ending) -> Result<(), ResponseError> {
        let mut groups = lock(&self.groups);
        let producer_id = ending.producer.producer_id;
        let committed = ending.committed;
        let entry = |group: &String| Entry::StagedEnded { group: group.clone(), producer_id, committed };
        self.record(&ending.groups.iter().map(entry).collect::<Vec<_>>())?;
        for group in &ending.groups {
            if let Some(slot) = groups.get_mut(group) {
                slot.offsets.end(producer_id, committed);
            }
        }
        Ok(())
    }

    /// Lets time pass for groups and transactions; returns when to come back for the groups.
    pub(crate) fn tick(&self) -> Option<Instant> {
        let mut transactions = lock(&self.transactions);
        for id in transactions.overdue(clock::millis(clock::now())) {
            if let Some(ending) = transactions.fence(&id) {
                info!(transaction = id, "its time-out is over and it was aborted");
                // A failure is logged where it happens; the transaction stays prepared and the next tick ends it.
                let _ = self.end_transaction(&mut transactions, &ending, None);
            }
        }
        // Their producers may be gone; nobody reads past them until they end.
        for ending in transactions.half_ended() {
            let _ = self.end_transaction(&mut transactions, &ending, None);
        }
        drop(transactions);
        let mut groups = lock(&self.groups);
        groups.tick(Instant::now());
        groups.deadline()
    }

    /// Everything that is true now, as the journal would tell it from nothing.
    pub(super) fn snapshot(
        &self,
        transactions: &Transactions,
        groups: &Groups,
        catalog: &Catalog,
    ) -> Vec<Entry> {
        let mut entries = vec![Entry::Cluster { id: self.cluster_id.clone() }];
        let blocks = (transactions.next_producer_id() + RESERVED_PRODUCER_IDS - 1) / RESERVED_PRODUCER_IDS;
        entries.push(Entry::ProducerIds { next: blocks * RESERVED_PRODUCER_IDS });
        for topic in catalog.all() {
            entries.push(topic_entry(topic));
            for (index, partition) in topic.partitions.iter().enumerate() {
                let offset = lock(partition).start();
                if offset > 0 {
                    entries.push(Entry::LogStart {
                        topic: topic.name.clone(),
                        partition: index as i32,
                        offset,
                    });
                }
            }
        }
        entries.extend(transactions.all().cloned().map(Entry::Transaction));
        for (group, slot) in groups.all() {
            let offsets: Vec<_> = slot.offsets.all().cloned().collect();
            if !offsets.is_empty() {
                entries.push(Entry::Offsets { group: group.clone(), offsets });
            }
            for (producer_id, offsets) in slot.offsets.staged() {
                entries.push(Entry::OffsetsStaged {
                    group: group.clone(),
                    producer_id,
                    offsets: offsets.to_vec(),
                });
            }
        }
        entries
    }

    /// Shortens the journal when most of it is history.
    pub(crate) fn tidy_journal(&self, always: bool) -> io::Result<()> {
        if !always && !lock(&self.journal).is_worth_rewriting() {
            return Ok(());
        }
        let transactions = lock(&self.transactions);
        let groups = lock(&self.groups);
        // To write, so that nobody moves the start of a partition between the snapshot and its writing.
        let catalog = self.catalog_mut();
        let entries = self.snapshot(&transactions, &groups, &catalog);
        lock(&self.journal).rewrite(&entries)
    }
}

/// What the journal keeps of a topic.
fn topic_entry(topic: &Topic) -> Entry {
    Entry::Topic {
        name: topic.name.clone(),
        id: topic.id.simple().to_string(),
        partitions: topic.partitions.len() as i32,
        config: BTreeMap::clone(&topic.config.set),
    }
}
