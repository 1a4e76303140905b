//! From the text of `features.toml` to a specification, with the line and key of what is wrong.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::{
    CLIP_DEFAULT, Condition, FEATURE_LIMIT, Feature, Label, Scale, Specification, SpecificationError,
    Transform, check_clip, check_name, check_range,
};
use crate::location::locate;

/// A file as TOML has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    #[serde(default)]
    max_missing: Option<Spanned<f64>>,
    label: Option<RawLabel>,
    #[serde(default)]
    training: RawTraining,
    #[serde(default)]
    feature: Vec<Spanned<RawFeature>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLabel {
    column: Spanned<String>,
    failing: Spanned<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawTraining {
    label: Option<Spanned<String>>,
    #[serde(default)]
    filter: Vec<Spanned<RawCondition>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCondition {
    column: Spanned<String>,
    at_least: Option<f64>,
    at_most: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFeature {
    column: Spanned<String>,
    transform: Option<Spanned<String>>,
    scale: Option<Spanned<RawScale>>,
    clip: Option<Spanned<f64>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawScale {
    Word(String),
    Range(RawRange),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRange {
    from: f64,
    to: f64,
}

/// What is known while a file is checked.
pub(super) struct Reader<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Reader<'_> {
    /// What is wrong at the byte `offset` of the text.
    pub(super) fn error(&self, offset: usize, problem: impl Into<String>) -> SpecificationError {
        let (line, key) = locate(self.text, offset);
        SpecificationError::Invalid { file: self.file.to_owned(), line, key, problem: problem.into() }
    }

    /// Checks all of the file.
    pub(super) fn specification(&self, raw: RawFile) -> Result<Specification, SpecificationError> {
        let max_missing = match raw.max_missing {
            None => 0.25,
            Some(share) if (0.0..=1.0).contains(share.get_ref()) => *share.get_ref() as f32,
            Some(share) => {
                return Err(self.error(share.span().start, format!("{} is not 0 to 1", share.get_ref())));
            }
        };
        let label = match raw.label {
            None => None,
            Some(RawLabel { column, failing }) => {
                Some(Label { column: self.name(&column)?, failing: failing.into_inner() })
            }
        };
        let exclude_failing = self.exclude_failing(raw.training.label.as_ref(), label.as_ref())?;
        let filter =
            raw.training.filter.iter().map(|it| self.condition(it)).collect::<Result<Vec<_>, _>>()?;
        let features = raw.feature.iter().map(|it| self.feature(it)).collect::<Result<Vec<_>, _>>()?;
        self.check_columns(&raw.feature, label.as_ref())?;
        if !(2..=FEATURE_LIMIT).contains(&features.len()) {
            let problem =
                format!("{} [[feature]] tables; a model needs 2 to {FEATURE_LIMIT}", features.len());
            return Err(self.error(self.text.len(), problem));
        }
        Ok(Specification { features, max_missing, label, exclude_failing, filter })
    }

    fn exclude_failing(
        &self,
        word: Option<&Spanned<String>>,
        label: Option<&Label>,
    ) -> Result<bool, SpecificationError> {
        let Some(word) = word else { return Ok(false) };
        match word.get_ref().as_str() {
            "ignore" => Ok(false),
            "exclude" if label.is_some() => Ok(true),
            "exclude" => {
                Err(self.error(word.span().start, "\"exclude\" needs a [label] table that names the column"))
            }
            other => {
                Err(self.error(word.span().start, format!("{other:?} is neither \"ignore\" nor \"exclude\"")))
            }
        }
    }

    fn condition(&self, raw: &Spanned<RawCondition>) -> Result<Condition, SpecificationError> {
        let at = raw.span().start;
        let RawCondition { column, at_least, at_most } = raw.get_ref();
        let finite = [at_least, at_most].into_iter().flatten().all(|it| it.is_finite());
        if !finite {
            return Err(self.error(at, "at_least and at_most must be finite numbers"));
        }
        if at_least.is_none() && at_most.is_none() {
            return Err(self.error(at, "a condition needs at_least, at_most or both"));
        }
        if let (Some(least), Some(most)) = (at_least, at_most)
            && least > most
        {
            return Err(
                self.error(at, format!("at_least {least} is above at_most {most}: no reading could meet it"))
            );
        }
        let single = |it: &Option<f64>| it.map(|it| it as f32);
        Ok(Condition { column: self.name(column)?, at_least: single(at_least), at_most: single(at_most) })
    }

    fn feature(&self, raw: &Spanned<RawFeature>) -> Result<Feature, SpecificationError> {
        let raw = raw.get_ref();
        let column = self.name(&raw.column)?;
        let transform = match &raw.transform {
            None => Transform::None,
            Some(word) => match word.get_ref().as_str() {
                "none" => Transform::None,
                "log1p" => Transform::Log1p,
                "sqrt" => Transform::Sqrt,
                other => {
                    let problem = format!("{other:?} is none of \"none\", \"log1p\", \"sqrt\"");
                    return Err(self.error(word.span().start, problem));
                }
            },
        };
        let scale = match &raw.scale {
            None => Scale::ZScore,
            Some(scale) => self.scale(scale)?,
        };
        let clip = match &raw.clip {
            None => CLIP_DEFAULT,
            Some(clip) => {
                check_clip(*clip.get_ref()).map_err(|it| self.error(clip.span().start, it))?;
                *clip.get_ref() as f32
            }
        };
        Ok(Feature { column, transform, scale, clip })
    }

    fn scale(&self, raw: &Spanned<RawScale>) -> Result<Scale, SpecificationError> {
        let at = raw.span().start;
        match raw.get_ref() {
            RawScale::Word(word) if word == "z-score" => Ok(Scale::ZScore),
            RawScale::Word(word) if word == "robust" => Ok(Scale::Robust),
            RawScale::Word(word) => Err(self
                .error(at, format!("{word:?} is none of \"z-score\", \"robust\", {{ from = A, to = B }}"))),
            RawScale::Range(RawRange { from, to }) => {
                check_range(*from, *to).map_err(|it| self.error(at, it))?;
                Ok(Scale::Range { from: *from as f32, to: *to as f32 })
            }
        }
    }

    fn name(&self, name: &Spanned<String>) -> Result<String, SpecificationError> {
        check_name(name.get_ref()).map_err(|it| self.error(name.span().start, it))?;
        Ok(name.get_ref().clone())
    }

    fn check_columns(
        &self,
        raw: &[Spanned<RawFeature>],
        label: Option<&Label>,
    ) -> Result<(), SpecificationError> {
        let mut seen = BTreeMap::new();
        for (index, feature) in raw.iter().enumerate() {
            let column = &feature.get_ref().column;
            if let Some(first) = seen.insert(column.get_ref().as_str(), index) {
                let problem = format!("column {:?} is feature[{first}] already", column.get_ref());
                return Err(self.error(column.span().start, problem));
            }
            if label.is_some_and(|it| it.column == *column.get_ref()) {
                return Err(self
                    .error(column.span().start, "the label must not be a feature: the model would see it"));
            }
        }
        Ok(())
    }
}
