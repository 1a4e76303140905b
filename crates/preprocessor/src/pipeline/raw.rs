//! The file as it is written, each value with its place.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::{Format, WindowColumns};

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default, rename = "stream")]
    pub(super) streams: Vec<Spanned<Stream>>,
}

/// `[[stream]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stream {
    pub(super) source: Spanned<String>,
    #[serde(default = "auto")]
    pub(super) format: Format,
    pub(super) schema: Spanned<String>,
    pub(super) subjects: Option<Vec<String>>,
    /// A writer's column, and the column of `input` that it is.
    #[serde(default)]
    pub(super) alias: BTreeMap<Spanned<String>, Spanned<String>>,
    pub(super) sql: Spanned<String>,
    pub(super) key: Option<Spanned<String>>,
    pub(super) event_time: Option<Spanned<String>>,
    pub(super) max_ahead: Option<Spanned<String>>,
    pub(super) max_behind: Option<Spanned<String>>,
    pub(super) target: Spanned<String>,
    pub(super) target_schema: Spanned<String>,
    #[serde(default, rename = "check")]
    pub(super) checks: Vec<Check>,
    #[serde(default, rename = "window")]
    pub(super) windows: Vec<Window>,
}

/// `[[stream.check]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    pub(super) name: Spanned<String>,
    pub(super) sql: Spanned<String>,
    pub(super) reason: Option<Spanned<String>>,
}

/// `[[stream.window]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Window {
    pub(super) target: Spanned<String>,
    pub(super) schema: Spanned<String>,
    pub(super) columns: Spanned<WindowColumns>,
    pub(super) size: Spanned<String>,
    pub(super) grace: Spanned<String>,
}

fn auto() -> Format {
    Format::Auto
}
