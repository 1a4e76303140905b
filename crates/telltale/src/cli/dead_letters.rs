//! Flags of the commands for dead letters.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use telltale_kafka::KafkaConfig;

use super::{Connection, duration};
use crate::dead_letters::filter::Filter;

/// `telltale dead-letters`
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List the newest dead letters, one line each, and how many there are of each reason
    List {
        /// Most lines
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
        count: usize,
        /// Which.
        #[command(flatten)]
        filter: Box<Filter>,
        /// Where from.
        #[command(flatten)]
        connection: Box<Connection>,
    },
    /// Show one dead letter whole
    Show {
        /// Its offset, as `list` prints it
        offset: i64,
        /// Its partition
        #[arg(long, default_value_t = 0)]
        partition: i32,
        /// Where from.
        #[command(flatten)]
        connection: Box<Connection>,
    },
    /// Put dead letters back to where they failed, each once, and say what becomes of them
    ///
    /// A reading that the preprocessor set aside goes back to its partition of sensor-data, one that the scorer set aside
    /// to SENSOR_DATA_S_AVRO, one that the bridge set aside to its Kafka topic. What went back before does not go again:
    /// the record there names its dead letter in the header src. Mend first what made them fail, such as the schema or
    /// pipeline.toml: what fails again becomes a new dead letter.
    Replay(Box<ReplayArgs>),
    /// Write dead letters as JSON lines, and their bytes as files
    Export {
        /// File for the lines; standard output if absent
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Folder for the values, a file each, named in the field `file` of the lines
        #[arg(long, value_name = "DIR")]
        files: Option<PathBuf>,
        /// Which.
        #[command(flatten)]
        filter: Box<Filter>,
        /// Where from.
        #[command(flatten)]
        kafka: Box<KafkaConfig>,
    },
}

/// `telltale dead-letters replay`
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// All there are; else at least one flag must say which
    #[arg(long)]
    pub all: bool,

    /// Only say how many would go back
    #[arg(long)]
    pub dry_run: bool,

    /// Records a second, above 0 up to 1,000,000; as fast as it goes if absent
    #[arg(long, value_name = "COUNT", value_parser = super::load::rate)]
    pub rate: Option<f64>,

    /// Longest time to wait for what becomes of them
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub wait: humantime::Duration,

    /// Which.
    #[command(flatten)]
    pub filter: Filter,

    /// Where from, and where to.
    #[command(flatten)]
    pub kafka: KafkaConfig,
}
