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

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use telltale_kafka::exactly_once::{self, LoopConfig};
use telltale_kafka::{Isolation, KafkaConfig, Reader, Registry, RegistryConfig, RegistryError};
use telltale_records::schema::{Schema, subject};
use telltale_service::Service;
use tracing::{info, warn};

pub use decode::Lookup;
pub use error::Error;
pub use transform::{SchemaIds, Tally, Transform};

use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::step::{Preprocess, Shared};

/// Shortest and longest pause between attempts to register schemas.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

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

    /// Keep the partitions over a short restart
    #[arg(long, env = "STATIC_MEMBER")]
    pub static_member: bool,

    /// Worker threads, each with partitions of its own; more than there are partitions wait in reserve
    #[arg(long, env = "WORKERS", value_name = "COUNT", default_value = "1")]
    pub workers: NonZeroUsize,

    /// Most records in one transaction, 1 to 100000
    #[arg(long, env = "MAX_RECORDS", value_name = "COUNT", default_value = "10000", value_parser = exactly_once::max_records)]
    pub max_records: NonZeroUsize,

    /// Longest time to gather records for one transaction after the first, at most 10s
    #[arg(long, env = "LINGER", value_name = "DURATION", default_value = "20ms")]
    pub linger: humantime::Duration,
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
    check_tables(&pipeline, &config.kafka)?;
    let Some(ids) = register_schemas(&pipeline, &registry, service)? else { return Ok(()) };
    for (stream, ids) in pipeline.streams.iter().zip(&ids) {
        info!(source = stream.source, target = stream.target, schema_id = ids.target, "stream planned");
    }
    let (metrics, loop_metrics) = {
        let mut registry = service.registry();
        (Metrics::register(&mut registry), exactly_once::Metrics::register(&mut registry))
    };
    let loop_config = LoopConfig {
        workers: config.workers.get(),
        static_member: config.static_member,
        max_records: config.max_records.get(),
        linger: *config.linger,
        ..LoopConfig::new(service.name(), &config.group, &pipeline.sources(), &config.identity)
    };
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
        if self.linger.as_secs() >= 10 {
            return Err(Error::Linger { linger: self.linger });
        }
        Ok(self.kafka.check()?)
    }
}

/// Registers every schema that the pipeline writes; waits for the registry as long as it takes, `None` at
/// shutdown.
fn register_schemas(
    pipeline: &Pipeline,
    registry: &Registry,
    service: &Service,
) -> Result<Option<Vec<SchemaIds>>, Error> {
    let mut pause = PAUSES.0;
    loop {
        match pipeline.streams.iter().map(|it| register(it, registry)).collect() {
            Ok(ids) => {
                service.ready("registry");
                return Ok(Some(ids));
            }
            Err(error) if error.is_passing() && !error.is_denial() => {
                let error = telltale_service::chain(&error);
                warn!(error, "registering schemas, will try again");
                service.not_ready("registry", &error);
                if service.shutdown().sleep(pause) {
                    return Ok(None);
                }
                pause = (pause * 2).min(PAUSES.1);
            }
            Err(error) => return Err(error.into()),
        }
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
