//! CSV into a topic of readings, as if devices had sent them.
//!
//! ```text
//! file ─▶ rows ─▶ plan: cells ─▶ reading as JSON ─┬▶ survey: is each row good, how many, from when to when
//!           ▲                                     └▶ send: steps of readings with the position, one transaction each
//!           └ mapping: column ─▶ field, held against the header and the schema
//! ```
//!
//! The file is read twice: nothing is sent before every row was seen. Pure but for the file and `send`.

pub mod mapping;
pub mod plan;
pub mod rows;
pub mod send;
pub mod survey;
pub mod time;

use std::io;
use std::path::PathBuf;

/// Bad rows that are shown; the others are counted.
pub const SHOWN: usize = 10;

/// Why one row cannot be a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Line of the file that the row begins in, from 1.
    pub line: u64,
    /// The column, where one is to blame.
    pub column: Option<String>,
    /// What is wrong.
    pub problem: String,
}

impl std::fmt::Display for BadRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.column {
            Some(column) => write!(f, "line {}, column {column}: {}", self.line, self.problem),
            None => write!(f, "line {}: {}", self.line, self.problem),
        }
    }
}

/// Why a file was not loaded, or not whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("reading {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("{path} is empty: its first line must name the columns")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// There is only a header.
    #[error("{path} has a header, but no reading below it")]
    NoRows {
        /// The file.
        path: PathBuf,
    },
    /// The header, the mapping and the schema do not fit each other.
    #[error("{path} line 1: {problem}")]
    Header {
        /// The file.
        path: PathBuf,
        /// What does not fit, and what to do.
        problem: String,
    },
    /// A row has no end within bounds, so nothing behind it can be read.
    #[error("{path} line {line}: the row is longer than {limit} bytes; is a quotation mark not closed?")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Line that it begins in.
        line: u64,
        /// Longest row.
        limit: usize,
    },
    /// The file ends within a row.
    #[error("{path} line {line}: the row does not end; a quotation mark is not closed")]
    Unclosed {
        /// The file.
        path: PathBuf,
        /// Line that it begins in.
        line: u64,
    },
    /// Rows that are no readings.
    #[error(
        "{bad} of {rows} rows of {path} are no readings; nothing was sent. Mend them, or leave them out by --skip-bad"
    )]
    Bad {
        /// The file.
        path: PathBuf,
        /// How many.
        bad: u64,
        /// Rows there are.
        rows: u64,
    },
    /// The mapping cannot be used.
    #[error("{origin}: {problem}")]
    Mapping {
        /// The file or flag.
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// The schema cannot be used.
    #[error("using the schema {path}, given by --schema")]
    Schema {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: telltale_records::schema::SchemaError,
    },
    /// The event times are not those of now.
    #[error(
        "{problem}; --last-at now moves all times alike, so that the last reading is now, --any-time sends them as they are"
    )]
    Times {
        /// What is wrong.
        problem: String,
    },
    /// All of the file is in the topic.
    #[error(
        "{path} was loaded before: its {rows} rows are in {topic}; nothing was sent. --again loads them once more, \
         as readings besides those"
    )]
    Loaded {
        /// The file.
        path: PathBuf,
        /// The topic.
        topic: String,
        /// Rows there are.
        rows: u64,
    },
    /// A part of the file is in the topic, and the user asked to begin in it.
    #[error(
        "the rows of {path} before line {next} are in {topic}: --from-line {from} would double some; leave it out to \
         go on, or say --again"
    )]
    Overlap {
        /// The file.
        path: PathBuf,
        /// The topic.
        topic: String,
        /// First line that is not there.
        next: u64,
        /// Line asked for.
        from: u64,
    },
    /// There is no such line.
    #[error("{path} ends before line {from} (--from-line)")]
    Beyond {
        /// The file.
        path: PathBuf,
        /// Line asked for.
        from: u64,
    },
    /// The user stopped it.
    #[error(
        "stopped before line {next}: {sent} readings are in {topic}. The same command again goes on there and doubles \
         nothing"
    )]
    Stopped {
        /// First line that was not sent.
        next: u64,
        /// Readings sent.
        sent: u64,
        /// The topic.
        topic: String,
    },
    /// Kafka did not take a step.
    #[error(
        "{sent} readings are in {topic}, those from line {next} on are not. The same command again goes on there and \
         doubles nothing"
    )]
    Publish {
        /// First line that is not there.
        next: u64,
        /// Readings sent.
        sent: u64,
        /// The topic.
        topic: String,
        /// Why.
        source: telltale_kafka::PublishError,
    },
    /// Somebody wrote to the file meanwhile.
    #[error("{path} changed while it was loaded: what is in {topic} is neither the old nor the new file")]
    Changed {
        /// The file.
        path: PathBuf,
        /// The topic.
        topic: String,
    },
    /// Kafka could not be used.
    #[error(transparent)]
    Kafka(#[from] telltale_kafka::Error),
}
