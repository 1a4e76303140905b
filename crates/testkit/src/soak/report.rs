//! What a soak found, as a table for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::count::Count;
use super::usage::Course;

/// What a soak found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// What it was asked for, as it can be asked for again.
    pub command: String,
    /// Seconds for which faults happened.
    pub seconds: f64,
    /// What became of the cars' readings on their way to the raw topic.
    pub count: Count,
    /// Messages that no service can use.
    pub poison: u64,
    /// Faults by kind.
    pub faults: BTreeMap<String, Faults>,
    /// Starts of each service.
    pub starts: BTreeMap<String, u32>,
    /// What ended without being asked to, with its last words: no violation, for what cannot go on is to end.
    pub ended_themselves: Vec<String>,
    /// What processes held, by name.
    pub usage: BTreeMap<String, Course>,
    /// What broke the contract: nothing may.
    pub violations: Vec<String>,
}

/// The faults of a kind.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Faults {
    /// How many there were.
    pub count: u64,
    /// How many of them predictions flowed again after, in every partition.
    pub recovered: u64,
    /// Longest time from a fault's end until they did, in seconds.
    pub worst_recovery_seconds: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count { acknowledged, raw, lost, again, moved } = self.count;
        writeln!(f, "{}", self.command)?;
        writeln!(f, "\nreadings acknowledged to the cars {acknowledged:>9}")?;
        writeln!(f, "records in sensor-data            {raw:>9}")?;
        writeln!(f, "  acknowledged and not there      {lost:>9}")?;
        writeln!(f, "  there again                     {again:>9}")?;
        writeln!(f, "  behind a later one of its car   {moved:>9}")?;
        writeln!(f, "messages that nobody can use      {:>9}", self.poison)?;
        writeln!(f, "\n{:<12} {:>6} {:>10} {:>15}", "fault", "times", "recovered", "worst recovery")?;
        for (kind, it) in &self.faults {
            writeln!(
                f,
                "{kind:<12} {:>6} {:>10} {:>13.1} s",
                it.count, it.recovered, it.worst_recovery_seconds
            )?;
        }
        writeln!(
            f,
            "\n{:<16} {:>6} {:>24} {:>17} {:>17}",
            "process", "starts", "RSS MB start/peak/end", "descriptors", "threads"
        )?;
        for (name, Course { start, peak, end, .. }) in &self.usage {
            let megabytes = |kb: u64| kb as f64 * 1024.0 / 1e6;
            let starts = self.starts.get(name).map_or_else(String::new, u32::to_string);
            let memory = format!(
                "{:.0}/{:.0}/{:.0}",
                megabytes(start.rss_kb),
                megabytes(peak.rss_kb),
                megabytes(end.rss_kb)
            );
            let descriptors = format!("{}/{}/{}", start.descriptors, peak.descriptors, end.descriptors);
            let threads = format!("{}/{}/{}", start.threads, peak.threads, end.threads);
            writeln!(f, "{name:<16} {starts:>6} {memory:>24} {descriptors:>17} {threads:>17}")?;
        }
        if !self.ended_themselves.is_empty() {
            writeln!(
                f,
                "\nprocesses ended by themselves {} times, to start again:",
                self.ended_themselves.len()
            )?;
            self.ended_themselves.iter().take(SHOWN).try_for_each(|it| writeln!(f, "  {it}"))?;
        }
        writeln!(f, "\nviolations: {}", self.violations.len())?;
        self.violations.iter().take(SHOWN).try_for_each(|it| writeln!(f, "  {it}"))
    }
}

/// Lines of a list that are printed; the file has all.
const SHOWN: usize = 40;
