//! What a process has used, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// What a process has used since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    /// CPU time of all its threads, user and system, to a hundredth of a second.
    pub(crate) cpu: Duration,
    /// The most memory it ever held; 0 once it has ended.
    pub(crate) peak_rss_kb: u64,
    /// Whether it has ended; what it used is known until somebody waits for it.
    pub(crate) ended: bool,
}

/// Looks at a process.
pub(crate) fn used(pid: u32) -> Result<Used> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("looking at process {pid}"))?;
    let (cpu, ended) =
        times(&stat).with_context(|| format!("/proc/{pid}/stat is not as expected: {stat}"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    Ok(Used { cpu, peak_rss_kb: peak(&status).unwrap_or(0), ended })
}

/// Milliseconds of a clock tick as /proc counts them: `USER_HZ`, 100 a second on every architecture we build for.
const TICK_MS: u64 = 10;

/// CPU time and whether the process has ended, from the text of `/proc/PID/stat`.
fn times(stat: &str) -> Option<(Duration, bool)> {
    // The second field is the program's name in parentheses, which may hold anything; state is the third, utime the 14th.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let user: u64 = fields.nth(10)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((Duration::from_millis((user + system) * TICK_MS), state.starts_with(['Z', 'X'])))
}

/// The most resident memory in kB, from the text of `/proc/PID/status`.
fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_times_stand_behind_a_name_that_may_hold_anything() {
        let stat = "17 (a) R 9 (b) S 1 17 17 0 -1 4194304 90 0 2 0 123 45 7 8 20 0 3 0 99 1000 200";
        assert_eq!(times(stat), Some((Duration::from_millis(1680), false)));
        let dead = "17 (it) Z 1 17 17 0 -1 4194304 90 0 2 0 1 2 7 8 20 0 3 0 99 1000 200";
        assert_eq!(times(dead), Some((Duration::from_millis(30), true)));
        assert_eq!(times("17 (it) S 1"), None);
        assert_eq!(peak("VmPeak:\t 9 kB\nVmHWM:\t  1234 kB\nVmRSS:\t 5 kB\n"), Some(1234));
        assert_eq!(peak("State: Z\n"), None);
    }

    #[test]
    fn work_is_seen_and_an_end_too() {
        let before = used(std::process::id()).unwrap();
        let began = Instant::now();
        let mut sum = 0_u64;
        while used(std::process::id()).unwrap().cpu < before.cpu + Duration::from_millis(50) {
            sum = std::hint::black_box(sum + 1);
            assert!(began.elapsed() < telltale_testkit::PATIENCE, "no CPU time is seen");
        }
        assert!(before.peak_rss_kb > 100 && !before.ended);
        let mut child = Command::new("true").spawn().unwrap();
        telltale_testkit::wait_until("the child has ended", || used(child.id()).unwrap().ended);
        child.wait().unwrap();
        used(child.id()).unwrap_err();
    }
}
