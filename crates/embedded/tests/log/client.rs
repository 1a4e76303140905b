//! A log to speak to; the client is the one of the conformance tests.

use std::time::Duration;

use telltale_embedded::log::{Log, LogConfig};

/// A log in memory that answers fast.
pub(crate) fn log() -> Log {
    Log::start(config()).unwrap()
}

/// Settings for tests: a free port, and groups that do not gather.
pub(crate) fn config() -> LogConfig {
    let mut config = LogConfig::default();
    config.rebalance_delay = Duration::ZERO;
    config
}
