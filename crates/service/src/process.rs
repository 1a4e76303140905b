//! What the process takes from its machine, under the names that Prometheus' client libraries share.
//!
//! Read from /proc at each scrape. Where there is no /proc, or a line of it is missing, what it would say is left out.

use std::fmt::Error;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// In which Linux counts time towards programs, whatever the kernel's own clock: `sysconf(_SC_CLK_TCK)`.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process's metrics: `process_cpu_seconds_total` and its like.
#[derive(Debug)]
pub(crate) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let read = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        let (stat, status, limits) = (read("stat"), read("status"), read("limits"));
        if let Some(ticks) = ticks(&stat) {
            let help = "CPU time spent by the process";
            encode(&mut encoder, "process_cpu_seconds", help, &ConstCounter::new(ticks / TICKS_PER_SECOND))?;
        }
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        if let (Some(boot), Some(started)) = (boot_time(&boot), field(&stat, 22)) {
            let seconds = boot + started / TICKS_PER_SECOND;
            let help = "When the process started, in seconds since 1970";
            encode(&mut encoder, "process_start_time_seconds", help, &ConstGauge::new(seconds))?;
        }
        let gauges = [
            ("process_resident_memory_bytes", "Memory in RAM", kilobytes(&status, "VmRSS:")),
            ("process_virtual_memory_bytes", "Memory addressed", kilobytes(&status, "VmSize:")),
            ("process_threads", "Threads", after(&status, "Threads:")),
            ("process_open_fds", "Open file descriptors", open_descriptors()),
            ("process_max_fds", "File descriptors that may be open", after(&limits, "Max open files")),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                encode(&mut encoder, name, help, &ConstGauge::new(value))?;
            }
        }
        Ok(())
    }
}

fn encode(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> Result<(), Error> {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// Field `number` of /proc/self/stat as proc(5) numbers them, of those after the program's name: that may hold anything.
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split_whitespace().nth(number - 3)?.parse().ok()
}

/// Time in programs and in the kernel.
fn ticks(stat: &str) -> Option<f64> {
    Some(field(stat, 14)? + field(stat, 15)?)
}

fn boot_time(stat: &str) -> Option<f64> {
    after(stat, "btime")
}

/// The number that follows `name` at the beginning of a line.
fn after(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|it| it.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn kilobytes(status: &str, name: &str) -> Option<f64> {
    Some(after(status, name)? * 1024.0)
}

/// One more is open while they are counted.
fn open_descriptors() -> Option<f64> {
    let open = u32::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?;
    Some(f64::from(open.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        // A program may call itself anything, parentheses and blanks included.
        let stat = "17 (a) b) S 1 17 17 0 -1 4194560 999 0 0 0 250 50 0 0 20 0 3 0 4200 1000 200 18446744073709551615";
        assert_eq!(ticks(stat), Some(300.0));
        assert_eq!(field(stat, 22), Some(4200.0));
        assert_eq!(ticks("nothing"), None);
        assert_eq!(kilobytes("VmPeak:\t 9 kB\nVmRSS:\t   2048 kB\n", "VmRSS:"), Some(2_097_152.0));
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
        assert_eq!(
            after("Max open files            1024                 4096   files", "Max open files"),
            Some(1024.0)
        );
        assert_eq!(
            after("Max open files            unlimited            unlimited   files", "Max open files"),
            None
        );
    }
}
