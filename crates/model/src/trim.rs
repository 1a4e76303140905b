//! Finds, without labels, the devices that were unwell while the training rows were recorded.
//!
//! A single high score may be chance. A device that is failing scores high again and again, so it is judged by
//! blocks of consecutive readings: by their typical score and by how many of them are alarms.

/// Readings of a block.
const BLOCK: usize = 8;
/// Robust standard deviations by which a block's typical log score may exceed what is usual, and a single one's.
const LIMIT: f64 = 3.5;
const SINGLE_LIMIT: f64 = 5.0;
/// The median absolute deviation of a normal distribution, in standard deviations.
const MAD_OF_NORMAL: f64 = 0.674_489_75;
/// Share of usual readings above the score that counts as high, and how many of a block are no chance.
const HIGH: (f32, usize) = (0.01, 3);
/// Share of usual readings above the score that two readings in a row do not reach by chance.
const PAIR_SHARE: f32 = 0.002;

/// Which rows to keep. Rows are in order of device and time; `devices[row]` is whose reading it is.
///
/// A block that is unwell is left out with the blocks before and after it: failures grow and are repaired. So is a
/// single reading that no tail reaches, such as one garbled on its way: it says nothing of its device.
pub(crate) fn healthy(scores: &[f32], devices: &[u64]) -> Vec<bool> {
    let blocks = blocks(devices);
    let typical: Vec<f64> = blocks.iter().map(|it| log_median(&scores[it.clone()])).collect();
    let limit = limit(&typical, LIMIT);
    let mut unwell: Vec<bool> = typical.iter().map(|it| *it > limit).collect();
    let usual = blocks.iter().zip(&unwell).filter(|(_, unwell)| !**unwell);
    let usual: Vec<f32> = usual.flat_map(|(block, _)| &scores[block.clone()]).copied().collect();
    let (high, pair) = (quantile(&usual, 1.0 - HIGH.0), quantile(&usual, 1.0 - PAIR_SHARE));
    for (block, unwell) in blocks.iter().zip(&mut unwell) {
        let scores = &scores[block.clone()];
        let highs = scores.iter().filter(|it| **it > high).count();
        let pairs = scores.windows(2).any(|it| it[0] > pair && it[1] > pair);
        *unwell |= highs >= HIGH.1 || pairs;
    }
    let mut keep = singles(scores);
    for index in 0..blocks.len() {
        let same = |other: usize| devices[blocks[other].start] == devices[blocks[index].start];
        let before = index > 0 && unwell[index - 1] && same(index - 1);
        let after = index + 1 < blocks.len() && unwell[index + 1] && same(index + 1);
        if unwell[index] || before || after {
            keep[blocks[index].clone()].fill(false);
        }
    }
    keep
}

fn singles(scores: &[f32]) -> Vec<bool> {
    let logs: Vec<f64> = scores.iter().map(|it| log(*it)).collect();
    let limit = limit(&logs, SINGLE_LIMIT);
    logs.iter().map(|it| *it <= limit).collect()
}

/// Consecutive rows of one device, [`BLOCK`] at most.
fn blocks(devices: &[u64]) -> Vec<std::ops::Range<usize>> {
    let mut blocks = Vec::new();
    let mut start = 0;
    for device in devices.chunk_by(|one, other| one == other) {
        let count = device.len().div_ceil(BLOCK);
        for block in 0..count {
            blocks.push(start + device.len() * block / count..start + device.len() * (block + 1) / count);
        }
        start += device.len();
    }
    blocks
}

fn log_median(scores: &[f32]) -> f64 {
    log(quantile(scores, 0.5))
}

fn log(score: f32) -> f64 {
    f64::from(score).max(1e-12).ln()
}

/// What is `deviations` robust standard deviations above the median.
pub(crate) fn limit(values: &[f64], deviations: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(median) = sorted.get(sorted.len() / 2).copied() else { return f64::INFINITY };
    let mut away: Vec<f64> = sorted.iter().map(|it| (it - median).abs()).collect();
    away.sort_unstable_by(f64::total_cmp);
    median + deviations * away[away.len() / 2] / MAD_OF_NORMAL
}

/// The score below which a share of the scores lies; 0 of none.
fn quantile(scores: &[f32], share: f32) -> f32 {
    let mut sorted = scores.to_vec();
    let index = (sorted.len() as f64 * f64::from(share)) as usize;
    let index = index.min(sorted.len().saturating_sub(1));
    if sorted.is_empty() {
        return 0.0;
    }
    *sorted.select_nth_unstable_by(index, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn devices_that_score_high_again_and_again_are_left_out() {
        let mut random = Random::new(4);
        let (mut scores, mut devices) = (Vec::new(), Vec::new());
        for device in 0..200_u64 {
            for reading in 0..24 {
                let healthy = (0..18).map(|_| random.normal().powi(2)).sum::<f32>() / 18.0;
                let failing = device < 4 && reading >= 12;
                scores.push(if failing { healthy * 6.0 } else { healthy });
                devices.push(device);
            }
        }
        let keep = healthy(&scores, &devices);
        let left = |range: std::ops::Range<usize>| keep[range].iter().filter(|it| !**it).count();
        for device in 0..4 {
            assert_eq!(left(device * 24 + 12..device * 24 + 24), 12, "device {device}");
        }
        let healthy_left = left(4 * 24..200 * 24);
        assert!(healthy_left < 196 * 24 / 50, "{healthy_left} healthy readings left out");
    }

    #[test]
    fn blocks_are_of_one_device_and_cover_every_row() {
        let devices = [[1; 17].as_slice(), &[2; 3], &[3; 8]].concat();
        assert_eq!(blocks(&devices), [0..5, 5..11, 11..17, 17..20, 20..28]);
        assert!(healthy(&[], &[]).is_empty());
    }
}
