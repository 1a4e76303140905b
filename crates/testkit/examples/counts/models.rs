//! The loops of features and of the model: inputs, scores, training.

use telltale_features::Specification;
use telltale_model::kernel::Instructions;
use telltale_model::learn::Learner;
use telltale_model::lstm::{self, Lstm, Sequences};
use telltale_model::{Lineage, Rows, Scores, Trained, Trainer, TrainingConfig, device_hash};
use telltale_simulator::fleet::car_id;

use crate::inputs::{RECORDS, START_MS, rows};
use crate::loops::Work;

const FEATURES: usize = 18;
/// Rows of a training step, as the trainer's default.
const STEP: usize = 256;
/// Width of the memory's state, sequences of a step, and readings of each.
const LSTM: (usize, usize, usize) = (32, 32, 10);

/// A model that has hardly learned: what it has learned does not change what its use costs.
fn trained() -> Trained {
    let config = TrainingConfig { visits: 2 * STEP as u64, ..TrainingConfig::default() };
    let mut trainer = Trainer::new(Specification::cars(), config, 1).expect("the configuration is valid");
    let values = rows(RECORDS);
    let (devices, times_ms) = (devices(), vec![START_MS; RECORDS]);
    let rows = Rows { values: &values, devices: &devices, times_ms: &times_ms, failing: &[] };
    trainer.feed(&rows).expect("the rows belong together");
    trainer.finish(Lineage::default()).expect("cars can be learned")
}

fn devices() -> Vec<u64> {
    (0..RECORDS as u32).map(|it| device_hash(car_id(it).as_bytes())).collect()
}

pub(crate) fn features() -> Work {
    let (model, rows, mut inputs) = (trained().model, rows(RECORDS), Vec::new());
    Work::new(RECORDS, move || {
        inputs.clear();
        model.normaliser().apply(&rows, FEATURES, &mut inputs);
        inputs[0]
    })
}

pub(crate) fn score() -> Work {
    let (model, rows, mut scores) = (trained().model, rows(RECORDS), Scores::default());
    Work::new(RECORDS, move || {
        model.score(&rows, &mut scores);
        scores.scores[0]
    })
}

pub(crate) fn feed() -> Work {
    // So small that every second call chooses what is kept, as the trainer does at its size.
    let config = TrainingConfig { capacity: RECORDS, ..TrainingConfig::default() };
    let mut trainer = Trainer::new(Specification::cars(), config, 1).expect("the configuration is valid");
    let (values, devices, mut second) = (rows(RECORDS), devices(), 0);
    Work::new(RECORDS, move || {
        let times_ms = vec![START_MS + 1000 * second; RECORDS];
        second += 1;
        let rows = Rows { values: &values, devices: &devices, times_ms: &times_ms, failing: &[] };
        trainer.feed(&rows).expect("the rows belong together");
        trainer.seen()
    })
}

pub(crate) fn step() -> Work {
    let Trained { model, network, .. } = trained();
    let mut learner = Learner::new(&network, Instructions::detect());
    let mut inputs = Vec::new();
    model.normaliser().apply(&rows(STEP), FEATURES, &mut inputs);
    Work::new(STEP, move || learner.step(&inputs, &inputs, 1e-6))
}

/// A wave per sensor and sequence, and what follows on each step.
fn waves() -> (Vec<f32>, Vec<f32>) {
    let (_, count, steps) = LSTM;
    let value = |step: usize, rest: usize| (step as f32 * 0.3 + rest as f32 * 0.7).sin();
    let width = count * FEATURES;
    let wave = |ahead: usize| (0..steps * width).map(|it| value(it / width + ahead, it % width)).collect();
    (wave(0), wave(1))
}

fn memory() -> lstm::Learner {
    lstm::Learner::new(&Lstm::initial(FEATURES, LSTM.0, FEATURES, 1), Instructions::detect())
}

pub(crate) fn lstm_step() -> Work {
    let (mut learner, (inputs, targets), count) = (memory(), waves(), LSTM.1);
    Work::new(count, move || learner.step(&Sequences { inputs: &inputs, targets: &targets, count }, 1e-6))
}

pub(crate) fn lstm_predict() -> Work {
    let (mut learner, (inputs, _), count) = (memory(), waves(), LSTM.1);
    Work::new(count, move || learner.predict(&inputs, count))
}
