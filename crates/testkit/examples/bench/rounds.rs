//! The rounds: each measures every job once, one after the other, ours and the bare ways in turns.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use telltale_kafka::producer::NewRecord;
use telltale_testkit::Writer;
use telltale_testkit::engines::Kind;
use telltale_testkit::soak::process::Supervised;
use tokio_util::sync::CancellationToken;

use crate::bare::printed;
use crate::commands::{self, Preprocessor, Scorer};
use crate::figures::{Job, Sample};
use crate::filled::Filled;
use crate::latency;
use crate::load::{Fleet, Readings, now_ms};
use crate::machine::{Machine, commit, load};
use crate::measure::{Extent, Moment, transactions, until_done};
use crate::peers::{self, Peer};
use crate::place::{PLAIN, Place};
use crate::poisoned;
use crate::report::{JobReport, LatencyReport, Report, Rounds, ratios};
use crate::settings::Settings;

/// The jobs of a round in the order of even rounds; odd ones go backwards.
const ORDER: [Job; 18] = [
    Job::ConsumeJson,
    Job::CopyJson,
    Job::Preprocessor,
    Job::StreamsConvert,
    Job::ConsumeAvro,
    Job::CopyAvro,
    Job::Scorer,
    Job::StreamsScore,
    Job::Trainer,
    Job::LearnSmall,
    Job::Tensorflow,
    Job::LearnLarge,
    Job::Fastavro,
    Job::Keras,
    Job::Receive,
    Job::Produce,
    Job::Bridge,
    Job::Telegraf,
];
/// Time between two looks at the trainer, whose stages are short.
const GLANCE: Duration = Duration::from_millis(5);

/// Measures what was asked for, prints the table and writes the JSON.
pub(crate) fn run(settings: &Settings, stop: &CancellationToken) -> Result<()> {
    // The programs are of this commit, whatever is committed while they run.
    let (commit, before) = (commit(), load());
    let mut place = Place::start(settings, stop)?;
    println!("filling a topic with {} readings", settings.readings);
    let json = fill(&mut place)?;
    println!("warming up: the preprocessor makes Avro of them, the trainer a model");
    let (_, clean) = preprocessor(&mut place, "first", &json, true)?;
    let avro = Filled::count(&place.kafka, &clean, &place.stop)?;
    trainer(&mut place, "first-trainer", &avro)?;
    if let Some(percent) = settings.poison {
        return poisoned::measure(&mut place, percent);
    }
    let mut rounds = Rounds::new();
    for round in 1..=settings.rounds.get() {
        let mut order = ORDER.to_vec();
        if round % 2 == 0 {
            order.reverse();
        }
        for job in order.into_iter().filter(|it| settings.wants(*it)) {
            for (job, sample) in measure(&mut place, job, round, &json, &avro)? {
                println!(
                    "round {round}: {:<37} {:>9.0} records/s {:>9.0} per CPU second, {:>7} records, {:.2} s of CPU, load {:.1}",
                    job.name(),
                    sample.per_second(),
                    sample.per_cpu_second(),
                    sample.records,
                    sample.cpu_seconds,
                    sample.load
                );
                rounds.entry(job).or_default().push(sample);
            }
        }
    }
    let latency =
        settings.wants(Job::Latency).then(|| latency::measure(&mut place, &mut rounds)).transpose()?;
    let report = report(&place, commit, before, &rounds, latency);
    let file = if settings.jobs.iter().any(|it| Peer::of(*it).is_some()) { "peers" } else { "services" };
    let path = settings.dir.join(format!("{file}.json"));
    std::fs::write(&path, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("writing {}", path.display()))?;
    println!("\n{report}\nwritten to {}", path.display());
    Ok(())
}

