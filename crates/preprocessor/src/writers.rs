//! The schemas that a stream's records may be written with.
//!
//! Ids in records are a stranger's bytes. Only those of the stream's subjects are looked up, so a device that
//! sends random ids costs one question a batch, however many they are, and cannot have its records read as
//! something else.

use std::collections::BTreeSet;
use std::sync::Arc;

use telltale_kafka::{Registry, RegistryError};
use telltale_records::schema::Schema;

/// What is known of the subjects of one stream.
#[derive(Debug)]
pub(crate) struct Writers {
    /// Each subject, with its versions and their ids.
    subjects: Vec<(String, BTreeSet<(u32, u32)>)>,
}

impl Writers {
    pub(crate) fn new(subjects: &[String]) -> Self {
        Self { subjects: subjects.iter().map(|it| (it.clone(), BTreeSet::new())).collect() }
    }

    /// The schema with `id`, if it is of one of the subjects; the registry is asked for new versions unless
    /// `asked`.
    ///
    /// A record is younger than the schema it was written with, so asking once for all records of a batch is
    /// enough.
    pub(crate) fn schema(
        &mut self,
        id: u32,
        registry: &Registry,
        asked: &mut bool,
    ) -> Result<Arc<Schema>, RegistryError> {
        if !self.has(id) && !*asked {
            for (subject, known) in &mut self.subjects {
                registry.versions(subject, known)?;
            }
            *asked = true;
        }
        if !self.has(id) {
            let names: Vec<&str> = self.subjects.iter().map(|(name, _)| name.as_str()).collect();
            return Err(RegistryError::Foreign { id, subject: names.join(", ") });
        }
        registry.schema(id)
    }

    fn has(&self, id: u32) -> bool {
        self.subjects.iter().any(|(_, known)| known.iter().any(|(_, it)| *it == id))
    }
}
