//! Flags of `telltale verify`.

use std::path::PathBuf;

use clap::Args;

use super::Connection;

/// `telltale verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Data folder of a demo that is not running: its log is opened for the check
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Folder with the ledger of a simulator: every reading it was acknowledged must be in sensor-data
    #[arg(long, value_name = "DIR", conflicts_with = "data")]
    pub ledger: Option<PathBuf>,

    /// Nothing is on its way any more: a record that is still pending counts as lost
    #[arg(long)]
    pub drained: bool,

    /// Devices may be out of order in sensor-data: the bridge shares its subscription with others
    #[arg(long)]
    pub any_order: bool,

    /// How long the preprocessor keeps windows open after their end (`grace` in pipeline.toml)
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub window_grace: humantime::Duration,

    /// Where from.
    #[command(flatten)]
    pub connection: Connection,
}
