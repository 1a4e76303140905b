//! Waiting for what a service needs before it can begin.

use std::error::Error;
use std::time::Duration;

use tracing::warn;

use crate::{Service, chain};

/// First and longest pause between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

impl Service {
    /// Makes `attempt` until it succeeds; says meanwhile that `component` is not ready, and why. `None` when the shutdown comes
    /// first.
    ///
    /// # Errors
    ///
    /// Returns the first error for which `passes` does not hold.
    pub fn keep_trying<T, E: Error + 'static>(
        &self,
        component: &str,
        passes: impl Fn(&E) -> bool,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let mut pause = PAUSES.0;
        loop {
            match attempt() {
                Ok(done) => {
                    self.ready(component);
                    return Ok(Some(done));
                }
                Err(error) if passes(&error) => {
                    let error = chain(&error);
                    warn!(component, error, ?pause, "not there yet, will try again");
                    self.not_ready(component, &error);
                }
                Err(error) => return Err(error),
            }
            if self.shutdown().sleep(pause) {
                return Ok(None);
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    fn service(runtime: &tokio::runtime::Runtime) -> Service {
        Service::new("bridge", runtime.handle().clone(), Duration::from_secs(60), false)
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_returned() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let service = service(&runtime);
        let mut answers = vec![Ok(7), Err(ErrorKind::TimedOut), Err(ErrorKind::TimedOut)];
        let passes = |it: &Error| it.kind() == ErrorKind::TimedOut;
        let tried = service.keep_trying("kafka", passes, || {
            let answer = answers.pop().unwrap();
            let says = service.unready().iter().any(|it| it.starts_with("kafka: "));
            assert_eq!(says, answers.len() < 2, "it says that it waits");
            answer.map_err(Error::from)
        });
        assert_eq!((tried.unwrap(), service.unready()), (Some(7), vec![]));
        let denied =
            service.keep_trying("kafka", passes, || Err::<(), _>(ErrorKind::PermissionDenied.into()));
        assert_eq!(denied.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_shutdown_ends_the_waiting() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let service = service(&runtime);
        let away = || {
            service.shutdown().request();
            Err::<(), _>(Error::from(ErrorKind::TimedOut))
        };
        assert!(service.keep_trying("kafka", |_| true, away).unwrap().is_none());
    }
}
