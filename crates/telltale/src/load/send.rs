//! The second reading of a file: steps of readings, each in one transaction with how far it came.

use std::path::Path;
use std::time::{Duration, Instant};

use telltale_kafka::{Position, Progress, PublishError};
use telltale_records::{Destination, Outgoing};
use tokio_util::sync::CancellationToken;

use super::LoadError;
use super::plan::{Plan, Reading};
use super::rows::Rows;

/// Header that says which line of which file a reading was.
pub const FILE_HEADER: &str = "file";
/// Most readings of one step.
const STEP_READINGS: usize = 5000;
/// Most bytes of one step.
const STEP_BYTES: usize = 4 << 20;
/// Longest age of a step that grows at a given rate.
const STEP_AGE: Duration = Duration::from_millis(200);
/// Longest sleep, and so how late a stop is noticed.
const NAP: Duration = Duration::from_millis(50);
/// Attempts of one step that Kafka does not take, with a pause between.
const ATTEMPTS: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);

/// What to send, and how.
#[derive(Debug)]
pub struct Job<'a> {
    /// The file.
    pub path: &'a Path,
    /// How its rows become readings.
    pub plan: &'a Plan,
    /// Target topic.
    pub topic: &'a str,
    /// Rows to pass over: they were sent before.
    pub skip_rows: u64,
    /// Line before which rows are passed over.
    pub from_line: u64,
    /// What is added to each event time.
    pub shift_ms: i64,
    /// Readings a second; `None` as fast as it goes.
    pub rate: Option<f64>,
    /// Ends it after the step in hand.
    pub stop: &'a CancellationToken,
}

/// What was sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Rows read, those passed over included.
    pub rows: u64,
    /// Readings that are in the topic.
    pub readings: u64,
    /// Bad rows left out.
    pub left_out: u64,
    /// SHA-256 of the file.
    pub hash: [u8; 32],
}

struct Step {
    records: Outgoing,
    count: usize,
    bytes: usize,
    began: Instant,
    /// Line of the first row in it.
    first_line: u64,
}

/// Sends the rows of `rows`, telling `seen` how many rows were read so far.
///
/// # Errors
///
/// Says where to go on when Kafka does not take a step or the user stops it.
pub fn send(
    job: &Job<'_>,
    rows: &mut Rows,
    progress: &mut Progress,
    mut seen: impl FnMut(u64),
) -> Result<Sent, LoadError> {
    let file = job.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut sent = Sent::default();
    let mut reading = Reading::default();
    let mut step = Step::new();
    let started = Instant::now();
    let mut taken = 0_u64;
    while let Some(row) = rows.next_row()? {
        let line = row.line;
        sent.rows += 1;
        if sent.rows <= job.skip_rows || line < job.from_line {
            continue;
        }
        if job.plan.read(row, job.shift_ms, &mut reading).is_err() {
            sent.left_out += 1;
            continue;
        }
        let due = job.rate.map(|rate| started + Duration::from_secs_f64(taken as f64 / rate));
        let early = due.is_some_and(|it| it.saturating_duration_since(Instant::now()) > NAP);
        let full = step.count >= STEP_READINGS || step.bytes >= STEP_BYTES;
        let old = job.rate.is_some() && step.began.elapsed() >= STEP_AGE;
        if step.count > 0 && (full || early || old) {
            publish(job, &mut step, sent.rows - 1, &mut sent, progress)?;
            seen(sent.rows);
        }
        if !wait(due, job.stop) {
            if step.count > 0 {
                publish(job, &mut step, sent.rows - 1, &mut sent, progress)?;
            }
            return Err(LoadError::Stopped { next: line, sent: sent.readings, topic: job.topic.to_owned() });
        }
        taken += 1;
        step.push(job.topic, &file, line, &reading);
    }
    publish(job, &mut step, sent.rows, &mut sent, progress)?;
    seen(sent.rows);
    sent.hash = rows.hash();
    Ok(sent)
}

/// Waits for `due`; returns whether nobody wants to stop.
fn wait(due: Option<Instant>, stop: &CancellationToken) -> bool {
    while let Some(left) = due.and_then(|it| it.checked_duration_since(Instant::now())) {
        if stop.is_cancelled() {
            return false;
        }
        std::thread::sleep(left.min(NAP));
    }
    !stop.is_cancelled()
}

/// Writes the step and that `rows` rows are done; again while the fault may pass.
fn publish(
    job: &Job<'_>,
    step: &mut Step,
    rows: u64,
    sent: &mut Sent,
    progress: &mut Progress,
) -> Result<(), LoadError> {
    let position = Position { done: rows, note: note(job.shift_ms) };
    let failed = |source, sent: &Sent, next| LoadError::Publish {
        next,
        sent: sent.readings,
        topic: job.topic.to_owned(),
        source,
    };
    let mut attempts = 0;
    loop {
        attempts += 1;
        match progress.publish(&step.records, &position, job.stop) {
            Ok(()) => break,
            // Whatever became of it, the position tells.
            Err(PublishError::Unknown { .. }) if progress.position()? == Some(position.clone()) => break,
            Err(PublishError::Aborted { .. } | PublishError::Unknown { .. })
                if attempts < ATTEMPTS && !job.stop.is_cancelled() =>
            {
                std::thread::sleep(PAUSE);
            }
            Err(source) => return Err(failed(source, sent, step.first_line)),
        }
    }
    sent.readings += step.count as u64;
    step.clear();
    Ok(())
}

/// What the next process must know of this one.
fn note(shift_ms: i64) -> String {
    format!("shift_ms={shift_ms}")
}

/// The shift that the note of an earlier process names.
#[must_use]
pub fn shift_of(note: &str) -> Option<i64> {
    note.strip_prefix("shift_ms=")?.parse().ok()
}

impl Step {
    fn new() -> Self {
        Self { records: Outgoing::new(), count: 0, bytes: 0, began: Instant::now(), first_line: 0 }
    }

    fn push(&mut self, topic: &str, file: &str, line: u64, reading: &Reading) {
        if self.count == 0 {
            (self.began, self.first_line) = (Instant::now(), line);
        }
        // The time of sending, as the bridge gives: services hold the event time against it.
        let to = Destination { topic: self.records.topic(topic), partition: None, timestamp_ms: None };
        let place = format!("{file}:{line}");
        self.records.push(
            to,
            Some(&reading.car),
            Some(&reading.json),
            None,
            &[(FILE_HEADER, place.as_bytes())],
        );
        self.count += 1;
        self.bytes += reading.car.len() + reading.json.len() + place.len();
    }

    fn clear(&mut self) {
        self.records.clear();
        (self.count, self.bytes) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back() {
        assert_eq!(shift_of(&note(-5)), Some(-5));
        assert_eq!(shift_of(""), None);
    }
}
