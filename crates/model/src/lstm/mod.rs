//! A long short-term memory that learns to say what comes next in a sequence, and the weights it consists of.
//!
//! ```text
//! x(t), h(t−1) ─weights─▶ gates ─▶ c(t), h(t) ─head─▶ y(t) ─▶ loss
//!      ▲                              │
//!      └────────── next step ◀────────┘
//! ```
//!
//! Sequences lie time-major, `(steps, sequences, width)`, so that a step of all sequences is one product. There is no
//! kind of model of it yet: a scorer would have to keep a state per device.

mod cell;

use cell::{Backward, Forward};

use crate::adam::{Pace, Parameter};
use crate::instructions::Instructions;
use crate::learn::{Loss, straight, turn};
use crate::product::{Left, Matrix, PAD, Product, padded};
use crate::random::Random;

/// Sequences that go through all steps together: what they leave for the way back then stays in the cache.
const TOGETHER: usize = 64;

/// The weights: one cell, and a dense head that makes an output of each of its states.
#[derive(Debug, Clone, PartialEq)]
pub struct Lstm {
    /// Width of an input.
    pub inputs: usize,
    /// Width of the state, a multiple of 16.
    pub hidden: usize,
    /// Width of an output.
    pub outputs: usize,
    /// `(inputs + hidden, 4 hidden)`, row-major: input, forget, cell and output gate side by side.
    pub weights: Vec<f32>,
    /// `(4 hidden,)`
    pub bias: Vec<f32>,
    /// `(outputs, hidden)`, row-major.
    pub head: Vec<f32>,
    /// `(outputs,)`
    pub head_bias: Vec<f32>,
}

/// Sequences of one length, and what should come of each of their steps.
#[derive(Debug, Clone, Copy)]
pub struct Sequences<'a> {
    /// `(steps, count, inputs)`
    pub inputs: &'a [f32],
    /// `(steps, count, outputs)`
    pub targets: &'a [f32],
    /// Number of sequences.
    pub count: usize,
}

/// A memory that learns.
#[derive(Debug)]
pub struct Learner {
    inputs: usize,
    hidden: usize,
    outputs: usize,
    weights: Parameter,
    bias: Parameter,
    /// `(hidden, padded outputs)`
    head: Parameter,
    head_bias: Parameter,
    pace: Pace,
    instructions: Instructions,
    memory: Memory,
}

/// What the sequences that go together leave for the way back; reused from step to step.
#[derive(Debug, Default)]
struct Memory {
    steps: usize,
    count: usize,
    /// Input and, beside it, the output of the step before: `(steps + 1, count, inputs + hidden)`.
    seen: Vec<f32>,
    /// `(steps, count, 4 hidden)`; on the way back the slopes along what the gates were made of.
    gates: Vec<f32>,
    /// `(steps + 1, count, hidden)`
    cells: Vec<f32>,
    /// tanh of the cells, `(steps, count, hidden)`.
    squashed: Vec<f32>,
    /// `(steps, count, padded outputs)`
    made: Vec<f32>,
    /// Slopes along what was made, as `made`, along the outputs of the cell, and along its state.
    slope: Vec<f32>,
    state_slope: Vec<f32>,
    cell_slope: Vec<f32>,
    /// Recurrent weights `(4 hidden, hidden)` and head `(outputs, hidden)`, turned for the way back.
    turned: Vec<f32>,
    turned_head: Vec<f32>,
}

impl Lstm {
    /// Weights drawn from the stream of `seed`.
    ///
    /// # Panics
    ///
    /// Panics when `hidden` is not a multiple of 16, or a width is 0.
    ///
    /// # Source
    ///
    /// Uniform within ±1 / sqrt(hidden), as is usual; the forget gate begins open: Jozefowicz, Zaremba, Sutskever:
    /// "An Empirical Exploration of Recurrent Network Architectures", 2015.
    #[must_use]
    pub fn initial(inputs: usize, hidden: usize, outputs: usize, seed: u64) -> Self {
        assert!(hidden.is_multiple_of(PAD), "a state of {hidden} is no multiple of {PAD}");
        assert!(inputs > 0 && hidden > 0 && outputs > 0, "no width is 0");
        let mut random = Random::new(seed);
        let limit = 1.0 / (hidden as f32).sqrt();
        let mut draw = |count: usize| (0..count).map(|_| (random.uniform() * 2.0 - 1.0) * limit).collect();
        let weights = draw((inputs + hidden) * 4 * hidden);
        let mut bias = vec![0.0; 4 * hidden];
        bias[hidden..2 * hidden].fill(1.0);
        let (head, head_bias) = (draw(outputs * hidden), vec![0.0; outputs]);
        Self { inputs, hidden, outputs, weights, bias, head, head_bias }
    }
}

