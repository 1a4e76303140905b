//! What a reading costs: the fused forward pass beside candle's, a training step beside candle's, and loading a model.
//!
//! Each bench counts readings, so divan's "ns" per item is per reading.

use std::sync::OnceLock;

use candle_core::{D, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer as _};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use telltale_features::Specification;
use telltale_model::kernel::Instructions;
use telltale_model::learn::Learner;
use telltale_model::network::Network;
use telltale_model::{Lineage, Rows, Scores, Signer, Trained, Trainer, TrainingConfig, device_hash, load};
use telltale_simulator::fleet::{Fleet, Settings, car_id};

const START_MS: i64 = 1_700_000_000_000;
const FEATURES: usize = 18;
/// Rows per call: one alone, candle's best, and a whole transaction.
const BATCHES: [usize; 3] = [1, 256, 4096];
/// Rows of a step: the default, and candle's best.
const STEPS: [usize; 2] = [256, 1024];

fn main() {
    divan::main();
}

fn rows(count: usize) -> Vec<f32> {
    let fleet = Fleet::new(1, Settings::default()).expect("the default settings are valid");
    (0..count as u32).flat_map(|it| fleet.reading(it, START_MS).values.map(|it| it as f32)).collect()
}

fn trainer(config: TrainingConfig) -> Trainer {
    let values = rows(6000);
    let devices: Vec<u64> = (0..6000).map(|it| device_hash(car_id(it % 1000).as_bytes())).collect();
    let times_ms: Vec<i64> = (0..6000).map(|it| START_MS + it / 1000 * 1000).collect();
    let mut trainer = Trainer::new(Specification::cars(), config, 1).expect("the configuration is valid");
    let rows = Rows { values: &values, devices: &devices, times_ms: &times_ms, failing: &[] };
    trainer.feed(&rows).expect("the rows belong together");
    trainer
}

fn trained() -> &'static Trained {
    static TRAINED: OnceLock<Trained> = OnceLock::new();
    TRAINED.get_or_init(|| {
        trainer(TrainingConfig::default()).finish(Lineage::default()).expect("cars can be learned")
    })
}

/// Normalising, the fused pass, score and contributions: all that scoring a reading takes.
#[divan::bench(args = BATCHES)]
fn score(bencher: Bencher<'_, '_>, batch: usize) {
    let (model, rows) = (&trained().model, rows(batch));
    let mut scores = Scores::default();
    bencher.counter(ItemsCount::new(batch)).bench_local(|| {
        model.score(black_box(&rows), &mut scores);
        scores.scores[0]
    });
}

/// The same network in candle, from inputs that are normalised already to a mean squared residual.
#[divan::bench(args = BATCHES)]
fn candle_forward(bencher: Bencher<'_, '_>, batch: usize) {
    let network = &trained().network;
    let layers = tensors(network);
    let shortcut = tensor(&network.shortcut, FEATURES);
    let inputs = inputs(batch);
    bencher
        .counter(ItemsCount::new(batch))
        .bench_local(|| forward(&layers, &shortcut, black_box(&inputs)).expect("shapes agree"));
}

/// One step of learning, forward, backward and Adam, on memory that is used again.
#[divan::bench(args = STEPS)]
fn step(bencher: Bencher<'_, '_>, batch: usize) {
    let mut learner = Learner::new(&trained().network, Instructions::detect());
    let inputs = inputs(batch);
    bencher.counter(ItemsCount::new(batch)).bench_local(|| learner.step(black_box(&inputs), &inputs, 1e-6));
}

/// The same step in candle, by its tanh and its AdamW.
#[divan::bench(args = STEPS)]
fn candle_step(bencher: Bencher<'_, '_>, batch: usize) {
    let variable = |it: Tensor| Var::from_tensor(&it).expect("the tensor is dense");
    let layers = tensors(&trained().network);
    let layers: Vec<_> =
        layers.into_iter().map(|(weights, bias)| (variable(weights), variable(bias))).collect();
    let shortcut = variable(tensor(&trained().network.shortcut, FEATURES));
    let variables = layers.iter().flat_map(|(weights, bias)| [weights.clone(), bias.clone()]);
    let variables = variables.chain([shortcut.clone()]).collect();
    let mut adam = AdamW::new_lr(variables, 1e-6).expect("the rate is valid");
    let layers: Vec<_> = layers
        .iter()
        .map(|(weights, bias)| (weights.as_tensor().clone(), bias.as_tensor().clone()))
        .collect();
    let inputs = tensor(&inputs(batch), FEATURES);
    bencher.counter(ItemsCount::new(batch)).bench_local(|| {
        let output = reconstruct(&layers, &shortcut, black_box(&inputs)).expect("shapes agree");
        let loss = robust(&(output - &inputs).expect("shapes agree")).expect("a loss is a number");
        adam.backward_step(&loss).expect("every operation has a gradient");
    });
}

