//! Scores every reading with the newest model, exactly once.
//!
//! ```text
//! SENSOR_DATA_S_AVRO ─▶ decode ─▶ score ─▶ model-predictions, dead letters, offsets: one transaction ─▶ alerts/<car>
//!                                   ▲
//! models ─▶ follow ─▶ verify ───────┘ newest valid model, read once per transaction
//!                        └─▶ models-audit: what was refused and why
//! ```
//!
//! As long as there is no model the readings stay where they are.

mod again;
mod alerts;
mod audit;
mod config;
mod decoders;
mod distribution;
mod metrics;
mod models;
mod step;

use std::sync::Arc;
use std::time::Duration;

use telltale_kafka::Registry;
use telltale_kafka::exactly_once::{self, LoopConfig};
use telltale_model::TrustedKeys;
use telltale_records::schema;
use telltale_service::Service;
use tracing::{info, warn};

pub use again::Again;
pub use config::{Config, Error, StepError};
pub use models::Versioned;

use alerts::Alerts;
use metrics::Metrics;
use models::Newest;
use step::Scoring;

/// First and longest pause between attempts to reach the registry.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Runs until shutdown, then finishes the transaction in hand.
///
/// # Errors
///
/// Returns why the service could not start, or why a worker or the follower of the models failed.
pub fn run(config: Config, service: &Service) -> Result<(), Error> {
    config.check()?;
    let trusted = TrustedKeys::load(&config.trusted_key)?;
    let registry = Arc::new(Registry::new(&config.registry)?);
    let endpoint = if config.alerts { Some(config.mqtt.endpoint()?) } else { None };
    if service.only_checks() {
        return Ok(());
    }
    let metrics = Metrics::register(&mut service.registry());
    let loop_metrics = exactly_once::Metrics::register(&mut service.registry());

    let Some(schema_id) = register_schema(&config, &registry, service)? else { return Ok(()) };
    let newest = Newest::default();
    models::follow(&config, trusted, &newest, &metrics, service)?;
    let alerts = endpoint.map(|endpoint| Alerts::start(&endpoint, &config, &metrics, service));

    let workers = LoopConfig {
        workers: config.workers.get(),
        static_member: config.static_member,
        max_records: config.max_records.get(),
        linger: *config.linger,
        ..LoopConfig::new("scorer", &config.group, &[&config.readings], &config.identity)
    };
    let step = |worker| Scoring {
        worker,
        newest: newest.clone(),
        registry: Arc::clone(&registry),
        schema_id,
        predictions: config.predictions.clone(),
        metrics: metrics.clone(),
        service: service.clone(),
        alerts: alerts.clone(),
        memory: step::Memory::new(schema::subject(&config.readings)),
    };
    let ended = exactly_once::run(&workers, &config.kafka, service.shutdown().token(), &loop_metrics, step);
    if let Some(alerts) = alerts {
        alerts.stop(service.drain_timeout() / 2);
    }
    Ok(ended?)
}

/// Registers the schema of predictions; waits for the registry as long as it takes, `None` at shutdown.
fn register_schema(config: &Config, registry: &Registry, service: &Service) -> Result<Option<u32>, Error> {
    let subject = schema::subject(&config.predictions);
    let mut pause = PAUSES.0;
    loop {
        match registry.register(&subject, schema::PREDICTIONS) {
            Ok(id) => {
                info!(subject, id, "schema registered");
                service.ready("registry");
                return Ok(Some(id));
            }
            Err(error) if error.is_passing() && !error.is_denial() => {
                warn!(
                    subject,
                    error = telltale_service::chain(&error),
                    "registering the schema, will try again"
                );
                service.not_ready("registry", &error.to_string());
                if service.shutdown().sleep(pause) {
                    return Ok(None);
                }
                pause = (pause * 2).min(PAUSES.1);
            }
            Err(error) => return Err(Error::Registry(error)),
        }
    }
}
