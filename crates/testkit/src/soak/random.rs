//! Numbers that look random and are a function of a seed, the same on every machine and with every compiler.

use std::time::Duration;

/// A sequence of numbers; SplitMix64, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014,
/// <https://doi.org/10.1145/2660193.2660195>.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0 and far below 2⁶⁴, so that no number is noticeably more likely.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    /// A time between two, in milliseconds, both included.
    pub fn duration(&mut self, (shortest, longest): (u64, u64)) -> Duration {
        Duration::from_millis(shortest + self.below(longest - shortest + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_published_generator() {
        let mut random = Random::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.number()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn times_lie_between_their_limits() {
        let mut random = Random::new(1);
        let times: Vec<Duration> = (0..1000).map(|_| random.duration((3, 5))).collect();
        for milliseconds in 3..=5 {
            assert!(times.contains(&Duration::from_millis(milliseconds)));
        }
        assert!(times.iter().all(|it| (3..=5).contains(&it.as_millis())));
    }
}
