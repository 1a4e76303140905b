//! Runs continuous SQL over topics, exactly once.

use std::process::ExitCode;

fn main() -> ExitCode {
    telltale_service::run("preprocessor", telltale_preprocessor::run)
}
