//! How long a reading takes from its device to its committed prediction, at half of what the whole pipeline moves.
//!
//! ```text
//! load ─▶ MQTT broker ─▶ bridge ─▶ Kafka ─▶ preprocessor ─▶ Kafka ─▶ scorer ─▶ Kafka ─▶ follower: now − the reading's time
//! produce ─────────────▶ Kafka ─▶ bare copy in transactions ─────────────────▶ Kafka ─▶ follower
//! ```
//!
//! A reading's time is when it was due, so a load that has to wait makes readings late, not few.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use telltale_kafka::reader::{Followed, Start};
use telltale_kafka::{Isolation, Reader};
use telltale_testkit::soak::process::Supervised;
use tokio_util::sync::CancellationToken;

use crate::commands::{self, Preprocessor, Scorer};
use crate::figures::{Job, Latency, Sample};
use crate::load::{Fleet, now_ms};
use crate::measure::Moment;
use crate::place::{PLAIN, Place, alive};
use crate::report::{LatencyReport, Rounds};
use crate::rounds::{start_copy, start_load};

/// How long the bare copy gathers: with less its transactions are so small that it cannot keep up.
const LINGER: &str = "--linger=5ms";
/// Readings with which every process warms up, and their rate.
pub(crate) const WARM_UP: (u64, f64) = (2_000, 1_000.0);

/// Measures the whole pipeline at full load, and then, in turns, it and the bare round trip at half of that.
pub(crate) fn measure(place: &mut Place, rounds: &mut Rounds) -> Result<LatencyReport> {
    let from = format!("{}/live", place.id);
    let mut pipeline = Pipeline::start(place, &from)?;
    let mut bare = Bare::start(place)?;
    pipeline.send(place, WARM_UP.0, Some(WARM_UP.1))?;
    bare.send(place, WARM_UP.0, WARM_UP.1)?;
    let full = match place.settings.rate {
        Some(_) => None,
        None => {
            let sample = pipeline.full(place)?;
            let (wall, cpu) = (sample.per_second(), sample.per_cpu_second());
            println!("whole pipeline: {wall:.0} records/s, {cpu:.0} per CPU second of its three services");
            rounds.entry(Job::Latency).or_default().push(sample);
            Some(wall)
        }
    };
    let rate = place.settings.rate.or(full.map(|it| it / 2.0)).context("there is a rate")?;
    let messages = (rate * place.settings.latency as f64) as u64;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=place.settings.rounds.get() {
        let found = pipeline.send(place, messages, Some(rate))?;
        println!("round {round}: pipeline at {rate:.0}/s: p50 {} ms, p99 {} ms", found.p50, found.p99);
        ours.push(found);
        let found = bare.send(place, messages, rate)?;
        println!("round {round}: bare round trip at {rate:.0}/s: p50 {} ms, p99 {} ms", found.p50, found.p99);
        theirs.push(found);
    }
    pipeline.end(place)?;
    bare.copy.kill();
    Ok(LatencyReport::new(full, rate, ours, theirs))
}

/// A fleet that sends so many readings.
fn fleet(place: &Place, messages: u64, rate: Option<f64>) -> Fleet {
    Fleet { cars: place.settings.cars, seed: place.settings.seed, messages, rate }
}

/// Bridge, preprocessor and scorer at work.
pub(crate) struct Pipeline {
    from: String,
    processes: [Supervised; 3],
    follower: Follower,
}

impl Pipeline {
    /// Starts them, for what is published one level below `from`.
    pub(crate) fn start(place: &mut Place, from: &str) -> Result<Self> {
        let raw = place.topic("live-readings", PLAIN)?;
        let bridge = commands::bridge(place, "live-bridge", from, &raw)?;
        let preprocessor = Preprocessor::start(place, "live-preprocessor", &raw, true)?;
        let scorer = Scorer::start(place, "live-scorer", &preprocessor.clean, true)?;
        let mut processes = [bridge, preprocessor.process, scorer.process];
        for process in &mut processes {
            place.ready(process)?;
        }
        let follower = Follower::start(place, &scorer.predictions)?;
        Ok(Self { from: from.to_owned(), processes, follower })
    }

    /// Sends readings and waits until each has its prediction.
    pub(crate) fn send(&mut self, place: &Place, messages: u64, rate: Option<f64>) -> Result<Latency> {
        let mut load = start_load(place, "live", &self.from, &fleet(place, messages, rate))?;
        let processes = &mut self.processes;
        let found = self.follower.wait(place, messages, || {
            if let Some(status) = load.try_end() {
                ensure!(status.success(), "the load ended badly, {status}: {}", load.log());
            }
            processes.iter_mut().try_for_each(alive)
        })?;
        Ok(found)
    }

