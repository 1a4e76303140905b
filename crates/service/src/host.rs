//! Runs one service or several in this process: one runtime, one HTTP server, a shutdown for each.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::http;
use crate::{Address, Service, Shutdown, Stage, StageError};

/// Runs services in this process. When it is dropped the HTTP server and the runtime end.
#[derive(Debug)]
pub struct Host {
    runtime: Option<Runtime>,
    services: Arc<Services>,
    http: Option<SocketAddr>,
    drain_timeout: Duration,
    only_checks: bool,
}

/// The services of a process, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Services {
    list: Mutex<Vec<Service>>,
}

impl Services {
    pub(crate) fn list(&self) -> Vec<Service> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why a process cannot host services.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The operating system refused the runtime its threads.
    #[error("starting the runtime")]
    Runtime {
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The address for probes and metrics cannot be used.
    #[error("listening for probes and metrics on {address}; {flag} chooses another address")]
    Listen {
        /// Where it should have listened.
        address: SocketAddr,
        /// The flag that changes it.
        flag: &'static str,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
}

/// Why a service ended other than it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError<E: Error + 'static> {
    /// The service returned an error.
    #[error(transparent)]
    Failed(E),
    /// One of its stages failed, panicked or is still at work.
    #[error(transparent)]
    Stage(#[from] StageError),
}

impl Host {
    /// Starts the runtime and, unless `http` is off, the HTTP server. `flag` is the flag that an error
    /// about the address names; `drain_timeout` is what services are told they have to finish their work.
    ///
    /// # Errors
    ///
    /// Returns an error when there are no threads to be had or the address cannot be used.
    pub fn start(http: Address, flag: &'static str, drain_timeout: Duration) -> Result<Self, HostError> {
        let _limit = crate::open_files(); // raised for connections, here and in what is hosted
        // Fewer than two workers let a blocked one stop exporters of traces and probes.
        let workers = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        let runtime = Builder::new_multi_thread().worker_threads(workers).enable_all().build();
        let runtime = runtime.map_err(|source| HostError::Runtime { source })?;
        let services = Arc::new(Services::default());
        let mut listening = None;
        if let Address::On(address) = http {
            let failed = |source| HostError::Listen { address, flag, source };
            let listener = runtime.block_on(http::bind(address)).map_err(failed)?;
            listening = Some(listener.local_addr().map_err(failed)?);
            runtime.spawn(http::serve(listener, Arc::clone(&services)));
        }
        Ok(Self { runtime: Some(runtime), services, http: listening, drain_timeout, only_checks: false })
    }

    /// The same host, whose services check their settings and then return instead of working.
    #[must_use]
    pub fn only_checking(mut self, only_checks: bool) -> Self {
        self.only_checks = only_checks;
        self
    }

    /// Where probes and metrics are served, if they are.
    #[must_use]
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http
    }

    /// The runtime that all services share.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        self.runtime.as_ref().expect("the runtime is there until the host is dropped").handle()
    }

    /// Adds a service to this process, with its own metrics, readiness and shutdown.
    #[must_use]
    pub fn service(&self, name: &'static str) -> Service {
        let service = Service::new(name, self.runtime().clone(), self.drain_timeout, self.only_checks);
        self.services.list.lock().unwrap_or_else(PoisonError::into_inner).push(service.clone());
        service
    }

    /// Adds a service and runs `f` on a thread of its own.
    pub fn launch<C, E, F>(&self, name: &'static str, config: C, f: F) -> Running<E>
    where
        C: Send + 'static,
        E: Error + Send + Sync + 'static,
        F: FnOnce(C, &Service) -> Result<(), E> + Send + 'static,
    {
        let service = self.service(name);
        let result = Arc::new(Mutex::new(None));
        let (inner, slot) = (service.clone(), Arc::clone(&result));
        let work = move || {
            let returned = f(config, &inner);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(returned);
        };
        let failed = service.shutdown().clone();
        let stage = Stage::thread(name.to_owned(), work, Box::new(move |_| failed.request()));
        Running { service, stage, result }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A service at work.
#[derive(Debug)]
pub struct Running<E> {
    service: Service,
    stage: Stage,
    result: Arc<Mutex<Option<Result<(), E>>>>,
}

impl<E: Error + 'static> Running<E> {
    /// The service.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// The service's own shutdown.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        self.service.shutdown()
    }

    /// Whether the service's function has returned or panicked.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.stage.is_ended()
    }

    /// Waits until the service's function has returned or panicked.
    pub async fn ended(&self) {
        self.stage.ended().await;
    }

    /// Asks the service to stop and waits at most `limit` for it and all its stages.
    ///
    /// # Errors
    ///
    /// Returns what the service returned, how a stage failed, or what is still at work.
    pub fn stop(self, limit: Duration) -> Result<(), ServiceError<E>> {
        let deadline = Instant::now() + limit;
        self.shutdown().request();
        self.stage.join(limit)?;
        let returned = self.result.lock().unwrap_or_else(PoisonError::into_inner).take();
        let joined = self.service.join(deadline.saturating_duration_since(Instant::now()));
        match (returned, joined) {
            // A stage that panicked is why the service returned, whatever it returned.
            (_, Err(error @ StageError::Panicked { .. })) => Err(error.into()),
            (Some(Err(error)), _) => Err(ServiceError::Failed(error)),
            (_, joined) => Ok(joined?),
        }
    }
}
