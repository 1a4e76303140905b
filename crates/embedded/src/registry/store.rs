//! Subjects, their versions, and the ids of schemas.

use std::collections::{BTreeMap, HashMap};
use std::panic::catch_unwind;
use std::path::Path;

use apache_avro::Schema;
use serde_json::Value;

use super::Error;
use super::compatibility::{Level, conflicts};
use super::journal::{Change, Journal, Mode};
use super::request::Refusal;

/// Everything the registry knows.
#[derive(Debug)]
pub(super) struct Store {
    subjects: BTreeMap<String, Subject>,
    /// Text as it was registered first.
    schemas: BTreeMap<u32, String>,
    /// Id by what makes two texts the same schema.
    ids: HashMap<String, u32>,
    level: Level,
    levels: HashMap<String, Level>,
    mode: Mode,
    modes: HashMap<String, Mode>,
    journal: Option<Journal>,
}

#[derive(Debug, Default)]
struct Subject {
    versions: BTreeMap<u32, Version>,
    /// Highest number ever given, so that none is given twice.
    last: u32,
}

#[derive(Debug)]
struct Version {
    id: u32,
    deleted: bool,
}

/// A version as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) subject: &'a str,
    pub(super) version: u32,
    pub(super) id: u32,
    pub(super) schema: &'a str,
}

/// Which version is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Latest,
    Number(u32),
}

impl Which {
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        match text {
            "latest" | "-1" => Ok(Self::Latest),
            _ => match text.parse() {
                Ok(number) if number > 0 && number <= i32::MAX as u32 => Ok(Self::Number(number)),
                _ => Err(Refusal::InvalidVersion(text.to_owned())),
            },
        }
    }
}

/// What makes two texts the same schema: the same JSON, whatever its white space and order of keys.
fn identity(text: &str) -> Result<(Schema, String), Refusal> {
    let invalid = |error: &dyn std::fmt::Display| Refusal::InvalidSchema(error.to_string());
    // The library panics where it writes about a default that does not fit a type with an odd `precision`.
    let parsed =
        catch_unwind(|| Schema::parse_str(text)).map_err(|_| invalid(&"no schema that can be read"))?;
    let schema = parsed.map_err(|it| invalid(&it))?;
    // A primitive may be written as a bare word.
    let value: Value = serde_json::from_str(text).map_err(|it| invalid(&it))?;
    Ok((schema, value.to_string()))
}

