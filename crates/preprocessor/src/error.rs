//! Why the preprocessor stops, and what it only waits for.

use telltale_kafka::RegistryError;
use telltale_kafka::exactly_once::{self, Fault};
use telltale_records::schema::SchemaError;

use crate::pipeline::PipelineError;

/// Why the preprocessor stopped, or a batch was held back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pipeline file is wrong.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// Kafka could not be reached, read or written.
    #[error(transparent)]
    Kafka(#[from] telltale_kafka::Error),
    /// The registry could not be asked, or refused a schema.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A stream's schemas do not fit what it says.
    #[error("preparing the stream of topic {topic}")]
    Schema {
        /// Source topic of the stream.
        topic: String,
        /// What does not fit.
        source: SchemaError,
    },
    /// A table cannot hold the counts of some of its source's partitions.
    #[error(
        "table {table} has {found} partitions, but its source {source_topic} has {source_partitions}: \
         counts are written to the partition their readings came from, so the table needs as many"
    )]
    Partitions {
        /// Topic that is read.
        source_topic: String,
        /// How many partitions it has.
        source_partitions: usize,
        /// Topic of the table.
        table: String,
        /// How many partitions that one has.
        found: usize,
    },
    /// The process is to stop while windows are read back.
    #[error("stopped while reading {topic}-{partition} back")]
    Stopped {
        /// Topic of the table.
        topic: String,
        /// Number of the partition.
        partition: i32,
    },
    /// A worker panicked.
    #[error("worker {worker} panicked")]
    Panicked {
        /// Number of the worker.
        worker: usize,
    },
    /// The loop ended for another reason.
    #[error("{problem}")]
    Loop {
        /// What the loop said.
        problem: String,
    },
}

impl Error {
    /// Whether to try again or to end: what is outside this process may mend itself, what is inside does not.
    pub(crate) fn fault(self) -> Fault<Self> {
        match self {
            Self::Kafka(_) | Self::Registry(_) | Self::Stopped { .. } => Fault::Passing(self),
            _ => Fault::Final(self),
        }
    }
}

impl From<exactly_once::Error<Self>> for Error {
    fn from(error: exactly_once::Error<Self>) -> Self {
        match error {
            exactly_once::Error::Kafka(error) => Self::Kafka(error),
            exactly_once::Error::Step(error) => error,
            exactly_once::Error::Panicked { worker } => Self::Panicked { worker },
            other => Self::Loop { problem: other.to_string() },
        }
    }
}
