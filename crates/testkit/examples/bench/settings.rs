//! What a bench is asked for.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;
use telltale_testkit::engines::Kind;

use crate::figures::Job;
use crate::peers::{self, Peer};

/// Settings of a bench.
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// Readings that the topic is filled with
    #[arg(long, default_value = "300000", value_parser = clap::value_parser!(u64).range(20_000..))]
    pub(crate) readings: u64,

    /// Rounds of each job
    #[arg(long, default_value = "3")]
    pub(crate) rounds: NonZeroU32,

    /// MQTT messages of one round, which the broker holds before the round begins; the embedded one holds 64 MiB
    #[arg(long, default_value = "80000", value_parser = clap::value_parser!(u64).range(2_000..=100_000))]
    pub(crate) messages: u64,

    /// Seconds of one round at half load
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(2..=600))]
    pub(crate) latency: u64,

    /// Readings a second at half load [default: half of what the whole pipeline moves just before]
    #[arg(long)]
    pub(crate) rate: Option<f64>,

    /// What to measure, separated by commas [default: all of ours]; `latency` is the whole pipeline
    #[arg(long, value_enum, value_delimiter = ',', value_name = "JOB")]
    pub(crate) jobs: Vec<Job>,

    /// Measures nothing but what so much poison, in percent of the readings, does to their times: `--latency`, `--rate` and
    /// `--rounds` say how long, how many a second, and how often
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(crate) poison: Option<f64>,

    /// Cars
    #[arg(long, default_value = "1000")]
    pub(crate) cars: NonZeroU32,

    /// Seed of the fleet
    #[arg(long, default_value = "7")]
    pub(crate) seed: u64,

    /// Partitions of the topics
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(i32).range(1..=64))]
    pub(crate) partitions: i32,

    /// Engines to run on: embedded ones of its own, or those that `make up` started
    #[arg(long, value_enum, default_value_t = Kind::Embedded)]
    pub(crate) engines: Kind,

    /// Folder of the engines that `make up` started
    #[arg(long, env = "TELLTALE_TEST_ENGINES", default_value = "target/engines", value_name = "DIR")]
    pub(crate) engines_dir: PathBuf,

    /// Folder for data, logs and results
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// The program `telltale` [default: that of the same build]
    #[arg(long, default_value_os_t = beside(), value_name = "FILE")]
    pub(crate) program: PathBuf,

    /// How programs of others are measured.
    #[command(flatten)]
    pub(crate) peers: peers::Flags,
}

impl Settings {
    /// Whether a job is to be measured. Those of peers must be named and be installed: they take a machine's time.
    pub(crate) fn wants(&self, job: Job) -> bool {
        match Peer::of(job) {
            Some(peer) => self.jobs.contains(&job) && peer.is_installed(&self.peers.peers),
            None => self.jobs.is_empty() || self.jobs.contains(&job),
        }
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|it| *it > 0.0 && *it <= 100.0);
    share.ok_or_else(|| format!("{text} is not a number above 0 and up to 100"))
}

/// The program `telltale` in the folder above the examples'.
fn beside() -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    here.parent().and_then(|it| it.parent()).map(|it| it.join("telltale")).unwrap_or_default()
}
