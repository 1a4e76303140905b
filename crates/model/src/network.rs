//! The weights of a dense autoencoder, and how they start.

use crate::random::Random;

/// Most layers that a network may have.
pub const LAYER_LIMIT: usize = 8;
/// Most neurons that a layer may have.
pub const WIDTH_LIMIT: usize = 1024;

/// Dense layers, tanh after each but the last, and a linear shortcut from input to output:
/// `output = layers(input) + shortcut · input`.
///
/// What goes together linearly is the shortcut's part, exactly and from the first step on; the layers learn what
/// bends.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// The layers, input first.
    pub layers: Vec<Dense>,
    /// `(features, features)`, row-major.
    pub shortcut: Vec<f32>,
}

/// One dense layer: `output = weights · input + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// Width of the input.
    pub inputs: usize,
    /// Width of the output.
    pub outputs: usize,
    /// `(outputs, inputs)`, row-major.
    pub weights: Vec<f32>,
    /// `(outputs,)`
    pub bias: Vec<f32>,
}

impl Network {
    /// A network that begins as the linear autoencoder `linear`, with hidden weights drawn from `random`.
    ///
    /// # Source
    ///
    /// Glorot, Bengio: "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010:
    /// uniform within ±sqrt(6 / (inputs + outputs)). The last layer begins at 0.
    pub(crate) fn initial(linear: Dense, hidden: &[usize], random: &mut Random) -> Self {
        let features = linear.inputs;
        let mut layers: Vec<Dense> = widths(features, hidden)
            .windows(2)
            .map(|pair| {
                let (inputs, outputs) = (pair[0], pair[1]);
                let limit = (6.0 / (inputs + outputs) as f32).sqrt();
                let weights = (0..inputs * outputs).map(|_| (random.uniform() * 2.0 - 1.0) * limit).collect();
                Dense { inputs, outputs, weights, bias: vec![0.0; outputs] }
            })
            .collect();
        if let Some(last) = layers.last_mut() {
            last.weights.fill(0.0);
            last.bias = linear.bias;
        }
        Self { layers, shortcut: linear.weights }
    }

    /// A network that is linear: it has one layer, which adds the bias.
    pub(crate) fn linear(linear: Dense) -> Self {
        Self::initial(linear, &[], &mut Random::new(0))
    }

    /// Width of input and output.
    #[must_use]
    pub fn features(&self) -> usize {
        self.layers[0].inputs
    }

    /// Number of weights and biases.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(|it| it.weights.len() + it.bias.len()).sum::<usize>() + self.shortcut.len()
    }

    /// Whether every weight and bias is a finite number.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        let layers = self.layers.iter().flat_map(|it| it.weights.iter().chain(&it.bias));
        layers.chain(&self.shortcut).all(|it| it.is_finite())
    }
}

/// Widths of input, hidden layers and output.
pub(crate) fn widths(features: usize, hidden: &[usize]) -> Vec<usize> {
    let mut widths = vec![features];
    widths.extend_from_slice(hidden);
    widths.push(features);
    widths
}
