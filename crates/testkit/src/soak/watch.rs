//! Looks, beside the faults, how long it takes after each until predictions flow again in every partition.
//!
//! A fault is over when its process was started again, or its link is clear. It is recovered from when every partition of the
//! predictions holds one of a reading made after that: the reading has gone the whole way.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use telltale_kafka::{Isolation, KafkaConfig, Reader};
use telltale_records::topics;
use tokio_util::sync::CancellationToken;

use super::plan::Kind;

/// Faults that may be over and not recovered from: far more than happen in the time that is given for recovery.
const PENDING: usize = 10_000;
/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// A fault that is over.
#[derive(Debug, Clone, Copy)]
struct Over {
    kind: Kind,
    since: Instant,
    /// The same on the cars' clock.
    since_ms: i64,
}

/// The longest recovery of each kind, and of how many faults.
pub type Recoveries = BTreeMap<Kind, (u64, Duration)>;

/// The thread that looks.
#[derive(Debug)]
pub struct Watch {
    over: SyncSender<Over>,
    thread: Option<JoinHandle<(Recoveries, Vec<String>)>>,
    stop: CancellationToken,
}

impl Watch {
    /// Begins to look at the predictions in `kafka`.
    #[must_use]
    pub fn start(kafka: KafkaConfig, partitions: i32) -> Self {
        let (over, rx) = sync_channel(PENDING);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || look(&kafka, partitions, &rx, &stopped));
        Self { over, thread: Some(thread), stop }
    }

    /// Takes in that a fault is over.
    ///
    /// # Panics
    ///
    /// Panics when more faults are not recovered from than can be in any soak.
    pub fn over(&self, kind: Kind) {
        #[expect(clippy::disallowed_methods, reason = "the cars' clock is the wall clock")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let over = Over {
            kind,
            since: Instant::now(),
            since_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
        };
        match self.over.try_send(over) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => panic!("{PENDING} faults are not recovered from"),
        }
    }

    /// Waits until all is recovered from, at most for `limit`; what is not is named.
    #[must_use]
    pub fn finish(mut self, limit: Duration, soak: &CancellationToken) -> (Recoveries, Vec<String>) {
        let (closed, _) = sync_channel(0);
        self.over = closed; // the thread ends once nothing is pending
        let deadline = Instant::now() + limit;
        let thread = self.thread.take().expect("it is taken once");
        while !thread.is_finished() {
            if Instant::now() > deadline || soak.is_cancelled() {
                self.stop.cancel();
            }
            std::thread::sleep(PAUSE);
        }
        thread.join().unwrap_or_default()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn look(
    kafka: &KafkaConfig,
    partitions: i32,
    over: &Receiver<Over>,
    stop: &CancellationToken,
) -> (Recoveries, Vec<String>) {
    let mut recoveries = Recoveries::new();
    let mut reader = None;
    while let Ok(next) = over.recv() {
        // What is not there for a fault is not there for a later one either, so they are taken one by one.
        for partition in 0..partitions {
            loop {
                if stop.is_cancelled() {
                    let since = next.since.elapsed();
                    let what = format!(
                        "{since:?} after a fault of kind {} partition {partition} still has no new predictions",
                        next.kind.name()
                    );
                    return (recoveries, vec![what]);
                }
                // Kafka may be away; that is what the soak is about.
                if reader.is_none() {
                    reader = Reader::open(kafka, Isolation::Committed).ok();
                }
                if reader
                    .as_mut()
                    .is_some_and(|it| has_since(it, partition, next.since_ms, stop).unwrap_or(false))
                {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
        }
        let recovery = next.since.elapsed();
        let (count, worst) = recoveries.entry(next.kind).or_default();
        *count += 1;
        *worst = recovery.max(*worst);
    }
    (recoveries, Vec::new())
}

/// Whether a partition holds the prediction for a reading of that time or later.
fn has_since(
    reader: &mut Reader,
    partition: i32,
    time_ms: i64,
    stop: &CancellationToken,
) -> Result<bool, telltale_kafka::Error> {
    let Some(first) = reader.offset_at(topics::PREDICTIONS, partition, time_ms)? else { return Ok(false) };
    let end = reader.watermarks(topics::PREDICTIONS, partition)?.end;
    let mut found = false;
    reader.read(topics::PREDICTIONS, partition, first..end, stop, |batch| {
        found = batch.records().any(|it| it.timestamp_ms().is_some_and(|it| it >= time_ms));
        if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(found)
}
