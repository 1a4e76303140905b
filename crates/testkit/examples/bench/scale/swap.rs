//! Whether a new model stops the scorer: it scores a full topic, with new models and without, in turns.
//!
//! ```text
//! clean readings, one partition ─▶ scorer, a process ─▶ predictions, one partition ─▶ follower: when each commit was there
//! models ◀── a new version every moment, signed: what it needs to verify, load and swap
//! ```
//!
//! With one partition a transaction is a run of offsets, and a follower sees every one. The new versions hold the weights of the
//! first: what is measured is the change, not the model.

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use telltale_kafka::producer::NewRecord;
use telltale_kafka::reader::{Followed, Start};
use telltale_kafka::{Isolation, KafkaConfig, Reader};
use telltale_model::delivery::{SLOTS, manifest_record};
use telltale_model::{Signer, artifact};
use telltale_records::manifest::{Manifest, SignedManifest};
use telltale_records::prediction::Prediction;
use telltale_records::{framing, topics};
use telltale_testkit::Writer;
use tokio_util::sync::CancellationToken;

use super::fill::{Shape, fill};
use super::pauses::{Commits, Pauses, Times};
use super::series::clean;
use crate::commands::Scorer;
use crate::figures::Sample;
use crate::filled::Filled;
use crate::measure::transactions;
use crate::place::Place;
use crate::rounds::trainer;

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Swaps {
    /// Most readings of a transaction.
    transaction: u32,
    every_ms: u64,
    rounds: Vec<Round>,
}

/// A run with new models, and one without.
#[derive(Debug, Serialize)]
struct Round {
    with: Run,
    without: Run,
}

#[derive(Debug, Serialize)]
struct Run {
    published: u64,
    pauses: Pauses,
    sample: Sample,
    predictions: u64,
    /// Predictions of two models in one transaction, of an older model than before, and for a reading that had one.
    mixed: u64,
    back: u64,
    again: u64,
}

/// Measures.
pub(super) fn measure(place: &mut Place, transaction: u32, every: Duration) -> Result<Swaps> {
    place.settings.partitions = 1;
    let cars = place.settings.cars;
    let json = fill(place, "readings", cars, Shape::AsSent)?;
    let avro = clean(place, "clean", &json)?;
    place.delete(&json.topic)?;
    trainer(place, "first-trainer", &avro)?;
    place.work = vec!["--max-records".to_owned(), transaction.to_string()];
    let mut swaps = Swaps { transaction, every_ms: every.as_millis() as u64, rounds: Vec::new() };
    for round in 1..=place.settings.rounds.get() {
        let mut once = |every| run(place, &avro, round, every);
        let (with, without) = if round % 2 == 0 {
            let without = once(None)?;
            (once(Some(every))?, without)
        } else {
            (once(Some(every))?, once(None)?)
        };
        println!(
            "round {round}: {} new models; beyond the usual {:?} ms",
            with.published,
            with.pauses.beyond()
        );
        swaps.rounds.push(Round { with, without });
    }
    Ok(swaps)
}

/// One run of the scorer over all readings.
fn run(place: &mut Place, avro: &Filled, round: u32, every: Option<Duration>) -> Result<Run> {
    let name = format!("scorer-{round}-{}", if every.is_some() { "with" } else { "without" });
    let mut it = Scorer::start(place, &name, &avro.topic, false)?;
    let follower = Follower::start(&place.kafka, &it.predictions)?;
    let publisher = every.map(|every| Publisher::start(place, every)).transpose()?;
    let sample = transactions(place, &mut it.process, &it.group, avro)?;
    let published = publisher.map(Publisher::end).transpose()?.unwrap_or(0);
    let commits = place.until("the predictions were seen", || Ok(follower.seen(avro.records)))?;
    follower.end()?;
    place.end(it.process)?;
    crate::rounds::check(place, &it.predictions, avro.records)?;
    place.delete(&it.predictions)?;
    let pauses = commits.pauses().context("there were too few transactions")?;
    let Commits { predictions, mixed, back, again, .. } = commits;
    ensure!(
        predictions == avro.records && mixed + back + again == 0,
        "{predictions} predictions of {} readings; mixed {mixed}, back {back}, again {again}",
        avro.records
    );
    Ok(Run { published, pauses, sample, predictions, mixed, back, again })
}

/// Follows predictions as they are committed.
struct Follower {
    commits: Arc<Mutex<Commits>>,
    stop: CancellationToken,
    thread: JoinHandle<Result<()>>,
}

