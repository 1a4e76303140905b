//! Rows of a window table as records: written with the readings they count, read back when a partition is
//! taken over.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema as ArrowSchema, SchemaRef};
use telltale_kafka::RegistryError;
use telltale_records::avro::{Decoder, Encoder};
use telltale_records::schema::SchemaError;
use telltale_records::{Batch, Destination, Outgoing, Source, framing};

use crate::decode::Lookup;
use crate::pipeline::{WindowColumns, WindowTable};
use crate::windows::{Update, Windows};

/// Writes the rows of one table.
#[derive(Debug)]
pub(crate) struct TableWriter {
    topic: String,
    schema: SchemaRef,
    encoder: Encoder,
    schema_id: u32,
}

/// Reads the rows of one table back.
#[derive(Debug)]
pub(crate) struct TableReader<'a> {
    columns: &'a WindowColumns,
    /// Plans by schema id; `None` for records that are no rows of this table.
    decoders: HashMap<u32, Option<Decoder>>,
    /// Records that could not be read.
    pub(crate) skipped: u64,
}

impl TableWriter {
    pub(crate) fn new(table: &WindowTable, schema_id: u32) -> Result<Self, SchemaError> {
        let columns = &table.columns;
        let schema = ArrowSchema::new(vec![
            Field::new(&columns.key, DataType::Utf8, false),
            Field::new(&columns.start, DataType::Int64, false),
            Field::new(&columns.end, DataType::Int64, false),
            Field::new(&columns.count, DataType::Int64, false),
        ]);
        let encoder = Encoder::compile(&table.schema, &schema)?;
        Ok(Self { topic: table.target.clone(), schema: Arc::new(schema), encoder, schema_id })
    }

    /// Appends a record for each update to `out`; `reading` tells the place and event time of a counted
    /// reading.
    pub(crate) fn write(
        &self,
        windows: &Windows,
        updates: &[Update<'_>],
        partition: i32,
        reading: impl Fn(usize) -> (Source, i64),
        out: &mut Outgoing,
    ) {
        if updates.is_empty() {
            return;
        }
        let topic = out.topic(&self.topic);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(updates.iter().map(|it| it.key))),
            Arc::new(Int64Array::from_iter_values(updates.iter().map(|it| it.start_ms))),
            Arc::new(Int64Array::from_iter_values(updates.iter().map(|it| windows.end_of(it.start_ms)))),
            Arc::new(Int64Array::from_iter_values(updates.iter().map(|it| it.events))),
        ];
        let rows =
            RecordBatch::try_new(Arc::clone(&self.schema), columns).expect("the columns are the table's");
        let bound = self.encoder.bind(&rows).expect("the encoder was compiled for these columns");
        let mut key = String::new();
        for (row, update) in updates.iter().enumerate() {
            key.clear();
            write!(key, "{}@{}", update.key, update.start_ms).expect("writing to memory does not fail");
            let (source, time_ms) = reading(update.reading);
            let to = Destination { topic, partition: Some(partition), timestamp_ms: Some(time_ms) };
            out.push_with(to, Some(key.as_bytes()), Some(&source), &[], |value| {
                framing::write_header(self.schema_id, value);
                bound
                    .encode_row(row, value)
                    .expect("text and whole numbers are what the schema was checked to hold");
            });
        }
    }
}

impl<'a> TableReader<'a> {
    pub(crate) fn new(table: &'a WindowTable) -> Self {
        Self { columns: &table.columns, decoders: HashMap::new(), skipped: 0 }
    }

    /// Hands key, start, end and count of each row in `batch` to `take`, in order.
    ///
    /// # Errors
    ///
    /// Returns an error when the registry cannot be asked for now. What is no row of this table is skipped
    /// and counted.
    pub(crate) fn read(
        &mut self,
        batch: &Batch,
        lookup: &mut Lookup<'_>,
        mut take: impl FnMut(&str, i64, i64, i64),
    ) -> Result<(), RegistryError> {
        let mut run: Option<u32> = None;
        let mut payloads: Vec<&[u8]> = Vec::new();
        // Runs of one schema, to keep the order.
        for record in batch.records() {
            let Some((id, payload)) = record.value().and_then(framing::split) else {
                self.skipped += 1;
                continue;
            };
            if run != Some(id) {
                self.decode(run, &mut payloads, lookup, &mut take)?;
                run = Some(id);
            }
            payloads.push(payload);
        }
        self.decode(run, &mut payloads, lookup, &mut take)
    }

    fn decode(
        &mut self,
        id: Option<u32>,
        payloads: &mut Vec<&[u8]>,
        lookup: &mut Lookup<'_>,
        take: &mut impl FnMut(&str, i64, i64, i64),
    ) -> Result<(), RegistryError> {
        let Some(id) = id.filter(|_| !payloads.is_empty()) else { return Ok(()) };
        let count = payloads.len();
        if !self.decoders.contains_key(&id) {
            let decoder = match lookup(id) {
                Ok(schema) => Decoder::compile(&schema).ok().filter(|it| self.is_of_table(&it.schema())),
                Err(error) if error.is_passing() => return Err(error),
                Err(_) => None,
            };
            self.decoders.insert(id, decoder);
        }
        let Some(decoder) = &self.decoders[&id] else {
            self.skipped += count as u64;
            payloads.clear();
            return Ok(());
        };
        let decoded = decoder.decode(payloads.drain(..));
        self.skipped += decoded.rejected.len() as u64;
        let column =
            |name: &String| decoded.columns.column_by_name(name).expect("`is_of_table` looked for it");
        let keys = column(&self.columns.key).as_string::<i32>();
        let number = |name: &String| column(name).as_primitive::<Int64Type>().clone();
        let (starts, ends) = (number(&self.columns.start), number(&self.columns.end));
        let counts = number(&self.columns.count);
        for row in (0..keys.len()).filter(|&it| keys.is_valid(it)) {
            take(keys.value(row), starts.value(row), ends.value(row), counts.value(row));
        }
        Ok(())
    }

    fn is_of_table(&self, schema: &SchemaRef) -> bool {
        let has =
            |name: &String, of: DataType| schema.field_with_name(name).is_ok_and(|it| *it.data_type() == of);
        has(&self.columns.key, DataType::Utf8)
            && has(&self.columns.start, DataType::Int64)
            && has(&self.columns.end, DataType::Int64)
            && has(&self.columns.count, DataType::Int64)
    }
}
