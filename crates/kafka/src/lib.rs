//! Bytes and offsets in, bytes and offsets out: consuming, transactions, the registry client.
//!
//! ```text
//! exactly_once  topics ─▶ step ─▶ topics, offsets: one transaction      preprocessor, scorer
//! reader        ranges or the tail of a topic, without a group          trainer, scorer, command line
//! producer      records in order, delivery reports back                 bridge, simulator
//! transactional records in one transaction                              trainer
//! progress      records and how far a copy came in one transaction      command line
//! registry      schema id ─▶ schema, subject ─▶ schema id
//! topics        creating, listing, describing
//! ```
//!
//! Everything here blocks, and runs on threads of its own: librdkafka's consumers must not be polled or
//! dropped on an asynchronous executor.

mod backoff;
mod client;
mod config;
mod deadline;
mod denial;
mod error;
mod everywhere;
pub mod exactly_once;
mod group;
mod intake;
pub mod producer;
mod progress;
pub mod reader;
pub mod registry;
pub mod topics;
mod transaction;
mod transactional;

pub use config::{Compression, KafkaConfig, RegistryConfig, SaslMechanism, Security};
pub use error::Error;
pub use group::Group;
pub use producer::Producer;
pub use progress::{Position, Progress};
pub use reader::{Isolation, Reader};
pub use registry::{Registry, RegistryError};
pub use transactional::{PublishError, Transactional};

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Name of the topic.
    pub topic: std::sync::Arc<str>,
    /// Number of the partition, from 0.
    pub partition: i32,
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
