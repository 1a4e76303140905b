//! Decoders of readings by schema id, for the model in force.
//!
//! Ids in records are a stranger's bytes: only those of the readings' subject are looked up, and the subject is asked
//! for new ones once a batch.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use telltale_kafka::{Registry, RegistryError};
use telltale_records::avro::MatrixDecoder;
use telltale_records::framing;
use telltale_records::{Reason, Record, Schema};

use crate::config::StepError;
use crate::models::Versioned;

/// Most schemas remembered; a fleet has a handful.
const LIMIT: usize = 64;

/// Why a reading cannot be decoded: for its dead letter.
pub(crate) type Refusal = (Reason, String);

/// Decoders compiled for one model, by the schema id of the readings.
#[derive(Debug)]
pub(crate) struct Decoders {
    subject: String,
    /// Versions of the subject with their ids.
    versions: BTreeSet<(u32, u32)>,
    /// Whether the registry was asked for new versions during the batch in hand.
    asked: bool,
    generation: u64,
    known: HashMap<u32, MatrixDecoder>,
}

impl Decoders {
    /// Starts without decoders, for readings whose schemas are registered under `subject`.
    pub(crate) fn new(subject: String) -> Self {
        Self { subject, versions: BTreeSet::new(), asked: false, generation: 0, known: HashMap::new() }
    }

    /// Says that a new batch begins: the registry may be asked again.
    pub(crate) fn next_batch(&mut self) {
        self.asked = false;
    }

    /// The schema id of `record`, for which there is a decoder from now on; or why there can be none.
    ///
    /// # Errors
    ///
    /// Returns an error when the registry could not be asked.
    pub(crate) fn prepare(
        &mut self,
        record: Record<'_>,
        model: &Versioned,
        registry: &Registry,
    ) -> Result<Result<u32, Refusal>, StepError> {
        if self.generation != model.generation {
            self.known.clear();
            self.generation = model.generation;
        }
        let id = match schema_id(record) {
            Ok(id) => id,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if self.known.contains_key(&id) {
            return Ok(Ok(id));
        }
        let schema = match self.look_up(id, registry) {
            Ok(schema) => schema,
            Err(error) if !error.is_passing() => {
                return Ok(Err((Reason::UnknownSchema, telltale_service::chain(&error))));
            }
            Err(error) => return Err(StepError::Registry(error)),
        };
        match MatrixDecoder::compile(&schema, &model.model.columns(), &[]) {
            Ok(decoder) => {
                if self.known.len() >= LIMIT {
                    self.known.clear();
                }
                self.known.insert(id, decoder);
                Ok(Ok(id))
            }
            Err(error) => {
                let (name, version) = (&model.name, model.version);
                let detail = format!("schema {id} does not fit model {name} version {version}: {error}");
                Ok(Err((Reason::SchemaMismatch, detail)))
            }
        }
    }

    fn look_up(&mut self, id: u32, registry: &Registry) -> Result<Arc<Schema>, RegistryError> {
        let has = |versions: &BTreeSet<(u32, u32)>| versions.iter().any(|(_, it)| *it == id);
        if !has(&self.versions) && !self.asked {
            registry.versions(&self.subject, &mut self.versions)?;
            self.asked = true;
        }
        if !has(&self.versions) {
            return Err(RegistryError::Foreign { id, subject: self.subject.clone() });
        }
        registry.schema(id)
    }

    /// The decoder that [`Decoders::prepare`] found last for `id`.
    pub(crate) fn get(&self, id: u32) -> Option<&MatrixDecoder> {
        self.known.get(&id)
    }
}

/// The schema id in the value's Confluent header.
pub(crate) fn schema_id(record: Record<'_>) -> Result<u32, Refusal> {
    let value = record.value().unwrap_or_default();
    if value.is_empty() {
        return Err((Reason::Empty, "the record has no value".to_owned()));
    }
    let split = framing::split(value);
    split.map(|(id, _)| id).ok_or_else(|| {
        (Reason::Malformed, "the value does not begin with a zero byte and a schema id".to_owned())
    })
}
