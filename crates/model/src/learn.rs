//! Learning: gradients by candle, steps by our own Adam.
//!
//! candle's AdamW keeps its moments to itself and its random numbers cannot be seeded on a CPU, so weights, noise
//! and steps are ours and visit the variables in a fixed order; then a run is a function of its seed.

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape, Tensor, Var};
use candle_nn::{Linear, Module as _};

use crate::kernel::{Instructions, tanh_all};
use crate::network::{Dense, Network};

/// Residual, in normalised units, from which on the loss grows linearly: failing devices pull less.
pub(crate) const ROBUST: f32 = 0.5;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// A network that learns.
pub(crate) struct Learner {
    layers: Vec<Layer>,
    shortcut: Parameter,
    steps: i32,
    instructions: Instructions,
}

struct Layer {
    weights: Parameter,
    bias: Parameter,
}

struct Parameter {
    variable: Var,
    values: Vec<f32>,
    mean: Vec<f32>,
    square: Vec<f32>,
}

impl Learner {
    pub(crate) fn new(network: &Network) -> Result<Self, candle_core::Error> {
        let layers = network.layers.iter().map(|layer| {
            let weights = Parameter::new(&layer.weights, &[layer.outputs, layer.inputs])?;
            Ok(Layer { weights, bias: Parameter::new(&layer.bias, &[layer.outputs])? })
        });
        let layers = layers.collect::<Result<_, candle_core::Error>>()?;
        let features = network.features();
        let shortcut = Parameter::new(&network.shortcut, &[features, features])?;
        Ok(Self { layers, shortcut, steps: 0, instructions: Instructions::detect() })
    }

    /// One step of Adam towards reconstructing `targets` from `inputs`; returns the loss before the step.
    ///
    /// # Shapes
    ///
    /// `inputs` and `targets` are `(rows, features)`, row-major, finite.
    ///
    /// # Source
    ///
    /// Kingma, Ba: "Adam: A Method for Stochastic Optimization", 2015, algorithm 1.
    pub(crate) fn step(
        &mut self,
        inputs: &[f32],
        targets: &[f32],
        learning_rate: f32,
    ) -> Result<f32, candle_core::Error> {
        let (loss, gradients) = self.gradients(inputs, targets)?;
        self.steps += 1;
        let rate = learning_rate * (1.0 - BETA2.powi(self.steps)).sqrt() / (1.0 - BETA1.powi(self.steps));
        let parameters = self.layers.iter_mut().flat_map(|it| [&mut it.weights, &mut it.bias]);
        for (parameter, gradient) in parameters.chain([&mut self.shortcut]).zip(gradients) {
            parameter.step(&gradient, rate)?;
        }
        Ok(loss)
    }

    /// The loss and its gradients: weights, then bias, layer by layer, then the shortcut.
    pub(crate) fn gradients(
        &self,
        inputs: &[f32],
        targets: &[f32],
    ) -> Result<(f32, Vec<Vec<f32>>), candle_core::Error> {
        let features = self.layers[0].weights.variable.dims2()?.1;
        let shape = (inputs.len() / features, features);
        let targets = Tensor::from_slice(targets, shape, &Device::Cpu)?;
        let output = self.reconstruct(inputs)?;
        let scaled = ((output - targets)? * f64::from(1.0 / ROBUST))?;
        // Pseudo-Huber: ROBUST² (sqrt(1 + (r / ROBUST)²) − 1).
        let loss = (((scaled.sqr()? + 1.0)?.sqrt()? - 1.0)?.mean_all()? * f64::from(ROBUST * ROBUST))?;
        let store = loss.backward()?;
        let parameters = self.layers.iter().flat_map(|it| [&it.weights, &it.bias]).chain([&self.shortcut]);
        let gradients = parameters.map(|parameter| {
            let gradient = store.get(&parameter.variable);
            let gradient = gradient.map(|it| it.flatten_all()?.to_vec1::<f32>()).transpose()?;
            Ok(gradient.unwrap_or_else(|| vec![0.0; parameter.values.len()]))
        });
        let gradients = gradients.collect::<Result<_, candle_core::Error>>()?;
        Ok((loss.to_scalar()?, gradients))
    }