impl Learner {
    /// Begins with the weights of `lstm`.
    #[must_use]
    pub fn new(lstm: &Lstm, instructions: Instructions) -> Self {
        let Lstm { inputs, hidden, outputs, .. } = *lstm;
        let mut head_bias = lstm.head_bias.clone();
        head_bias.resize(padded(outputs), 0.0);
        Self {
            inputs,
            hidden,
            outputs,
            weights: Parameter::new(lstm.weights.clone()),
            bias: Parameter::new(lstm.bias.clone()),
            head: Parameter::new(crate::learn::turned(&lstm.head, hidden)),
            head_bias: Parameter::new(head_bias),
            pace: Pace::default(),
            instructions,
            memory: Memory::default(),
        }
    }

    /// The weights as they are now.
    #[must_use]
    pub fn lstm(&self) -> Lstm {
        Lstm {
            inputs: self.inputs,
            hidden: self.hidden,
            outputs: self.outputs,
            weights: self.weights.values.clone(),
            bias: self.bias.values.clone(),
            head: straight(&self.head.values, self.hidden, self.outputs),
            head_bias: self.head_bias.values[..self.outputs].to_vec(),
        }
    }

    /// One step of Adam towards the targets; returns the mean loss before the step.
    ///
    /// The loss is the pseudo-Huber loss of the autoencoder, over all steps of all sequences.
    ///
    /// # Panics
    ///
    /// Panics when the parts of `sequences` do not belong together.
    pub fn step(&mut self, sequences: &Sequences<'_>, learning_rate: f32) -> f32 {
        let loss = self.gradients(sequences);
        let rate = self.pace.next(learning_rate);
        for it in [&mut self.weights, &mut self.bias, &mut self.head, &mut self.head_bias] {
            it.step(rate, self.instructions);
        }
        loss
    }

    /// What is made of each step of `count` sequences, each from an empty state: `(steps, count, outputs)`.
    ///
    /// # Panics
    ///
    /// Panics when `inputs` is not `(steps, count, inputs)`.
    pub fn predict(&mut self, inputs: &[f32], count: usize) -> Vec<f32> {
        let steps = self.steps(inputs, count);
        let mut outputs = vec![0.0; steps * count * self.outputs];
        for first in (0..count).step_by(TOGETHER) {
            self.forward(inputs, steps, count, first);
            let stride = padded(self.outputs);
            for (step, made) in self.memory.made.chunks_exact(self.memory.count * stride).enumerate() {
                let into = outputs[(step * count + first) * self.outputs..].chunks_exact_mut(self.outputs);
                into.zip(made.chunks_exact(stride))
                    .for_each(|(it, made)| it.copy_from_slice(&made[..it.len()]));
            }
        }
        outputs
    }

    /// Adds the gradients of the mean loss to the parameters', and returns the loss.
    fn gradients(&mut self, sequences: &Sequences<'_>) -> f32 {
        let Sequences { inputs, targets, count } = *sequences;
        let steps = self.steps(inputs, count);
        assert_eq!(targets.len(), steps * count * self.outputs, "a target for each step");
        let Memory { turned, turned_head, .. } = &mut self.memory;
        turn(&self.weights.values[self.inputs * 4 * self.hidden..], self.hidden, 4 * self.hidden, turned);
        turn(&self.head.values, self.hidden, self.outputs, turned_head);
        let mut loss = 0.0;
        for first in (0..count).step_by(TOGETHER) {
            self.forward(inputs, steps, count, first);
            loss += self.backward(targets, count, first);
        }
        loss / targets.len() as f32
    }

    fn steps(&self, inputs: &[f32], count: usize) -> usize {
        let width = count * self.inputs;
        assert!(
            count > 0 && inputs.len().is_multiple_of(width),
            "{} inputs of {count} sequences",
            inputs.len()
        );
        inputs.len() / width
    }

