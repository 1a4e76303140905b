//! The topics: names, ids, settings and the logs of their partitions.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::partition::PartitionLog;
use super::topic_config::TopicConfig;

/// The log of one partition, shared by connections and housekeeping.
pub(crate) type Partition = Arc<Mutex<PartitionLog>>;

/// Locks whatever a panicking thread may have left behind: every change is complete before it is visible.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A topic as it is now; a change makes a new value.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    pub(crate) config: TopicConfig,
    pub(crate) partitions: Vec<Partition>,
}

impl Topic {
    /// The partition with this number.
    pub(crate) fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// Every topic.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    by_name: BTreeMap<String, Arc<Topic>>,
    names: HashMap<Uuid, String>,
}

impl Catalog {
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.get(name).cloned()
    }

    pub(crate) fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.get(self.names.get(&id)?)
    }

    /// A topic whose name differs only by `.` and `_`, which Kafka's metrics cannot tell apart.
    pub(crate) fn colliding(&self, name: &str) -> Option<&Arc<Topic>> {
        let folded = name.replace('.', "_");
        self.by_name.values().find(|it| it.name != name && it.name.replace('.', "_") == folded)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// Adds a topic or replaces its earlier state.
    pub(crate) fn put(&mut self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        self.names.insert(topic.id, topic.name.clone());
        self.by_name.insert(topic.name.clone(), Arc::clone(&topic));
        topic
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Arc<Topic>> {
        let topic = self.by_name.remove(name)?;
        self.names.remove(&topic.id);
        Some(topic)
    }
}

/// The folder of a topic's partitions. The id keeps a topic apart from an earlier one of its name.
pub(crate) fn topic_folder(data: &Path, name: &str, id: Uuid) -> PathBuf {
    data.join("topics").join(format!("{name}.{}", id.simple()))
}

/// Whether Kafka accepts the name of a topic.
pub(crate) fn is_legal_name(name: &str) -> bool {
    let legal = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.chars().all(legal)
}
