//! A call that ends in time, whatever it does.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use crate::deadline::Deadline;

/// How much later than its own time-out a call may return.
const LATER: Duration = Duration::from_secs(1);

/// Makes `call` on a thread of its own, which is left to itself when it has not returned by `deadline`, or a moment after `limit`, its
/// own time-out.
///
/// # Errors
///
/// Returns the error of the call, or that it timed out.
pub(super) fn bounded(
    name: &str,
    limit: Duration,
    deadline: &Deadline<'_>,
    call: impl FnOnce() -> KafkaResult<()> + Send + 'static,
) -> KafkaResult<()> {
    let timed_out = || Err(KafkaError::Global(RDKafkaErrorCode::OperationTimedOut));
    let (answer, answered) = mpsc::sync_channel(1);
    let run = move || drop(answer.send(call()));
    if thread::Builder::new().name(name.to_owned()).spawn(run).is_err() {
        // As if Kafka had not answered: nothing was asked of it, and it is tried again later.
        return timed_out();
    }
    let end = Instant::now() + limit + LATER;
    loop {
        match answered.recv_timeout(deadline.slice().max(Duration::from_millis(1))) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) if !deadline.is_over() && Instant::now() < end => {}
            // Without an answer and without a sender, the call has panicked.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return timed_out(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Barrier;

    use tokio_util::sync::CancellationToken;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn is_time_out(result: &KafkaResult<()>) -> bool {
        matches!(result, Err(KafkaError::Global(RDKafkaErrorCode::OperationTimedOut)))
    }

    #[test]
    fn the_answer_of_a_call_in_time_is_given_on() {
        let stop = CancellationToken::new();
        let deadline = Deadline::new(LONG, &stop);
        assert!(bounded("test", LONG, &deadline, || Ok(())).is_ok());
        let refused = bounded("test", LONG, &deadline, || Err(KafkaError::Canceled));
        assert!(matches!(refused, Err(KafkaError::Canceled)), "{refused:?}");
    }

    #[test]
    fn a_call_that_never_returns_is_left_to_itself() {
        let (stop, never) = (CancellationToken::new(), Arc::new(Barrier::new(9)));
        let hang = || {
            let never = Arc::clone(&never);
            move || {
                never.wait();
                Ok(())
            }
        };
        assert!(is_time_out(&bounded("test", Duration::ZERO, &Deadline::new(LONG, &stop), hang())));
        assert!(is_time_out(&bounded("test", LONG, &Deadline::new(Duration::ZERO, &stop), hang())));
        stop.cancel();
        assert!(
            is_time_out(&bounded("test", LONG, &Deadline::new(LONG, &stop), hang())),
            "the shutdown ends it"
        );
    }

    #[test]
    fn a_call_that_panics_counts_as_unanswered() {
        let stop = CancellationToken::new();
        let panicked = bounded("test", LONG, &Deadline::new(LONG, &stop), || panic!("asked for by the test"));
        assert!(is_time_out(&panicked));
    }
}
