//! The rows that a trainer keeps, and their order.

use std::collections::BTreeSet;

use crate::random::mixed;

/// Devices below which minutes instead of devices are held back.
const FEW_DEVICES: usize = 20;
/// Rows of one device within this time are kept or left out together.
const KEEP_TOGETHER_MS: i64 = 60_000;

/// Rows that can be learned from, without the columns that only the filter needs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    pub(crate) values: Vec<f32>,
    pub(crate) devices: Vec<u64>,
    pub(crate) times_ms: Vec<i64>,
}

impl Kept {
    /// At most `capacity` rows: whole minutes of devices, by hash, whatever the order they came in.
    pub(crate) fn limited(&self, features: usize, capacity: usize) -> Self {
        if self.devices.len() <= capacity {
            return self.clone();
        }
        let mut order: Vec<usize> = (0..self.devices.len()).collect();
        let rank = |row: usize| {
            let minute = self.times_ms[row].div_euclid(KEEP_TOGETHER_MS);
            mixed(self.devices[row] ^ mixed(minute as u64))
        };
        order.sort_by(|one, other| {
            rank(*one).cmp(&rank(*other)).then_with(|| self.compare(*one, *other, features))
        });
        order.truncate(capacity);
        self.chosen(&order, features)
    }

    /// The rows in order of device and time.
    pub(crate) fn ordered(&self, features: usize) -> Self {
        let mut order: Vec<usize> = (0..self.devices.len()).collect();
        order.sort_by(|one, other| self.compare(*one, *other, features));
        self.chosen(&order, features)
    }

    /// By device, time and, should both be equal, value.
    fn compare(&self, one: usize, other: usize, features: usize) -> std::cmp::Ordering {
        let place = |row: usize| (self.devices[row], self.times_ms[row]);
        let bits = |row: usize| self.values[row * features..][..features].iter().map(|it| it.to_bits());
        place(one).cmp(&place(other)).then_with(|| bits(one).cmp(bits(other)))
    }

    pub(crate) fn chosen(&self, order: &[usize], features: usize) -> Self {
        Self {
            values: order
                .iter()
                .flat_map(|row| &self.values[row * features..][..features])
                .copied()
                .collect(),
            devices: order.iter().map(|row| self.devices[*row]).collect(),
            times_ms: order.iter().map(|row| self.times_ms[*row]).collect(),
        }
    }

    /// Which rows are held back: those of a share of the devices, by hash; of few devices, a share of their minutes.
    pub(crate) fn held_back(&self, share: f64) -> Vec<bool> {
        let devices: BTreeSet<u64> = self.devices.iter().copied().collect();
        let few = devices.len() < FEW_DEVICES;
        let unit = |row: usize| {
            let minute = if few { self.times_ms[row].div_euclid(KEEP_TOGETHER_MS) as u64 + 1 } else { 0 };
            mixed(self.devices[row] ^ mixed(minute).rotate_left(17) ^ 0x7E11_7A1E)
        };
        let limit = (share * u64::MAX as f64) as u64;
        let mut held: Vec<bool> = (0..self.devices.len()).map(|row| unit(row) < limit).collect();
        let count = held.iter().filter(|it| **it).count();
        // One minute of one device cannot be split by hash: then the newest rows are held back.
        let sensible = held.len() / 50..=held.len() - held.len() / 4;
        if !sensible.contains(&count) {
            let first = ((1.0 - share) * held.len() as f64) as usize;
            held.iter_mut().enumerate().for_each(|(row, it)| *it = row >= first);
        }
        held
    }
}
