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

use telltale_kafka::exactly_once::{self, LoopConfig};
use telltale_kafka::{Registry, RegistryError};
use telltale_model::TrustedKeys;
use telltale_records::schema;
use telltale_service::Service;
use tracing::info;

pub use again::Again;
pub use config::{Config, Error, StepError};
pub use models::Versioned;

use alerts::Alerts;
use metrics::Metrics;
use models::Newest;
use step::Scoring;

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

    let workers =
        LoopConfig::new("scorer", &config.group, &[&config.readings], &config.identity).with(&config.work);
    let kafka_is_away = |error: &telltale_kafka::Error| error.is_passing();
    let look = || exactly_once::check_topics(&workers, &config.kafka);
    if service.keep_trying("kafka", kafka_is_away, look)?.is_none() {
        return Ok(());
    }
    let registry_is_away = |error: &RegistryError| error.is_passing() && !error.is_denial();
    let subject = schema::subject(&config.predictions);
    let register = || registry.register(&subject, schema::PREDICTIONS);
    let Some(schema_id) = service.keep_trying("registry", registry_is_away, register)? else { return Ok(()) };
    info!(subject, id = schema_id, "schema registered");
    let newest = Newest::default();
    models::follow(&config, trusted, &newest, &metrics, service)?;
    let alerts = endpoint.map(|endpoint| Alerts::start(&endpoint, &config, &metrics, service));

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
