//! Random numbers that depend on nothing but their keys.

/// A stream of random numbers made from keys (SplitMix64, <https://prng.di.unimi.it/splitmix64.c>).
#[derive(Debug, Clone)]
pub(crate) struct Draw(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Draw {
    /// The stream of one thing: `index` of what `stream` says, for `car`.
    pub(crate) fn new(seed: u64, stream: u64, car: u64, index: i64) -> Self {
        let key = mix(seed.wrapping_add(GOLDEN)) ^ (stream << 32 | car);
        Self(mix(key.wrapping_add(GOLDEN)) ^ mix(index.cast_unsigned().wrapping_mul(GOLDEN)))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// Uniform from 0 up to but not including 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform from `low` to `high`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// One of `count` things.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.bits()) * count as u128) >> 64) as usize
    }

    /// Nearly normal with mean 0 and variance 1, within ±3.5: the sum of four uniform numbers.
    pub(crate) fn normal(&mut self) -> f64 {
        let bits = self.bits();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        // The sum has mean 4 · 65535 / 2 and variance 4 · (65536² - 1) / 12.
        (sum as f64 - 131_070.0) / 37_837.227
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let mut draw = Draw::new(7, 1, 2, 3);
        let drawn: Vec<f64> = (0..100_000).map(|_| draw.normal()).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let variance = drawn.iter().map(|it| it * it).sum::<f64>() / drawn.len() as f64;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }

    #[test]
    fn neighbouring_keys_give_unrelated_numbers() {
        let first = |car, index| Draw::new(7, 1, car, index).unit();
        let sum: f64 = (0..50_000).map(|it| (first(it, 5) - 0.5) * (first(it + 1, 5) - 0.5)).sum();
        assert!((sum / 50_000.0).abs() < 0.002, "{sum}");
        let sum: f64 = (0..50_000).map(|it| (first(3, it) - 0.5) * (first(3, it + 1) - 0.5)).sum();
        assert!((sum / 50_000.0).abs() < 0.002, "{sum}");
    }
}
