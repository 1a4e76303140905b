//! One signal that everything may wait for, from threads and from tasks.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Says when to stop; clones say so together.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    threads: Arc<(Mutex<bool>, Condvar)>,
}

impl Shutdown {
    /// Makes a signal that nothing has requested yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that holds a clone to stop.
    pub fn request(&self) {
        self.token.cancel();
        let (requested, wake) = &*self.threads;
        *requested.lock().unwrap_or_else(PoisonError::into_inner) = true;
        wake.notify_all();
    }

    /// Whether stopping was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// The same signal for code that knows only tokens. Cancelling the token wakes tasks but not sleeping
    /// threads: ask by [`Shutdown::request`].
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Waits until stopping is asked for.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Sleeps for `limit` on this thread, or until stopping is asked for; returns whether it was.
    #[must_use]
    pub fn sleep(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let (requested, wake) = &*self.threads;
        let mut requested = requested.lock().unwrap_or_else(PoisonError::into_inner);
        while !*requested {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            requested = wake.wait_timeout(requested, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeping_thread_wakes_when_asked_to_stop() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.sleep(Duration::from_millis(1)));
        let other = shutdown.clone();
        let sleeper = std::thread::spawn(move || other.sleep(Duration::from_secs(60)));
        shutdown.request();
        assert!(sleeper.join().unwrap());
        assert!(shutdown.is_requested());
    }
}
