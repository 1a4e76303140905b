//! Follows the topic of models and puts the newest valid one in force.
//!
//! ```text
//! models ─▶ Assembler ─┬▶ candidate ─▶ Newest (from the end of the topic on, each at once)
//!                      └▶ rejected ─▶ log, metric, models-audit; what is in force stays
//! ```

use std::ops::ControlFlow;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use telltale_kafka::reader::{Followed, Start};
use telltale_kafka::{Isolation, Reader};
use telltale_model::delivery::{Assembler, Candidate, Outcome, Rejected, RejectedReason};
use telltale_model::{Model, TrustedKeys};
use telltale_records::{Source, topics};
use telltale_service::Service;
use tracing::{error, info, warn};

use crate::audit::Audit;
use crate::metrics::Metrics;
use crate::{Config, Error};

/// A model with the numbers that predictions name it by.
#[derive(Debug)]
pub struct Versioned {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: i64,
    /// Number of the decision that put it in force.
    pub generation: u64,
    /// The model.
    pub model: Model,
}

/// The model in force, if there is one; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Newest {
    model: Arc<ArcSwapOption<Versioned>>,
}

impl Newest {
    /// The model in force now; read it once per transaction.
    pub(crate) fn load(&self) -> Option<Arc<Versioned>> {
        self.model.load_full()
    }
}

/// Starts the thread that keeps `newest` up to date.
///
/// # Errors
///
/// Returns an error when the settings of Kafka cannot be used.
pub(crate) fn follow(
    config: &Config,
    trusted: TrustedKeys,
    newest: &Newest,
    metrics: &Metrics,
    service: &Service,
) -> Result<(), Error> {
    let mut reader = Reader::open(&config.kafka, Isolation::Committed)?;
    let mut follower = Follower {
        assembler: Assembler::new(&config.model, trusted),
        audit: Audit::open(&config.kafka)?,
        newest: newest.clone(),
        metrics: metrics.clone(),
        service: service.clone(),
        waiting: None,
        caught_up: false,
        incomplete: None,
    };
    service.not_ready("model", "reading the topic models");
    let stop = service.shutdown().token();
    service.thread("models", move || {
        loop {
            let followed = reader.follow(topics::MODELS, Start::Beginning, &stop, |it| follower.take(it));
            match followed {
                // Someone deleted records under the reader: what is left is read again, and known parts are nothing.
                Err(error @ telltale_kafka::Error::Deleted { .. }) if !stop.is_cancelled() => {
                    warn!(error = telltale_service::chain(&error), "reading the models again");
                }
                other => {
                    follower.audit.close();
                    return other;
                }
            }
        }
    });
    Ok(())
}

struct Follower {
    assembler: Assembler,
    audit: Audit,
    newest: Newest,
    metrics: Metrics,
    service: Service,
    /// Newest valid model found before the end of the topic was reached for the first time.
    waiting: Option<Box<Candidate>>,
    caught_up: bool,
    /// Generation that was last said to be incomplete.
    incomplete: Option<u64>,
}

impl Follower {
    fn take(&mut self, followed: Followed<'_>) -> ControlFlow<()> {
        match followed {
            Followed::Record(record) => match self.assembler.take(record.key(), record.value()) {
                Some(Outcome::Candidate(candidate)) if self.caught_up => self.put_in_force(*candidate),
                Some(Outcome::Candidate(candidate)) => self.waiting = Some(candidate),
                Some(Outcome::Rejected(rejected)) => self.refuse(&rejected, Some(&record.source())),
                None => {}
            },
            Followed::CaughtUp => {
                self.caught_up = true;
                if let Some(candidate) = self.waiting.take() {
                    self.put_in_force(*candidate);
                }
                if let Some(Outcome::Rejected(rejected)) = self.assembler.caught_up()
                    && self.incomplete != rejected.generation
                {
                    self.incomplete = rejected.generation;
                    self.refuse(&rejected, None);
                }
                if self.newest.load().is_none() {
                    self.service.not_ready("model", "no valid model yet: readings wait in their topic");
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn put_in_force(&mut self, candidate: Candidate) {
        let Candidate { manifest, model } = candidate;
        let Ok(version) = i64::try_from(manifest.version) else {
            error!(version = manifest.version, "a version that no prediction can name");
            return;
        };
        info!(
            model = manifest.name,
            version,
            generation = manifest.generation,
            sha256 = manifest.sha256,
            threshold = manifest.threshold,
            "model in force"
        );
        self.metrics.swaps.inc();
        self.metrics.model_version.set(version);
        self.metrics.model_generation.set(i64::try_from(manifest.generation).unwrap_or(i64::MAX));
        let generation = manifest.generation;
        self.newest.model.store(Some(Arc::new(Versioned {
            name: manifest.name,
            version,
            generation,
            model,
        })));
        self.service.ready("model");
    }

    fn refuse(&mut self, rejected: &Rejected, source: Option<&Source>) {
        if matches!(rejected.reason, RejectedReason::Older { .. }) && !self.caught_up {
            return; // history: it was refused, or in force, before this process began
        }
        let reason = telltale_service::chain(rejected);
        error!(reason, "model refused, the one in force stays");
        self.metrics.rejected_models.inc();
        self.audit.rejected(rejected, &reason, source);
    }
}
