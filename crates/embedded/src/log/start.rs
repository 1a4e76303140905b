//! Opens a data folder: takes its lock, replays the journal, reads in the partitions, ends what was half-ended.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use fs2::FileExt;
use tokio::sync::Notify;
use tracing::{info, warn};
use uuid::Uuid;

use super::broker::{Broker, Defaults};
use super::catalog::{Catalog, Topic, lock, topic_folder};
use super::groups::Groups;
use super::journal::{Entry, Journal, Opened};
use super::topic_config::TopicConfig;
use super::transaction::Transactions;
use super::{Error, LogConfig, clock, recovery};

/// The lock of a data folder; it ends with the value, and with the process.
#[derive(Debug)]
pub(crate) struct FolderLock(#[expect(dead_code, reason = "held for its lock")] File);

/// Keeps a second process out of a data folder.
pub(crate) fn lock_folder(folder: &Path) -> Result<FolderLock, Error> {
    let unusable = |source| Error::Folder { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(unusable)?;
    let file = File::create(folder.join("lock")).map_err(unusable)?;
    file.try_lock_exclusive().map_err(|_| Error::InUse { path: folder.to_owned() })?;
    Ok(FolderLock(file))
}

/// A broker without a past.
pub(crate) fn in_memory(config: &LogConfig) -> Broker {
    broker(config, super::random_id(), Catalog::default(), Replayed::new(config), Journal::in_memory())
}

/// A broker with what its folder holds.
pub(crate) fn on_disk(config: &LogConfig, folder: &Path) -> Result<Broker, Error> {
    let unusable = |source| Error::Folder { path: folder.to_owned(), source };
    let Opened { journal, entries, damaged } = Journal::open(folder).map_err(unusable)?;
    let mut replayed = Replayed::new(config);
    for entry in entries {
        replayed.take(entry);
    }
    let catalog = open_topics(folder, &replayed, damaged)?;
    let cluster_id = replayed.cluster_id.take().unwrap_or_else(super::random_id);
    let broker = broker(config, cluster_id, catalog, replayed, journal);
    finish_half_ended(&broker);
    broker.tidy_journal(true).map_err(unusable)?;
    let topics = broker.catalog().all().count();
    info!(path = %folder.display(), topics, "opened the data folder of the log");
    Ok(broker)
}

fn broker(
    config: &LogConfig,
    cluster_id: String,
    catalog: Catalog,
    replayed: Replayed,
    journal: Journal,
) -> Broker {
    Broker {
        cluster_id,
        defaults: Defaults { partitions: config.default_partitions, auto_create: config.auto_create_topics },
        data: config.data.clone(),
        transactions: Mutex::new(replayed.transactions),
        groups: Mutex::new(replayed.groups),
        catalog: RwLock::new(catalog),
        journal: Mutex::new(journal),
        deadlines: Notify::new(),
    }
}

/// A transaction that was being ended when the process died is ended the way that was decided.
fn finish_half_ended(broker: &Broker) {
    let mut transactions = lock(&broker.transactions);
    for ending in transactions.half_ended() {
        info!(
            transaction = ending.id,
            committed = ending.committed,
            "ending it, as decided before the restart"
        );
        // A failure is logged where it happens; the transaction stays prepared and a later tick ends it.
        let _ = broker.end_transaction(&mut transactions, &ending, None);
    }
}

/// The journal, read from its start.
struct Replayed {
    cluster_id: Option<String>,
    topics: BTreeMap<String, (Uuid, i32, BTreeMap<String, String>)>,
    starts: HashMap<(String, i32), i64>,
    transactions: Transactions,
    groups: Groups,
}

impl Replayed {
    fn new(config: &LogConfig) -> Self {
        Self {
            cluster_id: None,
            topics: BTreeMap::new(),
            starts: HashMap::new(),
            transactions: Transactions::default(),
            groups: Groups::new(config.rebalance_delay),
        }
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Cluster { id } => self.cluster_id = Some(id),
            Entry::Topic { name, id, partitions, config } => match Uuid::try_parse(&id) {
                Ok(id) => drop(self.topics.insert(name, (id, partitions, config))),
                Err(_) => warn!(topic = name, id, "a topic with an impossible id was passed over"),
            },
            Entry::TopicDeleted { name } => {
                self.topics.remove(&name);
                self.starts.retain(|(topic, _), _| *topic != name);
                self.groups.all_mut().for_each(|(_, slot)| slot.offsets.forget_topic(&name));
            }
            Entry::LogStart { topic, partition, offset } => {
                self.starts.insert((topic, partition), offset);
            }
            Entry::ProducerIds { next } => self.transactions.skip_producer_ids(next),
            Entry::Transaction(transaction) => self.transactions.restore(transaction),
            Entry::Offsets { group, offsets } => self.groups.entry(&group).offsets.commit(offsets),
            Entry::OffsetsDeleted { group, topic, partitions } => {
                let slot = self.groups.entry(&group);
                for partition in partitions {
                    slot.offsets.forget(&topic, partition);
                }
            }
            Entry::OffsetsStaged { group, producer_id, offsets } => {
                self.groups.entry(&group).offsets.stage(producer_id, offsets);
            }
            Entry::StagedEnded { group, producer_id, committed } => {
                self.groups.entry(&group).offsets.end(producer_id, committed);
            }
            Entry::GroupDeleted { group } => drop(self.groups.remove(&group)),
        }
    }
}

fn open_topics(data: &Path, replayed: &Replayed, damaged: bool) -> Result<Catalog, Error> {
    let now = clock::millis(clock::now());
    let mut catalog = Catalog::default();
    let mut folders: HashSet<PathBuf> = HashSet::new();
    for (name, (id, count, set)) in &replayed.topics {
        let folder = topic_folder(data, name, *id);
        let config = TopicConfig::parse(set.clone()).unwrap_or_else(|why| {
            warn!(topic = name, why, "settings of a topic are not valid any more; it has the defaults");
            TopicConfig::default()
        });
        let mut partitions = Vec::new();
        for index in 0..*count {
            let start = replayed.starts.get(&(name.clone(), index)).copied().unwrap_or(0);
            let path = folder.join(index.to_string());
            let log = recovery::open(format!("{name}-{index}"), &path, start, now)
                .map_err(|source| Error::Folder { path, source })?;
            partitions.push(Arc::new(Mutex::new(log)));
        }
        catalog.put(Topic { name: name.clone(), id: *id, config, partitions });
        folders.insert(folder);
    }
    see_to_strangers(&data.join("topics"), &folders, damaged);
    Ok(catalog)
}

/// Removes the files of topics that were deleted, or never quite created, when the process died. After damage
/// to the journal they may be those of a topic that it has forgotten: then a person must look at them.
fn see_to_strangers(topics: &Path, known: &HashSet<PathBuf>, damaged: bool) {
    for entry in std::fs::read_dir(topics).into_iter().flatten().flatten() {
        let path = entry.path();
        if known.contains(&path) {
            continue;
        }
        if damaged {
            warn!(path = %path.display(), "files of a topic that the damaged journal does not know; they are left");
            continue;
        }
        info!(path = %path.display(), "removing what a deleted topic left");
        if let Err(source) = std::fs::remove_dir_all(&path) {
            warn!(path = %path.display(), %source, "could not be removed");
        }
    }
}
