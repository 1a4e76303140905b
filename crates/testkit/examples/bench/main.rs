//! Measures the services beside the bare clients they are built on: `make bench`, `make bench-quick`; docs/PERFORMANCE.md tells what.
//!
//! ```text
//! simulator ─▶ topic, filled beforehand ─┬▶ service, a process ──▶ topic ─▶ counted ─┐
//!                                        └▶ bare way, a process ─▶ topic ─▶ counted ─┴▶ ratio of this round
//! ```
//!
//! Rounds of ours and of the bare ways take turns on the same engines, so that what else the machine does hits both. The engines
//! are processes of their own, and the CPU time is that of the measured process alone. Records are counted in Kafka.

mod bare;
mod commands;
mod figures;
mod filled;
mod kernels;
mod latency;
mod load;
mod machine;
mod measure;
mod null;
mod peers;
mod place;
mod poisoned;
mod process;
mod report;
mod rounds;
mod scale;
mod settings;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use settings::Settings;
use telltale_testkit::signals::asked_to_end;

/// Measures every service as a process of its own, beside the bare clients, and writes what came of it as JSON.
#[derive(Debug, Parser)]
// `make bench` gives sizes of its own, which those that follow overrule.
#[command(name = "bench", args_conflicts_with_subcommands = true, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    settings: Settings,
}

/// The other layers, and what the bench starts as processes of its own, from the same program.
#[derive(Debug, Subcommand)]
enum Part {
    /// Measures what changes with cars, workers, partitions and bytes, and what new models, connections and a long log take
    Scale(Box<scale::Scale>),
    /// Runs the benches of the hot paths and writes their tables as JSON
    Kernels(kernels::Kernels),
    /// Reads a topic and does nothing with it
    #[command(hide = true)]
    Consume(bare::Consume),
    /// Copies a topic in transactions
    #[command(hide = true)]
    Copy(bare::Copy),
    /// Writes readings to a topic
    #[command(hide = true)]
    Produce(bare::Produce),
    /// Receives MQTT messages and does nothing with them
    #[command(hide = true)]
    Receive(null::Receive),
    /// Publishes readings by MQTT
    #[command(hide = true)]
    Load(load::Load),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.part {
        Some(Part::Scale(it)) => until_asked_to_end(|stop| it.run(stop)),
        Some(Part::Kernels(it)) => it.run(),
        Some(Part::Consume(it)) => it.run(),
        Some(Part::Copy(it)) => it.run(),
        Some(Part::Produce(it)) => it.run(),
        Some(Part::Receive(it)) => it.run(),
        Some(Part::Load(it)) => it.run(),
        None => until_asked_to_end(|stop| rounds::run(&cli.settings, stop)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn until_asked_to_end(
    work: impl FnOnce(&tokio_util::sync::CancellationToken) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("starting threads")?;
    // Processes are in groups of their own and outlive a bench that just dies.
    let stop = asked_to_end(&runtime);
    work(&stop)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["bench", "--readings", "300000", "--readings", "5000000"]).unwrap();
        assert_eq!((cli.settings.readings, cli.part.is_none()), (5_000_000, true));
        let scale = ["bench", "scale", "--dir", "a", "--parts", "cars,swap", "--dir", "b"];
        let Some(Part::Scale(_)) = Cli::try_parse_from(scale).unwrap().part else { panic!("no scale") };
    }
}
