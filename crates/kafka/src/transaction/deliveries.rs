//! What librdkafka reports about a transactional producer: deliveries, and the ends of connections.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use crate::client::Log;
use crate::deadline::Deadline;

/// Takes delivery reports: counts what is under way, keeps failures by the index of the record.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    pub(super) log: Log,
    /// Whether a connection that was in use has ended.
    pub(super) cut_off: AtomicBool,
    pub(super) under_way: AtomicUsize,
    failed: Mutex<Vec<(usize, KafkaError)>>,
    /// Told when nothing is under way any more, and of every failure.
    changed: Condvar,
}

impl Deliveries {
    pub(super) fn failed(&self) -> MutexGuard<'_, Vec<(usize, KafkaError)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing is under way or, if asked, until something failed; returns whether that came true.
    pub(super) fn wait(&self, or_failure: bool, deadline: &Deadline<'_>) -> bool {
        let mut failed = self.failed();
        while (failed.is_empty() || !or_failure) && self.under_way.load(Ordering::Acquire) > 0 {
            let slice = deadline.slice();
            if slice.is_zero() {
                return false;
            }
            failed = self.changed.wait_timeout(failed, slice).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if tells_an_end(facility, message) {
            self.cut_off.store(true, Ordering::Release);
        }
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        if let Err((error, _)) = result {
            self.failed().push((index, error.clone()));
            self.changed.notify_all();
        }
        if self.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Under the lock, so that a waiter is either before its look or in its wait.
            let _failed = self.failed();
            self.changed.notify_all();
        }
    }
}

/// Whether a line of librdkafka's log says that a connection in use has ended, and not because librdkafka was done with it.
///
/// It has no other word for it; this one comes before the requests are made again.
fn tells_an_end(facility: &str, message: &str) -> bool {
    facility == "FAIL" && message.contains("in state UP") && !message.contains("(_DESTROY")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ends_of_connections_in_use_count() {
        let lines = [
            ("FAIL", "Disconnected: connection closed by peer (after 67ms in state UP) (_TRANSPORT)", true),
            ("FAIL", "1 request(s) timed out: disconnect (after 9ms in state UP) (_TIMED_OUT)", true),
            ("FAIL", "Connect to ipv4#127.0.0.1:1 failed (after 0ms in state CONNECT) (_TRANSPORT)", false),
            ("FAIL", "Decommissioning this broker (after 7ms in state UP) (_DESTROY_BROKER)", false),
            ("FAIL", "Broker handle is terminating (after 7ms in state UP) (_DESTROY)", false),
            ("STATE", "Broker changed state UP -> DOWN", false),
        ];
        for (facility, message, expected) in lines {
            assert_eq!(tells_an_end(facility, message), expected, "{message}");
        }
    }
}
