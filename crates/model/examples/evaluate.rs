//! Trains on a simulated fleet and says how well its failures are found, per seed and failure mode.
//!
//! ```text
//! evaluate [--cars 1000] [--learn 6,60] [--for 1100] [--seeds 101,102,103] [--rate 0.005] [--visits N] [--hidden 24,12,24]
//! ```
//!
//! For each seed, models learn from the first `--learn` seconds of the fleet (one reading a second and car, no
//! labels) and score the `--for` seconds after them. A reading counts as failing past the first quarter of the
//! failure's growth, as healthy without any failure; those between count as neither. An episode counts if it lies
//! wholly in the scored time, as found with two alarms or more.

use std::collections::BTreeMap;
use std::time::Instant;

use telltale_features::Specification;
use telltale_model::{Lineage, Model, Rows, Scores, Trainer, TrainingConfig, device_hash};
use telltale_simulator::fleet::{Episode, FEATURES, Fleet, Mode, Settings, car_id};

const START_MS: i64 = 1_700_000_000_000;
/// Where a failure's growth is past its first quarter.
const QUARTER: f64 = 0.25;
/// Alarms that make an episode found: one may be chance.
const ALARMS: u32 = 2;

struct Arguments {
    cars: u32,
    learn: Vec<i64>,
    scored: i64,
    seeds: Vec<u64>,
    config: TrainingConfig,
}

#[derive(Default)]
struct Episodes {
    count: u32,
    found: u32,
    delays: Vec<f64>,
    scores: Vec<f32>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = arguments()?;
    let specification = Specification::cars();
    let names: Vec<_> = FEATURES.iter().map(|it| it.to_uppercase()).collect();
    assert_eq!(specification.columns(), names, "the simulator's sensors are the default's columns");
    for &seed in &arguments.seeds {
        let fleet = Fleet::new(seed, Settings::default())?;
        for &seconds in &arguments.learn {
            let mut trainer = Trainer::new(specification.clone(), arguments.config.clone(), seed)?;
            feed(&mut trainer, &fleet, arguments.cars, seconds)?;
            let began = Instant::now();
            let trained = trainer.finish(Lineage::default())?;
            let about = trained.model.about();
            let last = trained.curve.last().map_or(f32::NAN, |it| it.held_back_loss);
            println!(
                "seed {seed}: learned from {} readings ({} left out) in {:.2} s, {} passes, held-back loss {last:.5}, threshold {:.3}, {} bytes",
                about.rows,
                about.trimmed_rows,
                began.elapsed().as_secs_f64(),
                trained.curve.len(),
                about.threshold,
                trained.artifact.bytes.len(),
            );
            if std::env::args().any(|it| it == "--self") {
                evaluate(&trained.model, &fleet, &arguments, -1, seconds);
            }
            evaluate(&trained.model, &fleet, &arguments, seconds, arguments.scored);
        }
    }
    Ok(())
}

fn arguments() -> Result<Arguments, Box<dyn std::error::Error>> {
    let mut arguments = Arguments {
        cars: 1000,
        learn: vec![6, 60],
        scored: 1100,
        seeds: vec![101, 102, 103],
        config: TrainingConfig::default(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--self" => {}
            "--cars" => arguments.cars = value.parse()?,
            "--learn" => arguments.learn = list(&value)?,
            "--for" => arguments.scored = value.parse()?,
            "--seeds" => arguments.seeds = list(&value)?,
            "--rate" => arguments.config.false_alarm_rate = value.parse()?,
            "--visits" => arguments.config.visits = value.parse()?,
            "--hidden" => arguments.config.hidden = list(&value)?,
            "--noise" => arguments.config.noise = value.parse()?,
            "--batch" => arguments.config.batch = value.parse()?,
            "--learning-rate" => arguments.config.learning_rate = value.parse()?,
            _ => return Err(format!("unknown flag {flag}").into()),
        }
    }
    Ok(arguments)
}

fn list<T: std::str::FromStr>(text: &str) -> Result<Vec<T>, T::Err> {
    text.split(',').map(str::parse).collect()
}

