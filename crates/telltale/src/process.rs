//! What this process has used: processor time and memory, as the kernel counts them.

use std::fs;

/// Clock ticks a second in `/proc/<pid>/stat`: `USER_HZ`, fixed at 100 by Linux's interface to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Use of resources since the process began; `None` where the system does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Processor time of all threads, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident set now, in MB (10⁶ bytes).
    pub rss_mb: Option<f64>,
    /// Largest resident set so far, in MB (10⁶ bytes).
    pub peak_rss_mb: Option<f64>,
}

impl Usage {
    /// Reads the figures of this process from `/proc`, which only Linux has.
    #[must_use]
    pub fn of_this_process() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            cpu_seconds: fs::read_to_string("/proc/self/stat").ok().and_then(|it| cpu_seconds(&it)),
            rss_mb: memory_mb(&status, "VmRSS:"),
            peak_rss_mb: memory_mb(&status, "VmHWM:"),
        }
    }
}

/// `utime` plus `stime`, fields 14 and 15; the command in field 2 may hold spaces and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let after_command = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_command.split_ascii_whitespace().skip(11);
    let ticks = |it: &str| it.parse::<u64>().ok();
    let (user, system) = (ticks(fields.next()?)?, ticks(fields.next()?)?);
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

/// A line of `/proc/<pid>/status`, where the kernel gives memory in units of 1024 bytes.
fn memory_mb(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|it| it.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes as f64 * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_texts() {
        let stat = "812 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 1 0 99 0 0";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(memory_mb("VmPeak:\t 9 kB\nVmHWM:\t   2000 kB\n", "VmHWM:"), Some(2.048));
    }

    #[test]
    fn answers_nothing_to_a_text_it_does_not_know() {
        for text in ["", ")", "1 (a) S 1 2", "1 (a) S 1 2 3 4 5 6 7 8 9 10 x y"] {
            assert_eq!(cpu_seconds(text), None, "{text:?}");
        }
        for text in ["", "VmHWM:", "VmHWM: many kB", "VmHWM: 5 pages"] {
            assert_eq!(memory_mb(text, "VmHWM:"), None, "{text:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn knows_this_process() {
        let usage = Usage::of_this_process();
        assert!(usage.cpu_seconds.is_some() && usage.peak_rss_mb.is_some_and(|it| it > 1.0), "{usage:?}");
    }
}
