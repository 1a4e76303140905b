use super::*;
use crate::random::Random;
use crate::reference;
use proptest::prelude::*;

fn network() -> Network {
    let mut random = Random::new(9);
    let linear = Dense { inputs: 4, outputs: 4, weights: vec![0.2; 16], bias: vec![0.1; 4] };
    let mut network = Network::initial(linear, &[6, 3], &mut random);
    network.layers[2].weights.fill_with(|| random.normal() * 0.5);
    network
}

/// The loss of one network on one batch, in `f64` and without candle.
fn loss(network: &Network, inputs: &[f32], targets: &[f32]) -> f64 {
    let mut total = 0.0;
    for (input, target) in inputs.chunks_exact(4).zip(targets.chunks_exact(4)) {
        let mut value: Vec<f64> = input.iter().map(|it| f64::from(*it)).collect();
        for (index, layer) in network.layers.iter().enumerate() {
            let neuron = |neuron: usize| {
                let weights = &layer.weights[neuron * layer.inputs..][..layer.inputs];
                let sum: f64 = weights.iter().zip(&value).map(|(weight, it)| f64::from(*weight) * it).sum();
                let sum = sum + f64::from(layer.bias[neuron]);
                if index + 1 < network.layers.len() { sum.tanh() } else { sum }
            };
            value = (0..layer.outputs).map(neuron).collect();
        }
        for (index, value) in value.iter_mut().enumerate() {
            let terms = network.shortcut[index * 4..][..4].iter().zip(input);
            *value += terms.map(|(weight, it)| f64::from(*weight) * f64::from(*it)).sum::<f64>();
        }
        let terms = value.iter().zip(target).map(|(it, target)| {
            let scaled = (it - f64::from(*target)) / f64::from(ROBUST);
            f64::from(ROBUST).powi(2) * ((1.0 + scaled * scaled).sqrt() - 1.0)
        });
        total += terms.sum::<f64>();
    }
    total / inputs.len() as f64
}

/// The loss and its gradients, as a network has its weights: weights, then bias, layer by layer, then the shortcut.
fn gradients(
    network: &Network,
    inputs: &[f32],
    targets: &[f32],
    instructions: Instructions,
) -> (f32, Vec<Vec<f32>>) {
    let mut learner = Learner::new(network, instructions);
    learner.forward(inputs);
    let loss = learner.backward(inputs, targets);
    let mut gradients = Vec::new();
    for layer in &learner.layers {
        gradients.push(straight(&layer.weights.gradient, layer.inputs, layer.outputs));
        gradients.push(layer.bias.gradient[..layer.outputs].to_vec());
    }
    gradients.push(straight(&learner.shortcut.gradient, learner.features, learner.features));
    (loss, gradients)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Loss and gradients are candle's, for networks and batches of any shape, whichever the instructions.
    #[test]
    fn gradients_equal_candles(
        features in 1..40_usize,
        hidden in prop::collection::vec(1..40_usize, 0..4),
        rows in 1..300_usize,
        seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let network = reference::network(features, &hidden, &mut random);
        let mut draw = || (0..rows * features).map(|_| random.normal()).collect::<Vec<_>>();
        let (inputs, targets) = (draw(), draw());
        let (candle_loss, candle) = reference::gradients(&network, &inputs, &targets).unwrap();
        for instructions in Instructions::available() {
            let (loss, found) = gradients(&network, &inputs, &targets, instructions);
            prop_assert!((loss - candle_loss).abs() < 1e-4 * (1.0 + candle_loss), "{loss} {candle_loss}");
            for (found, candle) in found.iter().flatten().zip(candle.iter().flatten()) {
                prop_assert!((found - candle).abs() < 1e-4 * (1.0 + candle.abs()), "{instructions:?}: {found} {candle}");
            }
        }
    }
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    let network = network();
    let mut random = Random::new(2);
    let inputs: Vec<f32> = (0..40).map(|_| random.normal()).collect();
    let targets: Vec<f32> = (0..40).map(|_| random.normal()).collect();
    let (found, gradients) = gradients(&network, &inputs, &targets, Instructions::detect());
    assert!((f64::from(found) - loss(&network, &inputs, &targets)).abs() < 1e-6);
    for (parameter, gradient) in gradients.iter().enumerate() {
        for (index, found) in gradient.iter().enumerate() {
            let moved = |by: f32| {
                let mut network = network.clone();
                let values = match network.layers.get_mut(parameter / 2) {
                    None => &mut network.shortcut,
                    Some(layer) if parameter % 2 == 0 => &mut layer.weights,
                    Some(layer) => &mut layer.bias,
                };
                values[index] += by;
                loss(&network, &inputs, &targets)
            };
            let slope = (moved(1e-3) - moved(-1e-3)) / 2e-3;
            assert!((slope - f64::from(*found)).abs() < 2e-5, "{parameter}.{index}: {slope} {found}");
        }
    }
}

#[test]
fn steps_lower_the_loss() {
    let mut learner = Learner::new(&network(), Instructions::detect());
    let mut random = Random::new(2);
    let inputs: Vec<f32> = (0..64).flat_map(|_| [random.normal(); 4]).collect();
    let first = learner.step(&inputs, &inputs, 0.01);
    let last = (0..300).map(|_| learner.step(&inputs, &inputs, 0.01)).last().unwrap();
    assert!(last < first / 20.0, "{first} {last}");
}
