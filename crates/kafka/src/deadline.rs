//! When a wait ends: after its time, or soon after the shutdown.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// How long what is under way may still take once the shutdown has come.
const GRACE: Duration = Duration::from_secs(5);

/// Longest slice of a wait between looks at the shutdown.
const SLICE: Duration = Duration::from_millis(100);

/// The end of a wait.
#[derive(Debug)]
pub(crate) struct Deadline<'a> {
    at: Cell<Instant>,
    stop: &'a CancellationToken,
    stopping: Cell<bool>,
}

impl<'a> Deadline<'a> {
    pub(crate) fn new(limit: Duration, stop: &'a CancellationToken) -> Self {
        Self { at: Cell::new(Instant::now() + limit), stop, stopping: Cell::new(false) }
    }

    /// Time left.
    pub(crate) fn left(&self) -> Duration {
        let now = Instant::now();
        if self.stop.is_cancelled() && !self.stopping.replace(true) {
            self.at.set(self.at.get().min(now + GRACE));
        }
        self.at.get().saturating_duration_since(now)
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Time left, but not more than may pass before the next look at the shutdown.
    pub(crate) fn slice(&self) -> Duration {
        self.left().min(SLICE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shutdown_brings_the_end_nearer_once() {
        let stop = CancellationToken::new();
        let deadline = Deadline::new(Duration::from_secs(60), &stop);
        assert!(deadline.left() > GRACE && deadline.slice() == SLICE);
        stop.cancel();
        let left = deadline.left();
        assert!(left <= GRACE && !deadline.is_over());
        assert!(deadline.left() <= left, "it does not start anew");
        assert!(Deadline::new(Duration::ZERO, &stop).is_over());
    }
}
