//! Whether a new schema may follow the ones before it.

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use serde::{Deserialize, Serialize};

/// What a new schema must be able to do, in Confluent's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Level {
    None,
    Backward,
    BackwardTransitive,
    Forward,
    ForwardTransitive,
    Full,
    FullTransitive,
}

impl Level {
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_value(text.to_ascii_uppercase().into()).ok()
    }

    /// Whether all earlier versions count, not only the last.
    pub(super) fn is_transitive(self) -> bool {
        matches!(self, Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive)
    }

    fn new_reads_old(self) -> bool {
        use Level::{Backward, BackwardTransitive, Full, FullTransitive};
        matches!(self, Backward | BackwardTransitive | Full | FullTransitive)
    }

    fn old_reads_new(self) -> bool {
        use Level::{Forward, ForwardTransitive, Full, FullTransitive};
        matches!(self, Forward | ForwardTransitive | Full | FullTransitive)
    }
}

/// Lists why `new` may not follow `earlier` (number and text of versions, oldest first); empty if it may.
pub(super) fn conflicts(level: Level, new: &Schema, earlier: &[(u32, &str)]) -> Vec<String> {
    let compared = if level.is_transitive() { earlier } else { &earlier[earlier.len().saturating_sub(1)..] };
    let mut conflicts = Vec::new();
    for (version, text) in compared {
        let old = match Schema::parse_str(text) {
            Ok(it) => it,
            Err(error) => {
                conflicts.push(format!("version {version} cannot be read: {error}"));
                continue;
            }
        };
        if level.new_reads_old()
            && let Err(error) = SchemaCompatibility::can_read(&old, new)
        {
            conflicts.push(format!("the new schema cannot read data of version {version}: {error}"));
        }
        if level.old_reads_new()
            && let Err(error) = SchemaCompatibility::can_read(new, &old)
        {
            conflicts.push(format!("version {version} cannot read data of the new schema: {error}"));
        }
    }
    conflicts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_allows_what_its_name_says() {
        use Level::{Backward, BackwardTransitive, Forward, ForwardTransitive, Full, FullTransitive, None};
        let one = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
        let with_default = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},
            {"name":"b","type":"int","default":0}]}"#;
        let without_default = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},
            {"name":"b","type":"int"}]}"#;
        let text = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string"}]}"#;
        let all = [Backward, BackwardTransitive, Forward, ForwardTransitive, Full, FullTransitive];
        type Case<'a> = (&'a str, &'a [(u32, &'a str)], &'a str, &'a [Level]);
        let cases: [Case<'_>; 6] = [
            ("nothing before", &[], one, &[]),
            ("a field with a default", &[(1, one)], with_default, &[]),
            (
                "a field without a default",
                &[(1, one)],
                without_default,
                &[Backward, BackwardTransitive, Full, FullTransitive],
            ),
            (
                "a field goes",
                &[(1, without_default)],
                one,
                &[Forward, ForwardTransitive, Full, FullTransitive],
            ),
            ("another type", &[(1, one)], text, &all),
            (
                "only the last counts unless transitive",
                &[(1, one), (2, without_default)],
                without_default,
                &[BackwardTransitive, FullTransitive],
            ),
        ];
        for (name, earlier, new, refused_by) in cases {
            let new = Schema::parse_str(new).unwrap();
            for level in [None].into_iter().chain(all) {
                let found = conflicts(level, &new, earlier);
                assert_eq!(!found.is_empty(), refused_by.contains(&level), "{name}, {level:?}: {found:?}");
            }
        }
    }

    #[test]
    fn levels_have_confluents_names() {
        assert_eq!(Level::parse("FORWARD_TRANSITIVE"), Some(Level::ForwardTransitive));
        assert_eq!(Level::parse("none"), Some(Level::None));
        assert_eq!(Level::parse("SIDEWAYS"), None);
    }
}
