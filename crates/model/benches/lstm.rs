//! What a sequence costs: a learning step and the way forward of our memory beside candle's.
//!
//! Each bench counts sequences of ten readings of 18 sensors, each of which says the next, so divan's items are those.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::rnn::{LSTM, LSTMConfig, RNN as _, lstm};
use candle_nn::{AdamW, Linear, Module as _, Optimizer as _, VarBuilder, VarMap};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use telltale_model::kernel::Instructions;
use telltale_model::lstm::{Learner, Lstm, Sequences};

const FEATURES: usize = 18;
const STEPS: usize = 10;
/// Width of the state, and sequences of a step.
const SHAPES: [(usize, usize); 3] = [(32, 256), (32, 32), (64, 256)];

fn main() {
    divan::main();
}

/// A wave per sensor and sequence, and what follows on each step.
fn waves(count: usize) -> (Vec<f32>, Vec<f32>) {
    let value = |step: usize, rest: usize| (step as f32 * 0.3 + rest as f32 * 0.7).sin();
    let width = count * FEATURES;
    let inputs = (0..STEPS * width).map(|it| value(it / width, it % width)).collect();
    (inputs, (0..STEPS * width).map(|it| value(it / width + 1, it % width)).collect())
}

/// Forward, backward and Adam.
#[divan::bench(args = SHAPES)]
fn step(bencher: Bencher<'_, '_>, (hidden, count): (usize, usize)) {
    let mut learner = Learner::new(&Lstm::initial(FEATURES, hidden, FEATURES, 1), Instructions::detect());
    let (inputs, targets) = waves(count);
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        learner.step(&Sequences { inputs: black_box(&inputs), targets: &targets, count }, 1e-6)
    });
}

/// The same by candle's LSTM and AdamW.
#[divan::bench(args = SHAPES)]
fn candle_step(bencher: Bencher<'_, '_>, (hidden, count): (usize, usize)) {
    let (map, cell, head) = candle_model(hidden).expect("the widths are valid");
    let mut adam = AdamW::new_lr(map.all_vars(), 1e-6).expect("the rate is valid");
    let (inputs, targets) = tensors(count).expect("shapes agree");
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        let made = candle_forward(&cell, &head, black_box(&inputs)).expect("shapes agree");
        let loss = robust(&(made - &targets).expect("shapes agree")).expect("a loss is a number");
        adam.backward_step(&loss).expect("every operation has a gradient");
    });
}

/// Forward alone, each sequence from an empty state.
#[divan::bench(args = SHAPES)]
fn predict(bencher: Bencher<'_, '_>, (hidden, count): (usize, usize)) {
    let mut learner = Learner::new(&Lstm::initial(FEATURES, hidden, FEATURES, 1), Instructions::detect());
    let (inputs, _) = waves(count);
    bencher.counter(ItemsCount::new(count)).bench_local(|| learner.predict(black_box(&inputs), count));
}

/// The same by candle's LSTM, without gradients.
#[divan::bench(args = SHAPES)]
fn candle_predict(bencher: Bencher<'_, '_>, (hidden, count): (usize, usize)) {
    let (map, _, _) = candle_model(hidden).expect("the widths are valid");
    let tensors_of = map.data().lock().expect("nobody panicked").clone();
    let tensors_of: HashMap<_, _> =
        tensors_of.into_iter().map(|(name, it)| (name, it.as_detached_tensor())).collect();
    let builder = VarBuilder::from_tensors(tensors_of, DType::F32, &Device::Cpu);
    let (cell, head) = candle_parts(hidden, builder).expect("the widths are valid");
    let (inputs, _) = tensors(count).expect("shapes agree");
    bencher
        .counter(ItemsCount::new(count))
        .bench_local(|| candle_forward(&cell, &head, black_box(&inputs)).expect("shapes agree"));
}

fn candle_model(hidden: usize) -> Result<(VarMap, LSTM, Linear)> {
    let map = VarMap::new();
    let (cell, head) = candle_parts(hidden, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu))?;
    Ok((map, cell, head))
}

fn candle_parts(hidden: usize, builder: VarBuilder<'_>) -> Result<(LSTM, Linear)> {
    let cell = lstm(FEATURES, hidden, LSTMConfig::default(), builder.pp("cell"))?;
    Ok((cell, candle_nn::linear(hidden, FEATURES, builder.pp("head"))?))
}

/// Inputs `(count, steps, features)` and targets `(steps · count, features)`.
fn tensors(count: usize) -> Result<(Tensor, Tensor)> {
    let (inputs, targets) = waves(count);
    let inputs = Tensor::from_vec(inputs, (STEPS, count, FEATURES), &Device::Cpu)?;
    let targets = Tensor::from_vec(targets, (STEPS * count, FEATURES), &Device::Cpu)?;
    Ok((inputs.transpose(0, 1)?.contiguous()?, targets))
}

fn candle_forward(cell: &LSTM, head: &Linear, inputs: &Tensor) -> Result<Tensor> {
    let states: Vec<_> = cell.seq(inputs)?.iter().map(|it| it.h().clone()).collect();
    head.forward(&Tensor::cat(&states, 0)?)
}

/// The mean pseudo-Huber loss that is learned by.
fn robust(residuals: &Tensor) -> Result<Tensor> {
    (((residuals * 2.0)?.sqr()? + 1.0)?.sqrt()? - 1.0)?.mean_all()? * 0.25
}
