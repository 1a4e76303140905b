//! Proves that each record of the source topics has exactly one outcome, and what else the delivery contract says.
//!
//! ```text
//! topics ─▶ tail (rounds of reading) ─▶ checker ─┬▶ balance    one outcome each, in order, committed
//!                                                ├▶ sequence   order and replays of each device
//!                                                ├▶ windows    counts, once more
//!                                                └▶ recompute  predictions, once more
//! read: up to where the topics end, then a report            follow: for ever, as a service
//! ```

pub mod balance;
pub mod checker;
pub mod checks;
pub mod ledger;
pub mod models;
pub mod offsets;
pub mod read;
pub mod recompute;
pub mod report;
pub mod sequence;
pub mod show;
pub mod tail;
pub mod windows;

/// Why something could not be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Kafka could not be read.
    #[error(transparent)]
    Kafka(#[from] telltale_kafka::Error),
    /// The registry's settings cannot be used.
    #[error("opening the registry, which recomputing predictions needs (--recompute none goes without)")]
    Registry(#[from] telltale_kafka::RegistryError),
    /// The schema of a reading could not be had.
    #[error("recomputing predictions (--recompute none goes without)")]
    Recompute(#[from] telltale_scorer::StepError),
    /// The keys that may sign models could not be read.
    #[error("reading the keys of --trusted-key")]
    Keys(#[from] telltale_model::KeyError),
}

impl Error {
    /// Whether trying again later may succeed: Kafka or the registry was away, or records were deleted while they were read.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Kafka(telltale_kafka::Error::Deleted { .. }) | Self::Recompute(_) => true,
            Self::Kafka(error) => error.is_passing(),
            Self::Registry(_) | Self::Keys(_) => false,
        }
    }
}
