//! JSON as devices send it, to columns.
//!
//! ```text
//! payload ─▶ predicted: are the keys in the order of the last record? ─yes▶ columns
//!                                        └─no▶ general (sonic-rs) ─▶ columns, and the order to expect next
//! ```
//!
//! The predicted way only ever accepts what the general way would accept, with the same values; whatever
//! surprises it goes the general way, which alone decides why a record is rejected.

mod general;
mod predicted;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::columns::{self, Column, Decoded};
use crate::dead_letter::Reason;
use crate::schema::{Scalar, Schema, SchemaError};

/// Decodes JSON objects into the columns of a schema.
///
/// A key that the schema does not have is ignored. A missing key is null where the schema allows it.
#[derive(Debug, Clone)]
pub struct Decoder {
    arrow: SchemaRef,
    columns: Vec<Column>,
    names: HashMap<Box<str>, Expected>,
    /// The keys of the last record that went the general way, in its order.
    order: Vec<Expected>,
}

/// A key that is expected next.
#[derive(Debug, Clone)]
struct Expected {
    /// The key in quotes, with the colon.
    quoted: Arc<[u8]>,
    /// The column, or `None` for a key that the schema does not have.
    column: Option<usize>,
}

impl Decoder {
    /// Compiles a plan for JSON objects with the fields of `schema`.
    ///
    /// # Errors
    ///
    /// Returns an error when a field is bytes, which have no JSON form, or is no single value.
    pub fn compile(schema: &Schema) -> Result<Self, SchemaError> {
        for field in schema.fields() {
            match field.scalar() {
                Some((Scalar::Bytes | Scalar::Fixed(_), _)) | None => {
                    return Err(field.unfit("read from JSON"));
                }
                Some(_) => {}
            }
        }
        let columns = Column::all(schema);
        let expected = |(index, column): (usize, &Column)| Expected::new(&column.name, Some(index));
        let order: Vec<Expected> = columns.iter().enumerate().map(expected).collect();
        let names = columns.iter().map(|it| Box::from(&*it.name)).zip(order.iter().cloned()).collect();
        Ok(Self { arrow: schema.arrow(), columns, names, order })
    }

    /// The columns of every batch this decoder makes.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.arrow)
    }

    /// Decodes `payloads`, each of which should be one JSON object.
    pub fn decode<'p>(&mut self, payloads: impl IntoIterator<Item = &'p [u8]>) -> Decoded {
        let payloads = payloads.into_iter();
        let expected = payloads.size_hint().0;
        let mut columns = self.columns.clone();
        columns.iter_mut().for_each(|it| it.reserve(expected));
        let mut rows = Vec::with_capacity(expected);
        let mut rejected = Vec::new();
        for (position, payload) in payloads.enumerate() {
            if predicted::read(payload, &self.order, &mut columns).is_some() {
                rows.push(columns::index(position));
                continue;
            }
            columns.iter_mut().for_each(|it| it.truncate(rows.len()));
            match self.read_general(payload, &mut columns) {
                Ok(()) => rows.push(columns::index(position)),
                Err((reason, detail)) => {
                    columns.iter_mut().for_each(|it| it.truncate(rows.len()));
                    rejected.push((columns::index(position), reason, detail));
                }
            }
        }
        Decoded { columns: columns::finish(self.schema(), columns, rows.len()), rows, rejected }
    }

    #[cold]
    fn read_general(&mut self, payload: &[u8], columns: &mut [Column]) -> Result<(), (Reason, String)> {
        let keys = general::read(payload, &self.names, columns)?;
        if let Some(order) = keys {
            self.order = order;
        }
        Ok(())
    }
}

impl Expected {
    fn new(key: &str, column: Option<usize>) -> Self {
        let quoted = format!("\"{key}\":");
        Self { quoted: quoted.into_bytes().into(), column }
    }
}
