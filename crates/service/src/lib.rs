//! The life of a process: settings, logs, traces, metrics, probes, signals, exit code.

mod shutdown;

pub use shutdown::Shutdown;
