//! The kernels' benches: runs them, shows their tables, and writes what the tables say as JSON.
//!
//! divan prints tables only. Each row is a bench's name and the times of its samples; the row below it says how many items a
//! second those are, where the bench counts items.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::machine::{Machine, commit, load};

/// Runs the benches of the hot paths.
#[derive(Debug, Clone, Args)]
pub(crate) struct Kernels {
    /// Folder for the results
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    dir: PathBuf,

    /// What runs the benches, such as `cargo bench`
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// What `kernels.json` says.
#[derive(Debug, Serialize)]
struct Report {
    commit: String,
    date: String,
    machine: Machine,
    load: [f64; 2],
    kernels: Vec<Kernel>,
}

/// A bench, by the table that divan printed.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Kernel {
    /// The program, the bench in it and its argument, separated by slashes.
    name: String,
    /// Of the samples, each the mean of some iterations: the fastest, the slowest, the middle one and the mean.
    fastest_ns: f64,
    slowest_ns: f64,
    median_ns: f64,
    mean_ns: f64,
    samples: u64,
    iterations: u64,
    /// Where the bench counts items: of the median.
    items_per_second: Option<f64>,
}

impl Kernels {
    /// Runs the command and writes `kernels.json`.
    pub(crate) fn run(&self) -> Result<()> {
        let (commit, before) = (commit(), load());
        let (program, arguments) = self.command.split_first().context("no command is given")?;
        let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn();
        let child = child.as_mut().map_err(|it| anyhow::anyhow!("running {program}: {it}"))?;
        let mut table = Table::default();
        for line in BufReader::new(child.stdout.take().context("the output is piped")?).lines() {
            let line = line.context("reading what the benches say")?;
            println!("{line}");
            table.take(&line);
        }
        let status = child.wait()?;
        ensure!(status.success(), "{program} ended with {status}");
        let now = UNIX_EPOCH + UNIX_EPOCH.elapsed().unwrap_or_default();
        let date = humantime::format_rfc3339_seconds(now).to_string();
        let report =
            Report { commit, date, machine: Machine::here(), load: [before, load()], kernels: table.kernels };
        std::fs::create_dir_all(&self.dir).with_context(|| format!("making {}", self.dir.display()))?;
        let path = self.dir.join("kernels.json");
        std::fs::write(&path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
        println!("{} benches, written to {}", report.kernels.len(), path.display());
        Ok(())
    }
}

/// divan's tables, line by line.
#[derive(Debug, Default)]
struct Table {
    /// Where the column of the fastest times begins, in characters.
    column: Option<usize>,
    /// Names that lead to the next row, by depth.
    path: Vec<String>,
    kernels: Vec<Kernel>,
}

impl Table {
    /// Takes the next line; one that is of no table is passed over.
    fn take(&mut self, line: &str) {
        if let Some((name, _)) = line.split_once("fastest").filter(|(_, rest)| rest.contains("slowest")) {
            self.column = Some(name.chars().count());
            self.path = vec![name.trim().to_owned()];
            return;
        }
        let Some(column) = self.column else { return };
        if line.trim().is_empty() {
            self.column = None;
            return;
        }
        let (left, right): (String, String) =
            (line.chars().take(column).collect(), line.chars().skip(column).collect());
        let name = left.trim_start_matches(['│', '├', '╰', '─', ' ']);
        let cells: Vec<&str> = right.split('│').map(str::trim).collect();
        if name.is_empty() {
            // Items of the row above; anything else that divan can count stands in rows like it.
            if let (Some(kernel), Some(items)) =
                (self.kernels.last_mut(), cells.get(2).and_then(|it| items(it)))
            {
                kernel.items_per_second = Some(items);
            }
            return;
        }
        // Each level of the tree is indented by three characters, and the first stands below the program's name.
        let depth = (left.chars().count() - name.chars().count()) / 3;
        self.path.truncate(depth.max(1));
        self.path.push(name.trim().to_owned());
        self.kernels.extend(kernel(self.path.join("/"), &cells));
    }
}

/// A row with its times; `None` of the name of a group.
fn kernel(name: String, cells: &[&str]) -> Option<Kernel> {
    let [fastest, slowest, median, mean, samples, iterations] = cells else { return None };
    Some(Kernel {
        name,
        fastest_ns: nanoseconds(fastest)?,
        slowest_ns: nanoseconds(slowest)?,
        median_ns: nanoseconds(median)?,
        mean_ns: nanoseconds(mean)?,
        samples: samples.parse().ok()?,
        iterations: iterations.parse().ok()?,
        items_per_second: None,
    })
}

fn nanoseconds(text: &str) -> Option<f64> {
    scaled(text, &[("ps", 1e-3), ("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9)])
}

fn items(text: &str) -> Option<f64> {
    scaled(text, &[("item/s", 1.0), ("Kitem/s", 1e3), ("Mitem/s", 1e6), ("Gitem/s", 1e9)])
}

fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let (number, unit) = text.split_once(' ')?;
    let (_, scale) = units.iter().find(|(it, _)| *it == unit)?;
    Some(number.parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
Timer precision: 20 ns
codecs                          fastest       │ slowest       │ median        │ mean          │ samples │ iters
├─ 3 Avro to 18 f32                           │               │               │               │         │
│  ├─ nullable                  102.5 µs      │ 1.25 ms       │ 110 µs        │ 115.2 µs      │ 100     │ 200
│  │                            9.756 Mitem/s │ 800 Kitem/s   │ 9.09 Mitem/s  │ 8.68 Mitem/s  │         │
│  ╰─ plain                     60 µs         │ 90 µs         │ 61 µs         │ 62 µs         │ 100     │ 100
│                               16.6 Mitem/s  │ 11.1 Mitem/s  │ 16.5 Mitem/s  │ 16.1 Mitem/s  │         │
╰─ 9 prediction to Avro         2 s           │ 3 s           │ 2.5 s         │ 2.6 s         │ 3       │ 3

lstm             fastest       │ slowest       │ median        │ mean          │ samples │ iters
╰─ step                        │               │               │               │         │
   ╰─ (32, 256)  9 ns    │ 10 ns         │ 9.5 ns        │ 9.6 ns        │ 100     │ 6400
";

    #[test]
    fn tables_become_figures() {
        let mut table = Table::default();
        PRINTED.lines().for_each(|it| table.take(it));
        let names: Vec<_> = table.kernels.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "codecs/3 Avro to 18 f32/nullable",
                "codecs/3 Avro to 18 f32/plain",
                "codecs/9 prediction to Avro",
                "lstm/step/(32, 256)"
            ]
        );
        let [nullable, plain, prediction, _] = &table.kernels[..] else { panic!("{table:?}") };
        assert_eq!(
            (nullable.fastest_ns, nullable.slowest_ns, nullable.median_ns, nullable.mean_ns),
            (102_500.0, 1_250_000.0, 110_000.0, 115_200.0)
        );
        assert_eq!((nullable.samples, nullable.iterations), (100, 200));
        assert_eq!(
            (nullable.items_per_second, plain.items_per_second),
            (Some(9_090_000.0), Some(16_500_000.0))
        );
        assert_eq!((prediction.median_ns, prediction.items_per_second), (2.5e9, None));
    }

    #[test]
    fn what_is_no_table_is_passed_over() {
        let mut table = Table::default();
        for line in [
            "   Compiling telltale",
            "warning: a │ b │ c │ d │ 1 │ 2",
            "",
            "├─ x  1 ns │ 1 ns │ 1 ns │ 1 ns │ 1 │ 1",
        ] {
            table.take(line);
        }
        assert_eq!(table.kernels, []);
        assert_eq!(nanoseconds("7 parsecs"), None);
    }
}
