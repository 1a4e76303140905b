//! Which column of a file is which field of a reading.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::LoadError;
use super::time::TimeFormat;

/// The mapping where no file is given.
const CARS: &str = include_str!("cars.toml");

/// Which column is which field.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// Column with the device.
    #[serde(default = "car")]
    pub car: String,
    /// Column with the event time.
    #[serde(default = "time")]
    pub time: String,
    /// How event times are written.
    #[serde(default)]
    pub time_format: TimeFormat,
    /// What stands between two cells.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Column to field; an empty field leaves the column out. Other columns are fields of their own name.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// Field to value, for fields without a column.
    #[serde(default)]
    pub constants: BTreeMap<String, String>,
}

/// What flags say of the mapping; it goes before what the file says.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// `--car`
    pub car: Option<String>,
    /// `--time`
    pub time: Option<String>,
    /// `--time-format`
    pub time_format: Option<TimeFormat>,
    /// `--delimiter`
    pub delimiter: Option<char>,
    /// `--map`
    pub columns: Vec<Pair>,
    /// `--set`
    pub constants: Vec<Pair>,
}

/// Two names with `=` between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Before the first `=`.
    pub left: String,
    /// Behind it.
    pub right: String,
}

impl std::str::FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((left, right)) if !left.is_empty() => {
                Ok(Self { left: left.to_owned(), right: right.to_owned() })
            }
            _ => Err(format!("{text:?} has no = behind a name")),
        }
    }
}

impl Mapping {
    /// Reads `file`, or takes the cars' mapping, and applies `changes`.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the file.
    pub fn load(file: Option<&Path>, changes: Changes) -> Result<Self, LoadError> {
        let mut mapping = match file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| LoadError::File { path: path.to_owned(), source })?;
                Self::parse(&text)
                    .map_err(|problem| LoadError::Mapping { origin: path.display().to_string(), problem })?
            }
            None => Self::parse(CARS).expect("the mapping in this program is valid, a test reads it"),
        };
        // The time belongs to the column of the time, whatever its name is.
        if let Some(time) = changes.time.filter(|it| *it != mapping.time) {
            if let Some(field) = mapping.columns.remove(&mapping.time) {
                mapping.columns.entry(time.clone()).or_insert(field);
            }
            mapping.time = time;
        }
        mapping.car = changes.car.unwrap_or(mapping.car);
        mapping.time_format = changes.time_format.unwrap_or(mapping.time_format);
        mapping.delimiter = changes.delimiter.unwrap_or(mapping.delimiter);
        mapping.columns.extend(changes.columns.into_iter().map(|it| (it.left, it.right)));
        mapping.constants.extend(changes.constants.into_iter().map(|it| (it.left, it.right)));
        if !mapping.delimiter.is_ascii() || matches!(mapping.delimiter, '"' | '\n' | '\r') {
            let problem =
                format!("{:?} cannot stand between cells: one ASCII character can", mapping.delimiter);
            return Err(LoadError::Mapping { origin: "delimiter".to_owned(), problem });
        }
        Ok(mapping)
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// The field of `column`, `None` if it is left out.
    #[must_use]
    pub fn field<'a>(&'a self, column: &'a str) -> Option<&'a str> {
        Some(self.columns.get(column).map_or(column, String::as_str)).filter(|it| !it.is_empty())
    }
}

fn car() -> String {
    "car".to_owned()
}

fn time() -> String {
    "time".to_owned()
}

fn comma() -> char {
    ','
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_before_the_file() {
        let changes = Changes {
            time: Some("when".to_owned()),
            columns: vec!["speed_kmh=speed".parse().unwrap(), "note=".parse().unwrap()],
            constants: vec!["failure_occurred=a=b".parse().unwrap()],
            ..Changes::default()
        };
        let mapping = Mapping::load(None, changes).unwrap();
        assert_eq!(mapping.field("when"), Some("event_time"));
        assert_eq!(mapping.field("time"), Some("time"));
        assert_eq!(mapping.field("speed_kmh"), Some("speed"));
        assert_eq!(mapping.field("tire_pressure_1_1"), Some("tire_pressure11"));
        assert_eq!(mapping.field("note"), None);
        assert_eq!(mapping.constants["failure_occurred"], "a=b");
        assert!("speed".parse::<Pair>().unwrap_err().contains("no ="));
        assert!("=speed".parse::<Pair>().is_err());
    }

    #[test]
    fn a_file_is_read_or_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "delimiter = \";\"\n[columns]\nv = \"speed\"\n").unwrap();
        let mapping = Mapping::load(Some(file.path()), Changes::default()).unwrap();
        assert_eq!((mapping.delimiter, mapping.field("v")), (';', Some("speed")));
        assert!(mapping.constants.is_empty(), "the cars' mapping is not mixed in");
        std::fs::write(file.path(), "colums = 3").unwrap();
        let error = Mapping::load(Some(file.path()), Changes::default()).unwrap_err().to_string();
        assert!(error.contains("colums") && error.contains(file.path().to_str().unwrap()), "{error}");
        let changes = Changes { delimiter: Some('ü'), ..Changes::default() };
        assert!(Mapping::load(None, changes).unwrap_err().to_string().contains("one ASCII character"));
    }
}
