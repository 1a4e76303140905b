//! Seeded random numbers and hashes, the same on every machine and in every version of every library.

/// xoshiro256++ (Blackman, Vigna 2019), seeded by splitmix64 as its authors advise.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    state: [u64; 4],
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut next = seed;
        let state = std::array::from_fn(|_| {
            next = next.wrapping_add(0x9E37_79B9_7F4A_7C15);
            mixed(next)
        });
        Self { state }
    }

    pub(crate) fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// Uniform, 0 inclusive to 1 exclusive, 24 bits.
    pub(crate) fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// About standard normal: the sum of 12 uniforms, without libm, so the same bits everywhere.
    pub(crate) fn normal(&mut self) -> f32 {
        let (mut sum, mut left) = (0_u64, 3);
        while left > 0 {
            let bits = self.next();
            sum += (bits & 0xFFFF) + ((bits >> 16) & 0xFFFF) + ((bits >> 32) & 0xFFFF) + (bits >> 48);
            left -= 1;
        }
        (sum as f32 + 6.0) / 65536.0 - 6.0
    }

    /// Uniform below `bound`, which is above 0 and below 2³².
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Puts `items` into random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }
}

/// The finalizer of splitmix64: every bit of the result depends on every bit of `value`.
pub(crate) fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// A device's id as a number: FNV-1a, mixed. Decides, the same way for ever, which devices are held back.
#[must_use]
pub fn device_hash(id: &[u8]) -> u64 {
    let fnv = id.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    mixed(fnv)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut random = Random::new(1);
        let normals: Vec<f64> = (0..100_000).map(|_| f64::from(random.normal())).collect();
        let mean = normals.iter().sum::<f64>() / 1e5;
        let variance = normals.iter().map(|it| it * it).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        let uniform = (0..100_000).map(|_| f64::from(random.uniform())).sum::<f64>() / 1e5;
        assert!((uniform - 0.5).abs() < 0.01, "{uniform}");
    }

    #[test]
    fn the_stream_of_a_seed_is_fixed() {
        // The reference implementation's first numbers for this seeding; a change breaks every recorded model.
        let mut random = Random::new(0);
        let first: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(first, [5_987_356_902_031_041_503, 7_051_070_477_665_621_255, 6_633_766_593_972_829_180]);
        let mut items: Vec<u32> = (0..100).collect();
        random.shuffle(&mut items);
        items.sort_unstable();
        assert!(items.iter().enumerate().all(|(index, it)| index as u32 == *it));
    }
}
