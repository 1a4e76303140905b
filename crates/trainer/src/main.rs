//! Reads the log into tensors and publishes models.

use std::process::ExitCode;

fn main() -> ExitCode {
    telltale_service::run("trainer", telltale_trainer::run)
}