fn report(
    place: &Place,
    commit: String,
    before: f64,
    rounds: &Rounds,
    latency: Option<LatencyReport>,
) -> Report {
    let settings = &place.settings;
    let now = UNIX_EPOCH + UNIX_EPOCH.elapsed().unwrap_or_default();
    Report {
        commit,
        date: humantime::format_rfc3339_seconds(now).to_string(),
        machine: Machine::here(),
        load: [before, load()],
        engines: match (settings.engines, settings.peers.mosquitto) {
            (Kind::Embedded, false) => "embedded",
            (Kind::Real, false) => "real",
            (Kind::Embedded, true) => "embedded, with mosquitto,",
            (Kind::Real, true) => "real, with mosquitto,",
        },
        sizes: BTreeMap::from([
            ("cars", u64::from(settings.cars.get())),
            ("messages", settings.messages),
            ("partitions", u64::from(settings.partitions.unsigned_abs())),
            ("readings", settings.readings),
            ("rounds", u64::from(settings.rounds.get())),
        ]),
        jobs: rounds.iter().filter_map(|(job, rounds)| JobReport::of(*job, rounds)).collect(),
        ratios: ratios(rounds),
        latency,
        peers: peers::state(settings, rounds),
    }
}

/// Fills a topic with what the simulator's cars send, one reading a car and second.
fn fill(place: &mut Place) -> Result<Filled> {
    let topic = place.topic("readings", PLAIN)?;
    let Settings { readings: messages, cars, seed, .. } = place.settings;
    let mut readings = Readings::new(&Fleet { cars, seed, messages, rate: None })?;
    let second = |number: u64| i64::try_from(number / u64::from(cars.get())).unwrap_or(0);
    // The last ones are of now: a clean reading of the future would be none.
    let first_ms = now_ms() - 1000 * (second(messages) + 1);
    let writer = Writer::new(&place.kafka);
    for number in 0..messages {
        let time_ms = first_ms + 1000 * second(number);
        let (car, value) = readings.make(number, time_ms);
        let (key, value, timestamp_ms) = (Some(car.as_bytes()), Some(&value[..]), Some(time_ms));
        writer.send(NewRecord { topic: &topic, key, value, timestamp_ms, ..NewRecord::default() });
        ensure!(number % 10_000 != 0 || !place.stop.is_cancelled(), "stopped");
    }
    writer.flush();
    let filled = Filled::count(&place.kafka, &topic, &place.stop)?;
    ensure!(filled.records == messages, "{} of {messages} readings are in the topic", filled.records);
    Ok(filled)
}

/// Measures a job; the trainer's figures are of two.
fn measure(
    place: &mut Place,
    job: Job,
    round: u32,
    json: &Filled,
    avro: &Filled,
) -> Result<Vec<(Job, Sample)>> {
    let name = |what: &str| format!("{what}-{round}");
    let sample = match job {
        Job::ConsumeJson => consume(place, &name("consume-json"), json)?,
        Job::CopyJson => copy(place, &name("copy-json"), json)?,
        Job::Preprocessor => preprocessor(place, &name("preprocessor"), json, false)?.0,
        Job::ConsumeAvro => consume(place, &name("consume-avro"), avro)?,
        Job::CopyAvro => copy(place, &name("copy-avro"), avro)?,
        Job::Scorer => scorer(place, &name("scorer"), avro)?,
        Job::Trainer | Job::TrainerReads => {
            let [reading, whole] = trainer(place, &name("trainer"), avro)?;
            return Ok(vec![(Job::TrainerReads, reading), (Job::Trainer, whole)]);
        }
        Job::Receive => receive(place, &name("receive"))?,
        Job::Produce => produce(place, &name("produce"))?,
        Job::Bridge => bridge(place, &name("bridge"))?,
        Job::Latency => return Ok(Vec::new()),
        peers => return peers::measure(place, peers, round, json, avro),
    };
    Ok(vec![(job, sample)])
}

/// What came out must be what went in.
pub(crate) fn check(place: &Place, topic: &str, expected: u64) -> Result<()> {
    let found = Filled::count(&place.kafka, topic, &place.stop)?.records;
    ensure!(found == expected, "{topic} holds {found} records and not {expected}");
    Ok(())
}

