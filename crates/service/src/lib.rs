//! The life of a process: settings, logs, traces, metrics, probes, signals, exit code.
//!
//! ```text
//! run(name, f) ─▶ settings ─▶ logs and traces ─▶ Host ─▶ f(config, &Service) on its own thread
//!                                                  │            │ stages, readiness, metrics
//! SIGTERM, SIGINT ─▶ Shutdown ─────────────────────┼───────────▶│ returns, stages are joined
//! GET /livez /readyz /metrics ─────────────────────┘            ▼ exit code
//! ```
//!
//! A service is a function `run(config, &Service)` that blocks until it is done or until the service's
//! [`Shutdown`] is requested. [`run()`] gives it a process of its own; a [`Host`] runs several in one.

mod files;
mod host;
mod http;
mod process;
mod readiness;
mod run;
mod service;
mod settings;
mod shutdown;
mod stage;
mod telemetry;
mod waiting;

pub use files::open_files;
pub use host::{Host, HostError, Running, ServiceError};
pub use run::{command, run, run_with};
pub use service::Service;
pub use settings::{Address, LogFormat, ProcessConfig, Share};
pub use shutdown::Shutdown;
pub use stage::{Outcome, Stage, StageError};
pub use telemetry::{Telemetry, TelemetryError, chain};

/// The allocator of every program that links this crate, of librdkafka in it, too: a third of the CPU time of a record.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