/// Taking in ten times as many readings as the trainer keeps, as they are read.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn feed(bencher: Bencher<'_, '_>) {
    const BATCH: i64 = 1000;
    let config = TrainingConfig::default();
    let (values, batches) = (rows(BATCH as usize), config.capacity as i64 * 10 / BATCH);
    let devices: Vec<u64> = (0..BATCH as u32).map(|it| device_hash(car_id(it).as_bytes())).collect();
    bencher.counter(ItemsCount::new((batches * BATCH) as usize)).bench_local(|| {
        let mut trainer =
            Trainer::new(Specification::cars(), config.clone(), 1).expect("the configuration is valid");
        for second in 0..batches {
            let times_ms = vec![START_MS + second * 1000; devices.len()];
            let rows = Rows { values: &values, devices: &devices, times_ms: &times_ms, failing: &[] };
            trainer.feed(&rows).expect("the rows belong together");
        }
        trainer.seen()
    });
}

/// A whole run on 6,000 readings; its visits are the items.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn train(bencher: Bencher<'_, '_>) {
    let config = TrainingConfig { visits: 100_000, ..TrainingConfig::default() };
    bencher
        .counter(ItemsCount::new(config.visits as usize))
        .with_inputs(|| trainer(config.clone()))
        .bench_local_values(|it| it.finish(Lineage::default()).expect("cars can be learned"));
}

/// All checks of a delivered model.
#[divan::bench]
fn verify_and_load(bencher: Bencher<'_, '_>) {
    let signer = Signer::generate().expect("the system has random bytes");
    let release = telltale_model::Release {
        name: "cars".into(),
        version: 1,
        generation: 1,
        created_ms: 0,
        seconds: 0.0,
    };
    let artifact = &trained().artifact;
    let (signed, trusted) = (artifact.sign(&release, &signer), signer.trusted());
    bencher.bench_local(|| load(&signed, black_box(&artifact.bytes), &trusted).expect("the model is valid"));
}

fn tensor(values: &[f32], columns: usize) -> Tensor {
    Tensor::from_slice(values, (values.len() / columns, columns), &Device::Cpu).expect("the shape fits")
}

fn tensors(network: &Network) -> Vec<(Tensor, Tensor)> {
    let layers = network.layers.iter();
    layers.map(|it| (tensor(&it.weights, it.inputs), tensor(&it.bias, it.outputs))).collect()
}

fn inputs(batch: usize) -> Vec<f32> {
    let mut inputs = Vec::new();
    trained().model.normaliser().apply(&rows(batch), FEATURES, &mut inputs);
    inputs
}

fn forward(layers: &[(Tensor, Tensor)], shortcut: &Tensor, inputs: &[f32]) -> candle_core::Result<Vec<f32>> {
    let input = tensor(inputs, FEATURES);
    (reconstruct(layers, shortcut, &input)? - input)?.sqr()?.mean(D::Minus1)?.to_vec1()
}

fn reconstruct(
    layers: &[(Tensor, Tensor)],
    shortcut: &Tensor,
    input: &Tensor,
) -> candle_core::Result<Tensor> {
    let mut value = input.clone();
    for (index, (weights, bias)) in layers.iter().enumerate() {
        value = value.matmul(&weights.t()?)?.broadcast_add(bias)?;
        if index + 1 < layers.len() {
            value = value.tanh()?;
        }
    }
    value + input.matmul(&shortcut.t()?)?
}

/// The mean pseudo-Huber loss that is learned by.
fn robust(residuals: &Tensor) -> candle_core::Result<Tensor> {
    (((residuals * 2.0)?.sqr()? + 1.0)?.sqrt()? - 1.0)?.mean_all()? * 0.25
}
