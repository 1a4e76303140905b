//! The networks in candle: slower, and nothing of it shared with the fused passes, which are held equal to it, by tests and before
//! a model is given out.

use candle_core::{Device, Tensor, Var};
use candle_nn::{Linear, Module};

use crate::loader::GOLDEN_TOLERANCE;
use crate::network::{Dense, Network};

/// Scores of rows of inputs, NaN where one is missing: the mean over those present of the squares of whitened residuals.
///
/// # Shapes
///
/// `inputs` is `(rows, features)`, row-major; the scores are `(rows)`.
pub(crate) fn scores(
    network: &Network,
    whitening: &Dense,
    inputs: &[f32],
) -> Result<Vec<f32>, candle_core::Error> {
    let features = network.features();
    let present: Vec<f32> = inputs.iter().map(|it| f32::from(u8::from(!it.is_nan()))).collect();
    let known: Vec<f32> = inputs.iter().map(|it| if it.is_nan() { 0.0 } else { *it }).collect();
    let (present, known) = (tensor(&present, features)?, tensor(&known, features)?);
    let residuals = ((&known - output(&variables(network)?, &known)?)? * &present)?;
    let units = (linear(whitening)?.forward(&residuals)? * &present)?;
    (units.sqr()?.sum(1)? / present.sum(1)?)?.to_vec1()
}

/// Holds the scores `found` of rows of inputs against candle's, and says which differs.
pub(crate) fn confirm(
    network: &Network,
    whitening: &Dense,
    inputs: &[f32],
    found: &[f32],
) -> Result<(), String> {
    let expected = scores(network, whitening, inputs).map_err(|it| it.to_string())?;
    // A row that lacks too much has no score, which candle knows nothing of.
    let holds = |found: f32, expected: f32| {
        found.is_nan() || (found - expected).abs() <= GOLDEN_TOLERANCE * (1.0 + expected.abs())
    };
    match found.iter().zip(&expected).position(|(found, expected)| !holds(*found, *expected)) {
        Some(row) => Err(format!("golden row {row} scores {}, but {} in candle", found[row], expected[row])),
        None => Ok(()),
    }
}

/// The reconstruction of `inputs`, `(rows, features)`.
#[cfg(test)]
pub(crate) fn reconstruct(network: &Network, inputs: &[f32]) -> Result<Vec<f32>, candle_core::Error> {
    output(&variables(network)?, &tensor(inputs, network.features())?)?.flatten_all()?.to_vec1()
}

/// The loss and its gradients: weights, then bias, layer by layer, then the shortcut.
#[cfg(test)]
pub(crate) fn gradients(
    network: &Network,
    inputs: &[f32],
    targets: &[f32],
) -> Result<(f32, Vec<Vec<f32>>), candle_core::Error> {
    let features = network.features();
    let variables = variables(network)?;
    let output = output(&variables, &tensor(inputs, features)?)?;
    let scaled = ((output - tensor(targets, features)?)? * f64::from(1.0 / crate::learn::ROBUST))?;
    let loss = (((scaled.sqr()? + 1.0)?.sqrt()? - 1.0)?.mean_all()?
        * f64::from(crate::learn::ROBUST * crate::learn::ROBUST))?;
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

fn linear(it: &Dense) -> Result<Linear, candle_core::Error> {
    let weights = Tensor::from_slice(&it.weights, (it.outputs, it.inputs), &Device::Cpu)?;
    Ok(Linear::new(weights, Some(Tensor::from_slice(&it.bias, it.outputs, &Device::Cpu)?)))
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
        value =
            Linear::new(layer[0].as_tensor().clone(), Some(layer[1].as_tensor().clone())).forward(&value)?;
        if index + 1 < layers.len() / 2 {
            value = value.tanh()?;
        }
    }
    value + input.matmul(&shortcut.t()?)?
}

/// A network with all weights drawn at random, also those that begin at 0.
#[cfg(test)]
pub(crate) fn network(features: usize, hidden: &[usize], random: &mut crate::random::Random) -> Network {
    let mut draw = |count: usize| (0..count).map(|_| random.normal() * 0.4).collect::<Vec<_>>();
    let linear = Dense {
        inputs: features,
        outputs: features,
        weights: draw(features * features),
        bias: draw(features),
    };
    let mut network = Network::initial(linear, hidden, &mut crate::random::Random::new(1));
    for layer in &mut network.layers {
        layer.weights = draw(layer.weights.len());
        layer.bias = draw(layer.bias.len());
    }
    network
}