    /// The reconstruction of `inputs`, `(rows, features)`.
    pub(crate) fn reconstruct(&self, inputs: &[f32]) -> Result<Tensor, candle_core::Error> {
        let features = self.layers[0].weights.variable.dims2()?.1;
        let input = Tensor::from_slice(inputs, (inputs.len() / features, features), &Device::Cpu)?;
        let mut value = input.clone();
        let last = self.layers.len() - 1;
        for (index, layer) in self.layers.iter().enumerate() {
            value = layer.linear().forward(&value)?;
            if index < last {
                value = value.apply_op1(FastTanh(self.instructions))?;
            }
        }
        value + Linear::new(self.shortcut.variable.as_tensor().clone(), None).forward(&input)?
    }

    /// The weights as they are now.
    pub(crate) fn network(&self) -> Network {
        let layers = self.layers.iter().map(|layer| {
            let outputs = layer.bias.values.len();
            let inputs = layer.weights.values.len() / outputs;
            Dense { inputs, outputs, weights: layer.weights.values.clone(), bias: layer.bias.values.clone() }
        });
        Network { layers: layers.collect(), shortcut: self.shortcut.values.clone() }
    }
}

impl Layer {
    /// The layer as candle computes it; shares the variables.
    fn linear(&self) -> Linear {
        let [weights, bias] = [&self.weights, &self.bias].map(|it| it.variable.as_tensor().clone());
        Linear::new(weights, Some(bias))
    }
}

impl Parameter {
    fn new(values: &[f32], shape: &[usize]) -> Result<Self, candle_core::Error> {
        let zeros = vec![0.0; values.len()];
        let variable = Var::from_slice(values, shape, &Device::Cpu)?;
        Ok(Self { variable, values: values.to_vec(), mean: zeros.clone(), square: zeros })
    }

    fn step(&mut self, gradient: &[f32], rate: f32) -> Result<(), candle_core::Error> {
        let moments = self.mean.iter_mut().zip(&mut self.square);
        for ((value, (mean, square)), gradient) in self.values.iter_mut().zip(moments).zip(gradient) {
            *mean = BETA1 * *mean + (1.0 - BETA1) * gradient;
            *square = BETA2 * *square + (1.0 - BETA2) * gradient * gradient;
            *value -= rate * *mean / (square.sqrt() + EPSILON);
        }
        self.variable.set(&Tensor::from_slice(&self.values, self.variable.shape(), &Device::Cpu)?)
    }
}

/// The tanh of the fused pass, so that what is trained is what is scored with.
struct FastTanh(Instructions);

impl CustomOp1 for FastTanh {
    fn name(&self) -> &'static str {
        "fast-tanh"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> Result<(CpuStorage, Shape), candle_core::Error> {
        let values = storage.as_slice::<f32>()?;
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("fast tanh of a tensor that is not contiguous");
        };
        let mut values = values[start..end].to_vec();
        tanh_all(&mut values, self.0);
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<Option<Tensor>, candle_core::Error> {
        Ok(Some((gradient * (1.0 - result.sqr()?)?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

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
                    let sum: f64 =
                        weights.iter().zip(&value).map(|(weight, it)| f64::from(*weight) * it).sum();
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

    #[test]
    fn gradients_are_the_slopes_of_the_loss() {
        let network = network();
        let mut random = Random::new(2);
        let inputs: Vec<f32> = (0..40).map(|_| random.normal()).collect();
        let targets: Vec<f32> = (0..40).map(|_| random.normal()).collect();
        let (found, gradients) = Learner::new(&network).unwrap().gradients(&inputs, &targets).unwrap();
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
        let mut learner = Learner::new(&network()).unwrap();
        let mut random = Random::new(2);
        let inputs: Vec<f32> = (0..64).flat_map(|_| [random.normal(); 4]).collect();
        let first = learner.step(&inputs, &inputs, 0.01).unwrap();
        let last = (0..300).map(|_| learner.step(&inputs, &inputs, 0.01).unwrap()).last().unwrap();
        assert!(last < first / 20.0, "{first} {last}");
    }
}
