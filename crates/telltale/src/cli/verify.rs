//! Flags of `telltale verify`.

use std::path::PathBuf;

use clap::Args;

use super::Connection;
use crate::verify::checks::Checks;

/// `telltale verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Data folder of a demo that is not running: its log is opened for the check
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Folder with the ledger of a simulator: every reading it was acknowledged must be in sensor-data
    #[arg(long, value_name = "DIR", conflicts_with = "data")]
    pub ledger: Option<PathBuf>,

    /// Go on for ever as a service, with metrics and probes: `telltale verifier --help` lists its settings
    #[arg(long, conflicts_with_all = ["data", "ledger", "drained"])]
    pub follow: bool,

    /// Nothing is on its way any more: a record that is still pending counts as lost
    #[arg(long)]
    pub drained: bool,

    /// How strictly.
    #[command(flatten)]
    pub checks: Checks,

    /// Where from.
    #[command(flatten)]
    pub connection: Connection,
}
