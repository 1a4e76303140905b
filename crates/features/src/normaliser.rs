//! The fitted way from raw columns to a model's inputs.

use serde::Serialize;

use crate::specification::{Specification, Transform};

/// Brings rows to about -1 to 1, by what was fitted on the training rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Normaliser {
    specification: Specification,
    centres: Vec<f32>,
    /// 0 marks a column that did not vary in training.
    scales: Vec<f32>,
    /// What `apply` needs of each feature, side by side.
    steps: Vec<Step>,
    /// Whether no feature has a transformation, as is usual: then rows are scaled without branches.
    plain: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Step {
    /// The centre, or 0 where the factor is.
    centre: f32,
    /// 1 / scale, or 0 for a column that did not vary.
    factor: f32,
    clip: f32,
}

/// Why centres and scales do not make a normaliser.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NormaliserError {
    /// The specification itself is not valid.
    #[error("feature specification: {problem}")]
    Specification {
        /// What is wrong.
        problem: String,
    },
    /// There must be one centre and one scale per feature.
    #[error("{features} features have {centres} centres and {scales} scales")]
    Count {
        /// Features of the specification.
        features: usize,
        /// Centres given.
        centres: usize,
        /// Scales given.
        scales: usize,
    },
    /// A centre or scale is not finite.
    #[error("feature {column} has centre {centre} and scale {scale}; both must be finite")]
    NotFinite {
        /// The feature's column.
        column: String,
        /// Its centre.
        centre: f32,
        /// Its scale.
        scale: f32,
    },
}

impl Normaliser {
    /// Puts a normaliser together again from what it was saved as.
    ///
    /// # Errors
    ///
    /// Says which part does not fit.
    pub fn from_parts(
        specification: Specification,
        centres: Vec<f32>,
        scales: Vec<f32>,
    ) -> Result<Self, NormaliserError> {
        specification.check().map_err(|problem| NormaliserError::Specification { problem })?;
        let features = specification.features.len();
        if centres.len() != features || scales.len() != features {
            return Err(NormaliserError::Count { features, centres: centres.len(), scales: scales.len() });
        }
        let columns = specification.features.iter().zip(centres.iter().zip(&scales));
        let steps = columns.map(|(feature, (&centre, &scale))| {
            let factor = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            if centre.is_finite() && scale.is_finite() && factor.is_finite() {
                let centre = if factor == 0.0 { 0.0 } else { centre };
                return Ok(Step { centre, factor, clip: feature.clip });
            }
            Err(NormaliserError::NotFinite { column: feature.column.clone(), centre, scale })
        });
        let steps = steps.collect::<Result<Vec<_>, _>>()?;
        let plain = specification.features.iter().all(|it| it.transform == Transform::None);
        Ok(Self { specification, centres, scales, steps, plain })
    }

    /// What the normaliser was fitted for.
    #[must_use]
    pub fn specification(&self) -> &Specification {
        &self.specification
    }

    /// What becomes 0, per feature, after the feature's transformation.
    #[must_use]
    pub fn centres(&self) -> &[f32] {
        &self.centres
    }

    /// What becomes 1 above the centre, per feature; 0 for a column that did not vary in training.
    #[must_use]
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Columns that did not vary in training. They are inputs of 0 for ever, and so are no evidence.
    #[must_use]
    pub fn constant_columns(&self) -> Vec<&str> {
        let features = self.specification.features.iter().zip(&self.scales);
        features.filter(|(_, scale)| **scale == 0.0).map(|(feature, _)| feature.column.as_str()).collect()
    }

    /// Appends the inputs of `rows` to `inputs`; a value that is missing or not finite is NaN there.
    ///
    /// Each row by itself, so a batch becomes what its rows would become one by one.
    ///
    /// # Shapes
    ///
    /// `rows` is `(n, width)`, row-major, the features' columns first. `inputs` grows by `(n, features)`.
    ///
    /// # Panics
    ///
    /// Panics when `width` is below the number of features or does not divide the length of `rows`.
    pub fn apply(&self, rows: &[f32], width: usize, inputs: &mut Vec<f32>) {
        let features = self.specification.features.len();
        assert!(width >= features, "{width} columns for {features} features");
        assert!(rows.len().is_multiple_of(width), "{} values are no rows of {width}", rows.len());
        inputs.reserve(rows.len() / width * features);
        for row in rows.chunks_exact(width) {
            let steps = row.iter().zip(&self.steps);
            if self.plain {
                inputs.extend(steps.map(|(value, step)| step.scaled(*value)));
            } else {
                let features = steps.zip(&self.specification.features);
                let values =
                    features.map(|((value, step), it)| step.scaled(transformed(*value, it.transform)));
                inputs.extend(values);
            }
        }
    }
}

impl Step {
    #[inline]
    fn scaled(self, value: f32) -> f32 {
        let scaled = ((value - self.centre) * self.factor).clamp(-self.clip, self.clip);
        if value.is_finite() { scaled } else { f32::NAN }
    }
}

#[inline]
pub(crate) fn transformed(value: f32, transform: Transform) -> f32 {
    match transform {
        Transform::None => value,
        Transform::Log1p => value.abs().ln_1p().copysign(value),
        Transform::Sqrt => value.abs().sqrt().copysign(value),
    }
}
