//! Learning of the autoencoder: forward, backward and a step, fused, on memory that is used again.
//!
//! Weights, noise and steps visit everything in a fixed order and each sum has one order, so a run is a function of
//! its seed. Tests hold the gradients equal to candle's and to the slopes of the loss.

use crate::activation::tanh_all;
use crate::adam::{Pace, Parameter};
use crate::instructions::{Instructions, Task, multiply_add};
use crate::network::{Dense, Network};
use crate::product::{Left, Matrix, Product, padded};

/// Residual, in normalised units, from which on the loss grows linearly: failing devices pull less.
pub(crate) const ROBUST: f32 = 0.5;

/// A network that learns: to reconstruct what it is given, step by step.
#[derive(Debug)]
pub struct Learner {
    layers: Vec<Layer>,
    /// `(features, padded features)`, input first.
    shortcut: Parameter,
    features: usize,
    pace: Pace,
    instructions: Instructions,
    memory: Memory,
}

#[derive(Debug)]
struct Layer {
    inputs: usize,
    outputs: usize,
    /// `(inputs, padded outputs)`
    weights: Parameter,
    /// `(padded outputs,)`
    bias: Parameter,
}

/// Reused from step to step.
#[derive(Debug, Default)]
struct Memory {
    /// What each layer makes, `(rows, padded outputs)`.
    values: Vec<Vec<f32>>,
    /// The slope of the loss along what a layer makes, and along what the layer before makes.
    slope: Vec<f32>,
    before: Vec<f32>,
    /// `(outputs, padded inputs)` of the layer at hand.
    turned: Vec<f32>,
}

impl Learner {
    /// Begins with the weights of `network`.
    #[must_use]
    pub fn new(network: &Network, instructions: Instructions) -> Self {
        let features = network.features();
        let layers = network.layers.iter().map(|it| {
            let mut bias = it.bias.clone();
            bias.resize(padded(it.outputs), 0.0);
            let weights = Parameter::new(turned(&it.weights, it.inputs));
            Layer { inputs: it.inputs, outputs: it.outputs, weights, bias: Parameter::new(bias) }
        });
        Self {
            layers: layers.collect(),
            shortcut: Parameter::new(turned(&network.shortcut, features)),
            features,
            pace: Pace::default(),
            instructions,
            memory: Memory::default(),
        }
    }

    /// One step of Adam towards reconstructing `targets` from `inputs`; returns the loss before the step.
    ///
    /// # Shapes
    ///
    /// `inputs` and `targets` are `(rows, features)`, row-major, finite.
    pub fn step(&mut self, inputs: &[f32], targets: &[f32], learning_rate: f32) -> f32 {
        self.forward(inputs);
        let loss = self.backward(inputs, targets);
        let rate = self.pace.next(learning_rate);
        let parameters = self.layers.iter_mut().flat_map(|it| [&mut it.weights, &mut it.bias]);
        parameters.chain([&mut self.shortcut]).for_each(|it| it.step(rate, self.instructions));
        loss
    }

    /// Leaves in memory what each layer makes of `inputs`; the last adds the shortcut.
    fn forward(&mut self, inputs: &[f32]) {
        let rows = inputs.len() / self.features;
        self.memory.values.resize_with(self.layers.len(), Vec::new);
        let input = Matrix { values: inputs, stride: self.features };
        let last = self.layers.len() - 1;
        for (index, layer) in self.layers.iter().enumerate() {
            let (done, rest) = self.memory.values.split_at_mut(index);
            let input = done.last().map_or(input, |it| Matrix { values: it, stride: padded(layer.inputs) });
            let output = &mut rest[0];
            output.clear();
            (0..rows).for_each(|_| output.extend_from_slice(&layer.bias.values));
            product(Left::Plain(input), &layer.weights.values, output, [rows, layer.inputs, layer.outputs])
                .add(self.instructions);
            if index < last {
                tanh_all(output, self.instructions);
            }
        }
        let output = &mut self.memory.values[last];
        product(Left::Plain(input), &self.shortcut.values, output, [rows, self.features, self.features])
            .add(self.instructions);
    }

