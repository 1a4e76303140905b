//! The fused forward pass: inputs to scores and contributions, sixteen rows side by side.
//!
//! ```text
//! 16 rows ─transpose─▶ x ─dense, tanh…─▶ y ─▶ r = x − y − shortcut x ─whitening─▶ u ─▶ score = mean u², top shares
//! ```
//!
//! Each row has a vector lane of its own and lanes never meet, so a batch scores as its rows would one by one,
//! bit for bit.

use crate::activation::tanh;
pub use crate::instructions::Instructions;
use crate::instructions::{Task, multiply_add};
use crate::network::{Dense, Network};

/// Rows side by side.
const LANES: usize = 16;
/// Neurons computed together; hides the latency of a multiply-add.
const BLOCK: usize = 4;
/// Features named with their share for each reading.
pub const TOP: usize = 3;

type Lanes = [f32; LANES];

/// How much of a score one feature makes up.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Share {
    /// Index of the feature.
    pub feature: u32,
    /// Its part of the score, 0 to 1.
    pub share: f32,
}

/// A network with the whitening of its residuals, laid out for the fused pass.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    features: usize,
    layers: Vec<Packed>,
    /// Identity minus shortcut: what the shortcut leaves of the input.
    left: Packed,
    whitening: Packed,
    widest: usize,
    instructions: Instructions,
    /// Whether a multiply-add rounds once; without the instruction for it, it is computed slowly.
    fused: bool,
}

/// A layer in blocks of [`BLOCK`] neurons; for each input the block's weights lie side by side.
#[derive(Debug, Clone)]
struct Packed {
    inputs: usize,
    weights: Vec<[f32; BLOCK]>,
    bias: Vec<[f32; BLOCK]>,
}

/// Reused memory of a pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scratch {
    input: Vec<Lanes>,
    known: Vec<Lanes>,
    one: Vec<Lanes>,
    other: Vec<Lanes>,
}

/// Where a pass puts its results.
pub(crate) enum Results<'a> {
    /// One score per row and its largest shares.
    Scores(&'a mut [f32], &'a mut [[Share; TOP]]),
    /// The residuals of each row, `(rows, features)`, 0 where the input is missing.
    Residuals(&'a mut [f32]),
}

impl Kernel {
    /// Lays out `network`; `whitening` maps residuals to units.
    pub(crate) fn new(network: &Network, whitening: &Dense, instructions: Instructions) -> Self {
        let layers: Vec<_> = network.layers.iter().map(Packed::new).collect();
        let widest = layers.iter().map(|it| it.bias.len() * BLOCK).chain([network.features()]).max();
        let features = network.features();
        let mut left = vec![0.0; features * features];
        for (index, (left, shortcut)) in left.iter_mut().zip(&network.shortcut).enumerate() {
            let identity = f32::from(u8::from(index % (features + 1) == 0));
            *left = identity - shortcut;
        }
        let left = Dense { inputs: features, outputs: features, weights: left, bias: vec![0.0; features] };
        Self {
            features,
            layers,
            left: Packed::new(&left),
            whitening: Packed::new(whitening),
            widest: widest.unwrap_or(0).next_multiple_of(BLOCK),
            instructions: instructions.min(Instructions::detect()),
            fused: instructions.min(Instructions::detect()) > Instructions::Portable,
        }
    }

    /// The same, computed as machines compute that round otherwise: a kernel has two results, bit for bit, whether
    /// multiply-adds are fused (AVX2, AVX-512) or not.
    pub(crate) fn other_rounding(&self) -> Self {
        Self { instructions: Instructions::Portable, fused: !self.fused, ..self.clone() }
    }

    /// Passes rows of inputs through; NaN marks a missing value, which is read as 0 and is no evidence.
    ///
    /// # Shapes
    ///
    /// `inputs` is `(rows, features)`; `results` hold `rows` entries.
    pub(crate) fn run(&self, inputs: &[f32], scratch: &mut Scratch, results: &mut Results<'_>) {
        let rows = inputs.len() / self.features;
        let fits = match results {
            Results::Scores(scores, top) => scores.len() == rows && top.len() == rows,
            Results::Residuals(residuals) => residuals.len() == inputs.len(),
        };
        assert!(fits && inputs.len().is_multiple_of(self.features), "one result per row");
        for buffer in [&mut scratch.input, &mut scratch.known, &mut scratch.one, &mut scratch.other] {
            buffer.resize(self.widest, [0.0; LANES]);
        }
        let pass = Pass { kernel: self, inputs, scratch, results };
        match self.instructions {
            Instructions::Portable if self.fused => pass.run::<true, false>(),
            instructions => instructions.run(pass),
        }
    }
}

impl Packed {
    fn new(layer: &Dense) -> Self {
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for first in (0..layer.outputs).step_by(BLOCK) {
            let neuron = |offset: usize| Some(first + offset).filter(|it| *it < layer.outputs);
            let of =
                |offset, input| neuron(offset).map_or(0.0, |it| layer.weights[it * layer.inputs + input]);
            weights.extend((0..layer.inputs).map(|input| std::array::from_fn(|it| of(it, input))));
            bias.push(std::array::from_fn(|it| neuron(it).map_or(0.0, |it| layer.bias[it])));
        }
        Self { inputs: layer.inputs, weights, bias }
    }
}

/// A pass, to be compiled for each kind of instructions.
struct Pass<'a, 'b> {
    kernel: &'a Kernel,
    inputs: &'a [f32],
    scratch: &'a mut Scratch,
    results: &'a mut Results<'b>,
}

