//! Flags of the commands for models.

use std::path::PathBuf;

use clap::Subcommand;

use super::Connection;

/// `telltale models`
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List every model that was published, which one is in force, and what was refused
    List {
        /// File with a key (PEM) that signatures are checked with; repeatable
        #[arg(long, value_name = "FILE")]
        verifying_key: Vec<PathBuf>,
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
    /// transactions. The version numbers of predictions then fall once, and `verify` knows why. It is pinned: a trainer
    /// that goes on publishes nothing until `telltale models unpin`.
    Rollback {
        /// Version to go back to
        version: u64,
        /// Let the trainer's next version replace it
        #[arg(long)]
        no_pin: bool,
        /// File with the key (PEM) that models are signed with
        #[arg(long, value_name = "FILE")]
        signing_key: PathBuf,
        /// Where to.
        #[command(flatten)]
        connection: Connection,
    },
    /// Let the trainer publish new versions again after a rollback
    Unpin {
        /// File with the key (PEM) that models are signed with
        #[arg(long, value_name = "FILE")]
        signing_key: PathBuf,
        /// Where to.
        #[command(flatten)]
        connection: Connection,
    },
}
