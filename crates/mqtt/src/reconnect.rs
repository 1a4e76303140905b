//! How long a session waits before it connects again.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use tokio::sync::Notify;

/// First and longest pause before connecting again; half of it is waited at least. Without the first one HiveMQ may give messages
/// to the connection that has just ended, and keep them until the reconnect after this one ("late look into the queue" in
/// docs/CONFORMANCE.md).
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Waits before the next attempt to connect, or until `closing` is notified.
pub(crate) async fn wait(closing: &Notify, seed: u64, failures: u32) {
    // Both are safe to cancel.
    tokio::select! {
        () = tokio::time::sleep(pause(seed, failures)) => {}
        () = closing.notified() => {}
    }
}

/// Doubles with each failure up to a limit, and differs from client to client so that a fleet does not come
/// back at one instant.
fn pause(seed: u64, failures: u32) -> Duration {
    let (first, longest) = PAUSES;
    let whole = first.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(longest);
    let mut hasher = DefaultHasher::new();
    (seed, failures).hash(&mut hasher);
    let share = (hasher.finish() % 1000) as f64 / 1000.0;
    whole.mul_f64(0.5 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        for failures in 1..100 {
            let pause = pause(7, failures);
            assert!(PAUSES.0 / 2 <= pause && pause <= PAUSES.1, "{failures}: {pause:?}");
        }
        assert!(pause(7, 30) >= PAUSES.1 / 2);
        assert_ne!(pause(7, 5), pause(8, 5));
    }
}
