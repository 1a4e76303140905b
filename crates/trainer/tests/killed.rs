//! The trainer is killed, at every step of its transaction and at random moments: it begins again and ends with the same model.
//!
//! There is no checkpoint: a model is a function of offsets that stay in the log, so whoever comes next reads them again.

#[allow(dead_code, reason = "each test file uses its own part of this module")]
mod support;

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::time::Instant;

use support::World;
use telltale_kafka::KafkaConfig;
use telltale_records::topics;
use telltale_testkit::Process;
use telltale_testkit::gate::{Point, TRANSACTION, kill_at};

/// Random kills unless `TELLTALE_TEST_KILLS` says how many.
const KILLS: u64 = 12;
/// What the random moments are made of, unless `TELLTALE_TEST_SEED` says it.
const SEED: u64 = 5;

/// A number that the environment may set.
fn from_environment(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "how long a test takes is up to who runs it")]
    let given = std::env::var(name).ok();
    given.map_or(default, |it| it.parse().expect("a whole number"))
}

/// A trainer of one version as a process.
fn trainer(world: &World, kafka: &KafkaConfig) -> Process {
    let own = ["--once", "--http", "off", "--log", "warn"];
    Process::start(env!("CARGO_BIN_EXE_telltale-trainer"), &world.flags(kafka, &own))
}

/// Runs a trainer to its end.
fn undisturbed(world: &World) {
    trainer(world, &world.kafka).wait();
}

/// Checks that every version is the same model, whole, numbered without a gap, and says how many there are.
fn same_models(world: &World) -> usize {
    let models = world.models();
    for (index, model) in models.iter().enumerate() {
        assert_eq!((&model.sha256, &model.ranges), (&models[0].sha256, &models[0].ranges));
        assert_eq!((model.version, model.generation), (index as u64 + 1, index as u64 + 1));
    }
    assert_eq!(world.audited(), models, "the audit has every manifest, once");
    assert_eq!(world.json(topics::MODEL_METRICS).len(), 2 * models.len());
    models.len()
}

#[test]
fn a_trainer_killed_at_any_step_of_its_transaction_publishes_all_of_a_version_or_nothing() {
    let world = World::start();
    world.send_readings(30, 0..60);
    undisturbed(&world);
    // It reads without a group: no offsets.
    for point in Point::all(&[TRANSACTION[0], TRANSACTION[1], TRANSACTION[2], TRANSACTION[5]]) {
        kill_at(&world.kafka, point, 0, |through| trainer(&world, through));
    }
    undisturbed(&world);
    // The first, those whose commit reached Kafka before the kill, and the last.
    assert_eq!(same_models(&world), 1 + 2 + 1);
}

#[test]
fn a_trainer_killed_at_random_moments_ends_with_the_same_model() {
    let (kills, seed) =
        (from_environment("TELLTALE_TEST_KILLS", KILLS), from_environment("TELLTALE_TEST_SEED", SEED));
    let world = World::start();
    world.send_readings(30, 0..60);
    let began = Instant::now();
    undisturbed(&world);
    let whole = began.elapsed();
    // Numbers in a row, mixed well, are random enough; the same for the same seed.
    let random = |number: u64| BuildHasherDefault::<DefaultHasher>::default().hash_one((seed, number));
    let mut finished = 0;
    for kill in 0..kills {
        // The moment itself is the disturbance: up to a little more than a whole run.
        let moment = whole.mul_f64(1.1 * (random(kill) % 1000) as f64 / 1000.0);
        let mut running = trainer(&world, &world.kafka);
        std::thread::sleep(moment);
        finished += u64::from(!running.is_running());
        running.kill();
    }
    let began = Instant::now();
    undisturbed(&world);
    let again = began.elapsed();
    let models = same_models(&world);
    println!(
        "seed {seed}: {kills} kills within {whole:?}, {finished} came after the end; {models} versions, one SHA-256; the last run took \
         {again:?}"
    );
}
