//! The wall clock, asked in one place: time stamps of the log itself, retention, time-outs.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time now.
#[expect(clippy::disallowed_methods, reason = "a broker stamps, expires and times out by its own clock")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// Milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_millis() as i64)
}
