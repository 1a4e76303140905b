//! What the simulators of a data folder leave behind: one ledger a run, and whether the run ended in order.
//!
//! The embedded MQTT broker keeps what it has taken over in memory. A reading that it acknowledged and that the
//! bridge had not taken yet is gone with a killed process, so only the ledgers of runs that were drained prove
//! something about the log.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::commands::Error;
use crate::verify::ledger::Acknowledged;

/// Ending of a ledger.
const LEDGER: &str = "csv";
/// Ending of the mark that a run was drained.
const DRAINED: &str = "drained";
/// Longest line of a ledger; a torn file may have none at all.
const LINE_LIMIT: usize = 4096;

/// The files of one run.
#[derive(Debug, Clone)]
pub struct Run {
    stem: PathBuf,
}

/// What the ledgers of a folder say.
#[derive(Debug, Default)]
pub struct Ledgers {
    /// Readings acknowledged in runs that were drained: each is in the log.
    pub drained: Acknowledged,
    /// Readings acknowledged in runs that were killed: the broker took the last of them with it.
    pub killed: Acknowledged,
}

impl Run {
    /// Names the files of a run that starts at `now_ms`.
    #[must_use]
    pub fn new(folder: &Path, now_ms: i64) -> Self {
        Self { stem: folder.join(format!("run-{now_ms}")) }
    }

    /// The ledger, for the simulator to write.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.stem.with_extension(LEDGER)
    }

    /// Marks that everything acknowledged has left the broker.
    ///
    /// # Errors
    ///
    /// Returns an error when the mark cannot be written.
    pub fn mark_drained(&self) -> Result<(), Error> {
        let path = self.stem.with_extension(DRAINED);
        fs::write(&path, b"").map_err(|source| Error::File { flag: "--data", path, source })
    }
}

impl Ledgers {
    /// Reads every ledger of `folder`.
    ///
    /// # Errors
    ///
    /// Returns an error when a file cannot be read.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let mut ledgers = Self::default();
        for entry in fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            if path.extension().is_some_and(|it| it == LEDGER) {
                ledgers.add(&path)?;
            }
        }
        Ok(ledgers)
    }

    /// Reads the ledger of one run.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be read.
    pub fn of(run: &Run) -> Result<Self, Error> {
        let mut ledgers = Self::default();
        ledgers.add(&run.ledger())?;
        Ok(ledgers)
    }

    fn add(&mut self, path: &Path) -> Result<(), Error> {
        let drained = path.with_extension(DRAINED).exists();
        let into = if drained { &mut self.drained } else { &mut self.killed };
        read(BufReader::new(File::open(path).map_err(failed(path))?), into).map_err(failed(path))
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { flag: "--data or --ledger", path, source }
}

/// Takes in the acknowledged readings of one ledger; a line that was torn off by a kill is passed over.
fn read(mut ledger: impl BufRead, into: &mut Acknowledged) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let taken = io::Read::take(&mut ledger, LINE_LIMIT as u64).read_until(b'\n', &mut line)?;
        if taken == 0 {
            return Ok(());
        }
        if let Some((car, time, hash)) = std::str::from_utf8(&line).ok().and_then(acknowledged) {
            let _beyond_all_measure = into.add(car, time, hash);
        }
    }
}

/// Car, event time and the first eight bytes of the hash of a whole line `car,event_time,sha256,acknowledged`.
fn acknowledged(line: &str) -> Option<(&str, i64, u64)> {
    let mut fields = line.strip_suffix('\n')?.split(',');
    let (car, time, sha256, outcome) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    (outcome == "acknowledged").then_some(())?;
    let hash = u64::from_str_radix(sha256.get(..16)?, 16).ok()?;
    Some((car, time.parse().ok()?, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_of_acknowledged_readings_count() {
        let text = "car,event_time,sha256,outcome\n\
            car-000001,1000,0123456789abcdef,acknowledged\n\
            car-000001,2000,0123456789abcdef,unacknowledged\n\
            car-000002,x,0123456789abcdef,acknowledged\n\
            \n\
            car-000002,3000,0123456789abcdef,acknowledged\n\
            car-000003,4000,0123456789abcdef,acknowl";
        let mut found = Acknowledged::default();
        read(text.as_bytes(), &mut found).unwrap();
        assert_eq!(found.len(), 2);
        read(&vec![b'x'; 3 * LINE_LIMIT][..], &mut found).unwrap();
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_run_counts_as_drained_by_its_mark() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (Run::new(folder.path(), 1), Run::new(folder.path(), 2));
        for run in [&first, &second] {
            fs::write(run.ledger(), "car-000001,1000,0123456789abcdef,acknowledged\n").unwrap();
        }
        first.mark_drained().unwrap();
        let ledgers = Ledgers::read(folder.path()).unwrap();
        assert_eq!((ledgers.drained.len(), ledgers.killed.len()), (1, 1));
        assert!(Ledgers::read(&folder.path().join("missing")).is_err());
    }
}
