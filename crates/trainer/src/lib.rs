//! Reads the log into tensors and publishes models.
//!
//! ```text
//! SENSOR_DATA_S_AVRO ─ ranges of every partition ─▶ rows ─▶ train ─▶ sign ─▶ models, models-audit, model-metrics
//!                                                                             one transaction
//! ```
//!
//! A model is a function of (ranges, settings, seed). There is no data store but the log: each version reads
//! its ranges anew, and its manifest names them.

mod config;
mod error;
mod metrics;
mod publish;
mod ranges;
mod read;
mod schedule;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use telltale_kafka::{Isolation, Reader, Registry};
use telltale_model::trainer::LEAST_ROWS;
use telltale_model::{Lineage, Signer, TrainError, Trained, Trainer, TrustedKeys};
use telltale_records::manifest::OffsetRange;
use telltale_service::{Service, chain};
use tracing::{info, warn};

pub use config::{Config, TrainingFlags};
pub use error::Error;
pub use ranges::{Bound, RangeError};

use metrics::Metrics;
use publish::Publisher;
use ranges::{Ranges, between, last, total};
use read::{Found, Source};
use schedule::{Before, Schedule};

/// How often the trainer looks how far the log has grown, and how late it notices a shutdown.
const LOOK: Duration = Duration::from_millis(200);
/// How long one version waits for Kafka to let it publish; a trainer that goes on waits as long as it takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest pause after a failure that may pass.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Trains and publishes one version, or goes on until shutdown.
///
/// # Errors
///
/// Returns why no model came of it, or what cannot be read or written.
pub fn run(config: Config, service: &Service) -> Result<(), Error> {
    service.not_ready("trainer", "it has not seen the log yet");
    config.check()?;
    let signer = Signer::load(&config.signing_key)?;
    let earlier = match &*config.trusted_key {
        [] => None,
        files => Some(TrustedKeys::load(files)?),
    };
    let specification = config.specification()?;
    let registry = Registry::new(&config.registry)?;
    if service.only_checks() {
        return Ok(());
    }
    let metrics = Metrics::register(&mut service.registry());
    let source = Source {
        kafka: &config.kafka,
        registry: &registry,
        topic: &config.readings,
        specification: &specification,
        readers: config.readers.get(),
    };
    let log = Reader::open(&config.kafka, Isolation::Committed)?;
    // A wrong topic or range must be known before another trainer is fenced off.
    let kafka_is_away = |error: &telltale_kafka::Error| error.is_passing() && !config.once;
    let there = service.keep_trying("kafka", kafka_is_away, || whole(&log, &config.readings))?;
    let Some(there) = there else { return Ok(()) };
    let ranges = if config.from.is_empty() && config.to.is_empty() {
        last(&there, config.last_offsets())
    } else {
        between(&config.readings, &there, &config.from, &config.to)?
    };
    let patience = if config.once { PATIENCE } else { Duration::MAX };
    let publisher =
        Publisher::open(&config.kafka, &config.model, signer, earlier, patience, service.shutdown())?;
    let mut run = Run { config: &config, service, source, metrics, publisher };
    service.ready("trainer");
    match if config.once { run.once(&ranges) } else { run.go_on(&log) } {
        Err(error @ Error::Stopped { .. }) => {
            info!("{error}");
            Ok(())
        }
        outcome => outcome,
    }
}

/// A trainer at work.
struct Run<'a> {
    config: &'a Config,
    service: &'a Service,
    source: Source<'a>,
    metrics: Metrics,
    publisher: Publisher,
}

