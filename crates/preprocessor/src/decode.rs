//! From the bytes of a batch to the table `input`, by the format and schema that each record was written
//! with.
//!
//! ```text
//!          ┌ "{…"            ─▶ JSON plan ──────────────────┐
//! record ──┤ 0, schema id, … ─▶ Avro plan of that schema ───┼─▶ group: table `input`, which records its rows are
//!          └ anything else   ─▶ rejected                    ┘
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use telltale_kafka::RegistryError;
use telltale_records::schema::{Schema, SchemaError};
use telltale_records::{Batch, Decoded, Reason, avro, framing, json};

use crate::pipeline::{Format, Stream};
use crate::table::Mapping;

/// Most writer schemas that are kept compiled; a fleet has a handful.
const MOST_WRITERS: usize = 256;

/// Looks a schema id up.
pub type Lookup<'a> = dyn FnMut(u32) -> Result<Arc<Schema>, RegistryError> + 'a;

/// Why a record is rejected, and what exactly is wrong with it.
pub(crate) type Fault = (Reason, String);

/// What becomes of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Row `row` of group `group`.
    Row {
        /// Number of the group.
        group: usize,
        /// Row of the group.
        row: usize,
    },
    /// A dead letter, with the reason and what exactly was wrong.
    Rejected(Reason, String),
}

/// Records that one plan decoded.
#[derive(Debug)]
pub(crate) struct Group {
    /// Their table `input`.
    pub(crate) table: RecordBatch,
    /// For each row, which record of the batch it is.
    pub(crate) records: Vec<u32>,
}

/// The plans of one stream.
#[derive(Debug)]
pub(crate) struct Decoders {
    json: Option<(json::Decoder, Mapping)>,
    writers: HashMap<u32, Writer>,
}

/// What is known of a writer's schema.
#[derive(Debug)]
enum Writer {
    Fits(Box<avro::Decoder>, Mapping),
    /// Its columns cannot become those of the table.
    Unfit(String),
}

/// How a record is to be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Plan {
    Json,
    Avro(u32),
}

/// The records that one plan decodes: their indices in the batch, and their payloads.
type Planned<'a> = (Plan, Vec<u32>, Vec<&'a [u8]>);

impl Decoders {
    /// Compiles what can be compiled before records come.
    pub(crate) fn new(stream: &Stream) -> Result<Self, SchemaError> {
        let source = stream.input.source();
        let json = match stream.format {
            Format::Avro => None,
            Format::Json | Format::Auto => {
                let mapping = stream.input.mapping(&source.arrow());
                Some((
                    json::Decoder::compile(source)?,
                    mapping.expect("a table has the columns of its own schema"),
                ))
            }
        };
        Ok(Self { json, writers: HashMap::new() })
    }

    /// Decodes the records of `batch`; every one of them is either a row of a group or rejected in `fates`.
    ///
    /// # Errors
    ///
    /// Returns an error only when the registry cannot be asked for now.
    pub(crate) fn decode(
        &mut self,
        stream: &Stream,
        batch: &Batch,
        lookup: &mut Lookup<'_>,
        fates: &mut Vec<Fate>,
    ) -> Result<Vec<Group>, RegistryError> {
        fates.clear();
        let mut plans: Vec<Planned<'_>> = Vec::new();
        // Ids come from strangers' bytes, so there may be as many plans as records.
        let mut places: HashMap<Plan, usize> = HashMap::new();
        let mut last: Option<(Plan, usize)> = None;
        for (index, record) in batch.records().enumerate() {
            let index = u32::try_from(index).expect("a batch has fewer records than u32 can count");
            // Stands until the record's plan has decoded it.
            fates.push(Fate::Rejected(Reason::Malformed, String::new()));
            match classify(stream.format, record.value()) {
                Ok((plan, payload)) => {
                    let place = match last {
                        Some((before, place)) if before == plan => place,
                        _ => *places.entry(plan).or_insert_with(|| {
                            plans.push((plan, Vec::new(), Vec::new()));
                            plans.len() - 1
                        }),
                    };
                    last = Some((plan, place));
                    plans[place].1.push(index);
                    plans[place].2.push(payload);
                }
                Err((reason, detail)) => fates[index as usize] = Fate::Rejected(reason, detail),
            }
        }
        let mut groups = Vec::new();
        for (plan, records, payloads) in plans {
            let (decoded, mapping) = match self.run(plan, stream, lookup, &payloads)? {
                Ok(done) => done,
                Err((reason, detail)) => {
                    for record in records {
                        fates[record as usize] = Fate::Rejected(reason, detail.clone());
                    }
                    continue;
                }
            };
            for (payload, reason, detail) in decoded.rejected {
                fates[records[payload as usize] as usize] = Fate::Rejected(reason, detail);
            }
            if decoded.rows.is_empty() {
                continue;
            }
            let rows: Vec<u32> = decoded.rows.iter().map(|it| records[*it as usize]).collect();
            for (row, record) in rows.iter().enumerate() {
                fates[*record as usize] = Fate::Row { group: groups.len(), row };
            }
            let table = stream.input.table(mapping, &decoded.columns, batch, &rows);
            groups.push(Group { table, records: rows });
        }
        Ok(groups)
    }

