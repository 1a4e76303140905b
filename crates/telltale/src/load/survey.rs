//! The first reading of a file: whether every row is good, and what there is.

use std::collections::HashSet;
use std::path::Path;

use super::plan::{Plan, Reading};
use super::rows::Rows;
use super::{BadRow, LoadError, SHOWN};

/// What a file holds.
#[derive(Debug, Default)]
pub struct Survey {
    /// Rows, bad ones included.
    pub rows: u64,
    /// Rows that are no readings.
    pub bad: u64,
    /// The first of them.
    pub shown: Vec<BadRow>,
    /// Different devices.
    pub cars: usize,
    /// First and last event time in ms since 1970, not in the order of the file.
    pub times: Option<(i64, i64)>,
    /// SHA-256 of the file.
    pub hash: [u8; 32],
}

impl Survey {
    /// Reads all of `rows`.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be read to its end or holds no row.
    pub fn take(path: &Path, rows: &mut Rows, plan: &Plan) -> Result<Self, LoadError> {
        let mut survey = Self::default();
        let mut cars: HashSet<Vec<u8>> = HashSet::new();
        let mut reading = Reading::default();
        while let Some(row) = rows.next_row()? {
            survey.rows += 1;
            match plan.read(row, 0, &mut reading) {
                Ok(()) => {
                    if !cars.contains(&reading.car) {
                        cars.insert(reading.car.clone());
                    }
                    let time = reading.time_ms;
                    let (first, last) = survey.times.unwrap_or((time, time));
                    survey.times = Some((first.min(time), last.max(time)));
                }
                Err(bad) => {
                    survey.bad += 1;
                    if survey.shown.len() < SHOWN {
                        survey.shown.push(bad);
                    }
                }
            }
        }
        if survey.rows == 0 {
            return Err(LoadError::NoRows { path: path.to_owned() });
        }
        survey.cars = cars.len();
        survey.hash = rows.hash();
        Ok(survey)
    }

    /// Rows that are readings.
    #[must_use]
    pub fn good(&self) -> u64 {
        self.rows - self.bad
    }

    /// The name under which Kafka keeps how far the file was loaded: the same bytes have the same one.
    #[must_use]
    pub fn name(&self, topic: &str) -> String {
        let hash: String = self.hash.iter().take(8).map(|it| format!("{it:02x}")).collect();
        format!("telltale-load-{topic}-{hash}")
    }
}
