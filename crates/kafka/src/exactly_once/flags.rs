//! The settings that every service with this loop has.

use std::num::NonZeroUsize;

use clap::Args;

use super::LoopConfig;
use crate::error::Error;

/// Most records of one transaction: more do not fit into the producer's queue at once.
const MAX_RECORDS: usize = 100_000;

/// How a service shares the partitions and cuts its transactions.
#[derive(Debug, Clone, Args)]
pub struct LoopFlags {
    /// Keep the partitions over a short restart
    #[arg(long, env = "STATIC_MEMBER")]
    pub static_member: bool,

    /// Worker threads, each with partitions of its own; more than there are partitions wait in reserve
    #[arg(long, env = "WORKERS", value_name = "COUNT", default_value = "1")]
    pub workers: NonZeroUsize,

    /// Most records in one transaction, 1 to 100000
    #[arg(long, env = "MAX_RECORDS", value_name = "COUNT", default_value = "10000", value_parser = max_records)]
    pub max_records: NonZeroUsize,

    /// Least time from the begin of a transaction to that of the next, while records gather; at most 10s
    #[arg(long, env = "LINGER", value_name = "DURATION", default_value = "5ms")]
    pub linger: humantime::Duration,
}

impl LoopFlags {
    /// Checks what no single setting can.
    ///
    /// # Errors
    ///
    /// Says which setting is wrong.
    pub fn check(&self) -> Result<(), Error> {
        if self.linger.as_secs() >= 10 {
            return Err(Error::Linger { linger: self.linger });
        }
        Ok(())
    }
}

impl LoopConfig {
    /// The same loop as the flags want it.
    #[must_use]
    pub fn with(self, flags: &LoopFlags) -> Self {
        Self {
            static_member: flags.static_member,
            workers: flags.workers.get(),
            max_records: flags.max_records.get(),
            linger: *flags.linger,
            ..self
        }
    }
}

/// 1 to 100,000, what librdkafka queues.
fn max_records(text: &str) -> Result<NonZeroUsize, String> {
    let found = text.parse().ok().filter(|it: &NonZeroUsize| it.get() <= MAX_RECORDS);
    found.ok_or_else(|| format!("it must be a number from 1 to {MAX_RECORDS}"))
}
