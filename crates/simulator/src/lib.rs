//! Publishes a fleet over real MQTT connections, the same fleet for the same seed.
//!
//! ```text
//! fleet ─▶ pace: each car at its own instants ─▶ device::Publisher ══ one connection a car ══▶ broker
//!            │                                                                                   │ PUBACK
//!            ├─▶ truth: file, vehicles/truth/<car>      counters, ledger ◀── sessions ◀──────────┘
//!            └─▶ report: a line each second, metrics, summary
//! ```
//!
//! A reading counts as published when its session has taken it and as acknowledged when the broker says so;
//! what is unacknowledged when a connection ends is sent again, with the same bytes. A car whose window of
//! unacknowledged readings is full skips the reading, as time goes on; with `--count` it waits instead.

mod cars;
mod config;
mod counters;
pub mod fleet;
mod ledger;
mod pace;
mod report;
mod scenario;

use std::sync::Arc;
use std::time::Duration;

use telltale_mqtt::MqttConfig;
use telltale_service::{Service, StageError};
use tracing::info;

use cars::Sessions;
pub use config::{Config, FailureTime, PerSecond, Start};
pub use counters::Counters;
pub use ledger::LedgerError;
use ledger::{SummaryFile, TruthFile};
pub use report::{Milliseconds, Summary};
pub use scenario::{Plan, ScenarioError, Stage};

/// Why the simulator stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings for MQTT cannot be used.
    #[error(transparent)]
    Mqtt(#[from] telltale_mqtt::ConfigError),
    /// The settings or the scenario make no sense.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A file that was asked for cannot be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The process may not open a connection for each car.
    #[error(
        "{cars} cars need {needed} open files but this process may have {limit}; \
         raise the limit (ulimit -n) or split the fleet by --cars and --first-car"
    )]
    OpenFiles {
        /// The most cars at a time.
        cars: u32,
        /// How many files that takes.
        needed: u64,
        /// The limit of this process.
        limit: u64,
    },
    /// The broker will never take a car.
    #[error("{car} cannot connect to the MQTT broker at {broker}")]
    Refused {
        /// Name of the car.
        car: String,
        /// Address of the broker.
        broker: String,
        /// What the broker said.
        source: telltale_mqtt::Fault,
    },
    /// A stage failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// Readings were still unacknowledged when the time to drain was over.
    #[error("{unacknowledged} readings were not acknowledged within {limit:?} after the last was published")]
    Unacknowledged {
        /// How many.
        unacknowledged: u64,
        /// How long they were waited for.
        limit: Duration,
    },
}

/// Publishes the fleet until the scenario ends or the service is shut down, and then waits for the
/// acknowledgements of what was published.
///
/// # Errors
///
/// Returns which setting cannot be used, which file cannot be written, why the broker refuses cars for good,
/// or how many readings it did not acknowledge.
pub fn run(config: Config, service: &Service) -> Result<(), Error> {
    run_counted(config, service, &Arc::new(Counters::default()))
}

/// As [`run`], and counts in `counters`, for a process that shows them.
///
/// # Errors
///
/// As [`run`].
pub fn run_counted(config: Config, service: &Service, counters: &Arc<Counters>) -> Result<(), Error> {
    service.not_ready("fleet", "no car is connected yet");
    let plan = Plan::new(&config)?;
    let mqtt = MqttConfig { mqtt_version: plan.version, ..config.mqtt.clone() };
    let endpoint = mqtt.endpoint()?;
    if service.only_checks() {
        return Ok(());
    }
    check_open_files(plan.most_cars())?;
    counters.register(&mut service.registry());
    let ledger = config.ledger.as_deref().map(|path| ledger::ledger(path, service)).transpose()?;
    let truth = config.truth_file.as_deref().map(TruthFile::create).transpose()?;
    let summary_file = config.summary.as_deref().map(SummaryFile::create).transpose()?;
    let prefix = mqtt.mqtt_client_id.clone().unwrap_or_default();
    let sessions = Sessions::start(service, endpoint, prefix, config.window.get(), counters, ledger);
    info!(stages = plan.stages.len(), cars = plan.most_cars(), seed = plan.seed, broker = %mqtt.mqtt, "publishing");

    let mut pacer = pace::Pacer::new(&plan, &sessions, counters, truth, service);
    let paced = pacer.run();
    let seconds = pacer.seconds();
    let drained = pacer.drain(drain_limit(service));
    let ended = sessions.end(drain_limit(service));
    let summary = Summary::new(&plan, counters, seconds);
    info!(
        published = summary.published,
        acknowledged = summary.acknowledged,
        failed = summary.failed,
        skipped = summary.skipped,
        p50_ms = summary.puback_ms.p50,
        p99_ms = summary.puback_ms.p99,
        "published"
    );
    if let Some(file) = summary_file {
        file.write(&summary)?;
    }
    ended.and(paced).and(drained)
}

/// Leaves time for the files and the exit within the service's own limit.
fn drain_limit(service: &Service) -> Duration {
    service.drain_timeout().mul_f64(0.8)
}

/// Files that a process has open besides the cars' connections.
const OTHER_FILES: u64 = 64;

fn check_open_files(cars: u32) -> Result<(), Error> {
    let needed = u64::from(cars) + OTHER_FILES;
    match telltale_service::open_files() {
        Some(limit) if limit < needed => Err(Error::OpenFiles { cars, needed, limit }),
        _ => Ok(()),
    }
}
