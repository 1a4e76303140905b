//! The command line: the demo, a look into topics and models, and the proof that nothing was lost.
//!
//! ```text
//! cli ─▶ commands ─▶ kafka, registry, mqtt                        topics, models, load, dead-letters, verify, probe
//!    └─▶ demo ─▶ engines and every service in this process ─▶ watch ─▶ view
//!                     └─ stop: simulator, bridge, preprocessor, scorer ─▶ verify ─▶ summary
//! ```
//!
//! `evaluate`, `verify::{balance, sequence, windows}`, `view` and `summary` are pure: values in, values out.

#![warn(clippy::print_stdout)] // Nobody may read it any more: `output` knows what to do then.

pub mod cli;
pub mod clock;
pub mod commands;
pub mod dead_letters;
pub mod demo;
pub mod evaluate;
pub mod load;
pub mod output;
pub mod ports;
pub mod process;
pub mod show;
pub mod simulator_files;
pub mod summary;
pub mod truth_records;
pub mod verifier;
pub mod verify;
pub mod view;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, Command};
use crate::commands::Error;
use crate::output::Output;

/// Runs the command line of this process.
///
/// The exit code is 0 when the command succeeded, 1 when it failed or found violations, 2 when it was not
/// understood, 141 when nobody read its output any more.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = run_service(&arguments) {
        return code;
    }
    let parsed = command().try_get_matches_from(arguments).and_then(|it| Cli::from_arg_matches(&it));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print(); // nowhere else to say it
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => output::closed(&error).unwrap_or_else(|| {
            eprintln!("telltale: {}", telltale_service::chain(&error));
            ExitCode::FAILURE
        }),
    }
}

/// The whole command line: the commands, and each service under its name.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
        .subcommand(service::<telltale_simulator::Config>("simulator"))
        .subcommand(service::<telltale_bridge::Config>("bridge"))
        .subcommand(service::<telltale_preprocessor::Config>("preprocessor"))
        .subcommand(service::<telltale_trainer::Config>("trainer"))
        .subcommand(service::<telltale_scorer::Config>("scorer"))
        .subcommand(service::<verifier::Config>("verifier"))
}

fn service<C: clap::Parser>(name: &'static str) -> clap::Command {
    telltale_service::command::<C>(name)
}

/// Runs a service if the first argument names one.
fn run_service(arguments: &[OsString]) -> Option<ExitCode> {
    let (mut name, arguments) = (arguments.get(1)?.to_str()?, arguments.iter().skip(1).cloned());
    let follow = |it: &OsString| it == "--follow";
    // A check that goes on for ever is a service.
    if name == "verify" && arguments.clone().any(|it| follow(&it)) {
        name = "verifier";
    }
    let arguments = arguments.filter(|it| name != "verifier" || !follow(it));
    Some(match name {
        "simulator" => telltale_service::run_with("simulator", arguments, telltale_simulator::run),
        "bridge" => telltale_service::run_with("bridge", arguments, telltale_bridge::run),
        "preprocessor" => telltale_service::run_with("preprocessor", arguments, telltale_preprocessor::run),
        "trainer" => telltale_service::run_with("trainer", arguments, telltale_trainer::run),
        "scorer" => telltale_service::run_with("scorer", arguments, telltale_scorer::run),
        "verifier" => telltale_service::run_with("verifier", arguments, verifier::run),
        _ => return None,
    })
}

fn run(command: Command) -> Result<ExitCode, Error> {
    let stop = CancellationToken::new();
    let out = &mut Output::standard();
    match command {
        Command::Demo(args) => return demo::run(&args),
        Command::Engines(args) => commands::engines::run(&args, out)?,
        Command::Topics(command) => commands::topics::run(command, out, &stop)?,
        Command::Models(command) => commands::models::run(command, out, &stop)?,
        Command::DeadLetters(command) => commands::dead_letters::run(command, out, &stop)?,
        Command::Verify(args) => commands::verify::run(&args, out, &stop)?,
        Command::Load(args) => commands::load::run(&args, out, &stop)?,
        Command::Probe(args) => commands::probe::run(&args, out, &stop)?,
        Command::Keys(command) => commands::keys::run(command, out)?,
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut self::command(), "telltale", &mut text);
            out.text(String::from_utf8_lossy(&text))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_whole_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
