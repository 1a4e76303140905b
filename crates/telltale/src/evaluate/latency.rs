//! Latencies as counts in classes, each at most 1.6 % wide, so that memory does not grow.

/// Classes for each doubling; also the number of exact classes at the start.
const CLASSES: usize = 64;
/// Longest latency told apart, about 24 days in milliseconds.
const LONGEST: u64 = (1 << 31) - 1;

/// Counts of latencies in milliseconds.
#[derive(Debug, Clone)]
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; class(LONGEST) + 1], total: 0 }
    }
}

impl Latencies {
    /// Takes in one latency; a negative one, of clocks that disagree, counts as 0.
    pub fn add(&mut self, milliseconds: i64) {
        let value = u64::try_from(milliseconds).unwrap_or(0).min(LONGEST);
        self.counts[class(value)] += 1;
        self.total += 1;
    }

    /// Number of latencies taken in.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Whether nothing was taken in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The latency in ms that a share of `quantile` does not exceed: the upper end of its class.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let rank = ((self.total as f64 * quantile).ceil() as u64).max(1);
        let mut below = 0;
        self.counts.iter().enumerate().find_map(|(index, count)| {
            below += count;
            (*count > 0 && below >= rank).then(|| upper(index))
        })
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }
}

/// Values below `2 * CLASSES` have a class each; from there on a doubling has `CLASSES` of them.
fn class(value: u64) -> usize {
    let bits = 64 - value.leading_zeros() as usize;
    let shift = bits.saturating_sub(7);
    shift * CLASSES + (value >> shift) as usize
}

fn upper(class: usize) -> u64 {
    let shift = (class / CLASSES).saturating_sub(1);
    let leading = (class - shift * CLASSES) as u64;
    ((leading + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_latencies_are_exact() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        (1..=100).for_each(|it| latencies.add(it));
        assert_eq!(latencies.len(), 100);
        let quantiles = [0.0, 0.5, 0.99, 1.0].map(|it| latencies.quantile(it));
        assert_eq!(quantiles, [Some(1), Some(50), Some(99), Some(100)]);
    }

    #[test]
    fn absurd_latencies_are_kept_within_the_classes() {
        let mut latencies = Latencies::default();
        latencies.add(i64::MIN);
        latencies.add(i64::MAX);
        assert_eq!((latencies.quantile(0.1), latencies.quantile(1.0)), (Some(0), Some(LONGEST)));
        latencies.clear();
        assert!(latencies.is_empty());
    }

    proptest! {
        #[test]
        fn a_class_holds_its_value_and_is_narrow(value in 0..=LONGEST) {
            let upper = upper(class(value));
            prop_assert!(upper >= value, "{upper} is below {value}");
            prop_assert!(upper as f64 <= value as f64 * 1.016 + 1e-9, "{upper} is too far above {value}");
        }
    }
}
