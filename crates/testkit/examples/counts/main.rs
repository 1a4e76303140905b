//! Counts the instructions of the hot loops and holds them to what is kept in testdata/bench/counts.json: `make counts`.
//!
//! ```text
//! counts ─▶ valgrind --tool=callgrind counts run LOOP, for each loop ─▶ instructions a record ─▶ kept figure ± 5 %
//! ```
//!
//! A time depends on what else the machine does, a count of instructions does not: so a gate can hold it. It says nothing of
//! what waits for memory. Callgrind shows programs a CPU with AVX2 and without AVX-512, the same one on every machine, so the
//! kernels counted are those for AVX2.

mod callgrind;
mod codecs;
mod inputs;
mod kept;
mod loops;
mod models;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};

use kept::{Counts, Difference};
use loops::LOOPS;

/// Counts the instructions of each hot loop and fails when one differs by more than 5 % from what is kept.
#[derive(Debug, Parser)]
#[command(name = "counts", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Runs one loop, to be counted by callgrind
    #[command(hide = true)]
    Run {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
struct Settings {
    /// Count only loops with this in their name
    #[arg(default_value = "")]
    part_of_name: String,

    /// Keep the figures found, with a reason in the commit
    #[arg(long)]
    accept: bool,

    /// Figures that are kept
    #[arg(long, default_value = "testdata/bench/counts.json", value_name = "FILE")]
    kept: PathBuf,

    /// Folder for what callgrind writes
    #[arg(long, default_value = "target/counts", value_name = "DIR")]
    dir: PathBuf,

    /// The program valgrind
    #[arg(long, default_value = "valgrind", value_name = "FILE")]
    valgrind: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.part {
        Some(Part::Run { name }) => loops::run(name),
        None => count(&cli.settings),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("counts: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn count(settings: &Settings) -> Result<()> {
    let kept = Counts::read(&settings.kept)?;
    std::fs::create_dir_all(&settings.dir).with_context(|| format!("making {}", settings.dir.display()))?;
    let mut found = Counts::default();
    println!("{:<24} {:>9} {:>9} {:>8}  instructions a record", "", "found", "kept", "");
    for it in LOOPS.iter().filter(|it| it.name.contains(&settings.part_of_name)) {
        let counted = callgrind::count(&settings.valgrind, &settings.dir, it.name)?;
        found.insert(it.name, counted);
        println!("{}  {}", kept.row(it.name, counted), it.what);
    }
    if found.is_empty() {
        let names: Vec<_> = LOOPS.iter().map(|it| it.name).collect();
        bail!("no loop has {:?} in its name, but: {}", settings.part_of_name, names.join(", "));
    }
    // A part of the loops says nothing of those that are gone.
    let of_all = settings.part_of_name.is_empty();
    if settings.accept {
        kept.accept(&found, of_all).write(&settings.kept)?;
        println!("kept in {}", settings.kept.display());
        return Ok(());
    }
    let differences = kept.differences(&found, of_all);
    if differences.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = differences.iter().map(Difference::to_string).collect();
    bail!(
        "{}\nwhere the instructions go: callgrind_annotate {}/LOOP.callgrind\nif that is as it should be, keep the new figures \
         and say in the commit why: make counts ARGS=--accept",
        lines.join("\n"),
        settings.dir.display()
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_loop_is_kept_and_no_other() {
        let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/bench/counts.json");
        let kept = Counts::read(kept.as_ref()).unwrap();
        let mut names: Vec<_> = LOOPS.iter().map(|it| it.name).collect();
        names.sort_unstable();
        assert_eq!(kept.names(), names);
    }
}