/// Readings of the whole fleet, second by second.
fn feed(
    trainer: &mut Trainer,
    fleet: &Fleet,
    cars: u32,
    seconds: i64,
) -> Result<(), Box<dyn std::error::Error>> {
    let devices: Vec<u64> = (1..=cars).map(|it| device_hash(car_id(it).as_bytes())).collect();
    for second in 0..seconds {
        let times_ms = vec![START_MS + second * 1000; devices.len()];
        let mut values = Vec::with_capacity(devices.len() * FEATURES.len());
        for car in 1..=cars {
            values.extend(fleet.reading(car, times_ms[0]).values.map(|it| it as f32));
        }
        trainer.feed(&Rows { values: &values, devices: &devices, times_ms: &times_ms, failing: &[] })?;
    }
    Ok(())
}

fn evaluate(model: &Model, fleet: &Fleet, arguments: &Arguments, learned: i64, scored: i64) {
    let learned = learned.max(0);
    let (from, to) = (START_MS + learned * 1000, START_MS + (learned + scored) * 1000);
    let mut healthy = Vec::new();
    let mut modes: BTreeMap<Mode, Episodes> = BTreeMap::new();
    let mut scores = Scores::default();
    let mut values = Vec::new();
    for car in 1..=arguments.cars {
        values.clear();
        let times: Vec<i64> = (from..to).step_by(1000).collect();
        times.iter().for_each(|it| values.extend(fleet.reading(car, *it).values.map(|it| it as f32)));
        model.score(&values, &mut scores);
        let episodes: Vec<Episode> = fleet.episodes(car, from, to).collect();
        let episode = |time: i64| episodes.iter().find(|it| it.start_ms <= time && time < it.end_ms);
        for (time, score) in times.iter().zip(&scores.scores) {
            match episode(*time) {
                None => healthy.push(*score),
                Some(it) if it.growth(*time) >= QUARTER => {
                    modes.entry(it.mode).or_default().scores.push(*score)
                }
                Some(_) => {}
            }
        }
        for episode in episodes.iter().filter(|it| from <= it.start_ms && it.end_ms <= to) {
            let inside = times.iter().zip(&scores.scores);
            let mut alarms = inside.filter(|(time, score)| {
                (episode.start_ms..episode.end_ms).contains(time) && **score > model.threshold()
            });
            let entry = modes.entry(episode.mode).or_default();
            entry.count += 1;
            if let Some((time, _)) = alarms.nth(ALARMS as usize - 1) {
                entry.found += 1;
                entry.delays.push((time - episode.start_ms) as f64 / 1000.0);
            }
        }
    }
    report(model, healthy, modes);
}

fn report(model: &Model, mut healthy: Vec<f32>, modes: BTreeMap<Mode, Episodes>) {
    healthy.sort_unstable_by(f32::total_cmp);
    let asked = model.about().config.false_alarm_rate;
    let alarms = healthy.len() - healthy.partition_point(|it| *it <= model.threshold());
    let rate = alarms as f64 / healthy.len() as f64;
    let all: Vec<f32> = modes.values().flat_map(|it| &it.scores).copied().collect();
    println!(
        "  AUC {:.5}; {} healthy, {} failing readings; false alarms {rate:.5} of {asked} asked ({:+.0} %)",
        auc(&healthy, &all),
        healthy.len(),
        all.len(),
        (rate / asked - 1.0) * 100.0,
    );
    for (mode, mut episodes) in modes {
        episodes.delays.sort_unstable_by(f64::total_cmp);
        let Episodes { count, found, delays, scores } = &episodes;
        let alarmed =
            scores.iter().filter(|it| **it > model.threshold()).count() as f64 / scores.len() as f64;
        println!(
            "  {:20} found {found:4} of {count:4} ({:5.1} %), median delay {:5.1} s; AUC {:.5}, {:4.1} % of its readings alarm",
            mode.name(),
            f64::from(*found) / f64::from((*count).max(1)) * 100.0,
            delays.get(delays.len() / 2).copied().unwrap_or(f64::NAN),
            auc(&healthy, scores),
            alarmed * 100.0,
        );
    }
}

/// Chance that a failing reading scores above a healthy one. `healthy` is in order.
fn auc(healthy: &[f32], failing: &[f32]) -> f64 {
    let below = failing.iter().map(|it| {
        let less = healthy.partition_point(|other| other < it);
        let equal = healthy[less..].partition_point(|other| other <= it);
        less as f64 + equal as f64 / 2.0
    });
    below.sum::<f64>() / (healthy.len() as f64 * failing.len() as f64)
}
