//! The table `input` that SQL sees: the columns of the source schema, and those of the record around the
//! value.
//!
//! ```text
//! writer's columns ─▶ Mapping: by name or alias, widened ─┐
//!                                                         ├─▶ input
//! key, time stamp, partition, offset of the record ───────┘
//! ```
//!
//! Every format of a topic becomes this one table, so SQL is written and planned once.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatchOptions, StringBuilder, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use telltale_records::Batch;
use telltale_records::schema::Schema;

use crate::sql::widens;

/// The columns every record has, whatever its value.
const OF_RECORD: [(&str, DataType); 4] = [
    ("_key", DataType::Utf8),
    ("_timestamp", DataType::Int64),
    ("_partition", DataType::Int32),
    ("_offset", DataType::Int64),
];

/// The table's columns and how those of writers become them.
#[derive(Debug)]
pub struct Input {
    source: Schema,
    schema: SchemaRef,
    /// Names that writers give columns, and the columns they are.
    aliases: Vec<(String, String)>,
}

/// Where each column of the source schema is among a writer's.
#[derive(Debug, Clone)]
pub struct Mapping {
    places: Vec<Option<usize>>,
}

impl Input {
    /// A table with the columns of `source`; `aliases` are names that writers use besides, with the columns
    /// they are.
    #[must_use]
    pub fn new(source: Schema, aliases: Vec<(String, String)>) -> Self {
        // All may be null, whatever the schema says: other formats may lack a column.
        let of_value = source
            .arrow()
            .fields()
            .iter()
            .map(|it| it.as_ref().clone().with_nullable(true))
            .collect::<Vec<_>>();
        let of_record = OF_RECORD.map(|(name, of)| Field::new(name, of, true));
        let schema = Arc::new(ArrowSchema::new([of_value, of_record.to_vec()].concat()));
        Self { source, schema, aliases }
    }

    /// Whether `name` is one of the columns every record has.
    #[must_use]
    pub fn is_of_record(name: &str) -> bool {
        OF_RECORD.iter().any(|(it, _)| *it == name)
    }

    /// The table's columns.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The schema that JSON values must have.
    #[must_use]
    pub fn source(&self) -> &Schema {
        &self.source
    }

    /// Finds the table's columns among those of a writer.
    ///
    /// # Errors
    ///
    /// Says which column is missing although the source schema demands it, or is of a type that does not fit.
    pub fn mapping(&self, writer: &SchemaRef) -> Result<Mapping, String> {
        let mut places = Vec::new();
        for wanted in self.source.arrow().fields() {
            let name = wanted.name();
            let aliases = self.aliases.iter().filter(|(_, to)| to == name).map(|(from, _)| from);
            let place = std::iter::once(name).chain(aliases).find_map(|it| writer.index_of(it).ok());
            if let Some(index) = place {
                let found = writer.field(index).data_type();
                if !fits(found, wanted.data_type()) {
                    return Err(format!("field {name} is {found}, but must be {}", wanted.data_type()));
                }
            } else if !wanted.is_nullable() {
                return Err(format!("field {name} is missing"));
            }
            places.push(place);
        }
        Ok(Mapping { places })
    }

    /// The table for the records of `batch` at `rows`, whose values are the rows of `columns`.
    ///
    /// # Panics
    ///
    /// Panics when `columns` are not those `mapping` was made for, or not as many rows as `rows`.
    #[must_use]
    pub fn table(
        &self,
        mapping: &Mapping,
        columns: &RecordBatch,
        batch: &Batch,
        rows: &[u32],
    ) -> RecordBatch {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for (place, wanted) in mapping.places.iter().zip(self.schema.fields()) {
            arrays.push(match place {
                None => new_null_array(wanted.data_type(), rows.len()),
                Some(index) if columns.column(*index).data_type() == wanted.data_type() => {
                    Arc::clone(columns.column(*index))
                }
                Some(index) => cast(columns.column(*index), wanted.data_type())
                    .expect("the mapping allows only casts that exist"),
            });
        }
        self.push_of_record(batch, rows, &mut arrays);
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .expect("every column has the table's type and the records' number")
    }

