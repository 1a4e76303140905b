//! Scores every clean reading with the newest model.

use std::process::ExitCode;

fn main() -> ExitCode {
    telltale_service::run("scorer", telltale_scorer::run)
}