    /// Adds the gradients to the parameters', and returns the loss.
    fn backward(&mut self, inputs: &[f32], targets: &[f32]) -> f32 {
        let (instructions, features) = (self.instructions, self.features);
        let rows = inputs.len() / features;
        let input = Matrix { values: inputs, stride: features };
        let Memory { values, slope, before, turned } = &mut self.memory;
        let last = self.layers.len() - 1;
        let mut loss = 0.0;
        slope.clear();
        slope.resize(values[last].len(), 0.0);
        let share = 1.0 / targets.len() as f32;
        instructions.run(Loss { values: &values[last], targets, features, share, slope, loss: &mut loss });
        product(Left::Transposed(input), slope, &mut self.shortcut.gradient, [features, rows, features])
            .add(instructions);
        for (index, layer) in self.layers.iter_mut().enumerate().rev() {
            let made = index.checked_sub(1).map(|it| &values[it]);
            let input = made.map_or(input, |it| Matrix { values: it, stride: padded(layer.inputs) });
            let shape = [layer.inputs, rows, layer.outputs];
            product(Left::Transposed(input), slope, &mut layer.weights.gradient, shape).add(instructions);
            for row in slope.chunks_exact(padded(layer.outputs)) {
                layer.bias.gradient.iter_mut().zip(row).for_each(|(sum, it)| *sum += it);
            }
            let Some(made) = made else { break };
            before.clear();
            before.resize(made.len(), 0.0);
            turn(&layer.weights.values, layer.inputs, layer.outputs, turned);
            let left = Left::Plain(Matrix { values: slope, stride: padded(layer.outputs) });
            product(left, turned, before, [rows, layer.outputs, layer.inputs]).add(instructions);
            for (slope, value) in before.iter_mut().zip(made) {
                *slope *= 1.0 - value * value;
            }
            std::mem::swap(slope, before);
        }
        loss / inputs.len() as f32
    }

    /// The weights as they are now.
    #[must_use]
    pub fn network(&self) -> Network {
        let layers = self.layers.iter().map(|it| {
            let weights = straight(&it.weights.values, it.inputs, it.outputs);
            let bias = it.bias.values[..it.outputs].to_vec();
            Dense { inputs: it.inputs, outputs: it.outputs, weights, bias }
        });
        let shortcut = straight(&self.shortcut.values, self.features, self.features);
        Network { layers: layers.collect(), shortcut }
    }
}

/// `result += left · right`, of padded columns; `shape` is rows, depth and columns.
fn product<'a>(left: Left<'a>, right: &'a [f32], result: &'a mut [f32], shape: [usize; 3]) -> Product<'a> {
    let [rows, depth, columns] = shape;
    let columns = padded(columns);
    Product {
        left,
        right: Matrix { values: right, stride: columns },
        result,
        stride: columns,
        rows,
        depth,
        columns,
    }
}

/// `(outputs, inputs)` as `(inputs, padded outputs)`.
pub(crate) fn turned(weights: &[f32], inputs: usize) -> Vec<f32> {
    let stride = padded(weights.len() / inputs);
    let mut turned = vec![0.0; inputs * stride];
    for (output, weights) in weights.chunks_exact(inputs).enumerate() {
        weights.iter().enumerate().for_each(|(input, it)| turned[input * stride + output] = *it);
    }
    turned
}

/// `(inputs, padded outputs)` as `(outputs, inputs)`.
pub(crate) fn straight(weights: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    (0..outputs * inputs).map(|it| weights[it % inputs * padded(outputs) + it / inputs]).collect()
}

/// `(inputs, padded outputs)` as `(outputs, padded inputs)`.
pub(crate) fn turn(weights: &[f32], inputs: usize, outputs: usize, result: &mut Vec<f32>) {
    let stride = padded(inputs);
    result.clear();
    result.resize(outputs * stride, 0.0);
    for (input, weights) in weights.chunks_exact(padded(outputs)).enumerate() {
        weights[..outputs].iter().enumerate().for_each(|(output, it)| result[output * stride + input] = *it);
    }
}

/// The sum of the pseudo-Huber loss, ROBUST² (sqrt(1 + (r / ROBUST)²) − 1), and the slope of its mean.
pub(crate) struct Loss<'a> {
    /// `(rows, padded features)`
    pub(crate) values: &'a [f32],
    pub(crate) targets: &'a [f32],
    pub(crate) features: usize,
    /// What one value counts of the mean.
    pub(crate) share: f32,
    pub(crate) slope: &'a mut [f32],
    pub(crate) loss: &'a mut f32,
}

impl Task for Loss<'_> {
    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(self) {
        let stride = padded(self.features);
        let rows = self.values.chunks_exact(stride).zip(self.targets.chunks_exact(self.features));
        for ((values, targets), slope) in rows.zip(self.slope.chunks_exact_mut(stride)) {
            let mut total = 0.0;
            for ((value, target), slope) in values.iter().zip(targets).zip(slope) {
                let residual = value - target;
                let scaled = residual * (1.0 / ROBUST);
                let root = multiply_add::<FMA>(scaled, scaled, 1.0).sqrt();
                total += root - 1.0;
                *slope = residual / root * self.share;
            }
            *self.loss += total * (ROBUST * ROBUST);
        }
    }
}

#[cfg(test)]
#[path = "learn_tests.rs"]
mod tests;
