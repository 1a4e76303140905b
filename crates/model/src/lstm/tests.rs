use std::collections::HashMap;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::rnn::{LSTMConfig, RNN as _, lstm};
use candle_nn::{Linear, Module as _, VarBuilder};
use proptest::prelude::*;

use super::*;
use crate::learn::ROBUST;

/// Inputs and targets of `steps` steps of `count` sequences.
fn sequences(lstm: &Lstm, steps: usize, count: usize, random: &mut Random) -> (Vec<f32>, Vec<f32>) {
    let mut draw = |width: usize| (0..steps * count * width).map(|_| random.normal()).collect();
    (draw(lstm.inputs), draw(lstm.outputs))
}

/// One network with everything drawn at random, also what begins at 0.
fn network(inputs: usize, hidden: usize, outputs: usize, seed: u64) -> Lstm {
    let mut lstm = Lstm::initial(inputs, hidden, outputs, seed);
    let mut random = Random::new(seed ^ 1);
    lstm.bias.iter_mut().chain(&mut lstm.head_bias).for_each(|it| *it = random.normal() * 0.3);
    lstm
}

/// Outputs of every step, in `f64` and by the formulas as they are written.
fn naive(lstm: &Lstm, inputs: &[f32], count: usize) -> Vec<f64> {
    let Lstm { inputs: width, hidden, outputs, .. } = *lstm;
    let steps = inputs.len() / (count * width);
    let mut made = vec![0.0; steps * count * outputs];
    let sigmoid = |it: f64| 1.0 / (1.0 + (-it).exp());
    for sequence in 0..count {
        let (mut state, mut cells) = (vec![0.0; hidden], vec![0.0; hidden]);
        for step in 0..steps {
            let input = &inputs[(step * count + sequence) * width..][..width];
            let seen: Vec<f64> = input.iter().map(|it| f64::from(*it)).chain(state.iter().copied()).collect();
            let gate = |index: usize| {
                let terms = seen.iter().enumerate();
                let sum: f64 =
                    terms.map(|(row, it)| it * f64::from(lstm.weights[row * 4 * hidden + index])).sum();
                sum + f64::from(lstm.bias[index])
            };
            for it in 0..hidden {
                let kept = sigmoid(gate(hidden + it)) * cells[it];
                cells[it] = kept + sigmoid(gate(it)) * gate(2 * hidden + it).tanh();
                state[it] = sigmoid(gate(3 * hidden + it)) * f64::tanh(cells[it]);
            }
            for output in 0..outputs {
                let terms = state.iter().zip(&lstm.head[output * hidden..]);
                let sum: f64 = terms.map(|(it, weight)| it * f64::from(*weight)).sum();
                made[(step * count + sequence) * outputs + output] = sum + f64::from(lstm.head_bias[output]);
            }
        }
    }
    made
}

fn naive_loss(lstm: &Lstm, inputs: &[f32], targets: &[f32], count: usize) -> f64 {
    let robust = f64::from(ROBUST);
    let made = naive(lstm, inputs, count);
    let terms = made.iter().zip(targets).map(|(made, target)| {
        robust * robust * ((1.0 + ((made - f64::from(*target)) / robust).powi(2)).sqrt() - 1.0)
    });
    terms.sum::<f64>() / targets.len() as f64
}

/// The loss and its gradients: weights, bias, head, its bias.
fn gradients(lstm: &Lstm, sequences: &Sequences<'_>, instructions: Instructions) -> (f32, [Vec<f32>; 4]) {
    let mut learner = Learner::new(lstm, instructions);
    let loss = learner.gradients(sequences);
    let head = straight(&learner.head.gradient, lstm.hidden, lstm.outputs);
    let head_bias = learner.head_bias.gradient[..lstm.outputs].to_vec();
    (loss, [learner.weights.gradient, learner.bias.gradient, head, head_bias])
}

