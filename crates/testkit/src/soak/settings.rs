//! What a soak is asked for.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::engines::Wanted;
use super::plan::Kind;
use super::scenario::Scenario;
use crate::engines::Kind as Engines;

/// Runs every service as a process of its own, lets a seeded schedule of faults loose on them, and proves that nothing was lost.
#[derive(Debug, Clone, Parser)]
pub struct Settings {
    /// Time for which faults happen; starting and proving come on top
    #[arg(long = "for", default_value = "60s", value_name = "DURATION")]
    pub length: humantime::Duration,

    /// Seed of the schedule: the same seed, duration, faults and engines give the same schedule
    #[arg(long, default_value = "7")]
    pub seed: u64,

    /// What happens
    #[arg(long, value_enum, default_value_t = Scenario::Mix)]
    pub scenario: Scenario,

    /// Kinds of faults, separated by commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    pub faults: Vec<Kind>,

    /// Engines to run on: embedded, or real ones as `make up` starts them
    #[arg(long, value_enum, default_value_t = Engines::Embedded)]
    pub engines: Engines,

    /// Kafka's brokers, 1 or 3, where the soak starts real engines: faults strike three by turns
    #[arg(long, default_value = "1", value_parser = brokers, conflicts_with = "engines_dir", value_name = "COUNT")]
    pub brokers: u8,

    /// Folder of engines that `make up` started, to use them [default: real engines of its own]
    ///
    /// Every topic and subject there is deleted first.
    #[arg(long, value_name = "DIR")]
    pub engines_dir: Option<PathBuf>,

    /// A program in place of our bridge, called with `--mqtt HOST:PORT --kafka HOST:PORT`; `naive` is the example
    /// `naive_bridge`, which acknowledges first and asks nobody afterwards
    #[arg(long, value_name = "FILE", value_parser = bridge)]
    pub bridge: Option<PathBuf>,

    /// Cars
    #[arg(long, default_value = "60")]
    pub cars: NonZeroU32,

    /// Readings a second from each car
    #[arg(long, default_value = "5")]
    pub rate: f64,

    /// Partitions of the topics
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(i32).range(1..=64))]
    pub partitions: i32,

    /// Folder for data, logs, ledgers and results
    #[arg(long, default_value = "target/soak", value_name = "DIR")]
    pub dir: PathBuf,

    /// The program `telltale` [default: beside this one]
    #[arg(long, default_value_os_t = beside(), value_name = "FILE")]
    pub program: PathBuf,

    /// Only print the schedule
    #[arg(long)]
    pub plan: bool,
}

impl Settings {
    /// A soak as a test: of a minute on embedded engines, of five on those that `TELLTALE_TEST_ENGINES` names.
    ///
    /// # Panics
    ///
    /// Never: the flags are known.
    #[must_use]
    pub fn of_test(program: &str, folder: &str) -> Self {
        let common = ["soak", "--seed", "7", "--program", program, "--dir", folder];
        let real = crate::engines::real::folder().map(|it| it.display().to_string());
        let own = match &real {
            Some(engines) => vec!["--for", "5m", "--engines", "real", "--engines-dir", engines],
            None => vec!["--for", "40s", "--cars", "30"],
        };
        Self::try_parse_from(common.into_iter().chain(own)).expect("these are flags of a soak")
    }

    /// The kinds of faults.
    #[must_use]
    pub fn kinds(&self) -> Vec<Kind> {
        if self.faults.is_empty() { Kind::value_variants().to_vec() } else { self.faults.clone() }
    }

    /// How long faults happen.
    #[must_use]
    pub fn length(&self) -> Duration {
        *self.length
    }

    /// The engines to run on.
    #[must_use]
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            kind: self.engines,
            program: &self.program,
            data: self.folder().join("data"),
            running: self.engines_dir.as_deref(),
            own: self.dir.join("engines"),
            brokers: self.brokers,
        }
    }

    /// The folder of this run.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        let engines = self.engines.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default();
        let bridge = self.bridge.as_deref().and_then(Path::file_stem);
        let bridge = bridge.map_or_else(String::new, |it| format!("-{}", it.display()));
        let scenario = match self.scenario {
            Scenario::Mix => format!("seed-{}", self.seed),
            other => other.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default(),
        };
        let brokers = if self.brokers > 1 { format!("-{}", self.brokers) } else { String::new() };
        self.dir.join(format!("{scenario}-{engines}{brokers}{bridge}"))
    }
}

/// As many as `make up` can start: two have no majority.
fn brokers(text: &str) -> Result<u8, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("1 and 3 are possible".to_owned()),
    }
}

/// The file of a bridge.
fn bridge(text: &str) -> Result<PathBuf, String> {
    let file = match text {
        "naive" => beside().with_file_name("examples").join("naive_bridge"),
        other => other.into(),
    };
    if file.is_file() { Ok(file) } else { Err(format!("there is no program {}", file.display())) }
}

/// The program `telltale` in the folder of the one that runs.
fn beside() -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    here.with_file_name("telltale")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Settings::command().debug_assert();
        let parsed = "soak --for 10m --seed 9 --faults kill,freeze,partition,poison --engines real";
        let settings = Settings::try_parse_from(parsed.split(' ')).unwrap();
        assert_eq!(settings.kinds(), [Kind::Kill, Kind::Freeze, Kind::Partition, Kind::Poison]);
        assert_eq!(settings.folder(), PathBuf::from("target/soak/seed-9-real"));
        assert_eq!(Settings::try_parse_from(["soak"]).unwrap().kinds(), Kind::value_variants());
        let three = Settings::try_parse_from("soak --engines real --brokers 3".split(' ')).unwrap();
        assert_eq!((three.brokers, three.folder()), (3, PathBuf::from("target/soak/seed-7-real-3")));
        for wrong in ["soak --brokers 2", "soak --engines real --brokers 3 --engines-dir target/engines"] {
            assert!(Settings::try_parse_from(wrong.split(' ')).is_err(), "{wrong}");
        }
    }
}
