//! Fits a [`Normaliser`] to training rows as they stream by, in bounded memory.

use crate::normaliser::{Normaliser, transformed};
use crate::specification::{Scale, Specification};

/// Most values kept for a feature whose scale is robust.
const SAMPLE_LIMIT: usize = 8192;

/// Below this share of the mean's size a standard deviation is rounding, not variation: `f32` has 24 bits.
const CONSTANT_BELOW: f64 = 1e-6;

/// Half the interquartile range of a normal distribution, in standard deviations.
const QUARTILE_OF_NORMAL: f64 = 0.674_489_75;

/// What is known of the training rows so far. The result depends on the rows and their order alone.
#[derive(Debug, Clone)]
pub struct Fitting {
    specification: Specification,
    columns: Vec<Column>,
}

#[derive(Debug, Clone, Default)]
struct Column {
    count: u64,
    mean: f64,
    /// Sum of squared differences from the mean (Welford 1962).
    squares: f64,
    sample: Sample,
}

/// Every `stride`-th value; the stride doubles whenever the sample is full.
#[derive(Debug, Clone, Default)]
struct Sample {
    seen: u64,
    stride_log2: u32,
    values: Vec<f32>,
}

impl Fitting {
    /// Starts without rows.
    #[must_use]
    pub fn new(specification: Specification) -> Self {
        let columns = vec![Column::default(); specification.features.len()];
        Self { specification, columns }
    }

    /// Takes one row in; it starts with the features' columns and may have more. Missing values do not count.
    pub fn add(&mut self, row: &[f32]) {
        for ((column, feature), &raw) in self.columns.iter_mut().zip(&self.specification.features).zip(row) {
            let value = transformed(raw, feature.transform);
            if !value.is_finite() {
                continue;
            }
            match feature.scale {
                Scale::ZScore => column.add(f64::from(value)),
                Scale::Robust => column.sample.add(value),
                Scale::Range { .. } => {}
            }
        }
    }

    /// The normaliser of the rows so far.
    #[must_use]
    pub fn finish(self) -> Normaliser {
        let (centres, scales) = self
            .columns
            .into_iter()
            .zip(&self.specification.features)
            .map(|(column, feature)| match feature.scale {
                Scale::ZScore => column.finish(),
                Scale::Robust => column.sample.finish(),
                Scale::Range { from, to } => {
                    let (from, to) =
                        (transformed(from, feature.transform), transformed(to, feature.transform));
                    (from.midpoint(to), (to - from) / 2.0)
                }
            })
            .unzip();
        Normaliser::from_parts(self.specification, centres, scales)
            .expect("a fit has one finite centre and scale per feature")
    }
}

impl Column {
    fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
    }

    fn finish(self) -> (f32, f32) {
        if self.count < 2 {
            return (self.mean as f32, 0.0);
        }
        let deviation = (self.squares / (self.count - 1) as f64).sqrt();
        scaled(self.mean, deviation)
    }
}

impl Sample {
    fn add(&mut self, value: f32) {
        if self.seen.trailing_zeros() >= self.stride_log2 {
            if self.values.len() == SAMPLE_LIMIT {
                self.stride_log2 += 1;
                let mut index = 0;
                self.values.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
            }
            if self.seen.trailing_zeros() >= self.stride_log2 {
                self.values.push(value);
            }
        }
        self.seen += 1;
    }

    fn finish(mut self) -> (f32, f32) {
        if self.values.is_empty() {
            return (0.0, 0.0);
        }
        self.values.sort_unstable_by(f32::total_cmp);
        let at =
            |share: f64| f64::from(self.values[((self.values.len() - 1) as f64 * share).round() as usize]);
        scaled(at(0.5), (at(0.75) - at(0.25)) / (2.0 * QUARTILE_OF_NORMAL))
    }
}

/// Centre and scale; a scale of 0 marks a column that does not vary and so carries nothing.
fn scaled(centre: f64, scale: f64) -> (f32, f32) {
    let constant = scale <= centre.abs() * CONSTANT_BELOW || (scale as f32) < f32::MIN_POSITIVE;
    let usable = !constant && (scale as f32).is_finite();
    (centre as f32, if usable { scale as f32 } else { 0.0 })
}
