//! What happens inside the cell, one step of several sequences at a time, in both directions.
//!
//! # Source
//!
//! Hochreiter, Schmidhuber: "Long Short-Term Memory", 1997, with the forget gate of Gers, Schmidhuber, Cummins, 2000:
//! c = f · c₋₁ + i · g and h = o · tanh(c), where i, f and o are sigmoids and g is a tanh.

use crate::activation::{sigmoid, tanh};
use crate::instructions::{Task, multiply_add};
use crate::product::PAD;

/// Gates to cells and outputs.
pub(super) struct Forward<'a> {
    pub(super) hidden: usize,
    /// `(count, 4 hidden)`, before their functions; afterwards, after them.
    pub(super) gates: &'a mut [f32],
    /// Cells of the step before, `(count, hidden)`.
    pub(super) before: &'a [f32],
    pub(super) cells: &'a mut [f32],
    /// tanh of the cells.
    pub(super) squashed: &'a mut [f32],
    /// The last `hidden` of each `stride` become the outputs.
    pub(super) outputs: &'a mut [f32],
    pub(super) stride: usize,
}

/// Slopes along outputs and cells to slopes along what the gates were made of.
pub(super) struct Backward<'a> {
    pub(super) hidden: usize,
    /// `(count, 4 hidden)`: the gates; afterwards the slopes.
    pub(super) gates: &'a mut [f32],
    /// Cells of the step before, `(count, hidden)`.
    pub(super) before: &'a [f32],
    pub(super) squashed: &'a [f32],
    pub(super) state_slope: &'a [f32],
    /// Along the cells of this step but for what comes through its outputs; afterwards along those of the step before.
    pub(super) cell_slope: &'a mut [f32],
}

impl Task for Forward<'_> {
    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(self) {
        let hidden = self.hidden;
        let gates = self.gates.chunks_exact_mut(4 * hidden);
        let cells = self.cells.chunks_exact_mut(hidden).zip(self.before.chunks_exact(hidden));
        let made = self.squashed.chunks_exact_mut(hidden).zip(self.outputs.chunks_exact_mut(self.stride));
        for ((gates, (cells, before)), (squashed, outputs)) in gates.zip(cells).zip(made) {
            let outputs = &mut outputs[self.stride - hidden..];
            for at in (0..hidden).step_by(PAD) {
                let [mut input, mut forget, mut cell, mut output] = gates_at(gates, hidden, at);
                let before = lanes(before, at);
                let (mut state, mut squash, mut made) = ([0.0; PAD], [0.0; PAD], [0.0; PAD]);
                for it in 0..PAD {
                    input[it] = sigmoid::<FMA>(input[it]);
                    forget[it] = sigmoid::<FMA>(forget[it]);
                    cell[it] = tanh::<FMA>(cell[it]);
                    output[it] = sigmoid::<FMA>(output[it]);
                    state[it] = multiply_add::<FMA>(forget[it], before[it], input[it] * cell[it]);
                    squash[it] = tanh::<FMA>(state[it]);
                    made[it] = output[it] * squash[it];
                }
                put_gates([input, forget, cell, output], gates, hidden, at);
                put(state, cells, at);
                put(squash, squashed, at);
                put(made, outputs, at);
            }
        }
    }
}

impl Task for Backward<'_> {
    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(self) {
        let hidden = self.hidden;
        let gates = self.gates.chunks_exact_mut(4 * hidden);
        let cells = self.before.chunks_exact(hidden).zip(self.squashed.chunks_exact(hidden));
        let slopes = self.state_slope.chunks_exact(hidden).zip(self.cell_slope.chunks_exact_mut(hidden));
        for ((gates, (before, squashed)), (state_slope, cell_slope)) in gates.zip(cells).zip(slopes) {
            for at in (0..hidden).step_by(PAD) {
                let [mut input, mut forget, mut cell, mut output] = gates_at(gates, hidden, at);
                let (before, squashed) = (lanes(before, at), lanes(squashed, at));
                let (state, mut slope) = (lanes(state_slope, at), lanes(cell_slope, at));
                for it in 0..PAD {
                    let (i, f, g, o) = (input[it], forget[it], cell[it], output[it]);
                    let through = state[it] * o * (1.0 - squashed[it] * squashed[it]);
                    let along = slope[it] + through;
                    input[it] = along * g * i * (1.0 - i);
                    forget[it] = along * before[it] * f * (1.0 - f);
                    cell[it] = along * i * (1.0 - g * g);
                    output[it] = state[it] * squashed[it] * o * (1.0 - o);
                    slope[it] = along * f;
                }
                put_gates([input, forget, cell, output], gates, hidden, at);
                put(slope, cell_slope, at);
            }
        }
    }
}

/// What lies side by side in a vector; slices are too many for the compiler to tell apart.
type Lanes = [f32; PAD];

#[inline(always)]
fn lanes(values: &[f32], at: usize) -> Lanes {
    *values[at..].first_chunk().expect("the state is a multiple of the padding")
}

#[inline(always)]
fn put(lanes: Lanes, values: &mut [f32], at: usize) {
    *values[at..].first_chunk_mut().expect("the state is a multiple of the padding") = lanes;
}

#[inline(always)]
fn gates_at(gates: &[f32], hidden: usize, at: usize) -> [Lanes; 4] {
    [
        lanes(gates, at),
        lanes(gates, hidden + at),
        lanes(gates, 2 * hidden + at),
        lanes(gates, 3 * hidden + at),
    ]
}

#[inline(always)]
fn put_gates(lanes: [Lanes; 4], gates: &mut [f32], hidden: usize, at: usize) {
    for (gate, lanes) in lanes.into_iter().enumerate() {
        put(lanes, gates, gate * hidden + at);
    }
}
