//! What residuals are usual for healthy devices: the whitening that turns them into units.

use crate::linear::eigen;
use crate::network::Dense;

/// How much of the covariance is replaced by its diagonal; keeps few rows from inventing correlations.
const SHRINKAGE: f64 = 0.02;
/// Eigenvalue of the correlation matrix, whose mean is 1, below which a direction is not blown up to unit variance.
/// Where the network reconstructs well, what is left depends on what the device is doing rather than on noise:
/// with 0.001 here, cars at full power were false alarms forty times as often as cars at rest; with 0.5, ten times.
const LEAST_EIGENVALUE: f64 = 0.5;
/// Least scale of a feature's residual, in normalised units: what is left of a feature that the network knows
/// almost exactly, such as one of two values, is the network's own error and no measure of the device.
const LEAST_SCALE: f64 = 0.02;

/// The symmetric whitening of residuals: `units = W (residual − centre)`, of mean 0 and unit covariance over the
/// residuals given.
///
/// Of all whitenings the symmetric one leaves each unit closest to its own feature's scaled residual, so a unit's
/// square is that feature's contribution. Kessy, Lewin, Strimmer: "Optimal Whitening and Decorrelation", 2018.
///
/// # Shapes
///
/// `residuals` is `(rows, features)`, row-major, finite; only rows with `keep` count.
pub(crate) fn whitening(residuals: &[f32], features: usize, keep: &[bool]) -> Dense {
    let Moments { centre, covariance } = moments(residuals, features, keep);
    let scales: Vec<f64> =
        (0..features).map(|it| covariance[it * features + it].sqrt().max(LEAST_SCALE)).collect();
    // The correlation matrix, with its diagonal 1 even where a feature has no residual at all.
    let mut correlation = vec![0.0; features * features];
    for i in 0..features {
        correlation[i * features + i] = 1.0;
        for j in 0..i {
            let value = covariance[i * features + j] / (scales[i] * scales[j]) * (1.0 - SHRINKAGE);
            correlation[i * features + j] = value;
            correlation[j * features + i] = value;
        }
    }
    let (values, vectors) = eigen(&correlation, features);
    let mut weights = vec![0.0_f32; features * features];
    let mut bias = vec![0.0_f32; features];
    for i in 0..features {
        let mut mapped = 0.0;
        for j in 0..features {
            let terms = values.iter().zip(&vectors);
            let root: f64 = terms.map(|(value, it)| it[i] * it[j] / value.max(LEAST_EIGENVALUE).sqrt()).sum();
            let weight = root / scales[j];
            weights[i * features + j] = weight as f32;
            mapped += weight * centre[j];
        }
        bias[i] = -mapped as f32;
    }
    Dense { inputs: features, outputs: features, weights, bias }
}

/// The linear map that best reconstructs inputs to which noise of standard deviation `noise` was added: the
/// optimum of what the network learns, if it had no layers.
///
/// With the covariance C of the inputs it is C (C + noise² I)⁻¹ (Wiener's filter); directions in which inputs vary
/// less than the noise are closed, which is what a bottleneck does.
///
/// # Shapes
///
/// `inputs` is `(rows, features)`, row-major, finite; only rows with `keep` count.
pub(crate) fn denoiser(inputs: &[f32], features: usize, keep: &[bool], noise: f32) -> Dense {
    let Moments { centre, covariance } = moments(inputs, features, keep);
    let (values, vectors) = eigen(&covariance, features);
    let noise = f64::from(noise).max(1e-3).powi(2);
    let mut weights = vec![0.0_f32; features * features];
    let mut bias = vec![0.0_f32; features];
    for i in 0..features {
        let mut mapped = centre[i];
        for j in 0..features {
            let terms = values.iter().zip(&vectors);
            let weight: f64 =
                terms.map(|(it, vector)| vector[i] * vector[j] * it.max(0.0) / (it.max(0.0) + noise)).sum();
            weights[i * features + j] = weight as f32;
            mapped -= weight * centre[j];
        }
        bias[i] = mapped as f32;
    }
    Dense { inputs: features, outputs: features, weights, bias }
}

pub(crate) struct Moments {
    pub(crate) centre: Vec<f64>,
    /// Both triangles.
    pub(crate) covariance: Vec<f64>,
}

pub(crate) fn moments(values: &[f32], features: usize, keep: &[bool]) -> Moments {
    let rows = || values.chunks_exact(features).zip(keep).filter(|(_, keep)| **keep).map(|(row, _)| row);
    let count = rows().count().max(2) as f64;
    let mut centre = vec![0.0; features];
    for row in rows() {
        centre.iter_mut().zip(row).for_each(|(sum, it)| *sum += f64::from(*it));
    }
    centre.iter_mut().for_each(|it| *it /= count);
    let mut covariance = vec![0.0; features * features];
    let mut difference = vec![0.0; features];
    for row in rows() {
        for ((difference, value), centre) in difference.iter_mut().zip(row).zip(&centre) {
            *difference = f64::from(*value) - centre;
        }
        for (i, sums) in covariance.chunks_exact_mut(features).enumerate() {
            let one = difference[i];
            sums[..=i].iter_mut().zip(&difference).for_each(|(sum, other)| *sum += one * other);
        }
    }
    covariance.iter_mut().for_each(|it| *it /= count - 1.0);
    for i in 0..features {
        for j in 0..i {
            covariance[j * features + i] = covariance[i * features + j];
        }
    }
    Moments { centre, covariance }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn units_have_unit_covariance_and_rows_left_out_do_not_count() {
        let mut random = Random::new(5);
        let mut residuals = Vec::new();
        let mut keep = Vec::new();
        for index in 0..20_000 {
            let (a, b) = (random.normal(), random.normal());
            let wild = index % 50 == 0;
            residuals.extend(if wild {
                [100.0, -100.0, 0.0]
            } else {
                [a * 0.1 + 1.0, a * 0.05 + b * 0.1, 0.0]
            });
            keep.push(!wild);
        }
        let whitening = whitening(&residuals, 3, &keep);
        let mut sums = [0.0; 3];
        let kept = residuals.chunks_exact(3).zip(&keep).filter(|(_, keep)| **keep);
        let count = kept.clone().count() as f32;
        for (row, _) in kept {
            let unit = |i: usize| {
                whitening.bias[i] + (0..3).map(|j| whitening.weights[i * 3 + j] * row[j]).sum::<f32>()
            };
            let (first, second) = (unit(0), unit(1));
            sums[0] += first * first / count;
            sums[1] += second * second / count;
            sums[2] += first * second / count;
        }
        assert!(
            (sums[0] - 1.0).abs() < 0.1 && (sums[1] - 1.0).abs() < 0.1 && sums[2].abs() < 0.1,
            "{sums:?}"
        );
        assert!(whitening.weights.iter().all(|it| it.is_finite()));
    }
}
