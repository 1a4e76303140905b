//! Runs continuous SQL over topics, exactly once.
//!
//! ```text
//! pipeline.toml ─▶ pipeline ─▶ sql: planned once
//!                                │
//! source topic ─▶ decode ─▶ transform ─▶ target topic, dead letters, window tables, offsets: one transaction
//!                                ▲
//! window tables ─▶ restore ──────┘  when a partition is taken over
//! ```
//!
//! Each record of a source topic has exactly one outcome: a record of the target topic or a dead letter. What
//! a pipeline is, and what SQL may say, is in [`pipeline`] and [`sql`].

mod decode;
mod error;
mod metrics;
pub mod pipeline;
mod restore;
pub mod sql;
mod step;
pub mod table;
mod table_writer;
mod transform;
pub mod windows;
mod writers;

use std::path::PathBuf;

use clap::Parser;
use telltale_kafka::exactly_once::{self, LoopConfig, LoopFlags};
use telltale_kafka::{Isolation, KafkaConfig, Reader, Registry, RegistryConfig, RegistryError};
use telltale_records::schema::{Schema, subject};
use telltale_service::Service;
use tracing::info;

pub use decode::Lookup;
pub use error::Error;
pub use transform::{SchemaIds, Tally, Transform};

use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::step::{Preprocess, Shared};

/// Runs continuous SQL over topics: readings as devices send them become clean Avro, and counts per device.
///
/// Each setting is a flag and an environment variable.
#[derive(Debug, Clone, Parser)]
pub struct Config {
    /// How to reach Kafka.
    #[command(flatten)]
    pub kafka: KafkaConfig,

    /// How to reach the schema registry.
    #[command(flatten)]
    pub registry: RegistryConfig,

    /// File that says which topics become which by what SQL; the fleet of cars if absent
    #[arg(long, env = "PIPELINE", value_name = "FILE")]
    pub pipeline: Option<PathBuf>,

    /// Consumer group: its members share the partitions
    #[arg(long, env = "GROUP", value_name = "NAME", default_value = "telltale-preprocessor")]
    pub group: String,

    /// Name of this instance, different from every other of the group and the same after a restart
    #[arg(long, env = "IDENTITY", value_name = "NAME", default_value = "preprocessor")]
    pub identity: String,

    /// How partitions are shared and transactions cut.
    #[command(flatten)]
    pub work: LoopFlags,
}

/// Runs until shutdown, then finishes the transaction in hand.
///
/// # Errors
///
/// Returns why the service could not start, or why the first worker failed.
pub fn run(config: Config, service: &Service) -> Result<(), Error> {
    config.check()?;
    let pipeline = match &config.pipeline {
        Some(path) => Pipeline::load(path)?,
        None => Pipeline::cars()?,
    };
    let registry = Registry::new(&config.registry)?;
    if service.only_checks() {
        return Ok(());
    }
    let kafka_is_away = |error: &Error| matches!(error, Error::Kafka(error) if error.is_passing());
    let look = || check_tables(&pipeline, &config.kafka);
    if service.keep_trying("kafka", kafka_is_away, look)?.is_none() {
        return Ok(());
    }
    let registry_is_away = |error: &RegistryError| error.is_passing() && !error.is_denial();
    let register =
        || pipeline.streams.iter().map(|it| register(it, &registry)).collect::<Result<Vec<_>, _>>();
    let Some(ids) = service.keep_trying("registry", registry_is_away, register)? else { return Ok(()) };
    for (stream, ids) in pipeline.streams.iter().zip(&ids) {
        info!(source = stream.source, target = stream.target, schema_id = ids.target, "stream planned");
    }
    let (metrics, loop_metrics) = {
        let mut registry = service.registry();
        (Metrics::register(&mut registry), exactly_once::Metrics::register(&mut registry))
    };
    let loop_config = LoopConfig::new(service.name(), &config.group, &pipeline.sources(), &config.identity)
        .with(&config.work);
    let stop = service.shutdown().token();
    let shared = Shared {
        pipeline,
        ids,
        kafka: config.kafka,
        registry,
        metrics,
        service: service.clone(),
        stop: stop.clone(),
    };
    let step = |worker| Preprocess::new(&shared, worker);
    exactly_once::run(&loop_config, &shared.kafka, stop, &loop_metrics, step).map_err(Error::from)
}

impl Config {
    /// Checks what no single setting can.
    fn check(&self) -> Result<(), Error> {
        self.work.check()?;
        Ok(self.kafka.check()?)
    }
}

/// Registers the schemas that a stream writes.
fn register(stream: &pipeline::Stream, registry: &Registry) -> Result<SchemaIds, RegistryError> {
    let register = |topic: &str, schema: &Schema| registry.register(&subject(topic), schema.json());
    let target = register(&stream.target, &stream.target_schema)?;
    let windows = stream.windows.iter().map(|it| register(&it.target, &it.schema));
    Ok(SchemaIds { target, windows: windows.collect::<Result<_, _>>()? })
}

/// Makes sure that what is written can be written: every topic exists, and a table has its source's
/// partitions.
fn check_tables(pipeline: &Pipeline, kafka: &KafkaConfig) -> Result<(), Error> {
    let reader = Reader::open(kafka, Isolation::Committed)?;
    for stream in &pipeline.streams {
        let source = reader.partitions(&stream.source)?.len();
        reader.partitions(&stream.target)?;
        for table in &stream.windows {
            let found = reader.partitions(&table.target)?.len();
            if found < source {
                let (source_topic, table) = (stream.source.clone(), table.target.clone());
                return Err(Error::Partitions { source_topic, source_partitions: source, table, found });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Config::command().debug_assert();
    }
}