/// The same by candle's LSTM.
fn candle(lstm_: &Lstm, sequences: &Sequences<'_>) -> Result<(f32, [Vec<f32>; 4]), candle_core::Error> {
    let Lstm { inputs, hidden, outputs, .. } = *lstm_;
    let all = Var::from_slice(&lstm_.weights, (inputs + hidden, 4 * hidden), &Device::Cpu)?;
    let bias = Var::from_slice(&lstm_.bias, 4 * hidden, &Device::Cpu)?;
    let head = Var::from_slice(&lstm_.head, (outputs, hidden), &Device::Cpu)?;
    let head_bias = Var::from_slice(&lstm_.head_bias, outputs, &Device::Cpu)?;
    let tensors = HashMap::from([
        ("weight_ih_l0".to_owned(), all.narrow(0, 0, inputs)?.t()?.contiguous()?),
        ("weight_hh_l0".to_owned(), all.narrow(0, inputs, hidden)?.t()?.contiguous()?),
        ("bias_ih_l0".to_owned(), bias.as_tensor().clone()),
        ("bias_hh_l0".to_owned(), bias.zeros_like()?),
    ]);
    let builder = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let cell = lstm(inputs, hidden, LSTMConfig::default(), builder)?;
    let steps = sequences.inputs.len() / (sequences.count * inputs);
    let input = Tensor::from_slice(sequences.inputs, (steps, sequences.count, inputs), &Device::Cpu)?;
    let states = cell.seq(&input.transpose(0, 1)?.contiguous()?)?;
    let states = states.iter().map(|it| it.h().clone()).collect::<Vec<_>>();
    let made = Linear::new(head.as_tensor().clone(), Some(head_bias.as_tensor().clone()))
        .forward(&Tensor::cat(&states, 0)?)?;
    let target = Tensor::from_slice(sequences.targets, (steps * sequences.count, outputs), &Device::Cpu)?;
    let scaled = ((made - target)? * f64::from(1.0 / ROBUST))?;
    let loss = (((scaled.sqr()? + 1.0)?.sqrt()? - 1.0)?.mean_all()? * f64::from(ROBUST * ROBUST))?;
    let store = loss.backward()?;
    let gradient = |it: &Var| store.get(it).expect("a gradient of all").flatten_all()?.to_vec1::<f32>();
    let gradients = [gradient(&all)?, gradient(&bias)?, gradient(&head)?, gradient(&head_bias)?];
    Ok((loss.to_scalar()?, gradients))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Outputs are those of the formulas; loss and gradients those of candle: any shape, whichever the instructions.
    #[test]
    fn the_fused_cell_equals_the_naive_one_and_candles(
        inputs in 1..30_usize,
        hidden in 1..4_usize,
        outputs in 1..30_usize,
        steps in 1..9_usize,
        count in 1..150_usize,
        seed in any::<u64>(),
    ) {
        let lstm = network(inputs, hidden * PAD, outputs, seed);
        let (inputs, targets) = sequences(&lstm, steps, count, &mut Random::new(seed));
        let sequences = Sequences { inputs: &inputs, targets: &targets, count };
        let expected = naive(&lstm, &inputs, count);
        let (candle_loss, candle) = candle(&lstm, &sequences).unwrap();
        let mut wide: Option<[Vec<f32>; 4]> = None;
        for instructions in Instructions::available() {
            let made = Learner::new(&lstm, instructions).predict(&inputs, count);
            for (made, expected) in made.iter().zip(&expected) {
                prop_assert!((f64::from(*made) - expected).abs() < 1e-5, "{instructions:?}: {made} {expected}");
            }
            let (loss, found) = gradients(&lstm, &sequences, instructions);
            prop_assert!((loss - candle_loss).abs() < 1e-5 * (1.0 + candle_loss), "{loss} {candle_loss}");
            for (found, candle) in found.iter().flatten().zip(candle.iter().flatten()) {
                prop_assert!((found - candle).abs() < 1e-5 * (1.0 + candle.abs()), "{instructions:?}: {found} {candle}");
            }
            if instructions > Instructions::Portable {
                prop_assert_eq!(wide.get_or_insert_with(|| found.clone()), &found, "{:?}", instructions);
            }
        }
    }
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    let lstm = network(3, 16, 2, 5);
    let (inputs, targets) = sequences(&lstm, 4, 3, &mut Random::new(6));
    let sequences = Sequences { inputs: &inputs, targets: &targets, count: 3 };
    let (loss, gradients) = gradients(&lstm, &sequences, Instructions::detect());
    assert!((f64::from(loss) - naive_loss(&lstm, &inputs, &targets, 3)).abs() < 1e-6);
    for (parameter, gradient) in gradients.iter().enumerate() {
        for (index, found) in gradient.iter().enumerate() {
            let moved = |by: f32| {
                let mut lstm = lstm.clone();
                let parameters = [&mut lstm.weights, &mut lstm.bias, &mut lstm.head, &mut lstm.head_bias];
                let Some(values) = parameters.into_iter().nth(parameter) else { unreachable!() };
                values[index] += by;
                naive_loss(&lstm, &inputs, &targets, 3)
            };
            let slope = (moved(1e-3) - moved(-1e-3)) / 2e-3;
            assert!((slope - f64::from(*found)).abs() < 2e-5, "{parameter}.{index}: {slope} {found}");
        }
    }
}

/// What must be said is what was seen three steps before: no network without a memory can.
#[test]
fn it_learns_to_remember_and_the_same_each_time() {
    let learned = || {
        let mut random = Random::new(1);
        let mut learner = Learner::new(&Lstm::initial(1, 16, 1, 3), Instructions::detect());
        let mut losses = Vec::new();
        for _ in 0..600 {
            let (count, steps) = (32, 12);
            let inputs: Vec<f32> = (0..steps * count).map(|_| random.uniform() * 2.0 - 1.0).collect();
            let before =
                (0..steps * count).map(|it: usize| it.checked_sub(3 * count).map_or(0.0, |it| inputs[it]));
            let targets: Vec<f32> = before.collect();
            losses.push(learner.step(&Sequences { inputs: &inputs, targets: &targets, count }, 0.01));
        }
        (losses, learner.lstm())
    };
    let (losses, lstm) = learned();
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(last < first / 20.0, "{first} {last}");
    assert_eq!(learned().1, lstm);
}
