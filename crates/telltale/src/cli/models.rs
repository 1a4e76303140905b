//! Flags of the commands for models and dead letters.

use std::path::PathBuf;

use clap::Subcommand;

use super::Connection;

/// `telltale models`
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List every model that was published, which one is in force, and what was refused
    List {
        /// Where from.
        #[command(flatten)]
        connection: Connection,
    },
    /// Show one model: what it learnt from, its threshold, its hash, whether its signature holds
    Show {
        /// Version; the one in force if absent
        version: Option<u64>,
        /// File with the key (PEM) that signatures are checked with
        #[arg(long, value_name = "FILE")]
        verifying_key: Option<PathBuf>,
        /// Where from.
        #[command(flatten)]
        connection: Connection,
    },
    /// Put an earlier version back in force
    ///
    /// Publishes the earlier model again with a higher generation, signed. The scorers take it over between two
    /// transactions. The version numbers of predictions then fall once, and `verify` knows why. It stays in force until
    /// the trainer publishes its next version: stop a continuous trainer first.
    Rollback {
        /// Version to go back to
        version: u64,
        /// File with the key (PEM) that models are signed with
        #[arg(long, value_name = "FILE")]
        signing_key: PathBuf,
        /// Where to.
        #[command(flatten)]
        connection: Connection,
    },
}

/// `telltale dead-letters`
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List the newest dead letters, one line each, and how many there are of each reason
    List {
        /// Most lines
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
        count: usize,
        /// Only those with this reason, such as schema-mismatch
        #[arg(long, value_name = "REASON")]
        reason: Option<String>,
        /// Where from.
        #[command(flatten)]
        connection: Connection,
    },
    /// Show one dead letter whole
    Show {
        /// Its offset, as `list` prints it
        offset: i64,
        /// Its partition
        #[arg(long, default_value_t = 0)]
        partition: i32,
        /// Where from.
        #[command(flatten)]
        connection: Connection,
    },
}