impl Run<'_> {
    fn once(&mut self, ranges: &Ranges) -> Result<(), Error> {
        if total(ranges) == 0 {
            return Err(Error::Empty { topic: self.config.readings.clone() });
        }
        self.train_and_publish(ranges)
    }

    fn go_on(&mut self, log: &Reader) -> Result<(), Error> {
        let mut schedule = Schedule {
            first_rows: i64::try_from(self.config.first_rows).unwrap_or(i64::MAX),
            growth: self.config.growth,
            every_rows: i64::try_from(self.config.every_rows).unwrap_or(i64::MAX),
            interval: *self.config.interval,
            min_interval: *self.config.min_interval,
        };
        let mut before: Option<(Before, Instant)> = None;
        let mut pause = LOOK;
        while !self.service.shutdown().sleep(pause) {
            let there = match whole(log, &self.config.readings) {
                Ok(there) => there,
                Err(error) if error.is_passing() => {
                    pause = self.wait_out("kafka", &error, pause);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.service.ready("kafka");
            pause = LOOK;
            // Readings wait for the first version: it learns from the fewest that do.
            let most = self.config.last_offsets();
            let wanted = usize::try_from(schedule.first_rows).unwrap_or(usize::MAX).saturating_mul(2);
            let ranges = last(&there, if before.is_none() { most.min(wanted) } else { most });
            let end = there.iter().map(|(_, range)| range.end).sum();
            let last_run = before.map(|(before, began)| Before { age: began.elapsed(), ..before });
            if !schedule.is_due(total(&ranges), end, last_run) {
                continue;
            }
            let began = Instant::now();
            match self.train_and_publish(&ranges) {
                Ok(()) => before = Some((Before { end, read: total(&ranges), age: Duration::ZERO }, began)),
                // Control records and unreadable ones took up offsets: wait for more.
                Err(Error::Train(TrainError::TooFew { kept, .. })) => {
                    let lacking =
                        i64::try_from(self.config.first_rows.saturating_sub(kept).max(LEAST_ROWS / 2));
                    schedule.first_rows = total(&ranges).saturating_add(lacking.unwrap_or(i64::MAX));
                    info!(kept, wait_for = schedule.first_rows, "too few readings yet");
                }
                Err(Error::Kafka(error)) if error.is_passing() || is_deleted(&error) => {
                    pause = self.wait_out("kafka", &error, pause);
                }
                Err(Error::Pinned { version, .. }) => {
                    if self.metrics.pinned.set(1) == 0 {
                        info!(version, "pinned by a rollback: no new version until `telltale models unpin`");
                    }
                    pause = LONGEST_PAUSE;
                }
                Err(error @ (Error::Train(TrainError::Constant { .. }) | Error::Unreadable { .. })) => {
                    pause = self.wait_out("readings", &error, LONGEST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says what is in the way; returns how long to wait.
    fn wait_out(
        &self,
        component: &str,
        error: &(dyn std::error::Error + 'static),
        pause: Duration,
    ) -> Duration {
        warn!(error = chain(error), "training, will try again");
        self.service.not_ready(component, &error.to_string());
        (pause * 2).min(LONGEST_PAUSE)
    }

    fn train_and_publish(&mut self, ranges: &Ranges) -> Result<(), Error> {
        let shutdown = self.service.shutdown();
        // Before the work: a pinned model needs no new version.
        self.publisher.unpinned(shutdown)?;
        self.metrics.pinned.set(0);
        let began = Instant::now();
        let Some(trained) = self.train(ranges)? else { return Ok(()) };
        let seconds = began.elapsed().as_secs_f64();
        if !trained.constant_columns.is_empty() {
            warn!(columns = ?trained.constant_columns, "these columns do not vary and carry nothing");
        }
        let Some(manifest) = self.publisher.publish(&trained, seconds, shutdown)? else { return Ok(()) };
        self.metrics.models.inc();
        self.metrics.version.set(i64::try_from(manifest.version).unwrap_or(i64::MAX));
        self.service.ready("readings");
        info!(
            model = manifest.name,
            version = manifest.version,
            generation = manifest.generation,
            sha256 = manifest.sha256,
            rows = manifest.rows,
            trimmed_rows = trained.artifact.about.trimmed_rows,
            threshold = manifest.threshold,
            seconds,
            "model published"
        );
        Ok(())
    }

    /// Reads `ranges` and learns from them; `None` when the shutdown came first.
    fn train(&self, ranges: &Ranges) -> Result<Option<Trained>, Error> {
        let stop = self.service.shutdown().token();
        let training = self.config.training.config();
        let mut trainer = Trainer::new(self.source.specification.clone(), training, self.config.seed)?;
        let began = Instant::now();
        let found = self.source.read(ranges, &stop, |rows| Ok(trainer.feed(rows)?))?;
        if stop.is_cancelled() {
            return Ok(None);
        }
        self.metrics.read_duration.observe(began.elapsed().as_secs_f64());
        self.count(&found, trainer.seen())?;
        let began = Instant::now();
        match self.learn(trainer, self.lineage(ranges, &found)) {
            Err(TrainError::Stopped) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(trained) => {
                self.metrics.training_duration.observe(began.elapsed().as_secs_f64());
                Ok(Some(trained))
            }
        }
    }

    /// Learns until the model is done or the shutdown comes.
    fn learn(&self, trainer: Trainer, lineage: Lineage) -> Result<Trained, TrainError> {
        let (switch, done) = (trainer.stop_switch(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if self.service.shutdown().sleep(LOOK) {
                        return switch.store(true, Ordering::Relaxed);
                    }
                }
            });
            let trained = trainer.finish(lineage);
            done.store(true, Ordering::Relaxed);
            trained
        })
    }

    fn count(&self, found: &Found, rows: u64) -> Result<(), Error> {
        self.metrics.records.inc_by(found.records);
        self.metrics.rejected.inc_by(found.rejected);
        let topic = || self.config.readings.clone();
        match &found.detail {
            Some(detail) if rows == 0 => {
                Err(Error::Unreadable { topic: topic(), records: found.records, detail: detail.clone() })
            }
            None if rows == 0 && self.config.once => Err(Error::Empty { topic: topic() }),
            Some(detail) => {
                warn!(
                    rejected = found.rejected,
                    of = found.records,
                    first = detail,
                    "records that are no readings"
                );
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn lineage(&self, ranges: &Ranges, found: &Found) -> Lineage {
        let range = |(partition, range): &(i32, std::ops::Range<i64>)| OffsetRange {
            topic: self.config.readings.clone(),
            partition: *partition,
            from: range.start,
            to: range.end,
        };
        Lineage {
            ranges: ranges.iter().filter(|(_, it)| !it.is_empty()).map(range).collect(),
            schema_ids: found.schema_ids.iter().filter_map(|&it| i32::try_from(it).ok()).collect(),
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// All that the topic holds, by partition.
fn whole(log: &Reader, topic: &str) -> Result<Ranges, telltale_kafka::Error> {
    let partitions = log.partitions(topic)?;
    partitions.into_iter().map(|it| Ok((it, log.watermarks(topic, it)?))).collect()
}

/// Whether records were deleted between the look at the log and the reading: the next look knows.
fn is_deleted(error: &telltale_kafka::Error) -> bool {
    matches!(error, telltale_kafka::Error::Deleted { .. })
}
