//! The area under the ROC curve, in memory that does not grow with the number of readings.
//!
//! ```text
//! AUC = P(score of an ill reading > score of a healthy one) + ½ P(both equal)
//! ```
//!
//! The bits of a non-negative `f32` rise with its value, so its upper bits are a rank: scores that agree in
//! them count as equal. Eleven bits of fraction are kept, so two scores are told apart when they differ by
//! more than 0.05 %.
//!
//! Source: Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic
//! (ROC) curve", Radiology 143 (1982), <https://doi.org/10.1148/radiology.143.1.7063747>.

/// Bits of a score that do not count: 23 bits of fraction, less the eleven kept.
const DROPPED: u32 = 12;
/// Ranks of the non-negative scores up to infinity.
const RANKS: usize = (f32::INFINITY.to_bits() >> DROPPED) as usize + 1;

/// Scores of ill and of healthy readings, by rank.
#[derive(Debug, Clone)]
pub struct Ranks {
    ill: Vec<u32>,
    healthy: Vec<u32>,
}

impl Default for Ranks {
    fn default() -> Self {
        Self { ill: vec![0; RANKS], healthy: vec![0; RANKS] }
    }
}

impl Ranks {
    /// Takes in the score of one reading; a negative one counts as 0, one that is no number as infinite.
    pub fn add(&mut self, score: f32, ill: bool) {
        let score = if score.is_nan() { f32::INFINITY } else { score.max(0.0) };
        // max(0.0) may keep -0.0, whose sign bit is set.
        let rank = ((score.to_bits() & !(1 << 31)) >> DROPPED) as usize;
        let counts = if ill { &mut self.ill } else { &mut self.healthy };
        counts[rank] = counts[rank].saturating_add(1);
    }

    /// The area under the curve; `None` while there are no ill or no healthy readings.
    #[must_use]
    pub fn auc(&self) -> Option<f64> {
        let (mut healthy_below, mut ill_total, mut wins) = (0_u64, 0_u64, 0.0_f64);
        for (&ill, &healthy) in self.ill.iter().zip(&self.healthy) {
            wins += f64::from(ill) * (healthy_below as f64 + f64::from(healthy) / 2.0);
            healthy_below += u64::from(healthy);
            ill_total += u64::from(ill);
        }
        let pairs = ill_total as f64 * healthy_below as f64;
        (pairs > 0.0).then(|| wins / pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranks(ill: &[f32], healthy: &[f32]) -> Ranks {
        let mut ranks = Ranks::default();
        ill.iter().for_each(|&it| ranks.add(it, true));
        healthy.iter().for_each(|&it| ranks.add(it, false));
        ranks
    }

    #[test]
    fn the_extremes_are_one_a_half_and_nothing() {
        assert_eq!(ranks(&[3.0, 4.0], &[1.0, 2.0]).auc(), Some(1.0));
        assert_eq!(ranks(&[1.0], &[2.0, 3.0]).auc(), Some(0.0));
        assert_eq!(ranks(&[1.0, 1.0], &[1.0]).auc(), Some(0.5));
        assert_eq!(ranks(&[f32::NAN], &[f32::INFINITY]).auc(), Some(0.5));
        assert_eq!(ranks(&[], &[1.0]).auc(), None);
        assert_eq!(ranks(&[1.0], &[]).auc(), None);
    }

    proptest! {
        #[test]
        fn agrees_with_counting_every_pair(ill in proptest::collection::vec(0_u16..50, 1..40),
            healthy in proptest::collection::vec(0_u16..50, 1..40)) {
            let mut wins = 0.0;
            for a in &ill {
                for b in &healthy {
                    wins += if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 };
                }
            }
            let expected = wins / (ill.len() * healthy.len()) as f64;
            let floats = |it: &[u16]| it.iter().map(|&it| f32::from(it) * 0.37).collect::<Vec<_>>();
            let found = ranks(&floats(&ill), &floats(&healthy)).auc().unwrap();
            prop_assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        }
    }
}