impl Store {
    pub(super) fn in_memory() -> Self {
        Self {
            subjects: BTreeMap::new(),
            schemas: BTreeMap::new(),
            ids: HashMap::new(),
            level: Level::Backward,
            levels: HashMap::new(),
            mode: Mode::ReadWrite,
            modes: HashMap::new(),
            journal: None,
        }
    }

    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let (journal, changes) = Journal::open(folder)?;
        let mut store = Self::in_memory();
        for change in changes {
            store.apply(change);
        }
        store.journal = Some(journal);
        Ok(store)
    }

    /// Writes changes down, then makes them.
    fn commit(&mut self, changes: Vec<Change>) -> Result<(), Refusal> {
        if let Some(journal) = &mut self.journal {
            journal.append(&changes).map_err(|it| Refusal::Store(it.to_string()))?;
        }
        changes.into_iter().for_each(|it| self.apply(it));
        Ok(())
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Registered { subject, version, id, schema } => {
                if let Ok((_, identity)) = identity(&schema) {
                    self.ids.insert(identity, id);
                }
                self.schemas.entry(id).or_insert(schema);
                let subject = self.subjects.entry(subject).or_default();
                subject.versions.insert(version, Version { id, deleted: false });
                subject.last = subject.last.max(version);
            }
            Change::Deleted { subject, version, permanent } => {
                let Some(subject) = self.subjects.get_mut(&subject) else { return };
                if permanent {
                    subject.versions.remove(&version);
                } else if let Some(version) = subject.versions.get_mut(&version) {
                    version.deleted = true;
                }
            }
            Change::Level { subject: None, level } => self.level = level.unwrap_or(Level::Backward),
            Change::Level { subject: Some(subject), level } => {
                match level {
                    Some(level) => self.levels.insert(subject, level),
                    None => self.levels.remove(&subject),
                };
            }
            Change::Mode { subject: None, mode } => self.mode = mode.unwrap_or(Mode::ReadWrite),
            Change::Mode { subject: Some(subject), mode } => {
                match mode {
                    Some(mode) => self.modes.insert(subject, mode),
                    None => self.modes.remove(&subject),
                };
            }
        }
    }

    /// Names of the subjects that have versions.
    pub(super) fn subjects(&self, deleted: bool) -> Vec<&str> {
        let has = |it: &Subject| it.versions.values().any(|it| deleted || !it.deleted);
        self.subjects.iter().filter(|(_, it)| has(it)).map(|(name, _)| name.as_str()).collect()
    }

    /// Numbers of a subject's versions.
    pub(super) fn versions(&self, subject: &str, deleted: bool) -> Result<Vec<u32>, Refusal> {
        let found = self.subjects.get(subject).map(|it| {
            it.versions.iter().filter(|(_, it)| deleted || !it.deleted).map(|(number, _)| *number).collect()
        });
        found.filter(|it: &Vec<u32>| !it.is_empty()).ok_or_else(|| Refusal::NoSubject(subject.to_owned()))
    }

    pub(super) fn version(&self, subject: &str, which: Which, deleted: bool) -> Result<Found<'_>, Refusal> {
        let versions = self.versions(subject, deleted)?;
        let number = match which {
            Which::Latest => versions[versions.len() - 1],
            Which::Number(number) if versions.contains(&number) => number,
            Which::Number(number) => return Err(Refusal::NoVersion(number)),
        };
        let (name, subject) = self.subjects.get_key_value(subject).expect("it has versions");
        let id = subject.versions[&number].id;
        Ok(Found { subject: name, version: number, id, schema: &self.schemas[&id] })
    }

    pub(super) fn schema(&self, id: &str) -> Result<(u32, &str), Refusal> {
        let known = id.parse().ok().and_then(|id| self.schemas.get(&id).map(|text| (id, text.as_str())));
        known.ok_or(Refusal::NoSchema)
    }

    /// Subjects and versions that have the schema `id`.
    pub(super) fn uses(&self, id: u32, deleted: bool) -> Vec<(&str, u32)> {
        let mut uses = Vec::new();
        for (name, subject) in &self.subjects {
            for (number, version) in &subject.versions {
                if version.id == id && (deleted || !version.deleted) {
                    uses.push((name.as_str(), *number));
                }
            }
        }
        uses
    }

    /// Finds the version of `subject` that has the schema `text`.
    pub(super) fn look_up(&self, subject: &str, text: &str, deleted: bool) -> Result<Found<'_>, Refusal> {
        let versions = self.versions(subject, deleted)?;
        let (_, identity) = identity(text)?;
        let id = self.ids.get(&identity).ok_or(Refusal::NoSchema)?;
        let has = |number: &&u32| self.subjects[subject].versions[*number].id == *id;
        let number = versions.iter().rev().find(has).ok_or(Refusal::NoSchema)?;
        self.version(subject, Which::Number(*number), deleted)
    }

    /// Registers a schema; returns its id, an old one for a schema that is known.
    pub(super) fn register(&mut self, subject: &str, text: &str) -> Result<u32, Refusal> {
        let (schema, identity) = identity(text)?;
        if let Ok(found) = self.look_up(subject, text, false) {
            return Ok(found.id);
        }
        if self.mode_of(subject) == Mode::ReadOnly {
            return Err(Refusal::ReadOnly(subject.to_owned()));
        }
        let conflicts = self.conflicts(subject, &schema);
        if !conflicts.is_empty() {
            return Err(Refusal::Incompatible(conflicts));
        }
        let next = self.schemas.keys().next_back().map_or(1, |it| it + 1);
        let id = self.ids.get(&identity).copied().unwrap_or(next);
        let version = self.subjects.get(subject).map_or(0, |it| it.last) + 1;
        let (subject, schema) = (subject.to_owned(), text.to_owned());
        self.commit(vec![Change::Registered { subject, version, id, schema }])?;
        Ok(id)
    }

    fn conflicts(&self, subject: &str, new: &Schema) -> Vec<String> {
        let numbers = self.versions(subject, false).unwrap_or_default();
        let text = |number: &u32| self.schemas[&self.subjects[subject].versions[number].id].as_str();
        let earlier: Vec<_> = numbers.iter().map(|it| (*it, text(it))).collect();
        conflicts(self.level_of(subject), new, &earlier)
    }

    /// Lists why `text` may not follow one version, or the versions that the subject's level compares with.
    pub(super) fn check(
        &self,
        subject: &str,
        which: Option<Which>,
        text: &str,
    ) -> Result<Vec<String>, Refusal> {
        let (schema, _) = identity(text)?;
        let Some(which) = which else { return Ok(self.conflicts(subject, &schema)) };
        let found = self.version(subject, which, false)?;
        Ok(conflicts(self.level_of(subject), &schema, &[(found.version, found.schema)]))
    }

    /// Deletes all versions of a subject; returns their numbers.
    pub(super) fn delete_subject(&mut self, subject: &str, permanent: bool) -> Result<Vec<u32>, Refusal> {
        let all = self.versions(subject, true)?;
        let visible = self.versions(subject, false).unwrap_or_default();
        let numbers = match (permanent, visible.is_empty()) {
            (true, true) => all,
            (true, false) => return Err(Refusal::SubjectNotSoftDeleted(subject.to_owned())),
            (false, true) => return Err(Refusal::SubjectSoftDeleted(subject.to_owned())),
            (false, false) => visible,
        };
        let deleted =
            |version: &u32| Change::Deleted { subject: subject.to_owned(), version: *version, permanent };
        let mut changes: Vec<_> = numbers.iter().map(deleted).collect();
        if self.levels.contains_key(subject) {
            changes.push(Change::Level { subject: Some(subject.to_owned()), level: None });
        }
        self.commit(changes)?;
        Ok(numbers)
    }

    /// Deletes a version; returns its number.
    pub(super) fn delete_version(
        &mut self,
        subject: &str,
        which: Which,
        permanent: bool,
    ) -> Result<u32, Refusal> {
        let number = self.version(subject, which, true)?.version;
        let soft = self.subjects[subject].versions[&number].deleted;
        match (permanent, soft) {
            (true, false) => return Err(Refusal::VersionNotSoftDeleted(number)),
            (false, true) => return Err(Refusal::VersionSoftDeleted(number)),
            _ => {}
        }
        self.commit(vec![Change::Deleted { subject: subject.to_owned(), version: number, permanent }])?;
        Ok(number)
    }

    pub(super) fn level(&self, subject: Option<&str>) -> Option<Level> {
        subject.map_or(Some(self.level), |it| self.levels.get(it).copied())
    }

    pub(super) fn level_of(&self, subject: &str) -> Level {
        self.levels.get(subject).copied().unwrap_or(self.level)
    }

    pub(super) fn set_level(&mut self, subject: Option<&str>, level: Option<Level>) -> Result<(), Refusal> {
        self.commit(vec![Change::Level { subject: subject.map(str::to_owned), level }])
    }

    pub(super) fn mode(&self, subject: Option<&str>) -> Option<Mode> {
        subject.map_or(Some(self.mode), |it| self.modes.get(it).copied())
    }

    pub(super) fn mode_of(&self, subject: &str) -> Mode {
        self.modes.get(subject).copied().unwrap_or(self.mode)
    }

    pub(super) fn set_mode(&mut self, subject: Option<&str>, mode: Option<Mode>) -> Result<(), Refusal> {
        self.commit(vec![Change::Mode { subject: subject.map(str::to_owned), mode }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
    const TWO: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"b","type":"int","default":0}]}"#;

    #[test]
    fn the_same_schema_has_the_same_id_in_every_subject() {
        let mut store = Store::in_memory();
        assert_eq!(store.register("a", ONE), Ok(1));
        let spaced = ONE.replace(',', " ,\n ").replace(
            r#""type":"record" ,
 "name":"R""#,
            r#""name":"R","type":"record""#,
        );
        assert_eq!(store.register("a", &spaced), Ok(1));
        assert_eq!(store.register("b/c", ONE), Ok(1));
        assert_eq!(store.register("a", TWO), Ok(2));
        assert_eq!(store.versions("a", false), Ok(vec![1, 2]));
        assert_eq!(store.uses(1, false), [("a", 1), ("b/c", 1)]);
        assert_eq!(store.look_up("a", &spaced, false).unwrap().version, 1);
    }

    #[test]
    fn deleting_is_in_two_steps_and_numbers_are_not_used_again() {
        let mut store = Store::in_memory();
        store.register("a", ONE).unwrap();
        store.register("a", TWO).unwrap();
        assert_eq!(store.delete_version("a", Which::Latest, true), Err(Refusal::VersionNotSoftDeleted(2)));
        assert_eq!(store.delete_version("a", Which::Latest, false), Ok(2));
        assert_eq!(store.delete_version("a", Which::Number(2), false), Err(Refusal::VersionSoftDeleted(2)));
        assert_eq!(store.versions("a", false), Ok(vec![1]));
        assert_eq!(store.register("a", TWO), Ok(2));
        assert_eq!(store.versions("a", true), Ok(vec![1, 2, 3]));
        assert_eq!(store.delete_subject("a", true), Err(Refusal::SubjectNotSoftDeleted("a".into())));
        assert_eq!(store.delete_subject("a", false), Ok(vec![1, 3]));
        assert_eq!(store.delete_subject("a", false), Err(Refusal::SubjectSoftDeleted("a".into())));
        assert_eq!(store.delete_subject("a", true), Ok(vec![1, 2, 3]));
        assert_eq!(store.versions("a", true), Err(Refusal::NoSubject("a".into())));
        assert!(store.schema("1").is_ok());
    }

    #[test]
    fn everything_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        store.register("a", ONE).unwrap();
        store.register("a", TWO).unwrap();
        store.delete_version("a", Which::Number(1), false).unwrap();
        store.set_level(Some("a"), Some(Level::Full)).unwrap();
        store.set_mode(None, Some(Mode::ReadOnly)).unwrap();
        drop(store);
        let mut store = Store::open(folder.path()).unwrap();
        assert_eq!((store.versions("a", false), store.versions("a", true)), (Ok(vec![2]), Ok(vec![1, 2])));
        assert_eq!((store.level_of("a"), store.level_of("b")), (Level::Full, Level::Backward));
        assert_eq!(store.register("b", "\"int\""), Err(Refusal::ReadOnly("b".into())));
        assert_eq!(store.register("a", TWO), Ok(2));
    }
}
