//! What the figures were measured on.

use std::fs;
use std::process::Command;

use serde::Serialize;

/// The machine.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// Model of the CPU.
    pub(crate) cpu: String,
    /// CPUs that this process may use.
    pub(crate) cores: usize,
    /// Memory in MB.
    pub(crate) memory_mb: u64,
}

impl Machine {
    /// Looks at this machine.
    pub(crate) fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: model(&read("/proc/cpuinfo")).unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mb: memory_kb(&read("/proc/meminfo")).unwrap_or(0) * 1024 / 1_000_000,
        }
    }
}

fn model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|it| it.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

fn memory_kb(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|it| it.strip_prefix("MemTotal:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The load average over a minute; negative where the system does not tell.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or(-1.0)
}

/// The commit that was built, with a mark when files differ from it.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|it| !it.is_empty());
    if changed { format!("{commit} and changes") } else { commit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read_from_what_linux_says() {
        let cpuinfo =
            "processor\t: 0\nmodel name\t: Some CPU @ 2.5GHz\nprocessor\t: 1\nmodel name\t: Other\n";
        assert_eq!(model(cpuinfo), Some("Some CPU @ 2.5GHz"));
        assert_eq!(model("Features : neon"), None);
        assert_eq!(memory_kb("MemTotal:       24576000 kB\nMemFree: 1 kB\n"), Some(24_576_000));
    }
}
