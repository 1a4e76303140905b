//! What the fused passes are held equal to in tests: the same networks in candle.

use candle_core::{Device, Tensor, Var};

use crate::learn::ROBUST;
use crate::network::{Dense, Network};
use crate::random::Random;

/// A network with all weights drawn at random, also those that begin at 0.
pub(crate) fn network(features: usize, hidden: &[usize], random: &mut Random) -> Network {
    let mut draw = |count: usize| (0..count).map(|_| random.normal() * 0.4).collect::<Vec<_>>();
    let linear = Dense {
        inputs: features,
        outputs: features,
        weights: draw(features * features),
        bias: draw(features),
    };
    let mut network = Network::initial(linear, hidden, &mut Random::new(1));
    for layer in &mut network.layers {
        layer.weights = draw(layer.weights.len());
        layer.bias = draw(layer.bias.len());
    }
    network
}

/// The reconstruction of `inputs`, `(rows, features)`.
pub(crate) fn reconstruct(network: &Network, inputs: &[f32]) -> Result<Vec<f32>, candle_core::Error> {
    output(&variables(network)?, &tensor(inputs, network.features())?)?.flatten_all()?.to_vec1()
}

/// The loss and its gradients: weights, then bias, layer by layer, then the shortcut.
pub(crate) fn gradients(
    network: &Network,
    inputs: &[f32],
    targets: &[f32],
) -> Result<(f32, Vec<Vec<f32>>), candle_core::Error> {
    let features = network.features();
    let variables = variables(network)?;
    let output = output(&variables, &tensor(inputs, features)?)?;
    let scaled = ((output - tensor(targets, features)?)? * f64::from(1.0 / ROBUST))?;
    let loss = (((scaled.sqr()? + 1.0)?.sqrt()? - 1.0)?.mean_all()? * f64::from(ROBUST * ROBUST))?;
    let store = loss.backward()?;
    let gradients = variables.iter().map(|it| match store.get(it) {
        Some(gradient) => gradient.flatten_all()?.to_vec1(),
        None => Ok(vec![0.0; it.elem_count()]),
    });
    Ok((loss.to_scalar()?, gradients.collect::<Result<_, _>>()?))
}

fn tensor(values: &[f32], columns: usize) -> Result<Tensor, candle_core::Error> {
    Tensor::from_slice(values, (values.len() / columns, columns), &Device::Cpu)
}

fn variables(network: &Network) -> Result<Vec<Var>, candle_core::Error> {
    let mut variables = Vec::new();
    for it in &network.layers {
        variables.push(Var::from_slice(&it.weights, (it.outputs, it.inputs), &Device::Cpu)?);
        variables.push(Var::from_slice(&it.bias, it.outputs, &Device::Cpu)?);
    }
    let features = network.features();
    variables.push(Var::from_slice(&network.shortcut, (features, features), &Device::Cpu)?);
    Ok(variables)
}

fn output(variables: &[Var], input: &Tensor) -> Result<Tensor, candle_core::Error> {
    let (shortcut, layers) = variables.split_last().expect("the shortcut is the last");
    let mut value = input.clone();
    for (index, layer) in layers.chunks_exact(2).enumerate() {
        value = value.matmul(&layer[0].t()?)?.broadcast_add(&layer[1])?;
        if index + 1 < layers.len() / 2 {
            value = value.tanh()?;
        }
    }
    value + input.matmul(&shortcut.t()?)?
}
