//! The weights of a dense autoencoder, and how they start.

use crate::random::Random;

/// Most layers that a network may have.
pub const LAYER_LIMIT: usize = 8;
/// Most neurons that a layer may have.
pub const WIDTH_LIMIT: usize = 1024;

/// Dense layers, tanh after each but the last, which is linear and as wide as the input.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// The layers, input first.
    pub layers: Vec<Dense>,
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
    /// A network of `features` inputs and outputs and the given hidden widths, with weights drawn from `random`.
    ///
    /// # Source
    ///
    /// Glorot, Bengio: "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010:
    /// uniform within ±sqrt(6 / (inputs + outputs)).
    pub(crate) fn initial(features: usize, hidden: &[usize], random: &mut Random) -> Self {
        let layers = widths(features, hidden)
            .windows(2)
            .map(|pair| {
                let (inputs, outputs) = (pair[0], pair[1]);
                let limit = (6.0 / (inputs + outputs) as f32).sqrt();
                let weights = (0..inputs * outputs).map(|_| (random.uniform() * 2.0 - 1.0) * limit).collect();
                Dense { inputs, outputs, weights, bias: vec![0.0; outputs] }
            })
            .collect();
        Self { layers }
    }

    /// Width of input and output.
    #[must_use]
    pub fn features(&self) -> usize {
        self.layers[0].inputs
    }

    /// Number of weights and biases.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(|it| it.weights.len() + it.bias.len()).sum()
    }

    /// Whether every weight and bias is a finite number.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.layers.iter().all(|it| it.weights.iter().chain(&it.bias).all(|it| it.is_finite()))
    }
}

/// Widths of input, hidden layers and output.
pub(crate) fn widths(features: usize, hidden: &[usize]) -> Vec<usize> {
    let mut widths = vec![features];
    widths.extend_from_slice(hidden);
    widths.push(features);
    widths
}