fn consume(place: &Place, name: &str, source: &Filled) -> Result<Sample> {
    let group = format!("--group={}-{name}", place.id);
    let kafka = format!("--kafka={}", place.kafka.bootstrap);
    let (topic, records) = (format!("--topic={}", source.topic), format!("--records={}", source.records));
    printed(&place.finish(place.part("consume", name, vec![kafka, topic, group, records])?)?)
}

fn copy(place: &mut Place, name: &str, source: &Filled) -> Result<Sample> {
    let to = place.topic(name, PLAIN)?;
    let group = format!("{}-{name}", place.id);
    let mut process = start_copy(place, name, &source.topic, &to, &group, &[])?;
    let sample = transactions(place, &mut process, &group, source)?;
    process.kill();
    check(place, &to, source.records)?;
    place.delete(&to)?;
    Ok(sample)
}

/// Starts the bare copy loop.
pub(crate) fn start_copy(
    place: &Place,
    name: &str,
    from: &str,
    to: &str,
    group: &str,
    more: &[&str],
) -> Result<Supervised> {
    let kafka = format!("--kafka={}", place.kafka.bootstrap);
    let mut flags = vec![kafka, format!("--from={from}"), format!("--to={to}"), format!("--group={group}")];
    flags.extend(more.iter().map(|&it| it.to_owned()));
    place.part("copy", name, flags)
}

/// The figures, and the topic of clean readings, which is there afterwards only if it is to be kept.
fn preprocessor(place: &mut Place, name: &str, source: &Filled, keep: bool) -> Result<(Sample, String)> {
    let mut it = Preprocessor::start(place, name, &source.topic, false)?;
    let sample = transactions(place, &mut it.process, &it.group, source)?;
    place.end(it.process)?;
    check(place, &it.clean, source.records)?;
    if !keep {
        place.delete(&it.clean)?;
    }
    place.delete(&it.windows)?;
    Ok((sample, it.clean))
}

/// A scorer, until each reading has its prediction.
pub(crate) fn scorer(place: &mut Place, name: &str, source: &Filled) -> Result<Sample> {
    let mut it = Scorer::start(place, name, &source.topic, false)?;
    let sample = transactions(place, &mut it.process, &it.group, source)?;
    place.end(it.process)?;
    check(place, &it.predictions, source.records)?;
    place.delete(&it.predictions)?;
    Ok(sample)
}

/// The trainer until it has read, and until its model is published.
pub(crate) fn trainer(place: &mut Place, name: &str, source: &Filled) -> Result<[Sample; 2]> {
    let process = commands::trainer(place, name, &source.topic, source.records)?;
    let samples = learned(place, process)?;
    let read = samples[0].records;
    ensure!(read == source.records, "the trainer has read {read} of {} records", source.records);
    Ok(samples)
}

/// Follows a trainer to its end.
pub(crate) fn learned(place: &Place, mut process: Supervised) -> Result<[Sample; 2]> {
    let at = process.http().unwrap_or_default().to_owned();
    let client = reqwest::blocking::Client::new();
    let answer = |path: &str| {
        client.get(format!("http://{at}/{path}")).send().ok()?.error_for_status().ok()?.text().ok()
    };
    // Taken before the question: what happens until the answer counts as reading.
    let begin = place.until_each(GLANCE, "the trainer is ready", || {
        let moment = Moment::of(&process)?;
        moment.before_its_end(&process)?;
        Ok(answer("readyz").map(|_| moment))
    })?;
    let (read, records) = place.until_each(GLANCE, "the trainer has read", || {
        Moment::of(&process)?.before_its_end(&process)?;
        let text = answer("metrics").unwrap_or_default();
        let has_read = value(&text, "telltale_trainer_read_duration_seconds_count") == Some(1);
        let records = value(&text, "telltale_trainer_records_total").filter(|it| has_read && *it > 0);
        records.map(|it| Ok((Moment::of(&process)?, it))).transpose()
    })?;
    let mut peak = read;
    let end = place.until_each(GLANCE, "the model is published", || {
        let moment = Moment::of(&process)?;
        peak = moment.holding_at_least(&peak);
        Ok(moment.ended.then_some(peak))
    })?;
    // Its other threads may end a moment later than its first.
    let status = place.until("the trainer is gone", || Ok(process.try_end()))?;
    ensure!(status.success(), "the trainer ended badly: {}", process.last_words());
    Ok([begin.until(&read, records), begin.until(&end, records)])
}

