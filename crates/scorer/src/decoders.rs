//! Decoders of readings by schema id, for the model in force.

use std::collections::HashMap;

use telltale_kafka::Registry;
use telltale_records::avro::MatrixDecoder;
use telltale_records::framing;
use telltale_records::{Reason, Record};

use crate::config::StepError;
use crate::is_bad_record;
use crate::models::Versioned;

/// Most schemas remembered; a fleet has a handful.
const LIMIT: usize = 64;

/// Why a reading cannot be decoded: for its dead letter.
pub(crate) type Refusal = (Reason, String);

/// Decoders compiled for one model, by the schema id of the readings.
#[derive(Debug, Default)]
pub(crate) struct Decoders {
    generation: u64,
    known: HashMap<u32, MatrixDecoder>,
}

impl Decoders {
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
        let schema = match registry.schema(id) {
            Ok(schema) => schema,
            Err(error) if is_bad_record(&error) => {
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
