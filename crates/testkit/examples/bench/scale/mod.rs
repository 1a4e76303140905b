//! What changes with size: `make bench-scale`; docs/SIZING.md does the arithmetic with what comes of it.
//!
//! ```text
//! one topic for each number of cars, partitions, bytes ─▶ service, a process ─▶ CPU a record, against the smallest, in one round
//! new models, one after the other ─▶ scorer at full load ─▶ time between commits, with and without a new model in between
//! brokers ◀═ 100,000 connections ═ simulators            telltale demo ─▶ first prediction            a long log ─▶ memory over time
//! ```

mod demo;
mod fill;
mod fleet;
mod long;
mod memory;
mod pauses;
mod pipelines;
mod report;
mod series;
mod swap;

use std::fmt::Display;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::machine::load;
use crate::place::Place;
use crate::settings::Settings;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// CPU a record for a hundred to a hundred thousand cars
    Cars,
    /// One worker and two
    Workers,
    /// One partition to fifty
    Partitions,
    /// Readings of 100 bytes to 10,000
    Bytes,
    /// Time between commits while new models come
    Swap,
    /// Connections of the simulator, and what each takes
    Fleet,
    /// Time to the demo's first prediction
    Demo,
    /// Memory over a long log; only where it is asked for
    Long,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Cars => "cars",
            Self::Workers => "workers",
            Self::Partitions => "partitions",
            Self::Bytes => "bytes",
            Self::Swap => "swap",
            Self::Fleet => "fleet",
            Self::Demo => "demo",
            Self::Long => "long",
        }
    }

    /// All but the long one, which wants more disk than a laptop may have to spare.
    fn usual() -> Vec<Self> {
        Self::value_variants().iter().copied().filter(|it| *it != Self::Long).collect()
    }
}

/// Measures what changes with size. Of what the bench is asked for besides, readings, rounds, partitions, seed, engines and
/// folders count here.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct Scale {
    /// What to measure, separated by commas [default: all but long]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    parts: Vec<Part>,

    /// Most readings in one transaction in the part swap: more transactions say more about the time between them
    #[arg(long, default_value = "2000", value_name = "COUNT")]
    transaction: u32,

    /// Time between new models in the part swap
    #[arg(long, default_value = "250ms", value_name = "DURATION")]
    swap_every: humantime::Duration,

    #[command(flatten)]
    connections: fleet::Flags,

    #[command(flatten)]
    settings: Settings,
}

impl Scale {
    /// Measures, prints tables and adds what was found to the JSON.
    pub(crate) fn run(&self, stop: &CancellationToken) -> Result<()> {
        let parts = if self.parts.is_empty() { Part::usual() } else { self.parts.clone() };
        std::fs::create_dir_all(&self.settings.dir)?;
        for part in parts {
            println!("{}", part.name());
            // Each part has engines of its own: no topic of another one is in its way.
            let before = load();
            match part {
                Part::Cars => self.found(part, before, &series::cars(&mut self.place(stop)?)?)?,
                Part::Workers => self.found(part, before, &series::workers(&mut self.place(stop)?)?)?,
                Part::Partitions => self.found(part, before, &series::partitions(&mut self.place(stop)?)?)?,
                Part::Bytes => self.found(part, before, &series::bytes(&mut self.place(stop)?)?)?,
                Part::Swap => {
                    let mut place = self.place(stop)?;
                    self.found(
                        part,
                        before,
                        &swap::measure(&mut place, self.transaction, *self.swap_every)?,
                    )?;
                }
                Part::Fleet => {
                    self.found(part, before, &fleet::measure(&self.settings, &self.connections, stop)?)?;
                }
                Part::Demo => self.found(part, before, &demo::measure(&self.settings, stop)?)?,
                Part::Long => self.found(part, before, &long::measure(&mut self.place(stop)?)?)?,
            }
        }
        Ok(())
    }

    fn place(&self, stop: &CancellationToken) -> Result<Place> {
        Place::start(&self.settings, stop)
    }

    fn found<T: Serialize + Display>(&self, part: Part, before: f64, found: &T) -> Result<()> {
        report::add(&self.settings, part.name(), before, found)
    }
}
