//! `pipeline.toml`: what a user says about their streams, read and checked completely before anything
//! connects.
//!
//! ```text
//! pipeline.toml ─▶ raw (text with places) ─▶ compile: names, schemas, SQL, checks, windows ─▶ Pipeline
//! ```
//!
//! Whatever is wrong is said with the file and the line.

mod compile;
mod raw;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use telltale_records::dead_letter::Reason;
use telltale_records::schema::Schema;

use crate::sql::{Checks, Projection};
use crate::table::Input;

/// The pipeline for the fleet of cars, used where no file is given.
pub const CARS: &str = include_str!("../pipeline.toml");

/// Largest file that is read, in bytes.
const FILE_LIMIT: u64 = 1 << 20;

/// Every stream of a `pipeline.toml`, planned.
#[derive(Debug)]
pub struct Pipeline {
    /// The streams, in the file's order; no two read the same topic.
    pub streams: Vec<Arc<Stream>>,
}

/// One topic's way through SQL into another.
#[derive(Debug)]
pub struct Stream {
    /// Topic that is read.
    pub source: String,
    /// How its values are written.
    pub format: Format,
    /// Subjects in the registry whose schemas its records may be written with.
    pub subjects: Vec<String>,
    /// The table that SQL and checks see.
    pub input: Input,
    /// The columns of the target.
    pub projection: Projection,
    /// What the columns must fulfil.
    pub checks: Checks,
    /// Name of each check, and the reason of dead letters that fail it.
    pub rules: Vec<Rule>,
    /// Column of the target that is the record's key; the source record's key if absent.
    pub key: Option<String>,
    /// Column of the target that is the record's event time; the source record's time stamp if absent.
    pub event_time: Option<String>,
    /// How far the event time may lie after the source record's time stamp.
    pub max_ahead: Duration,
    /// How far the event time may lie before the source record's time stamp.
    pub max_behind: Option<Duration>,
    /// Topic that is written.
    pub target: String,
    /// Schema of what is written.
    pub target_schema: Schema,
    /// Tables of counts.
    pub windows: Vec<WindowTable>,
}

/// A named check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Name, for the dead letter's detail.
    pub name: String,
    /// Reason of the dead letter.
    pub reason: Reason,
}

/// A table that counts readings per key and tumbling window.
#[derive(Debug, Clone)]
pub struct WindowTable {
    /// Topic of the table; it has as many partitions as the stream's source.
    pub target: String,
    /// Schema of a row.
    pub schema: Schema,
    /// Names of a row's columns.
    pub columns: WindowColumns,
    /// Length of a window; windows begin at multiples of it since 1970.
    pub size: Duration,
    /// How long after its end, in event time, a window still counts what comes late.
    pub grace: Duration,
}

/// Names of the columns of a table's row.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowColumns {
    /// The key that is counted.
    pub key: String,
    /// Start of the window, in ms since 1970.
    pub start: String,
    /// End of the window, in ms since 1970, not part of it.
    pub end: String,
    /// Number of readings.
    pub count: String,
}

/// How the values of a topic are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JSON objects.
    Json,
    /// Avro with Confluent's header.
    Avro,
    /// Avro where the value begins with Confluent's magic byte 0, else JSON.
    Auto,
}

/// Why a pipeline was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// A file cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is larger than any pipeline or schema needs to be.
    #[error("{} is larger than {FILE_LIMIT} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Something in the pipeline file is wrong.
    #[error("{file}:{line}: {problem}")]
    At {
        /// The pipeline file, as it was given.
        file: String,
        /// Line in it, from 1.
        line: usize,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl Pipeline {
    /// Reads and plans the pipeline in the file at `path`; schema files are looked for beside it.
    ///
    /// # Errors
    ///
    /// Returns what is wrong, with file and line.
    pub fn load(path: &Path) -> Result<Self, PipelineError> {
        let text = read(path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, &path.display().to_string(), folder)
    }

    /// The pipeline for the fleet of cars.
    ///
    /// # Errors
    ///
    /// Returns what is wrong; a test holds that nothing is.
    pub fn cars() -> Result<Self, PipelineError> {
        Self::parse(CARS, "pipeline.toml (built in)", Path::new("."))
    }

    /// Plans the pipeline in `text`, which errors call `file`; schema files are looked for in `folder`.
    ///
    /// # Errors
    ///
    /// Returns what is wrong, with file and line.
    pub fn parse(text: &str, file: &str, folder: &Path) -> Result<Self, PipelineError> {
        compile::Compiler { text, file, folder }.pipeline()
    }

    /// The stream that reads `topic`.
    #[must_use]
    pub fn stream(&self, topic: &str) -> Option<&Arc<Stream>> {
        self.streams.iter().find(|it| it.source == topic)
    }

    /// The topics that are read.
    #[must_use]
    pub fn sources(&self) -> Vec<&str> {
        self.streams.iter().map(|it| it.source.as_str()).collect()
    }
}

fn read(path: &Path) -> Result<String, PipelineError> {
    let error = |source| PipelineError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(error)?.len() > FILE_LIMIT {
        return Err(PipelineError::TooLarge { path: path.to_owned() });
    }
    std::fs::read_to_string(path).map_err(error)
}

#[cfg(test)]
mod tests;