impl Follower {
    fn start(kafka: &KafkaConfig, topic: &str) -> Result<Self> {
        let mut reader = Reader::open(kafka, Isolation::Committed)?;
        let (commits, stop, topic) =
            (Arc::<Mutex<Commits>>::default(), CancellationToken::new(), topic.to_owned());
        let (seen, stopped) = (Arc::clone(&commits), stop.clone());
        let follow = move || -> Result<()> {
            let mut unread = None;
            reader.follow(&topic, Start::Beginning, &stopped, |it| {
                let Followed::Record(record) = it else { return ControlFlow::Continue(()) };
                let payload = record.value().and_then(framing::split).map_or(&[][..], |(_, payload)| payload);
                match Prediction::read(payload) {
                    Ok(it) => seen.lock().unwrap_or_else(PoisonError::into_inner).take(
                        record.offset(),
                        it.source_offset,
                        it.model_version,
                    ),
                    Err((_, why)) => unread = Some(why),
                }
                if unread.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            ensure!(unread.is_none(), "a record is no prediction: {unread:?}");
            Ok(())
        };
        let thread = std::thread::Builder::new().name("follower".to_owned()).spawn(follow);
        Ok(Self { commits, stop, thread: thread.context("starting a thread")? })
    }

    /// Everything, once so many predictions were seen.
    fn seen(&self, predictions: u64) -> Option<Commits> {
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        let all = commits.predictions >= predictions || self.thread.is_finished();
        all.then(|| std::mem::take(&mut *commits))
    }

    fn end(self) -> Result<()> {
        self.stop.cancel();
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Publishes new versions until it is ended.
struct Publisher {
    stop: Arc<AtomicBool>,
    published: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Publisher {
    fn start(place: &Place, every: Duration) -> Result<Self> {
        let mut model = Newest::read(&place.kafka, &place.id, &place.folder)?;
        let (stop, published) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, counted, writer) =
            (Arc::clone(&stop), Arc::clone(&published), Writer::new(&place.kafka));
        let publish = move || {
            while !stopped.load(Ordering::Acquire) {
                std::thread::sleep(every);
                model.publish_next(&writer);
                counted.fetch_add(1, Ordering::AcqRel);
            }
        };
        let thread = std::thread::Builder::new().name("publisher".to_owned()).spawn(publish);
        Ok(Self { stop, published, thread: thread.context("starting a thread")? })
    }

    /// How many were published.
    fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(self.published.load(Ordering::Acquire))
    }
}

/// The newest model in the topic of models, to be published again as the next one.
struct Newest {
    manifest: Manifest,
    /// Values of its chunks, which name no version.
    chunks: Vec<Vec<u8>>,
    signer: Signer,
}

impl Newest {
    fn read(kafka: &KafkaConfig, name: &str, keys: &Path) -> Result<Self> {
        let found = telltale_testkit::written(kafka, topics::MODELS);
        let of = |key: &str| found.iter().rev().find(|it| it.key.as_deref() == Some(key.as_bytes()));
        let signed = SignedManifest::parse(of(name).context("there is no model")?.value())?;
        let manifest = Manifest::parse(&signed.manifest)?;
        let chunk = |index| of(&chunk_key(name, manifest.version, index)).map(|it| it.value().to_vec());
        let chunks = (0..manifest.chunks).map(|it| chunk(it).context("a chunk is missing"));
        let chunks = chunks.collect::<Result<_>>()?;
        Ok(Self { chunks, manifest, signer: Signer::load(&keys.join("signing-key.pem"))? })
    }

    fn publish_next(&mut self, writer: &Writer) {
        self.manifest.version += 1;
        self.manifest.generation += 1;
        let Manifest { name, version, .. } = &self.manifest;
        let send = |key: &[u8], value: &[u8]| {
            let (key, value) = (Some(key), Some(value));
            writer.send(NewRecord { topic: topics::MODELS, key, value, ..NewRecord::default() });
        };
        for (index, chunk) in (0..).zip(&self.chunks) {
            send(chunk_key(name, *version, index).as_bytes(), chunk);
        }
        let record = manifest_record(name, &artifact::sign(&self.manifest, &self.signer));
        send(&record.key, &record.value);
        writer.flush();
    }
}

/// As docs/MODEL_FORMAT.md says.
fn chunk_key(name: &str, version: u64, index: u32) -> String {
    format!("{name}/{}/{index}", version % SLOTS)
}

impl fmt::Display for Swaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "time between commits in ms, transactions of at most {} readings, a new model every {} ms",
            self.transaction, self.every_ms
        )?;
        writeln!(f, "{:<45} {:>6} {:>8} {:>8} {:>8}", "", "count", "p50", "p99", "most")?;
        for Round { with, without } in &self.rounds {
            let line =
                |f: &mut fmt::Formatter<'_>, what: &str, times: &Times| writeln!(f, "{what:<45} {times}");
            line(f, "without new models", &without.pauses.usual)?;
            line(f, "with new models, the same before and after", &with.pauses.usual)?;
            if let Some(new) = &with.pauses.new_model {
                line(f, "with new models, until the first of a new one", new)?;
            }
        }
        let predictions: u64 =
            self.rounds.iter().map(|it| it.with.predictions + it.without.predictions).sum();
        writeln!(f, "{predictions} predictions, each once, none of an older model, no transaction of two")?;
        let beyond: Vec<_> = self.rounds.iter().filter_map(|it| it.with.pauses.beyond()).collect();
        for (middle, most) in beyond {
            let word = if most <= 1.0 { "reached" } else { "missed" };
            writeln!(f, "beyond the usual: {middle:+.2} ms, at most {most:+.2} ms; at most 1 ms: {word}")?;
        }
        Ok(())
    }
}
