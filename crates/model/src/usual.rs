//! Finds, before anything is learned, the rows that are noise: what goes together would drown in them.
//!
//! ```text
//! keep all ─▶ covariance of the kept ─▶ distance of every row ─▶ keep the usual ⟲ until nothing changes
//! ```
//!
//! The linear map that training begins with opens each direction in which rows vary more than the noise that is
//! learned with. A tenth of rows whose sensors have nothing to do with each other opens them all, and then
//! everything is reconstructed and nothing is an anomaly. But such rows are far off in many directions at once, even
//! by a covariance that they took part in: of a share s of rows, 1 / s in each direction that is closed to the rest.
//! A kind of device that is rare and in order is far off in a few directions only, so it stays.

use crate::linear::eigen;
use crate::residuals::moments;
use crate::trim::limit;

/// Robust standard deviations by which a row's distance, on the scale below, may exceed what is usual.
const LIMIT: f64 = 6.0;
/// Rounds after which what was found is good enough; two or three are usual.
const ROUNDS: usize = 10;

/// Which rows are usual, if those with `keep` are to begin with. `noise` is the standard deviation below which a
/// direction does not count.
///
/// # Shapes
///
/// `inputs` is `(rows, features)`, row-major, finite.
///
/// # Source
///
/// The concentration steps of Rousseeuw, Van Driessen: "A Fast Algorithm for the Minimum Covariance Determinant
/// Estimator", 1999, with a limit in the place of a fixed share, so that of clean rows nearly all are kept.
pub(crate) fn usual(inputs: &[f32], features: usize, noise: f32, mut keep: Vec<bool>) -> Vec<bool> {
    for _ in 0..ROUNDS {
        let distances = distances(inputs, features, &keep, noise);
        let limit = limit(&distances, LIMIT);
        let now: Vec<bool> = distances.iter().map(|it| *it <= limit).collect();
        if now == keep {
            break;
        }
        keep = now;
    }
    keep
}

/// The squared Mahalanobis distance of each row from the rows with `keep`, as its cube root, which is about normal
/// where rows are. Wilson, Hilferty: "The Distribution of Chi-Square", 1931.
fn distances(inputs: &[f32], features: usize, keep: &[bool], noise: f32) -> Vec<f64> {
    let moments = moments(inputs, features, keep);
    let (values, vectors) = eigen(&moments.covariance, features);
    let least = f64::from(noise).max(1e-3).powi(2);
    // One row per feature: what it adds along each direction.
    let mut directions = vec![0.0; features * features];
    for (index, (value, vector)) in values.iter().zip(&vectors).enumerate() {
        let scale = value.max(least).sqrt();
        vector
            .iter()
            .enumerate()
            .for_each(|(feature, it)| directions[feature * features + index] = it / scale);
    }
    let mut along = vec![0.0; features];
    let distance = |row: &[f32]| {
        along.fill(0.0);
        let sides = row.iter().zip(&moments.centre).map(|(it, centre)| f64::from(*it) - centre);
        for (side, parts) in sides.zip(directions.chunks_exact(features)) {
            along.iter_mut().zip(parts).for_each(|(along, part)| *along += side * part);
        }
        along.iter().map(|it| it * it).sum::<f64>().cbrt()
    };
    inputs.chunks_exact(features).map(distance).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Five sensors of two quantities. A share of rows is of a rare kind: in order, but elsewhere; another is noise.
    fn rows(rare: usize, noise: usize) -> Vec<f32> {
        let mut random = Random::new(6);
        let row = |index: usize| {
            let [a, b] = [random.normal(), random.normal()];
            let [c, d, e] = [random.normal(), random.normal(), random.normal()];
            match index % 100 {
                it if it < rare => {
                    [a, b + 8.0, a + b + 8.0 + c * 0.1, a - b - 8.0 + d * 0.1, b + 8.0 + e * 0.1]
                }
                it if it < rare + noise => [a, b, c, d, e],
                _ => [a, b, a + b + c * 0.1, a - b + d * 0.1, b + e * 0.1],
            }
        };
        (0..10_000).flat_map(row).collect()
    }

    #[test]
    fn noise_is_left_out_and_what_is_rare_but_in_order_stays() {
        for (rare, noise) in [(0, 0), (5, 0), (0, 5), (0, 10), (5, 10)] {
            let keep = usual(&rows(rare, noise), 5, 0.05, vec![true; 10_000]);
            let left = |range: std::ops::Range<usize>| {
                let rows =
                    keep.iter().enumerate().filter(|(row, keep)| range.contains(&(row % 100)) && !**keep);
                rows.count() as f64 / (range.len() * 100).max(1) as f64
            };
            assert!(left(rare + noise..100) < 0.005, "{rare} {noise}: {} left out", left(rare + noise..100));
            assert!(left(0..rare) < 0.02, "{rare} {noise}: {} of the rare left out", left(0..rare));
            assert!(
                noise == 0 || left(rare..rare + noise) > 0.9,
                "{rare} {noise}: {} of noise left out",
                left(rare..rare + noise)
            );
        }
    }

    #[test]
    fn rows_that_are_all_alike_or_none_are_kept() {
        assert_eq!(usual(&[1.0; 20], 2, 0.05, vec![true; 10]), [true; 10]);
        assert!(usual(&[], 2, 0.05, vec![]).is_empty());
    }
}
