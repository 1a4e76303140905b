//! How long to wait before trying again: longer each time, never all at once.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Longest slice of a wait between looks at the stop signal.
const SLICE: Duration = Duration::from_millis(50);

/// Doubling waits with jitter.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The next wait, between half and all of a time that doubles up to the longest.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        // A new `RandomState` has random keys, which is all the randomness a jitter needs.
        let share = RandomState::new().build_hasher().finish() % 512;
        wait / 2 + wait * u32::try_from(share).expect("it is below 512") / 1024
    }

    /// Begins with the first wait again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Sleeps for `time` or until `stop`; returns whether it was told to stop.
pub(crate) fn sleep(time: Duration, stop: &CancellationToken) -> bool {
    let deadline = Instant::now() + time;
    while !stop.is_cancelled() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        thread::sleep(left.min(SLICE));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_start_over() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, longest);
        for full in [100, 200, 400, 800, 1000, 1000].map(Duration::from_millis) {
            let wait = backoff.next();
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= first);
    }

    #[test]
    fn a_stopped_sleeper_does_not_sleep() {
        let stop = CancellationToken::new();
        assert!(!sleep(Duration::from_millis(1), &stop));
        stop.cancel();
        assert!(sleep(Duration::from_secs(600), &stop));
    }
}
