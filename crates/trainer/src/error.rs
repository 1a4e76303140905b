//! Why the trainer stops.

use telltale_features::SpecificationError;
use telltale_kafka::{PublishError, RegistryError};
use telltale_model::{KeyError, TrainError};

use crate::ranges::RangeError;

/// Why the trainer stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of range.
    #[error("{flag} is {value}, but must be {expected}")]
    Setting {
        /// The flag.
        flag: String,
        /// What was given.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// The signing key or a trusted key could not be read.
    #[error("reading the keys (`telltale keys generate` makes a pair)")]
    Keys(#[from] KeyError),
    /// The feature specification could not be read.
    #[error(transparent)]
    Features(#[from] SpecificationError),
    /// The registry's settings cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Kafka could not be used.
    #[error(transparent)]
    Kafka(#[from] telltale_kafka::Error),
    /// The ranges are not there.
    #[error(transparent)]
    Ranges(#[from] RangeError),
    /// No record could be read as a reading.
    #[error("none of {records} records of {topic} can be learned from; the first: {detail}")]
    Unreadable {
        /// Topic that was read.
        topic: String,
        /// Records read.
        records: u64,
        /// What was wrong with the first.
        detail: String,
    },
    /// Nothing to learn from.
    #[error(
        "{topic} holds no record in the ranges to read: write readings first, or widen --from, --to or --last"
    )]
    Empty {
        /// Topic that was read.
        topic: String,
    },
    /// No model came of the readings.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The model was not published.
    #[error("publishing version {version} of model {model}")]
    Publish {
        /// Name of the model.
        model: String,
        /// Version that was to be published.
        version: u64,
        /// Why not.
        source: PublishError,
    },
    /// A rollback holds new versions back.
    #[error(
        "model {model} is pinned to version {version} by a rollback: `telltale models unpin` lets new versions be \
         published"
    )]
    Pinned {
        /// Name of the model.
        model: String,
        /// Version it is pinned to.
        version: u64,
    },
    /// The shutdown came before all that was published had been read, so nothing follows from what was.
    #[error("asked to stop before the manifests of model {model} were read")]
    Stopped {
        /// Name of the model.
        model: String,
    },
    /// No number is left.
    #[error("model {model} has used up its version numbers")]
    Numbers {
        /// Name of the model.
        model: String,
    },
    /// A reading thread panicked or could not be started.
    #[error("reading thread {number} failed")]
    Thread {
        /// Number of the thread.
        number: usize,
        /// Why it did not start; `None` after a panic.
        source: Option<std::io::Error>,
    },
}
