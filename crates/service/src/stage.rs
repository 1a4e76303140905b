//! Stages: the named tasks and threads of a service, each of which someone waits for.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// A task or thread of a service. Dropping this does not end it; the service waits for it anyway.
#[derive(Debug, Clone)]
pub struct Stage {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    name: String,
    end: Mutex<Option<Result<(), StageError>>>,
    wake: Condvar,
    ended: CancellationToken,
}

/// Why a stage did not end as it should.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The stage returned an error.
    #[error("stage {stage} failed")]
    Failed {
        /// Name of the stage.
        stage: String,
        /// What the stage returned.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The stage panicked.
    #[error("stage {stage} panicked: {message}")]
    Panicked {
        /// Name of the stage.
        stage: String,
        /// What the panic said.
        message: String,
    },
    /// The stage was still at work when the time to drain was over.
    #[error("stage {stage} did not end within {limit:?}")]
    Late {
        /// Name of the stage.
        stage: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The operating system refused a thread.
    #[error("starting the thread of stage {stage}")]
    Start {
        /// Name of the stage.
        stage: String,
        /// What the operating system said.
        source: Arc<std::io::Error>,
    },
}

/// What a stage may return: nothing, or a result.
pub trait Outcome {
    /// Turns the stage's return value into success or an error.
    ///
    /// # Errors
    ///
    /// Returns the stage's own error.
    fn into_result(self) -> Result<(), Arc<dyn Error + Send + Sync>>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), Arc<dyn Error + Send + Sync>> {
        Ok(())
    }
}

impl<E: Error + Send + Sync + 'static> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), Arc<dyn Error + Send + Sync>> {
        self.map_err(|error| Arc::new(error) as Arc<dyn Error + Send + Sync>)
    }
}

/// Called once with the error of a stage that failed, before anyone who waits for the stage wakes.
pub(crate) type OnFailure = Box<dyn FnOnce(&StageError) + Send>;

impl Stage {
    fn new(name: String) -> Self {
        let (end, wake) = (Mutex::new(None), Condvar::new());
        Self { state: Arc::new(State { name, end, wake, ended: CancellationToken::new() }) }
    }

    /// Runs `work` as a task of `runtime`.
    pub(crate) fn task<F>(runtime: &Handle, name: String, work: F, on_failure: OnFailure) -> Self
    where
        F: Future<Output: Outcome + Send + 'static> + Send + 'static,
    {
        let stage = Self::new(name);
        let (ending, inner) = (stage.clone(), runtime.spawn(work));
        runtime.spawn(async move {
            let end = match inner.await {
                Ok(value) => ending.returned(value),
                Err(error) if error.is_panic() => Err(ending.panicked(error.into_panic())),
                Err(_) => Ok(()), // the runtime was shut down
            };
            ending.end(end, on_failure);
        });
        stage
    }

    /// Runs `work` on a thread of its own.
    pub(crate) fn thread<T>(
        name: String,
        work: impl FnOnce() -> T + Send + 'static,
        on_failure: OnFailure,
    ) -> Self
    where
        T: Outcome,
    {
        /// As large as a main thread's, since whole services run on such threads.
        const STACK_BYTES: usize = 8 << 20;
        let stage = Self::new(name);
        let ending = stage.clone();
        let on_failure = Arc::new(Mutex::new(Some(on_failure)));
        let on_failure_there = Arc::clone(&on_failure);
        let body = move || {
            let end = match catch_unwind(AssertUnwindSafe(work)) {
                Ok(value) => ending.returned(value),
                Err(panic) => Err(ending.panicked(panic)),
            };
            ending.end(end, take(&on_failure_there));
        };
        let builder = std::thread::Builder::new().name(stage.state.name.clone()).stack_size(STACK_BYTES);
        if let Err(source) = builder.spawn(body) {
            let error = StageError::Start { stage: stage.name().to_owned(), source: Arc::new(source) };
            stage.end(Err(error), take(&on_failure));
        }
        stage
    }

    fn returned(&self, value: impl Outcome) -> Result<(), StageError> {
        value.into_result().map_err(|source| StageError::Failed { stage: self.name().to_owned(), source })
    }

    fn panicked(&self, panic: Box<dyn Any + Send>) -> StageError {
        let text = panic.downcast_ref::<&str>().map(|it| (*it).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let message = text.unwrap_or_else(|| "no message".to_owned());
        StageError::Panicked { stage: self.name().to_owned(), message }
    }

    fn end(&self, end: Result<(), StageError>, on_failure: OnFailure) {
        if let Err(error) = &end {
            on_failure(error);
        }
        // Under one lock, so that threads and tasks learn it at the same time.
        let mut known = self.state.end.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(end);
        self.state.ended.cancel();
        self.state.wake.notify_all();
    }

    /// Name of the stage.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Whether the stage has ended, well or not.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.state.ended.is_cancelled()
    }

    /// Waits until the stage has ended, well or not.
    pub async fn ended(&self) {
        self.state.ended.cancelled().await;
    }

    /// Waits at most `limit` for the stage to end and returns how it ended.
    ///
    /// # Errors
    ///
    /// Returns why the stage failed, or that it is still at work.
    pub fn join(&self, limit: Duration) -> Result<(), StageError> {
        let deadline = Instant::now() + limit;
        let mut end = self.state.end.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(end) = &*end {
                return end.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(StageError::Late { stage: self.name().to_owned(), limit });
            }
            end = self.state.wake.wait_timeout(end, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn take(on_failure: &Mutex<Option<OnFailure>>) -> OnFailure {
    let taken = on_failure.lock().unwrap_or_else(PoisonError::into_inner).take();
    taken.unwrap_or_else(|| Box::new(|_| ()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn ignore() -> OnFailure {
        Box::new(|_| ())
    }

    #[test]
    fn a_panicking_thread_is_reported_by_its_name() {
        let told = Arc::new(Mutex::new(String::new()));
        let there = Arc::clone(&told);
        let on_failure: OnFailure = Box::new(move |error| *there.lock().unwrap() = error.to_string());
        let stage = Stage::thread::<()>("decode".into(), || panic!("broken {}", 7), on_failure);
        let error = stage.join(LIMIT).unwrap_err().to_string();
        assert_eq!(error, "stage decode panicked: broken 7");
        assert_eq!(*told.lock().unwrap(), error);
    }

    #[test]
    fn a_task_ends_well_or_with_its_error_or_its_panic() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let task = Stage::task(runtime.handle(), "good".into(), async {}, ignore());
        task.join(LIMIT).unwrap();
        let failing = async { Err::<(), _>(std::io::Error::other("no space")) };
        let task = Stage::task(runtime.handle(), "write".into(), failing, ignore());
        let error = task.join(LIMIT).unwrap_err();
        assert_eq!(crate::chain(&error), "stage write failed: no space");
        let panicking = async { assert_eq!(1 + 1, 3, "at once") };
        let task = Stage::task(runtime.handle(), "read".into(), panicking, ignore());
        let error = task.join(LIMIT).unwrap_err().to_string();
        assert!(error.starts_with("stage read panicked") && error.contains("at once"), "{error}");
        assert!(task.is_ended());
    }

    #[test]
    fn waiting_for_a_stage_has_a_limit() {
        let shutdown = crate::Shutdown::new();
        let waiting = shutdown.clone();
        let stage = Stage::thread("slow".into(), move || _ = waiting.sleep(LIMIT), ignore());
        let error = stage.join(Duration::from_millis(5)).unwrap_err().to_string();
        assert_eq!(error, "stage slow did not end within 5ms");
        shutdown.request();
        stage.join(LIMIT).unwrap();
    }
}
