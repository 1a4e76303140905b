//! Runs a soak: `make soak ARGS="--for 10m --seed 7"`; the exit code is 1 when the contract was broken, 2 when it could not be tried.

use std::process::ExitCode;

use clap::Parser as _;
use telltale_testkit::signals::asked_to_end;
use telltale_testkit::soak::{Settings, run};

fn main() -> ExitCode {
    let settings = Settings::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("soak: starting threads: {error}");
            return ExitCode::from(2);
        }
    };
    let stop = asked_to_end(&runtime);
    match run(&settings, &stop) {
        Ok(report) if report.violations.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::from(2)
        }
    }
}
