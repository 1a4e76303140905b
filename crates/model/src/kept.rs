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
    /// Rank of the last row that was kept when there were too many: whatever ranks behind it never will be.
    last: Option<u64>,
    pub(crate) values: Vec<f32>,
    pub(crate) devices: Vec<u64>,
    pub(crate) times_ms: Vec<i64>,
}

impl Kept {
    /// Takes a row in, unless there are enough before it already.
    pub(crate) fn take(&mut self, values: &[f32], device: u64, time_ms: i64) {
        if self.last.is_none_or(|last| rank(device, time_ms) <= last) {
            self.values.extend_from_slice(values);
            self.devices.push(device);
            self.times_ms.push(time_ms);
        }
    }

    /// Leaves at most `capacity` rows: whole minutes of devices, by hash, whatever the order they came in.
    pub(crate) fn limit(&mut self, features: usize, capacity: usize) {
        if self.devices.len() <= capacity {
            return;
        }
        let ranks = self.devices.iter().zip(&self.times_ms).map(|(device, time_ms)| rank(*device, *time_ms));
        let mut order: Vec<(u64, usize)> = ranks.zip(0..).collect();
        let (_, last, _) = order.select_nth_unstable_by(capacity - 1, |one, other| {
            one.0.cmp(&other.0).then_with(|| self.compare(one.1, other.1, features))
        });
        self.last = Some(last.0);
        let mut chosen = vec![false; order.len()];
        order[..capacity].iter().for_each(|(_, row)| chosen[*row] = true);
        // In place: rows only move to the front, and fresh memory would cost more than they do.
        let rows = chosen.iter().enumerate().filter(|(_, it)| **it);
        for (to, (from, _)) in rows.enumerate() {
            self.values.copy_within(from * features..(from + 1) * features, to * features);
            self.devices[to] = self.devices[from];
            self.times_ms[to] = self.times_ms[from];
        }
        self.values.truncate(capacity * features);
        self.devices.truncate(capacity);
        self.times_ms.truncate(capacity);
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
        let mut values = Vec::with_capacity(order.len() * features);
        order.iter().for_each(|row| values.extend_from_slice(&self.values[row * features..][..features]));
        Self {
            last: None,
            values,
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

/// Which rows are kept of too many: those of the lowest ranks.
fn rank(device: u64, time_ms: i64) -> u64 {
    mixed(device ^ mixed(time_ms.div_euclid(KEEP_TOGETHER_MS) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Rows that stream by leave what sorting all of them by rank would leave, whatever their order and equals.
        #[test]
        fn what_is_kept_of_a_stream_are_the_lowest_ranks_of_all(
            rows in prop::collection::vec((0..6_u64, 0..8_i64, 0..3_u8), 1..300),
            capacity in 1..60_usize,
        ) {
            let place = |it: &(u64, i64, u8)| (it.0, it.1 * KEEP_TOGETHER_MS / 2, it.2);
            let mut all: Vec<_> = rows.iter().map(place).collect();
            let mut kept = Kept::default();
            for (device, time_ms, value) in &all {
                kept.take(&[f32::from(*value)], *device, *time_ms);
                if kept.devices.len() >= capacity * 2 {
                    kept.limit(1, capacity);
                }
            }
            kept.limit(1, capacity);
            let kept = kept.ordered(1);
            all.sort_by_key(|it| (rank(it.0, it.1), *it));
            all.truncate(capacity);
            all.sort_unstable();
            let found: Vec<_> = (0..kept.devices.len())
                .map(|row| (kept.devices[row], kept.times_ms[row], kept.values[row] as u8))
                .collect();
            prop_assert_eq!(found, all);
        }
    }
}
