//! A part of the rows, normalised: the learned or the held back.

use telltale_features::Normaliser;

use crate::kept::Kept;
use crate::kernel::{Instructions, Kernel, Results, Scratch, Share, TOP};
use crate::learn::ROBUST;
use crate::network::{Dense, Network};
use crate::random::Random;
use crate::residuals::{denoiser, whitening};
use crate::trim::healthy;

/// Standard errors by which the mean residuals of held-back and learned devices may differ by chance.
const CHANCE: f64 = 2.0;

/// A part of the rows, normalised.
pub(crate) struct Split {
    pub(crate) inputs: Vec<f32>,
    pub(crate) devices: Vec<u64>,
    pub(crate) keep: Vec<bool>,
}

impl Split {
    pub(crate) fn new(
        kept: &Kept,
        normaliser: &Normaliser,
        usual: &[bool],
        belongs: impl Fn(usize) -> bool,
    ) -> Self {
        let features = normaliser.specification().features.len();
        let rows: Vec<usize> = (0..kept.devices.len()).filter(|it| belongs(*it)).collect();
        let part = kept.chosen(&rows, features);
        let mut inputs = Vec::new();
        normaliser.apply(&part.values, features, &mut inputs);
        Self { inputs, devices: part.devices, keep: rows.iter().map(|it| usual[*it]).collect() }
    }

    /// Inputs of the rows that are kept, missing values as 0.
    pub(crate) fn kept_inputs(&self, features: usize) -> Vec<f32> {
        let rows = self.inputs.chunks_exact(features).zip(&self.keep).filter(|(_, keep)| **keep);
        rows.flat_map(|(row, _)| row).map(|it| if it.is_nan() { 0.0 } else { *it }).collect()
    }

    /// The rows that say what is usual: those held back, and the learned ones too unless the network knows them too
    /// well, which shows in residuals that are smaller by more than chance. More rows make a steadier threshold.
    pub(crate) fn scale_with(network: &Network, learned: &Self, held: Self) -> Self {
        let (learned_mean, learned_error) = learned.typical_residual(network);
        let (held_mean, held_error) = held.typical_residual(network);
        if held_mean - learned_mean > CHANCE * learned_error.hypot(held_error) {
            return held;
        }
        Self {
            inputs: [learned.inputs.as_slice(), &held.inputs].concat(),
            devices: [learned.devices.as_slice(), &held.devices].concat(),
            keep: [learned.keep.as_slice(), &held.keep].concat(),
        }
    }

    /// Mean over the devices of the log of their mean squared residual, and its standard error.
    fn typical_residual(&self, network: &Network) -> (f64, f64) {
        let features = network.features();
        let residuals = residuals(network, &self.inputs);
        let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
        let mut start = 0;
        for device in self.devices.chunk_by(|one, other| one == other) {
            let rows = start..start + device.len();
            start = rows.end;
            let kept = rows.filter(|it| self.keep[*it]);
            let values = kept.flat_map(|it| &residuals[it * features..][..features]);
            let (total, number) =
                values.fold((0.0, 0.0), |(total, number), it| (total + f64::from(it * it), number + 1.0));
            if number > 0.0 {
                let log = f64::ln(total / number + 1e-12);
                (sum, squares, count) = (sum + log, squares + log * log, count + 1.0);
            }
        }
        let mean = sum / f64::max(count, 1.0);
        let variance = (squares / f64::max(count, 1.0) - mean * mean).max(0.0);
        (mean, (variance / f64::max(count - 1.0, 1.0)).sqrt())
    }

    pub(crate) fn denoiser(&self, features: usize, noise: f32) -> Dense {
        let known: Vec<f32> = self.inputs.iter().map(|it| if it.is_nan() { 0.0 } else { *it }).collect();
        denoiser(&known, features, &self.keep, noise)
    }

    pub(crate) fn whiten(&self, network: &Network) -> Dense {
        whitening(&residuals(network, &self.inputs), network.features(), &self.keep)
    }

    fn scores(&self, network: &Network, whitening: &Dense) -> Vec<f32> {
        let kernel = Kernel::new(network, whitening, Instructions::detect());
        let rows = self.devices.len();
        let (mut scores, mut top) = (vec![0.0; rows], vec![[Share::default(); TOP]; rows]);
        kernel.run(&self.inputs, &mut Scratch::default(), &mut Results::Scores(&mut scores, &mut top));
        scores
    }

    pub(crate) fn kept_scores(&self, network: &Network, whitening: &Dense) -> Vec<f32> {
        let scores = self.scores(network, whitening);
        scores.into_iter().zip(&self.keep).filter(|(_, keep)| **keep).map(|(score, _)| score).collect()
    }

    pub(crate) fn trim(&mut self, network: &Network, whitening: &Dense) {
        self.keep = healthy(&self.scores(network, whitening), &self.devices);
    }
}

fn residuals(network: &Network, inputs: &[f32]) -> Vec<f32> {
    let features = network.features();
    let unused = Dense { inputs: features, outputs: 0, weights: Vec::new(), bias: Vec::new() };
    let mut residuals = vec![0.0; inputs.len()];
    let kernel = Kernel::new(network, &unused, Instructions::detect());
    kernel.run(inputs, &mut Scratch::default(), &mut Results::Residuals(&mut residuals));
    residuals
}

/// Held-back inputs with the noise that is learned with, drawn once so that passes can be compared.
pub(crate) struct Noisy {
    inputs: Vec<f32>,
    noise: Vec<f32>,
}

impl Noisy {
    pub(crate) fn new(mut inputs: Vec<f32>, noise: f32) -> Self {
        let mut random = Random::new(inputs.len() as u64);
        let noise: Vec<f32> = inputs.iter().map(|_| noise * random.normal()).collect();
        inputs.iter_mut().zip(&noise).for_each(|(input, noise)| *input += noise);
        Self { inputs, noise }
    }

    /// The loss that is learned by.
    pub(crate) fn mean_loss(&self, network: &Network) -> f32 {
        let residuals = residuals(network, &self.inputs);
        let terms = residuals.iter().zip(&self.noise).map(|(residual, noise)| {
            let scaled = (residual - noise) / ROBUST;
            f64::from(ROBUST * ROBUST * ((1.0 + scaled * scaled).sqrt() - 1.0))
        });
        (terms.sum::<f64>() / residuals.len().max(1) as f64) as f32
    }
}
