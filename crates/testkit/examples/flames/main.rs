//! Draws a flame graph of each service at work, and tells what a record costs by stage: `make flames`.
//!
//! ```text
//! bench, one job ─▶ service ◀─ perf record ─▶ stacks ─▶ inferno ─▶ docs/flames/SERVICE.svg
//!                                                └──▶ stages ─▶ µs of CPU a record: ours, the client's, the kernel's
//! ```
//!
//! The service runs as `make bench` runs it; perf looks at it a thousand times a second of its CPU time. Needs `perf` and
//! inferno, which deploy/flames.sh installs.

mod perf;
mod stacks;
mod stages;
mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};

use perf::Perf;

/// Draws a flame graph of each service at work and tells what a record costs by stage.
#[derive(Debug, Parser)]
#[command(name = "flames")]
struct Settings {
    /// Services, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Service::value_variants().to_vec(), value_name = "SERVICE")]
    services: Vec<Service>,

    /// Readings that the preprocessor, the scorer and the trainer have to do
    #[arg(long, default_value = "1000000", value_parser = clap::value_parser!(u64).range(20_000..))]
    readings: u64,

    /// Messages that the bridge has to do
    #[arg(long, default_value = "80000", value_parser = clap::value_parser!(u64).range(2_000..=100_000))]
    messages: u64,

    /// Looks a second of CPU time
    #[arg(long, default_value = "997", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    frequency: u32,

    /// Folder for the flame graphs
    #[arg(long, default_value = "docs/flames", value_name = "DIR")]
    out: PathBuf,

    /// Folder for what perf writes, and for engines and logs
    #[arg(long, default_value = "target/flames", value_name = "DIR")]
    dir: PathBuf,

    /// The bench, beside which lies the program `telltale` in the folder above [default: that of the same build]
    #[arg(long, default_value_os_t = beside(), value_name = "FILE")]
    bench: PathBuf,

    /// Folder of inferno's programs [default: where PATH has them]
    #[arg(long, value_name = "DIR")]
    inferno: Option<PathBuf>,
}

/// A service whose flame graph is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Service {
    Preprocessor,
    Scorer,
    Trainer,
    Bridge,
}

impl Service {
    /// Its name as a command, and as a job of the bench.
    fn name(self) -> &'static str {
        match self {
            Self::Preprocessor => "preprocessor",
            Self::Scorer => "scorer",
            Self::Trainer => "trainer",
            Self::Bridge => "bridge",
        }
    }
}

/// The bench of the same build.
fn beside() -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name("bench")
}

fn main() -> ExitCode {
    match flames(&Settings::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flames: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn flames(settings: &Settings) -> Result<()> {
    let tool = |name: &str| settings.inferno.as_ref().map_or_else(|| name.into(), |it| it.join(name));
    for folder in [&settings.out, &settings.dir] {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let perf = Perf::new(&settings.dir, &program(&settings.bench)?, settings.frequency)?;
    for service in &settings.services {
        let name = service.name();
        run_bench(settings, &perf, *service)?;
        let folded = perf.folded(name, &tool("inferno-collapse-perf"))?;
        let svg = settings.out.join(format!("{name}.svg"));
        draw(&tool("inferno-flamegraph"), &folded, &svg, name)?;
        let records = if *service == Service::Bridge { settings.messages } else { settings.readings };
        let samples = stacks::parse(&folded)?;
        println!("{}", table::of(name, &samples, settings.frequency, records));
    }
    Ok(())
}

/// The program `telltale` that belongs to a bench.
fn program(bench: &Path) -> Result<PathBuf> {
    let bench = bench.canonicalize().with_context(|| format!("finding {}", bench.display()))?;
    let program = bench.ancestors().nth(2).map(|it| it.join("telltale")).unwrap_or_default();
    ensure!(program.is_file(), "{} is not there: make build", program.display());
    Ok(program)
}

/// Lets the bench do the service's job once, with perf beside the service.
fn run_bench(settings: &Settings, perf: &Perf, service: Service) -> Result<()> {
    let mut command = Command::new(&settings.bench);
    command.arg("--program").arg(perf.wrapper());
    command.arg("--dir").arg(settings.dir.join("bench"));
    command.args(["--rounds", "1", "--jobs", service.name()]);
    command.arg(format!("--messages={}", settings.messages));
    // The bridge's messages come from the simulator itself.
    let readings = if service == Service::Bridge { 20_000 } else { settings.readings };
    command.arg(format!("--readings={readings}"));
    let output = command.envs(perf.environment(service.name())).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("running {}", settings.bench.display()))?;
    ensure!(output.status.success(), "the bench of the {} failed", service.name());
    Ok(())
}

fn draw(inferno: &Path, folded: &Path, svg: &Path, name: &str) -> Result<()> {
    let out = std::fs::File::create(svg).with_context(|| format!("writing {}", svg.display()))?;
    let mut command = Command::new(inferno);
    command.args(["--title", name, "--countname", "samples", "--hash", "--minwidth", "0.2"]).arg(folded);
    let status = command.stdout(out).status();
    let status =
        status.with_context(|| format!("running {}: deploy/flames.sh installs it", inferno.display()))?;
    ensure!(status.success(), "inferno-flamegraph ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Settings::command().debug_assert();
        let settings = Settings::try_parse_from(["flames"]).unwrap();
        assert_eq!(settings.services.len(), 4, "all of them");
    }
}
