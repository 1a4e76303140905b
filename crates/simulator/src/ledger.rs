//! The files that tell what was published and what was true.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use telltale_service::Service;
use tokio::sync::mpsc;

use crate::fleet::Truth;
use crate::report::Summary;

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("writing {path:?} ({flag})")]
pub struct LedgerError {
    /// The setting that names the file.
    pub flag: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What the system reported.
    pub source: std::io::Error,
}

/// What became of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Acknowledged,
    Refused,
    /// The simulator ended before the acknowledgement came: the broker may have the reading or not.
    Unacknowledged,
    /// QoS 0: nobody will say.
    Sent,
}

/// A line of the ledger.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) car: u32,
    pub(crate) event_time: i64,
    pub(crate) hash: Hash,
    pub(crate) outcome: Outcome,
}

/// SHA-256 of a payload.
pub(crate) type Hash = [u8; 32];

pub(crate) fn hash(payload: &[u8]) -> Hash {
    Sha256::digest(payload).into()
}

/// Entries that may wait for the disk: less than a second of a large fleet.
const ENTRIES: usize = 8192;

/// After this time what is known goes to the file, so that a simulator that is killed leaves its ledger.
const FLUSH: Duration = Duration::from_millis(200);

/// Creates the ledger and starts the thread that writes it; it ends when all senders are gone.
pub(crate) fn ledger(path: &Path, service: &Service) -> Result<mpsc::Sender<Entry>, LedgerError> {
    let (tx, mut rx) = mpsc::channel::<Entry>(ENTRIES);
    let path = path.to_owned();
    let mut file = create("--ledger", &path)?;
    service.thread("ledger", move || {
        let mut write = || -> std::io::Result<()> {
            writeln!(file, "car,event_time,sha256,outcome")?;
            let mut flushed = Instant::now();
            while let Some(entry) = rx.blocking_recv() {
                write_entry(&mut file, &entry)?;
                if flushed.elapsed() > FLUSH {
                    file.flush()?;
                    flushed = Instant::now();
                }
            }
            file.flush()
        };
        write().map_err(|source| LedgerError { flag: "--ledger", path, source })
    });
    Ok(tx)
}

fn write_entry(file: &mut impl Write, entry: &Entry) -> std::io::Result<()> {
    write!(file, "car-{:06},{},", entry.car, entry.event_time)?;
    for byte in entry.hash {
        write!(file, "{byte:02x}")?;
    }
    let outcome = match entry.outcome {
        Outcome::Acknowledged => "acknowledged",
        Outcome::Refused => "refused",
        Outcome::Unacknowledged => "unacknowledged",
        Outcome::Sent => "sent",
    };
    writeln!(file, ",{outcome}")
}

/// The file for the truth about failures, one JSON object a line.
#[derive(Debug)]
pub(crate) struct TruthFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl TruthFile {
    pub(crate) fn create(path: &Path) -> Result<Self, LedgerError> {
        Ok(Self { path: path.to_owned(), file: create("--truth-file", path)? })
    }

    pub(crate) fn write(&mut self, truth: &Truth) -> Result<(), LedgerError> {
        let text = serde_json::to_string(truth).expect("a truth has no map keys and no floats");
        // Flushed line by line, so that it can be read while it grows.
        let written = writeln!(self.file, "{text}").and_then(|()| self.file.flush());
        written.map_err(|source| LedgerError { flag: "--truth-file", path: self.path.clone(), source })
    }
}

/// The file for the figures at the end; created at the start, so that an unwritable place is known then.
#[derive(Debug)]
pub(crate) struct SummaryFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl SummaryFile {
    pub(crate) fn create(path: &Path) -> Result<Self, LedgerError> {
        Ok(Self { path: path.to_owned(), file: create("--summary", path)? })
    }

    pub(crate) fn write(mut self, summary: &Summary) -> Result<(), LedgerError> {
        let text = serde_json::to_string_pretty(summary).expect("the summary has no map keys");
        let written = writeln!(self.file, "{text}").and_then(|()| self.file.flush());
        written.map_err(|source| LedgerError { flag: "--summary", path: self.path, source })
    }
}

fn create(flag: &'static str, path: &Path) -> Result<BufWriter<File>, LedgerError> {
    let file = File::create(path).map_err(|source| LedgerError { flag, path: path.to_owned(), source })?;
    Ok(BufWriter::new(file))
}
