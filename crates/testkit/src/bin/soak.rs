//! Runs a soak: `make soak ARGS="--for 10m --seed 7"`; the exit code is 1 when the contract was broken, 2 when it could not be tried.

use std::process::ExitCode;

use clap::Parser as _;
use telltale_testkit::soak::{Settings, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let settings = Settings::parse();
    let stop = CancellationToken::new();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("soak: starting threads: {error}");
            return ExitCode::from(2);
        }
    };
    let stopped = stop.clone();
    runtime.spawn(async move {
        if let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        stopped.cancel();
    });
    match run(&settings, &stop) {
        Ok(report) if report.violations.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::from(2)
        }
    }
}
