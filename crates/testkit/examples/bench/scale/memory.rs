//! Memory of a process over time.

use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Points that a report keeps.
const POINTS: usize = 20;

/// Resident memory of a process in kB; `None` once it has ended.
pub(super) fn resident_kb(pid: u32) -> Option<u64> {
    resident(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Looks at a process until it is asked what it saw, or the process ends.
#[derive(Debug)]
pub(super) struct Watched {
    stop: SyncSender<()>,
    thread: JoinHandle<Vec<(f64, u64)>>,
}

impl Watched {
    /// Begins to look.
    pub(super) fn start(pid: u32) -> Result<Self> {
        let (stop, stopped) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("memory".to_owned()).spawn(move || {
            let (began, mut seen) = (Instant::now(), Vec::new());
            while let Some(kb) = resident_kb(pid) {
                seen.push((began.elapsed().as_secs_f64(), kb));
                match stopped.recv_timeout(LOOK) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => break,
                }
            }
            seen
        });
        Ok(Self { stop, thread: thread.context("starting a thread")? })
    }

    /// Ends the looking; what was seen.
    pub(super) fn end(self) -> Result<Memory> {
        drop(self.stop);
        let seen = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Memory::of(&seen).context("the process ended before it was looked at")
    }
}

/// Memory over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Memory {
    /// Seconds since the first look, and MB then, evenly chosen.
    pub(super) over_time: Vec<(f64, f64)>,
    /// Mean of the second quarter of the time, in MB: what start and first batches take is there by then.
    pub(super) early_mb: f64,
    /// Mean of the last quarter, in MB.
    pub(super) late_mb: f64,
    /// The most, in MB.
    pub(super) most_mb: f64,
}

impl Memory {
    fn of(seen: &[(f64, u64)]) -> Option<Self> {
        let mb = |kb: u64| kb as f64 * 1024.0 / 1e6;
        let mean =
            |part: &[(f64, u64)]| part.iter().map(|it| mb(it.1)).sum::<f64>() / part.len().max(1) as f64;
        let count = seen.len();
        let most = seen.iter().map(|it| it.1).max()?;
        let point = |index: usize| seen[index * (count - 1) / (POINTS.min(count) - 1).max(1)];
        let over_time = (0..POINTS.min(count)).map(point).map(|(at, kb)| (at, mb(kb))).collect();
        let (early, late) = (&seen[count / 4..(count / 2).max(count / 4 + 1)], &seen[count * 3 / 4..]);
        Some(Self { over_time, early_mb: mean(early), late_mb: mean(late), most_mb: mb(most) })
    }

    /// Memory late against memory early.
    pub(super) fn growth(&self) -> f64 {
        self.late_mb / self.early_mb
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_compared_late_with_early() {
        assert_eq!(resident("VmHWM:\t 9 kB\nVmRSS:\t  1234 kB\n"), Some(1234));
        assert_eq!(Memory::of(&[]), None);
        let flat: Vec<(f64, u64)> = (0..100).map(|it| (f64::from(it), 1_000_000)).collect();
        let memory = Memory::of(&flat).unwrap();
        assert_eq!((memory.growth(), memory.over_time.len(), memory.most_mb), (1.0, 20, 1024.0));
        assert_eq!((memory.over_time[0].0, memory.over_time[19].0), (0.0, 99.0));
        let leak: Vec<(f64, u64)> =
            (0..100).map(|it| (f64::from(it), 1000 * u64::from(it as u32 + 1))).collect();
        assert!(Memory::of(&leak).unwrap().growth() > 2.0);
        let one = Memory::of(&[(0.0, 1000)]).unwrap();
        assert_eq!((one.over_time.len(), one.growth()), (1, 1.0));
    }

    #[test]
    fn a_process_is_watched_until_its_end() {
        let own = Watched::start(std::process::id()).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        assert!(own.end().unwrap().most_mb > 1.0);
        assert_eq!(resident_kb(u32::MAX), None);
    }
}
