//! What a process holds: memory, descriptors, threads, as the kernel counts them.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

/// What a process holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Usage {
    /// Resident memory in kB (1024 bytes, as the kernel says it).
    pub rss_kb: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
}

impl Usage {
    /// Looks at a process; `None` when there is none of this number, or this is no Linux.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let number = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|it| it.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
        Some(Self { rss_kb: number("VmRSS:")?, descriptors, threads: number("Threads:")? })
    }

    fn max(self, other: Self) -> Self {
        Self {
            rss_kb: self.rss_kb.max(other.rss_kb),
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
        }
    }
}

/// How a name's processes, one after the other, held what they held.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Course {
    /// When the faults began.
    pub start: Usage,
    /// The most of each, which need not have been at one time.
    pub peak: Usage,
    /// When the faults had ended.
    pub end: Usage,
    /// At the beginning of each minute.
    pub minutes: Vec<Usage>,
    #[serde(skip)]
    since: Instant,
}

impl Course {
    /// A course that begins with what a process holds now.
    #[must_use]
    pub fn new(start: Usage) -> Self {
        Self { start, peak: start, end: start, minutes: Vec::new(), since: Instant::now() }
    }

    fn take(&mut self, usage: Usage) {
        self.peak = self.peak.max(usage);
        self.end = usage;
        let minutes = self.since.elapsed().as_secs() / 60 + 1;
        self.minutes.resize(minutes as usize, usage);
    }
}

/// The courses of all processes, by name.
#[derive(Debug, Default)]
pub struct Courses(pub BTreeMap<String, Course>);

impl Courses {
    /// Takes in what the process of a name holds now.
    pub fn take(&mut self, name: &str, pid: Option<u32>) {
        let Some(usage) = pid.and_then(Usage::of) else { return };
        self.0.entry(name.to_owned()).or_insert_with(|| Course::new(usage)).take(usage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_course_has_a_start_a_peak_and_an_end() {
        let mut courses = Courses::default();
        courses.take("it", Some(std::process::id()));
        let before = courses.0["it"].clone();
        assert!(before.start.rss_kb > 100 && before.start.threads > 0, "{before:?}");
        let file = fs::File::open("/proc/self/status").unwrap();
        courses.take("it", Some(std::process::id()));
        courses.take("it", None);
        assert!(courses.0["it"].peak.descriptors > before.start.descriptors, "{file:?} is open");
        assert_eq!(courses.0["it"].start, before.start);
        assert_eq!(courses.0["it"].minutes, [before.start]);
    }
}
