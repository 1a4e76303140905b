//! The main of a service.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Debug;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::Resettable;
use clap::{Args, FromArgMatches, Parser};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::{Address, Host, ProcessConfig, Running, Service, Telemetry, chain};

/// Addresses of the probes where nothing else is said: services on one machine must not collide.
const ADDRESSES: [(&str, &str); 6] = [
    ("simulator", "127.0.0.1:8090"),
    ("bridge", "127.0.0.1:8091"),
    ("preprocessor", "127.0.0.1:8092"),
    ("trainer", "127.0.0.1:8093"),
    ("scorer", "127.0.0.1:8094"),
    ("verifier", "127.0.0.1:8095"),
];

/// The command line of the service `name`: its own settings and those of every process.
#[must_use]
pub fn command<C: Parser>(name: &'static str) -> clap::Command {
    let own = C::command().name(name).version(env!("CARGO_PKG_VERSION"));
    let shown = format!("telltale-{name}");
    // The settings that are added bring their own description, which is not that of the service.
    let about = (own.get_about().cloned(), own.get_long_about().cloned());
    let mut all = ProcessConfig::augment_args(own.display_name(shown.clone()).bin_name(shown));
    if let Some((_, address)) = ADDRESSES.iter().find(|it| it.0 == name) {
        all = all.mut_arg("http", |it| it.default_value(*address));
    }
    all.about(Resettable::from(about.0)).long_about(Resettable::from(about.1))
}

/// Runs a service as this process: reads its settings, sets up logs, traces, probes and metrics, calls `f`,
/// and on SIGTERM or SIGINT asks it to stop. The exit code is zero only if everything ended as it should.
/// With `--check-config` the service only checks its settings, see [`Service::only_checks`].
///
/// `f` is called on a thread of its own, so that a panic or an end that does not come is reported.
pub fn run<C, E, F>(name: &'static str, f: F) -> ExitCode
where
    C: Parser + Debug + Send + 'static,
    E: Error + Send + Sync + 'static,
    F: FnOnce(C, &Service) -> Result<(), E> + Send + 'static,
{
    run_with(name, std::env::args_os(), f)
}

/// Runs a service as [`run`] does, with these arguments; the first one stands for the program.
pub fn run_with<C, E, F>(name: &'static str, args: impl IntoIterator<Item = OsString>, f: F) -> ExitCode
where
    C: Parser + Debug + Send + 'static,
    E: Error + Send + Sync + 'static,
    F: FnOnce(C, &Service) -> Result<(), E> + Send + 'static,
{
    let (process, config) = match parse::<C>(name, args) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print(); // nowhere else to say it
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let telemetry = match Telemetry::start(name, &process) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("telltale-{name}: {}", chain(&error));
            return ExitCode::FAILURE;
        }
    };
    telemetry.log_panics();
    info!(service = name, version = env!("CARGO_PKG_VERSION"), ?process, ?config, "starting");
    let code = host(name, &process, config, f);
    telemetry.stop();
    code
}

fn parse<C: Parser>(
    name: &'static str,
    args: impl IntoIterator<Item = OsString>,
) -> Result<(ProcessConfig, C), clap::Error> {
    let args: Vec<_> = args.into_iter().collect();
    let mut command = command::<C>(name);
    // The program is `telltale`, the service one of its commands.
    if args.first().is_some_and(|it| it == name) {
        command = command.bin_name(format!("telltale {name}"));
    }
    let matches = command.try_get_matches_from(args)?;
    Ok((ProcessConfig::from_arg_matches(&matches)?, C::from_arg_matches(&matches)?))
}

