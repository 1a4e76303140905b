//! What is kept of earlier counts, and how far from it is too far.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// How far a count may be from what is kept, either way: what has become cheaper is to be kept as well, or the next one may
/// undo it unseen.
const TOLERANCE: f64 = 0.05;

/// Instructions a record of each loop.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Counts(BTreeMap<String, f64>);

/// A loop that is not as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Difference {
    /// It costs more or less.
    Moved { name: String, kept: f64, found: f64 },
    /// It is not kept.
    New { name: String },
    /// It is kept and not there.
    Gone { name: String },
}

impl Counts {
    /// Reads `file`; nothing is kept where there is none.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        if !file.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))
    }

    /// Writes `file`.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }

    /// Adds a loop. A tenth of an instruction is exact enough, and a file of round figures is easier to compare.
    pub(crate) fn insert(&mut self, name: &str, instructions: f64) {
        self.0.insert(name.to_owned(), (instructions * 10.0).round() / 10.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names of the loops, in order.
    #[cfg(test)]
    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// A line of the table.
    pub(crate) fn row(&self, name: &str, found: f64) -> String {
        let Some(&kept) = self.0.get(name) else {
            return format!("{name:<24} {found:>9.1} {:>9} {:>8}", "–", "");
        };
        let mark = if is_near(kept, found) { ' ' } else { '!' };
        format!("{name:<24} {found:>9.1} {kept:>9.1} {:>+6.1} %{mark}", percent(kept, found))
    }

    /// What is to be kept after `found` was accepted; `of_all`: these are all that there are.
    pub(crate) fn accept(&self, found: &Self, of_all: bool) -> Self {
        let mut accepted = if of_all { Self::default() } else { self.clone() };
        accepted.0.extend(found.0.clone());
        accepted
    }

    /// The loops of `found` that are not as they are kept; `of_all`: these are all that there are.
    pub(crate) fn differences(&self, found: &Self, of_all: bool) -> Vec<Difference> {
        let of = |(name, &found): (&String, &f64)| match self.0.get(name) {
            None => Some(Difference::New { name: name.clone() }),
            Some(&kept) if is_near(kept, found) => None,
            Some(&kept) => Some(Difference::Moved { name: name.clone(), kept, found }),
        };
        let gone = self.0.keys().filter(|it| of_all && !found.0.contains_key(*it));
        let gone = gone.map(|it| Difference::Gone { name: it.clone() });
        found.0.iter().filter_map(of).chain(gone).collect()
    }
}

fn is_near(kept: f64, found: f64) -> bool {
    (found - kept).abs() <= TOLERANCE * kept
}

fn percent(kept: f64, found: f64) -> f64 {
    (found / kept - 1.0) * 100.0
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Moved { name, kept, found } => {
                let (percent, word) =
                    (percent(*kept, *found).abs(), if found > kept { "more" } else { "fewer" });
                write!(
                    f,
                    "{name} takes {percent:.1} % {word} instructions a record: {found:.1}, and not {kept:.1}"
                )
            }
            Self::New { name } => write!(f, "{name} is not kept"),
            Self::Gone { name } => write!(f, "{name} is kept, but there is no such loop"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, f64)]) -> Counts {
        Counts(of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect())
    }

    #[test]
    fn five_percent_either_way_is_let_pass() {
        let kept = counts(&[("json", 1000.0)]);
        let cases = [(1050.0, 0), (950.0, 0), (1050.1, 1), (949.9, 1), (1100.0, 1)];
        for (found, differences) in cases {
            assert_eq!(kept.differences(&counts(&[("json", found)]), true).len(), differences, "{found}");
        }
        let found = counts(&[("json", 1100.0)]);
        let said = kept.differences(&found, true)[0].to_string();
        assert_eq!(said, "json takes 10.0 % more instructions a record: 1100.0, and not 1000.0");
        assert_eq!(kept.row("json", 900.0), "json                         900.0    1000.0  -10.0 %!");
    }

    #[test]
    fn a_loop_that_is_new_or_gone_is_a_difference() {
        let (kept, found) = (counts(&[("old", 1.0)]), counts(&[("new", 1.0)]));
        let said: Vec<_> = kept.differences(&found, true).iter().map(Difference::to_string).collect();
        assert_eq!(said, ["new is not kept", "old is kept, but there is no such loop"]);
        assert_eq!(kept.differences(&found, false).len(), 1, "of a part nothing is said about the rest");
    }

    #[test]
    fn accepting_a_part_keeps_the_rest() {
        let (kept, found) = (counts(&[("a", 1.0), ("b", 2.0)]), counts(&[("b", 3.0)]));
        assert_eq!(kept.accept(&found, false), counts(&[("a", 1.0), ("b", 3.0)]));
        assert_eq!(kept.accept(&found, true), found);
    }

    #[test]
    fn a_file_reads_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("counts.json");
        assert_eq!(Counts::read(&file).unwrap(), Counts::default());
        let mut kept = Counts::default();
        kept.insert("json", 123.456);
        kept.write(&file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\n  \"json\": 123.5\n}\n");
        assert_eq!(Counts::read(&file).unwrap(), kept);
    }
}