impl Task for Pass<'_, '_> {
    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(self) {
        run::<FMA>(self.kernel, self.inputs, self.scratch, self.results);
    }
}

#[inline(always)]
fn run<const FMA: bool>(kernel: &Kernel, inputs: &[f32], scratch: &mut Scratch, results: &mut Results<'_>) {
    let features = kernel.features;
    let rows = inputs.len() / features;
    let Scratch { input, known, one, other } = scratch;
    let mut first = 0;
    while first < rows {
        let count = (rows - first).min(LANES);
        let group = &inputs[first * features..(first + count) * features];
        transpose(group, features, count, input);
        for (known, input) in known[..features].iter_mut().zip(&*input) {
            for lane in 0..LANES {
                known[lane] = if input[lane].is_nan() { 0.0 } else { input[lane] };
            }
        }
        forward::<FMA>(kernel, &known[..features], one, other);
        dense::<FMA>(&kernel.left, &known[..features], other);
        residuals(&input[..features], &other[..features], &mut one[..features]);
        match results {
            Results::Scores(scores, top) => {
                dense::<FMA>(&kernel.whitening, &one[..features], other);
                let (scores, top) = (&mut scores[first..first + count], &mut top[first..first + count]);
                summarise(&input[..features], &other[..features], scores, top);
            }
            Results::Residuals(residuals) => {
                for (row, residuals) in
                    residuals[first * features..].chunks_exact_mut(features).take(count).enumerate()
                {
                    for (value, lanes) in residuals.iter_mut().zip(one.iter()) {
                        *value = lanes[row];
                    }
                }
            }
        }
        first += count;
    }
}

/// Puts row-major `group` into lanes; lanes without a row are 0.
#[inline(always)]
fn transpose(group: &[f32], features: usize, count: usize, lanes: &mut [Lanes]) {
    for (feature, lane) in lanes[..features].iter_mut().enumerate() {
        for row in 0..LANES {
            lane[row] = if row < count { group[row * features + feature] } else { 0.0 };
        }
    }
}

/// Leaves what the layers make of `known` in `one`.
#[inline(always)]
fn forward<const FMA: bool>(kernel: &Kernel, known: &[Lanes], one: &mut Vec<Lanes>, other: &mut Vec<Lanes>) {
    other[..known.len()].copy_from_slice(known);
    let last = kernel.layers.len() - 1;
    for (index, layer) in kernel.layers.iter().enumerate() {
        dense::<FMA>(layer, &other[..layer.inputs], one);
        if index < last {
            for neuron in &mut one[..layer.bias.len() * BLOCK] {
                for value in neuron {
                    *value = tanh::<FMA>(*value);
                }
            }
            std::mem::swap(one, other);
        }
    }
}

#[inline(always)]
fn dense<const FMA: bool>(layer: &Packed, input: &[Lanes], output: &mut [Lanes]) {
    let blocks = layer.weights.chunks_exact(layer.inputs).zip(&layer.bias);
    for ((weights, bias), output) in blocks.zip(output.as_chunks_mut::<BLOCK>().0) {
        let mut sums = [[0.0; LANES]; BLOCK];
        for neuron in 0..BLOCK {
            sums[neuron] = [bias[neuron]; LANES];
        }
        for (weight, value) in weights.iter().zip(input) {
            for neuron in 0..BLOCK {
                for lane in 0..LANES {
                    sums[neuron][lane] = multiply_add::<FMA>(weight[neuron], value[lane], sums[neuron][lane]);
                }
            }
        }
        *output = sums;
    }
}

/// Turns what the layers made into the residual, which is 0 where the input is missing.
#[inline(always)]
fn residuals(input: &[Lanes], left: &[Lanes], made: &mut [Lanes]) {
    for ((value, left), input) in made.iter_mut().zip(left).zip(input) {
        for lane in 0..LANES {
            value[lane] = if input[lane].is_nan() { 0.0 } else { left[lane] - value[lane] };
        }
    }
}

/// Mean of the squared units over the features that are present, and the largest shares.
#[inline(always)]
fn summarise(input: &[Lanes], units: &[Lanes], scores: &mut [f32], top: &mut [[Share; TOP]]) {
    let mut sum = [0.0_f32; LANES];
    let mut present = [0.0_f32; LANES];
    let mut best = [[0.0; LANES]; TOP];
    let mut which = [[0_u32; LANES]; TOP];
    for (index, (unit, known)) in units.iter().zip(input).enumerate() {
        for lane in 0..LANES {
            let missing = known[lane].is_nan();
            let mut term = if missing { 0.0 } else { unit[lane] * unit[lane] };
            let mut feature = index as u32;
            sum[lane] += term;
            present[lane] += if missing { 0.0 } else { 1.0 };
            for place in 0..TOP {
                let better = term > best[place][lane];
                let (old, old_feature) = (best[place][lane], which[place][lane]);
                best[place][lane] = if better { term } else { old };
                which[place][lane] = if better { feature } else { old_feature };
                term = if better { old } else { term };
                feature = if better { old_feature } else { feature };
            }
        }
    }
    for (lane, (score, top)) in scores.iter_mut().zip(top).enumerate() {
        *score = sum[lane] / present[lane].max(1.0);
        let total = if sum[lane] > 0.0 { sum[lane] } else { 1.0 };
        *top = std::array::from_fn(|place| Share {
            feature: which[place][lane],
            share: best[place][lane] / total,
        });
    }
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
