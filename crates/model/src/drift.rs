//! How far the readings of today are from those a model learned from.

/// Bins of a reference histogram.
pub const BINS: usize = 10;
/// Edges between the bins.
pub const EDGES: usize = BINS - 1;

/// Share that an empty bin counts as, so that the index stays finite.
const LEAST_SHARE: f64 = 1e-4;

/// Where the training rows lay, per feature, in normalised units.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// `(features, EDGES)`, ascending per feature.
    pub(crate) edges: Vec<f32>,
    /// `(features, BINS)`, each row sums to 1.
    pub(crate) shares: Vec<f32>,
}

/// Counts of recent readings in the bins of a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    bins: Vec<u64>,
}

impl Reference {
    /// Deciles of each feature's inputs. A feature with few values may have empty bins.
    ///
    /// # Shapes
    ///
    /// `inputs` is `(rows, features)`, row-major; NaN does not count.
    pub(crate) fn fit(inputs: &[f32], features: usize) -> Self {
        let (mut edges, mut shares) = (Vec::new(), Vec::new());
        for feature in 0..features {
            let column = inputs.iter().skip(feature).step_by(features);
            let mut column: Vec<f32> = column.copied().filter(|it| it.is_finite()).collect();
            column.sort_unstable_by(f32::total_cmp);
            let count = column.len();
            let first = edges.len();
            edges.extend((1..BINS).map(|it| column.get(it * count / BINS).copied().unwrap_or(0.0)));
            let mut bins = [0_u32; BINS];
            column.iter().for_each(|it| bins[bin(&edges[first..], *it)] += 1);
            let share = |it: u32| if count == 0 { 1.0 / BINS as f32 } else { it as f32 / count as f32 };
            shares.extend(bins.map(share));
        }
        Self { edges, shares }
    }

    /// Starts counting.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { bins: vec![0; self.shares.len()] }
    }

    /// Counts rows of normalised inputs, NaN not at all.
    pub fn count(&self, inputs: &[f32], counts: &mut Counts) {
        let features = self.shares.len() / BINS;
        for row in inputs.chunks_exact(features) {
            for (feature, input) in row.iter().enumerate().filter(|(_, it)| it.is_finite()) {
                let edges = &self.edges[feature * EDGES..][..EDGES];
                counts.bins[feature * BINS + bin(edges, *input)] += 1;
            }
        }
    }

    /// The population stability index of each feature: below 0.1 nothing happened, above 0.25 the model should be
    /// trained again.
    ///
    /// # Source
    ///
    /// Siddiqi: "Credit Risk Scorecards", 2006: Σ (now − then) ln(now / then) over the bins.
    #[must_use]
    pub fn stability_index(&self, counts: &Counts) -> Vec<f64> {
        let features = self.shares.chunks_exact(BINS).zip(counts.bins.chunks_exact(BINS));
        features
            .map(|(then, now)| {
                let total = now.iter().sum::<u64>();
                if total == 0 {
                    return 0.0;
                }
                let terms = then.iter().zip(now).map(|(then, now)| {
                    let then = f64::from(*then).max(LEAST_SHARE);
                    let now = (*now as f64 / total as f64).max(LEAST_SHARE);
                    (now - then) * (now / then).ln()
                });
                terms.sum()
            })
            .collect()
    }
}

fn bin(edges: &[f32], value: f32) -> usize {
    edges.partition_point(|it| *it <= value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn normal(count: usize, shift: f32, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        (0..count).flat_map(|_| [random.normal() + shift, 1.0]).collect()
    }

    #[test]
    fn the_index_is_small_for_the_same_and_large_for_another_distribution() {
        let reference = Reference::fit(&normal(10_000, 0.0, 1), 2);
        let cases =
            [("same", 0.0, 0.0..0.02), ("shifted a little", 0.3, 0.05..0.15), ("shifted", 1.0, 0.6..2.0)];
        for (name, shift, expected) in cases {
            let mut counts = reference.counts();
            reference.count(&normal(5000, shift, 2), &mut counts);
            let index = reference.stability_index(&counts);
            assert!(expected.contains(&index[0]), "{name}: {index:?}");
            assert!(index[1].abs() < 1e-9, "a constant stays where it is: {index:?}");
        }
    }

    #[test]
    fn missing_values_and_no_values_are_no_drift() {
        let reference = Reference::fit(&normal(100, 0.0, 1), 2);
        let mut counts = reference.counts();
        reference.count(&[f32::NAN, f32::NAN], &mut counts);
        assert_eq!(reference.stability_index(&counts), [0.0, 0.0]);
    }
}
