//! Avro to columns.

use arrow::datatypes::SchemaRef;

use super::cursor::{Cursor, Fault};
use crate::columns::{self, Column, Decoded, Values};
use crate::dead_letter::Reason;
use crate::schema::{Schema, SchemaError, Type, smallest_record};

/// Decodes records of one schema into columns.
#[derive(Debug, Clone)]
pub struct Decoder {
    arrow: SchemaRef,
    columns: Vec<Column>,
    steps: Vec<Step>,
    smallest: usize,
}

/// What to do with the next field of a record.
#[derive(Debug, Clone)]
enum Step {
    /// Append it to the column of this index.
    Read(usize),
    /// Append it to the column, unless the union's branch is the null one.
    ReadNullable(usize, u8),
    /// A field without a column.
    Skip(Box<str>, Type),
}

impl Decoder {
    /// Compiles a plan for records that were written with `writer`.
    ///
    /// # Errors
    ///
    /// Returns an error when the schema cannot be decoded; every checked schema can be today.
    pub fn compile(writer: &Schema) -> Result<Self, SchemaError> {
        let mut steps = Vec::with_capacity(writer.fields().len());
        let mut column = 0;
        for field in writer.fields() {
            steps.push(match field.scalar() {
                Some((_, null)) => {
                    column += 1;
                    null.map_or(Step::Read(column - 1), |branch| Step::ReadNullable(column - 1, branch))
                }
                None => Step::Skip(field.name.as_str().into(), field.of.clone()),
            });
        }
        let smallest = smallest_record(writer.fields());
        Ok(Self { arrow: writer.arrow(), columns: Column::all(writer), steps, smallest })
    }

    /// The columns of every batch this decoder makes.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.arrow)
    }

    /// Decodes `payloads`, which hold one record each and no Confluent header.
    pub fn decode<'p>(&self, payloads: impl IntoIterator<Item = &'p [u8]>) -> Decoded {
        let payloads = payloads.into_iter();
        let expected = payloads.size_hint().0;
        let mut columns = self.columns.clone();
        columns.iter_mut().for_each(|it| it.reserve(expected));
        let mut rows = Vec::with_capacity(expected);
        let mut rejected = Vec::new();
        for (position, payload) in payloads.enumerate() {
            match self.record(payload, &mut columns) {
                Ok(()) => rows.push(columns::index(position)),
                Err((reason, detail)) => {
                    columns.iter_mut().for_each(|it| it.truncate(rows.len()));
                    rejected.push((columns::index(position), reason, detail));
                }
            }
        }
        Decoded { columns: columns::finish(self.schema(), columns, rows.len()), rows, rejected }
    }

    fn record(&self, payload: &[u8], columns: &mut [Column]) -> Result<(), (Reason, String)> {
        if payload.is_empty() && self.smallest > 0 {
            return Err((Reason::Empty, "the payload has no bytes".to_owned()));
        }
        let mut cursor = Cursor::new(payload);
        for step in &self.steps {
            let outcome = match step {
                Step::Read(index) => read(&mut cursor, &mut columns[*index]),
                Step::ReadNullable(index, branch) => {
                    read_nullable(&mut cursor, &mut columns[*index], *branch)
                }
                Step::Skip(_, of) => {
                    let (after, outcome) = match cursor.after(of) {
                        Ok(after) => (after, Ok(())),
                        Err((at, fault)) => (at, Err(fault)),
                    };
                    cursor = after;
                    outcome
                }
            };
            if let Err(fault) = outcome {
                let cursor = cursor; // a copy, so that the other stays in registers
                let field = match step {
                    Step::Read(index) | Step::ReadNullable(index, _) => &*columns[*index].name,
                    Step::Skip(name, _) => name,
                };
                return Err((fault.reason(), fault.describe(field, &cursor)));
            }
        }
        match cursor.remaining() {
            0 => Ok(()),
            left => Err((Reason::Trailing, trailing(left, payload.len()))),
        }
    }
}

#[cold]
pub(super) fn trailing(left: usize, total: usize) -> String {
    format!("{left} of {total} bytes are left after the last field")
}

#[inline(always)]
fn read_nullable(cursor: &mut Cursor<'_>, column: &mut Column, null_branch: u8) -> Result<(), Fault> {
    if cursor.is_null(null_branch)? {
        column.push_null();
        return Ok(());
    }
    column.mark_present();
    read(cursor, column)
}

#[inline(always)]
fn read(cursor: &mut Cursor<'_>, column: &mut Column) -> Result<(), Fault> {
    let fits = match &mut column.values {
        Values::Double(it) => {
            it.push(cursor.double()?);
            true
        }
        Values::Int(it) => {
            it.push(cursor.int()?);
            true
        }
        Values::Long(it) => {
            it.push(cursor.long()?);
            true
        }
        Values::Float(it) => {
            it.push(cursor.float()?);
            true
        }
        Values::Boolean(it) => {
            it.push(cursor.boolean()?);
            true
        }
        Values::Text(it) => it.push(cursor.text()?.as_bytes()),
        Values::Symbol(symbols, it) => {
            let index = cursor.index(symbols.len(), Fault::Symbol)?;
            it.push(symbols[index].as_bytes())
        }
        Values::Binary(it) => it.push(cursor.bytes()?),
        Values::Fixed(size, it) => it.push(cursor.fixed(*size)?),
    };
    if fits { Ok(()) } else { Err(Fault::TooLarge) }
}