fn host<C, E, F>(name: &'static str, process: &ProcessConfig, config: C, f: F) -> ExitCode
where
    C: Send + 'static,
    E: Error + Send + Sync + 'static,
    F: FnOnce(C, &Service) -> Result<(), E> + Send + 'static,
{
    let drain = *process.drain_timeout;
    let http = if process.check_config { Address::Off } else { process.http };
    let host = match Host::start(http, "--http", drain) {
        Ok(host) => host.only_checking(process.check_config),
        Err(error) => {
            error!(service = name, error = chain(&error), "not started");
            return ExitCode::FAILURE;
        }
    };
    if let Some(address) = host.http_addr() {
        info!(%address, "serving /livez, /readyz and /metrics");
    }
    let signals = host.runtime().block_on(async { Signals::catch() });
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => {
            error!(service = name, %error, "catching signals failed");
            return ExitCode::FAILURE;
        }
    };
    let running = host.launch(name, config, f);
    let limit = host.runtime().block_on(wait(&mut signals, &running, drain));
    match running.stop(limit) {
        Ok(()) if process.check_config => {
            println!("telltale-{name}: the settings can be used");
            ExitCode::SUCCESS
        }
        Ok(()) => {
            info!(service = name, "stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!(service = name, error = chain(&error), "failed");
            ExitCode::FAILURE
        }
    }
}

/// Waits until the service has ended, or must have; returns how long its stages may still take.
async fn wait<E: Error + 'static>(signals: &mut Signals, running: &Running<E>, drain: Duration) -> Duration {
    let service = running.service();
    tokio::select! {
        () = running.ended() => return drain,
        () = service.shutdown().requested() => {} // a stage failed, or the service stops by itself
        name = signals.next() => info!(signal = name, limit = ?drain, "draining"),
    }
    let deadline = tokio::time::Instant::now() + drain;
    service.shutdown().request();
    tokio::select! {
        () = running.ended() => deadline.saturating_duration_since(tokio::time::Instant::now()),
        () = tokio::time::sleep_until(deadline) => Duration::ZERO,
        name = signals.next() => {
            warn!(signal = name, "a second signal: not waiting for the rest of the work");
            Duration::ZERO
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paints cars.
    #[derive(Debug, Parser)]
    struct Paint {
        /// Its colour
        #[arg(long)]
        colour: String,
    }

    #[test]
    fn a_service_has_its_own_description_and_the_settings_of_every_process() {
        let mut command = command::<Paint>("paint");
        command.build();
        let help = command.render_long_help().to_string();
        assert!(help.starts_with("Paints cars\n"), "{help}");
        for text in ["Usage: telltale-paint", "--colour", "Process:", "--http", "--drain-timeout"] {
            assert!(help.contains(text), "{text} is missing in {help}");
        }
    }

    #[test]
    fn checking_settings_calls_the_service_but_does_not_listen() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let paint = |more: &[&str]| {
            let args = ["telltale-paint", "--colour", "red", "--http", &address, "--log", "off"];
            let args = args.iter().chain(more).map(OsString::from);
            let (process, config) = parse::<Paint>("paint", args).unwrap();
            host("paint", &process, config, |paint: Paint, service| {
                assert_eq!(paint.colour, "red");
                if service.only_checks() { Ok(()) } else { Err(std::io::Error::other("painted")) }
            })
        };
        assert_eq!(paint(&["--check-config"]), ExitCode::SUCCESS);
        assert_eq!(paint(&[]), ExitCode::FAILURE, "the address is in use");
    }

    #[test]
    fn help_calls_a_service_what_its_user_called_it() {
        for (first, usage) in
            [("paint", "Usage: telltale paint "), ("telltale-paint", "Usage: telltale-paint ")]
        {
            let help =
                parse::<Paint>("paint", [first, "--help"].map(OsString::from)).unwrap_err().to_string();
            assert!(help.contains(usage), "{help}");
        }
    }

    #[test]
    fn each_service_has_a_port_of_its_own() {
        let port = |name| {
            let (process, _) = parse::<Paint>(name, ["x", "--colour", "red"].map(OsString::from)).unwrap();
            process.http.to_string()
        };
        assert_eq!((port("bridge"), port("scorer")), ("127.0.0.1:8091".into(), "127.0.0.1:8094".into()));
        assert_eq!(port("paint"), "127.0.0.1:8080");
        let addresses: std::collections::BTreeSet<&str> = ADDRESSES.iter().map(|it| it.1).collect();
        assert_eq!(addresses.len(), ADDRESSES.len());
    }

    #[test]
    fn both_kinds_of_settings_are_parsed() {
        let args = ["telltale-paint", "--colour", "red", "--log-format", "json", "--http", "off"];
        let (process, paint) = parse::<Paint>("paint", args.map(OsString::from)).unwrap();
        assert_eq!((paint.colour.as_str(), process.http), ("red", crate::Address::Off));
    }
}