    /// Decodes `payloads` by one plan. The outer error holds the batch back, the inner one is of these
    /// records.
    fn run(
        &mut self,
        plan: Plan,
        stream: &Stream,
        lookup: &mut Lookup<'_>,
        payloads: &[&[u8]],
    ) -> Result<Result<(Decoded, &Mapping), Fault>, RegistryError> {
        let payloads = payloads.iter().copied();
        let id = match plan {
            Plan::Json => {
                let (decoder, mapping) =
                    self.json.as_mut().expect("`classify` gives JSON only where it is allowed");
                return Ok(Ok((decoder.decode(payloads), mapping)));
            }
            Plan::Avro(id) => id,
        };
        if !self.writers.contains_key(&id) {
            let schema = match lookup(id) {
                Ok(schema) => schema,
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => return Ok(Err((Reason::UnknownSchema, error.to_string()))),
            };
            if self.writers.len() >= MOST_WRITERS {
                // Those in use are compiled again, once.
                self.writers.clear();
            }
            self.writers.insert(id, Writer::of(stream, id, &schema));
        }
        Ok(match &self.writers[&id] {
            Writer::Fits(decoder, mapping) => Ok((decoder.decode(payloads), mapping)),
            Writer::Unfit(detail) => Err((Reason::SchemaMismatch, detail.clone())),
        })
    }
}

impl Writer {
    fn of(stream: &Stream, id: u32, schema: &Schema) -> Self {
        let decoder = match avro::Decoder::compile(schema) {
            Ok(decoder) => decoder,
            Err(error) => return Self::Unfit(format!("schema {id}: {error}")),
        };
        match stream.input.mapping(&decoder.schema()) {
            Ok(mapping) => Self::Fits(Box::new(decoder), mapping),
            Err(problem) => Self::Unfit(format!("schema {id}: {problem}")),
        }
    }
}

/// How a value is to be decoded, and its bytes without an envelope.
fn classify(format: Format, value: Option<&[u8]>) -> Result<(Plan, &[u8]), Fault> {
    let value = value.ok_or_else(|| (Reason::Empty, "the record has no value".to_owned()))?;
    let Some(first) = value.first() else {
        return Err((Reason::Empty, "the value has no bytes".to_owned()));
    };
    if format == Format::Json || (format == Format::Auto && *first != 0) {
        return Ok((Plan::Json, value));
    }
    if *first != 0 {
        let detail = format!("the value begins with byte {first}, not with Confluent's 0 and a schema id");
        return Err((Reason::Malformed, detail));
    }
    let Some((id, payload)) = framing::split(value) else {
        let detail = format!("the value has {} bytes, too few for a schema id", value.len());
        return Err((Reason::Truncated, detail));
    };
    Ok((Plan::Avro(id), payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_tells_the_format() {
        let framed: &[u8] = &[0, 0, 0, 1, 2, 9];
        let avro = Ok((Plan::Avro(258), &framed[5..]));
        let json: &[u8] = b"{}";
        let reason = |it: Result<_, (Reason, String)>| it.map_err(|(reason, _)| reason);
        let cases = [
            (Format::Auto, Some(framed), avro),
            (Format::Auto, Some(json), Ok((Plan::Json, json))),
            (Format::Auto, Some(b"hello".as_slice()), Ok((Plan::Json, b"hello".as_slice()))),
            (Format::Auto, Some(&framed[..4]), Err(Reason::Truncated)),
            (Format::Auto, Some(&[]), Err(Reason::Empty)),
            (Format::Auto, None, Err(Reason::Empty)),
            (Format::Avro, Some(framed), avro),
            (Format::Avro, Some(json), Err(Reason::Malformed)),
            (Format::Json, Some(framed), Ok((Plan::Json, framed))),
        ];
        for (format, value, expected) in cases {
            assert_eq!(reason(classify(format, value)), expected, "{format:?} {value:?}");
        }
    }
}