/// The value of a metric without labels, in what a service tells a scraper.
pub(crate) fn value(metrics: &str, name: &str) -> Option<u64> {
    metrics.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Publishes the messages of a round; the broker holds them for a session that is there already.
pub(crate) fn publish(place: &Place, name: &str, topic: &str) -> Result<()> {
    let Settings { messages, cars, seed, .. } = place.settings;
    let process = start_load(place, name, topic, &Fleet { cars, seed, messages, rate: None })?;
    place.finish(process).map(drop)
}

/// Starts publishing by MQTT.
pub(crate) fn start_load(place: &Place, name: &str, topic: &str, fleet: &Fleet) -> Result<Supervised> {
    let mut flags = vec![format!("--mqtt={}", place.mqtt), format!("--topic={topic}")];
    flags.push(format!("--client-id={}-{name}", place.id));
    flags.extend(fleet.flags());
    place.part("load", &format!("{name}-load"), flags)
}

fn receive(place: &Place, name: &str) -> Result<Sample> {
    let topic = format!("{}/{name}", place.id);
    let start = |messages: u64| {
        let filter = format!("--filter={topic}/+");
        let client_id = format!("--client-id={}-{name}", place.id);
        let flags =
            vec![format!("--mqtt={}", place.mqtt), filter, client_id, format!("--messages={messages}")];
        place.part("receive", name, flags)
    };
    place.finish(start(0)?)?;
    publish(place, name, &topic)?;
    printed(&place.finish(start(place.settings.messages)?)?)
}

fn produce(place: &mut Place, name: &str) -> Result<Sample> {
    let topic = place.topic(name, PLAIN)?;
    let Settings { messages, cars, seed, .. } = place.settings;
    let fleet = Fleet { cars, seed, messages, rate: None };
    let flags =
        [vec![format!("--kafka={}", place.kafka.bootstrap), format!("--topic={topic}")], fleet.flags()];
    let sample = printed(&place.finish(place.part("produce", name, flags.concat())?)?)?;
    check(place, &topic, messages)?;
    place.delete(&topic)?;
    Ok(sample)
}

fn bridge(place: &mut Place, name: &str) -> Result<Sample> {
    let (from, to) = (format!("{}/{name}", place.id), place.topic(name, PLAIN)?);
    // From now on the broker holds its session.
    let mut process = commands::bridge(place, name, &from, &to)?;
    place.ready(&mut process)?;
    place.end(process)?;
    publish(place, name, &from)?;
    let extent = Extent::of(place, &to)?;
    let mut process = commands::bridge(place, name, &from, &to)?;
    let sample = until_done(place, &mut process, place.settings.messages, || extent.records())?;
    place.end(process)?;
    // Now nothing more can come: a message that came twice would be seen.
    check(place, &to, place.settings.messages)?;
    place.delete(&to)?;
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# TYPE a counter\nab_total 9\na_total 7\nb_total{x=\"y\"} 3\n";
        assert_eq!(value(text, "a_total"), Some(7));
        assert_eq!(value(text, "a"), None);
        assert_eq!(value(text, "b_total"), None);
    }

    #[test]
    fn every_job_is_in_a_round_or_named_beside_it() {
        use clap::ValueEnum as _;
        for job in Job::value_variants() {
            let beside =
                [Job::TrainerReads, Job::Latency, Job::TensorflowReads, Job::KerasReads].contains(job);
            assert_ne!(ORDER.contains(job), beside, "{job:?}");
        }
    }
}
