//! What a service sees of its process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

use crate::readiness::Readiness;
use crate::{Outcome, Shutdown, Stage, StageError};

/// One service of this process; clones are the same service.
#[derive(Debug, Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: &'static str,
    shutdown: Shutdown,
    registry: Mutex<Registry>,
    readiness: Readiness,
    runtime: Handle,
    drain_timeout: Duration,
    only_checks: bool,
    stages: Mutex<Vec<Stage>>,
    failure: Mutex<Option<StageError>>,
}

impl Service {
    pub(crate) fn new(
        name: &'static str,
        runtime: Handle,
        drain_timeout: Duration,
        only_checks: bool,
    ) -> Self {
        let registry = Registry::with_prefix(format!("telltale_{}", name.replace('-', "_")));
        Self {
            inner: Arc::new(Inner {
                name,
                shutdown: Shutdown::new(),
                registry: Mutex::new(registry),
                readiness: Readiness::default(),
                runtime,
                drain_timeout,
                only_checks,
                stages: Mutex::default(),
                failure: Mutex::default(),
            }),
        }
    }

    /// Name of the service.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.inner.name
    }

    /// Says when the service must stop.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        &self.inner.shutdown
    }

    /// The service's metrics; names get the prefix `telltale_<service>_`.
    pub fn registry(&self) -> MutexGuard<'_, Registry> {
        self.inner.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runtime for asynchronous work; it has at least two workers.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        &self.inner.runtime
    }

    /// How long the service may take to finish its work after the shutdown is requested.
    #[must_use]
    pub fn drain_timeout(&self) -> Duration {
        self.inner.drain_timeout
    }

    /// Whether the service is to return once its settings are checked, before it connects to anything.
    #[must_use]
    pub fn only_checks(&self) -> bool {
        self.inner.only_checks
    }

    /// Says that `component` can do its work. The service is ready when all its components are.
    pub fn ready(&self, component: &str) {
        self.inner.readiness.set(self.inner.name, component, None);
    }

    /// Says that `component` cannot do its work now, and why.
    pub fn not_ready(&self, component: &str, reason: &str) {
        self.inner.readiness.set(self.inner.name, component, Some(reason));
    }

    /// Why the service is not ready, one `component: reason` each; empty if it is ready.
    #[must_use]
    pub fn unready(&self) -> Vec<String> {
        let mut reasons = self.inner.readiness.reasons();
        if self.inner.shutdown.is_requested() {
            reasons.push("shutting down".to_owned());
        }
        reasons
    }

    /// Runs `work` as a task; if it fails or panics, the service is shut down and reports it.
    pub fn spawn<F>(&self, stage: &str, work: F) -> Stage
    where
        F: Future<Output: Outcome + Send + 'static> + Send + 'static,
    {
        let name = format!("{}-{stage}", self.inner.name);
        let stage = Stage::task(&self.inner.runtime, name, work, self.on_failure());
        self.keep(stage)
    }

    /// Runs `work` on a thread of its own; if it fails or panics, the service is shut down and reports it.
    pub fn thread<T: Outcome>(&self, stage: &str, work: impl FnOnce() -> T + Send + 'static) -> Stage {
        let name = format!("{}-{stage}", self.inner.name);
        let stage = Stage::thread(name, work, self.on_failure());
        self.keep(stage)
    }

    /// Waits at most `limit` for all stages to end.
    ///
    /// # Errors
    ///
    /// Returns the failure that happened first, or which stage is still at work.
    pub fn join(&self, limit: Duration) -> Result<(), StageError> {
        let deadline = Instant::now() + limit;
        loop {
            let stages = std::mem::take(&mut *self.stages());
            if stages.is_empty() {
                break; // a stage may start others while it is waited for
            }
            for stage in stages {
                if let Err(error) = stage.join(deadline.saturating_duration_since(Instant::now())) {
                    match error {
                        StageError::Late { stage, .. } => return Err(StageError::Late { stage, limit }),
                        _ => return Err(self.failure().unwrap_or(error)),
                    }
                }
            }
        }
        self.failure().map_or(Ok(()), Err)
    }

    /// The first failure of a stage, if one has failed.
    #[must_use]
    pub fn failure(&self) -> Option<StageError> {
        self.inner.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn on_failure(&self) -> crate::stage::OnFailure {
        let inner = Arc::clone(&self.inner);
        Box::new(move |error| {
            let mut first = inner.failure.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| error.clone());
            drop(first);
            inner.shutdown.request();
        })
    }

    fn keep(&self, stage: Stage) -> Stage {
        let mut stages = self.stages();
        // Ended stages need no one to wait for them: their failure, if any, is kept above.
        stages.retain(|it| !it.is_ended());
        stages.push(stage.clone());
        stage
    }

    fn stages(&self) -> MutexGuard<'_, Vec<Stage>> {
        self.inner.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn a_failing_stage_stops_the_whole_service() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let service = Service::new("bridge", runtime.handle().clone(), LIMIT, false);
        let shutdown = service.shutdown().clone();
        service.thread("poll", move || _ = shutdown.sleep(LIMIT));
        service.spawn("send", async { Err::<(), _>(std::io::Error::other("gone")) });
        assert_eq!(crate::chain(&service.join(LIMIT).unwrap_err()), "stage bridge-send failed: gone");
        assert!(service.shutdown().is_requested());
    }

    #[test]
    fn a_late_stage_is_named() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let service = Service::new("bridge", runtime.handle().clone(), LIMIT, false);
        let shutdown = service.shutdown().clone();
        let stage = service.thread("poll", move || _ = shutdown.sleep(LIMIT));
        let error = service.join(Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.to_string(), "stage bridge-poll did not end within 1ms");
        service.shutdown().request();
        stage.join(LIMIT).unwrap();
    }
}