    /// Sends readings as fast as they go; the figures are of all three processes together.
    fn full(&mut self, place: &Place) -> Result<Sample> {
        let moments = |it: &Self| it.processes.iter().map(Moment::of).collect::<Result<Vec<_>>>();
        let (before, messages) = (moments(self)?, place.settings.messages);
        self.send(place, messages, None)?;
        let after = moments(self)?;
        let mut samples = before.iter().zip(&after).map(|(before, after)| before.until(after, messages));
        let first = samples.next().context("there are processes")?;
        Ok(samples.fold(first, |sum, it| Sample {
            cpu_seconds: sum.cpu_seconds + it.cpu_seconds,
            peak_rss_kb: sum.peak_rss_kb + it.peak_rss_kb,
            ..sum
        }))
    }

    /// Asks them to end.
    pub(crate) fn end(self, place: &Place) -> Result<()> {
        self.processes.into_iter().try_for_each(|it| place.end(it))
    }
}

/// A bare copy loop at work.
struct Bare {
    topic: String,
    /// Where producers write their first record.
    first: String,
    copy: Supervised,
    follower: Follower,
}

impl Bare {
    fn start(place: &mut Place) -> Result<Self> {
        let (topic, copied) = (place.topic("bare-in", PLAIN)?, place.topic("bare-out", PLAIN)?);
        let (group, first) = (format!("{}-bare", place.id), place.topic("bare-first", PLAIN)?);
        let copy = start_copy(place, "bare", &topic, &copied, &group, &[LINGER])?;
        let follower = Follower::start(place, &copied)?;
        Ok(Self { topic, first, copy, follower })
    }

    /// Sends readings and waits until each was copied.
    fn send(&mut self, place: &Place, messages: u64, rate: f64) -> Result<Latency> {
        let mut flags = vec![format!("--kafka={}", place.kafka.bootstrap), format!("--topic={}", self.topic)];
        flags.push(format!("--first={}", self.first));
        flags.extend(fleet(place, messages, Some(rate)).flags());
        let mut load = place.part("produce", "bare-load", flags)?;
        let copy = &mut self.copy;
        self.follower.wait(place, messages, || {
            if let Some(status) = load.try_end() {
                ensure!(status.success(), "the load ended badly, {status}: {}", load.log());
            }
            alive(copy)
        })
    }
}

/// Takes the time of each record that is committed to a topic.
struct Follower {
    times: Arc<Mutex<Vec<i64>>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<Result<(), telltale_kafka::Error>>>,
}

impl Follower {
    /// Follows a topic from its end on; returns once it does.
    fn start(place: &Place, topic: &str) -> Result<Self> {
        let mut reader = Reader::open(&place.kafka, Isolation::Committed)?;
        let (times, stop) = (Arc::<Mutex<Vec<i64>>>::default(), place.stop.child_token());
        let follows = Arc::new(AtomicBool::new(false));
        let (found, stopped, caught_up, name) =
            (Arc::clone(&times), stop.clone(), Arc::clone(&follows), topic.to_owned());
        let follow = move || {
            reader.follow(&name, Start::End, &stopped, |it| {
                match it {
                    Followed::Record(record) => {
                        let time = now_ms() - record.timestamp_ms().unwrap_or_default();
                        found.lock().unwrap_or_else(PoisonError::into_inner).push(time);
                    }
                    Followed::CaughtUp => caught_up.store(true, Ordering::Release),
                }
                ControlFlow::Continue(())
            })
        };
        let thread = std::thread::Builder::new().name("follower".to_owned()).spawn(follow);
        let thread = Some(thread.context("starting a thread")?);
        let follower = Self { times, stop, thread };
        place.until("the topic is followed", || {
            follower.follows()?;
            Ok(follows.load(Ordering::Acquire).then_some(()))
        })?;
        Ok(follower)
    }

    /// Fails when the topic is not followed any more.
    fn follows(&self) -> Result<()> {
        ensure!(
            !self.thread.as_ref().is_none_or(JoinHandle::is_finished),
            "nobody follows the topic any more"
        );
        Ok(())
    }

    /// Waits until so many records came, and takes their times.
    fn wait(&mut self, place: &Place, records: u64, mut well: impl FnMut() -> Result<()>) -> Result<Latency> {
        let began = Instant::now();
        let wanted = usize::try_from(records)?;
        let found = place.until("all records came out", || {
            well()?;
            self.follows()?;
            let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
            Ok((times.len() >= wanted).then(|| std::mem::take(&mut *times)))
        });
        let found = found.with_context(|| format!("{records} records, for {:?}", began.elapsed()))?;
        ensure!(found.len() == wanted, "{} records came out and not {wanted}", found.len());
        Latency::of(found).context("there were records")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // What went wrong was seen while it was waited for.
            let _ = thread.join();
        }
    }
}