    fn push_of_record(&self, batch: &Batch, rows: &[u32], arrays: &mut Vec<ArrayRef>) {
        let mut keys = StringBuilder::with_capacity(rows.len(), rows.len() * 16);
        let mut times = Vec::with_capacity(rows.len());
        let mut offsets = Vec::with_capacity(rows.len());
        for row in rows {
            let record = batch.record(*row as usize);
            // A key that is no text is no column value; SQL sees null.
            keys.append_option(record.key().and_then(|it| std::str::from_utf8(it).ok()));
            times.push(record.timestamp_ms());
            offsets.push(record.offset());
        }
        arrays.push(Arc::new(keys.finish()));
        arrays.push(Arc::new(Int64Array::from(times)));
        arrays.push(Arc::new(Int32Array::from(vec![batch.partition(); rows.len()])));
        arrays.push(Arc::new(Int64Array::from(offsets)));
    }
}

/// Whether a writer's column of type `from` can stand for one of type `to` without loss.
fn fits(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        // Flags were sent as text before they were sent as flags.
        (DataType::Boolean, DataType::Utf8) => true,
        (DataType::Timestamp(TimeUnit::Millisecond, _), DataType::Int64) => true,
        _ => widens(from, to),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, Float32Array, StringArray};
    use arrow::datatypes::{Float64Type, Int64Type};

    use super::*;

    fn input() -> Input {
        let json = r#"{"type": "record", "name": "R", "fields": [
            {"name": "speed", "type": "double"}, {"name": "car", "type": ["null", "string"]}]}"#;
        Input::new(Schema::parse(json).unwrap(), vec![("SPEED_KMH".to_owned(), "speed".to_owned())])
    }

    #[test]
    fn a_writers_columns_become_the_tables() {
        let input = input();
        let writer = Arc::new(ArrowSchema::new(vec![
            Field::new("other", DataType::Utf8, false),
            Field::new("SPEED_KMH", DataType::Float32, false),
        ]));
        let columns: [ArrayRef; 2] =
            [Arc::new(StringArray::from(vec!["a", "b"])), Arc::new(Float32Array::from(vec![1.5, 2.5]))];
        let columns = RecordBatch::try_new(Arc::clone(&writer), columns.to_vec()).unwrap();
        let mut batch = Batch::new("t".into(), 3);
        batch.push(10, Some(5), Some(b"car1"), Some(b"x"), []);
        batch.push(11, None, None, Some(b"x"), []);
        batch.push(12, None, Some(b"\xff"), Some(b"x"), []);
        let table = input.table(&input.mapping(&writer).unwrap(), &columns, &batch, &[0, 2]);
        assert_eq!(table.column(0).as_primitive::<Float64Type>().values(), &[1.5, 2.5]);
        assert_eq!(table.column(1).null_count(), 2);
        let keys: Vec<_> = table.column(2).as_string::<i32>().iter().collect();
        assert_eq!(keys, [Some("car1"), None]);
        let times: Vec<_> = table.column(3).as_primitive::<Int64Type>().iter().collect();
        assert_eq!(times, [Some(5), None]);
        assert_eq!(table.column(5).as_primitive::<Int64Type>().values(), &[10, 12]);
    }

    #[test]
    fn a_writer_that_does_not_fit_is_refused_with_the_field() {
        let cases = [
            (vec![Field::new("car", DataType::Utf8, false)], "field speed is missing"),
            (vec![Field::new("speed", DataType::Utf8, false)], "field speed is Utf8, but must be Float64"),
        ];
        for (fields, expected) in cases {
            let found = input().mapping(&Arc::new(ArrowSchema::new(fields))).unwrap_err();
            assert_eq!(found, expected);
        }
    }
}