    /// Leaves in memory what becomes of the sequences from `first` on, [`TOGETHER`] at most.
    fn forward(&mut self, inputs: &[f32], steps: usize, count: usize, first: usize) {
        let Self { inputs: width, hidden, outputs, instructions, .. } = *self;
        let it = &mut self.memory;
        let together = (count - first).min(TOGETHER);
        let seen = width + hidden;
        (it.steps, it.count) = (steps, together);
        it.seen.resize((steps + 1) * together * seen, 0.0);
        it.cells.resize((steps + 1) * together * hidden, 0.0);
        it.squashed.resize(steps * together * hidden, 0.0);
        it.cells[..together * hidden].fill(0.0);
        it.seen.chunks_exact_mut(seen).take(together).for_each(|it| it[width..].fill(0.0));
        for (step, seen) in it.seen.chunks_exact_mut(together * seen).take(steps).enumerate() {
            let rows = inputs[(step * count + first) * width..].chunks_exact(width);
            let into = seen.chunks_exact_mut(width + hidden);
            into.zip(rows).for_each(|(seen, input)| seen[..width].copy_from_slice(input));
        }
        it.gates.clear();
        (0..steps * together).for_each(|_| it.gates.extend_from_slice(&self.bias.values));
        for step in 0..steps {
            let (before, after) = it.seen.split_at_mut((step + 1) * together * seen);
            let gates = &mut it.gates[step * together * 4 * hidden..][..together * 4 * hidden];
            Product {
                left: Left::Plain(Matrix { values: &before[step * together * seen..], stride: seen }),
                right: Matrix { values: &self.weights.values, stride: 4 * hidden },
                result: gates,
                stride: 4 * hidden,
                rows: together,
                // Nothing came before the first step.
                depth: if step == 0 { width } else { seen },
                columns: 4 * hidden,
            }
            .add(instructions);
            let (cells, next) = it.cells.split_at_mut((step + 1) * together * hidden);
            instructions.run(Forward {
                hidden,
                gates,
                before: &cells[step * together * hidden..],
                cells: &mut next[..together * hidden],
                squashed: &mut it.squashed[step * together * hidden..][..together * hidden],
                outputs: &mut after[..together * seen],
                stride: seen,
            });
        }
        it.made.clear();
        (0..steps * together).for_each(|_| it.made.extend_from_slice(&self.head_bias.values));
        Product {
            left: Left::Plain(Matrix { values: &it.seen[together * seen + width..], stride: seen }),
            right: Matrix { values: &self.head.values, stride: padded(outputs) },
            result: &mut it.made,
            stride: padded(outputs),
            rows: steps * together,
            depth: hidden,
            columns: padded(outputs),
        }
        .add(instructions);
    }

    /// Adds what the sequences in memory give to the gradients, and returns the sum of their losses.
    fn backward(&mut self, targets: &[f32], count: usize, first: usize) -> f32 {
        let Self { inputs: width, hidden, outputs, instructions, .. } = *self;
        let it = &mut self.memory;
        let (together, rows) = (it.count, it.steps * it.count);
        let (seen, columns) = (width + hidden, padded(outputs));
        let mut loss = 0.0;
        it.slope.clear();
        it.slope.resize(it.made.len(), 0.0);
        let slopes = it.slope.chunks_exact_mut(together * columns);
        for (step, (slope, values)) in slopes.zip(it.made.chunks_exact(together * columns)).enumerate() {
            let targets = &targets[(step * count + first) * outputs..][..together * outputs];
            let share = 1.0 / (it.steps * count * outputs) as f32;
            instructions.run(Loss { values, targets, features: outputs, share, slope, loss: &mut loss });
        }
        Product {
            left: Left::Transposed(Matrix { values: &it.seen[together * seen + width..], stride: seen }),
            right: Matrix { values: &it.slope, stride: columns },
            result: &mut self.head.gradient,
            stride: columns,
            rows: hidden,
            depth: rows,
            columns,
        }
        .add(instructions);
        add_rows(&mut self.head_bias.gradient, &it.slope);
        it.state_slope.clear();
        it.state_slope.resize(rows * hidden, 0.0);
        Product {
            left: Left::Plain(Matrix { values: &it.slope, stride: columns }),
            right: Matrix { values: &it.turned_head, stride: hidden },
            result: &mut it.state_slope,
            stride: hidden,
            rows,
            depth: outputs,
            columns: hidden,
        }
        .add(instructions);
        it.cell_slope.clear();
        it.cell_slope.resize(together * hidden, 0.0);
        for step in (0..it.steps).rev() {
            let (gates, later) = it.gates.split_at_mut((step + 1) * together * 4 * hidden);
            let part = step * together * hidden..(step + 1) * together * hidden;
            if !later.is_empty() {
                Product {
                    left: Left::Plain(Matrix { values: later, stride: 4 * hidden }),
                    right: Matrix { values: &it.turned, stride: hidden },
                    result: &mut it.state_slope[part.clone()],
                    stride: hidden,
                    rows: together,
                    depth: 4 * hidden,
                    columns: hidden,
                }
                .add(instructions);
            }
            instructions.run(Backward {
                hidden,
                gates: &mut gates[step * together * 4 * hidden..],
                before: &it.cells[part.clone()],
                squashed: &it.squashed[part.clone()],
                state_slope: &it.state_slope[part],
                cell_slope: &mut it.cell_slope,
            });
        }
        Product {
            left: Left::Transposed(Matrix { values: &it.seen, stride: seen }),
            right: Matrix { values: &it.gates, stride: 4 * hidden },
            result: &mut self.weights.gradient,
            stride: 4 * hidden,
            rows: seen,
            depth: rows,
            columns: 4 * hidden,
        }
        .add(instructions);
        add_rows(&mut self.bias.gradient, &it.gates);
        loss
    }
}

fn add_rows(sums: &mut [f32], rows: &[f32]) {
    for row in rows.chunks_exact(sums.len()) {
        sums.iter_mut().zip(row).for_each(|(sum, it)| *sum += it);
    }
}

#[cfg(test)]
mod tests;
