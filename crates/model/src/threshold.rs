//! The threshold: the score that a stated share of healthy readings exceeds.

/// Readings in the fitted tail: enough for a steady fit, few enough to be the tail.
const TAIL_ROWS: f64 = 300.0;
/// Largest share of readings that counts as the tail.
const TAIL_SHARE: f64 = 0.1;
/// The tail's shape is drawn towards the exponential as if by this many readings: from few, the shape is mostly chance.
const EXPONENTIAL_ROWS: f64 = 500.0;
/// Medians of the tail beyond its start from which on a score is a failing device that was not recognised: of an
/// exponential tail one in 4000 lies there, of a failure's first reading at the edge of the rows nearly all.
const OUTLIER: f64 = 12.0;

/// The score that a share `rate` of readings like `scores` exceeds.
///
/// A generalised Pareto distribution is fitted to the largest scores by probability-weighted moments, which needs
/// fewer readings than the quantile itself and works beyond the largest one.
///
/// # Source
///
/// Hosking, Wallis: "Parameter and Quantile Estimation for the Generalized Pareto Distribution", 1987.
pub(crate) fn threshold(scores: &[f32], rate: f64) -> f32 {
    let mut sorted: Vec<f64> = scores.iter().filter(|it| it.is_finite()).map(|it| f64::from(*it)).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let count = sorted.len();
    if count < 20 {
        return sorted.last().map_or(1.0, |it| it * 2.0) as f32;
    }
    let share = (TAIL_ROWS / count as f64).max(rate * 4.0).min(TAIL_SHARE.max(rate * 2.0));
    let mut tail = ((count as f64 * share).ceil() as usize).clamp(10, count / 2);
    let start = sorted[count - tail - 1];
    let limit = start + OUTLIER * (sorted[count - tail / 2 - 1] - start);
    if limit > start {
        tail -= count - sorted.partition_point(|it| *it <= limit);
        sorted.truncate(sorted.partition_point(|it| *it <= limit));
    }
    let count = sorted.len();
    // b0 and b1 of the exceedances, ascending.
    let (mut mean, mut weighted) = (0.0, 0.0);
    for (index, score) in sorted[count - tail..].iter().enumerate() {
        let excess = score - start;
        mean += excess;
        weighted += excess * (tail - 1 - index) as f64 / (tail - 1) as f64;
    }
    mean /= tail as f64;
    weighted /= tail as f64;
    let spread = mean - 2.0 * weighted;
    if mean <= 0.0 || spread <= 0.0 {
        return start.max(f64::MIN_POSITIVE) as f32;
    }
    // Hosking's k = −ξ, and the scale.
    let k = (mean / spread - 2.0).clamp(-0.5, 0.5) * tail as f64 / (tail as f64 + EXPONENTIAL_ROWS);
    let scale = mean * (1.0 + k);
    let ratio = rate * count as f64 / tail as f64;
    let excess = if k.abs() < 1e-6 { -scale * ratio.ln() } else { scale / k * (1.0 - ratio.powf(k)) };
    (start + excess) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Mean of 18 squared normals: what the score of a healthy reading would be if residuals were normal.
    fn scores(count: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        (0..count).map(|_| (0..18).map(|_| random.normal().powi(2)).sum::<f32>() / 18.0).collect()
    }

    #[test]
    fn the_rate_is_held_on_other_readings() {
        let others = scores(400_000, 99);
        for (rows, rate, allowed) in [(40_000, 0.01, 0.25), (40_000, 0.005, 0.25), (100_000, 0.001, 0.35)] {
            let threshold = threshold(&scores(rows, 1), rate);
            let found = others.iter().filter(|it| **it > threshold).count() as f64 / others.len() as f64;
            assert!((found / rate - 1.0).abs() < allowed, "{rows} rows, {rate}: {found}");
        }
    }

    #[test]
    fn a_few_failing_readings_do_not_move_it() {
        let clean = scores(6000, 1);
        let mixed = [clean.as_slice(), &[50.0, 400.0, 9.0]].concat();
        let (clean, mixed) = (threshold(&clean, 0.005), threshold(&mixed, 0.005));
        assert!((mixed / clean - 1.0).abs() < 0.01, "{clean} {mixed}");
    }

    #[test]
    fn few_or_equal_scores_give_a_usable_threshold() {
        for scores in [vec![], vec![1.0], vec![2.0; 1000], vec![f32::NAN; 50]] {
            let threshold = threshold(&scores, 0.01);
            assert!(threshold > 0.0 && threshold.is_finite(), "{scores:?}");
        }
    }
}
