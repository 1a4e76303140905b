//! `features.toml`: which columns a model sees, how they are scaled, and what it may learn from.
//!
//! Parsed once and checked completely: a [`Specification`] that exists is valid.

use std::path::Path;

use serde::{Deserialize, Serialize};

use self::reader::{RawFile, Reader};

mod reader;

/// The car default, as shipped.
pub const CAR_DEFAULT: &str = include_str!("../features.toml");

/// Most features a specification may have; bounds what a hostile model can make a scorer compute.
pub const FEATURE_LIMIT: usize = 512;

const CLIP_DEFAULT: f32 = 30.0;
const CLIP_LIMIT: f32 = 1e6;
const COLUMN_NAME_LIMIT: usize = 256;

/// Which columns a model sees and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Specification {
    /// The model's inputs, in order.
    pub features: Vec<Feature>,
    /// Largest share of features a reading may lack and still be learned from and scored.
    pub max_missing: f32,
    /// The column that says whether the device was failing.
    pub label: Option<Label>,
    /// Whether readings labelled as failing are left out of training.
    pub exclude_failing: bool,
    /// What a reading must meet to be learned from.
    pub filter: Vec<Condition>,
}

/// One input of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// Name of the column in the reading's schema.
    pub column: String,
    /// What is done to the value before scaling.
    pub transform: Transform,
    /// How the value is brought to about -1 to 1.
    pub scale: Scale,
    /// Largest size of the scaled value.
    pub clip: f32,
}

/// What is done to a value before scaling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transform {
    /// The value itself.
    None,
    /// `sign(x) ln(1 + |x|)`.
    Log1p,
    /// `sign(x) sqrt(|x|)`.
    Sqrt,
}

/// How a value is brought to about -1 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// By mean and standard deviation of the training rows.
    ZScore,
    /// By median and interquartile range of the training rows.
    Robust,
    /// `from` becomes -1 and `to` becomes 1.
    Range {
        /// Value that becomes -1.
        from: f32,
        /// Value that becomes 1.
        to: f32,
    },
}

/// The column that says whether the device was failing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Name of the column.
    pub column: String,
    /// Its text while the device fails.
    pub failing: String,
}

/// A range that a numeric column must lie in for a reading to be learned from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Name of the column.
    pub column: String,
    /// Least value, inclusive.
    pub at_least: Option<f32>,
    /// Largest value, inclusive.
    pub at_most: Option<f32>,
}

/// Why a specification was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecificationError {
    /// The file could not be read.
    #[error("reading feature specification {file}")]
    Read {
        /// The file.
        file: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The text is not TOML, or a value is missing, unknown, of the wrong type or out of range.
    #[error("{file}, line {line}, key {key:?}: {problem}")]
    Invalid {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Key, such as `feature[3].scale`.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl Specification {
    /// The specification of the car fleet.
    #[must_use]
    pub fn cars() -> Self {
        Self::parse("features.toml", CAR_DEFAULT)
            .expect("the shipped specification is valid: a test parses it")
    }

    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    ///
    /// Says file, line and key of the first thing that is wrong.
    pub fn read(path: &Path) -> Result<Self, SpecificationError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| SpecificationError::Read { file: file.clone(), source })?;
        Self::parse(&file, &text)
    }

    /// Checks `text`, which came from `file`.
    ///
    /// # Errors
    ///
    /// Says file, line and key of the first thing that is wrong.
    pub fn parse(file: &str, text: &str) -> Result<Self, SpecificationError> {
        let reader = Reader { file, text };
        let raw: RawFile = toml::from_str(text).map_err(|error| {
            reader.error(error.span().map_or(0, |it| it.start), error.message().trim().to_owned())
        })?;
        reader.specification(raw)
    }

    /// Checks a specification that did not come from a file, such as a model's.
    ///
    /// # Errors
    ///
    /// Says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let count = self.features.len();
        if !(2..=FEATURE_LIMIT).contains(&count) {
            return Err(format!("{count} features; 2 to {FEATURE_LIMIT} are possible"));
        }
        if !(0.0..=1.0).contains(&self.max_missing) {
            return Err(format!("max_missing is {}, not 0 to 1", self.max_missing));
        }
        for feature in &self.features {
            let Feature { column, clip, scale, .. } = feature;
            check_name(column)?;
            check_clip(f64::from(*clip)).map_err(|it| format!("feature {column}: {it}"))?;
            if let Scale::Range { from, to } = scale {
                check_range(f64::from(*from), f64::from(*to))
                    .map_err(|it| format!("feature {column}: {it}"))?;
            }
        }
        let mut names: Vec<_> = self.features.iter().map(|it| &it.column).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|it| it[0] == it[1]) {
            return Err(format!("column {} is a feature twice", pair[0]));
        }
        Ok(())
    }

    /// Columns of a row to be scored, in order.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        self.features.iter().map(|it| it.column.as_str()).collect()
    }

    /// Columns of a row to be learned from, in order: the features', then what only the filter needs.
    #[must_use]
    pub fn training_columns(&self) -> Vec<&str> {
        let mut columns = self.columns();
        for condition in &self.filter {
            if !columns.contains(&condition.column.as_str()) {
                columns.push(&condition.column);
            }
        }
        columns
    }

    /// Whether a row of [`Specification::training_columns`] may be learned from: the filter holds, not too much
    /// is missing, and it is not labelled as failing where such are excluded.
    #[must_use]
    pub fn learns_from(&self, row: &[f32], failing: bool) -> bool {
        if failing && self.exclude_failing {
            return false;
        }
        let columns = self.features.len();
        if self.lacks_too_much(missing(&row[..columns])) {
            return false;
        }
        // The names are few and compared only where there is a filter.
        let training_columns = if self.filter.is_empty() { Vec::new() } else { self.training_columns() };
        self.filter.iter().all(|condition| {
            let index = training_columns.iter().position(|it| *it == condition.column);
            let value = index.map_or(f32::NAN, |it| row[it]);
            value.is_finite()
                && condition.at_least.is_none_or(|it| value >= it)
                && condition.at_most.is_none_or(|it| value <= it)
        })
    }

    /// Whether a row that lacks `missing` features can neither be learned from nor scored.
    #[must_use]
    pub fn lacks_too_much(&self, missing: usize) -> bool {
        missing as f32 > self.max_missing * self.features.len() as f32
    }
}

/// Number of values of `row` that are missing: NaN or infinite.
#[must_use]
pub fn missing(row: &[f32]) -> usize {
    row.iter().filter(|it| !it.is_finite()).count()
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > COLUMN_NAME_LIMIT || name.chars().any(char::is_control) {
        return Err(format!("a column name has 1 to {COLUMN_NAME_LIMIT} bytes and no control characters"));
    }
    Ok(())
}

fn check_clip(clip: f64) -> Result<(), String> {
    if (1.0..=f64::from(CLIP_LIMIT)).contains(&clip) {
        return Ok(());
    }
    Err(format!("clip {clip} is not 1 to {CLIP_LIMIT}"))
}

fn check_range(from: f64, to: f64) -> Result<(), String> {
    let span = f64::from(to as f32 - from as f32);
    if from.is_finite() && to.is_finite() && span.is_finite() && span.abs() > 0.0 {
        return Ok(());
    }
    Err(format!("from {from} and to {to} must be two different finite numbers"))
}
