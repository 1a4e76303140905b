//! Writes out the named references of a parsed schema, within bounds.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::Schema as Avro;
use apache_avro::schema::{InnerDecimalSchema, Name, RecordSchema, UuidSchema};
use arrow::datatypes::TimeUnit;

use super::{DEPTH_LIMIT, Field, Scalar, SchemaError, TYPE_LIMIT, Type};

/// The fields of `schema`, which must be a record.
pub(super) fn root(schema: &Avro) -> Result<Vec<Field>, SchemaError> {
    let Avro::Record(record) = schema else {
        let found = Resolver::new().resolve(schema, 0)?.describe();
        return Err(SchemaError::NotRecord { found });
    };
    Resolver::new().record(record, 0)
}

/// Walks the schema in the order in which names are defined.
struct Resolver {
    /// Types whose definition is complete; `None` while inside it.
    named: HashMap<Name, Option<Type>>,
    types: usize,
}

impl Resolver {
    fn new() -> Self {
        Self { named: HashMap::new(), types: 0 }
    }

    fn resolve(&mut self, schema: &Avro, depth: usize) -> Result<Type, SchemaError> {
        if depth > DEPTH_LIMIT {
            return Err(SchemaError::TooDeep);
        }
        self.count(1)?;
        Ok(match schema {
            Avro::Null => Type::Null,
            Avro::Boolean => Type::Scalar(Scalar::Boolean),
            Avro::Int => Type::Scalar(Scalar::Int),
            Avro::Long => Type::Scalar(Scalar::Long),
            Avro::Float => Type::Scalar(Scalar::Float),
            Avro::Double => Type::Scalar(Scalar::Double),
            Avro::Bytes | Avro::BigDecimal | Avro::Uuid(UuidSchema::Bytes) => Type::Scalar(Scalar::Bytes),
            Avro::String | Avro::Uuid(UuidSchema::String) => Type::Scalar(Scalar::String),
            Avro::Date => Type::Scalar(Scalar::Date),
            Avro::TimeMillis => Type::Scalar(Scalar::TimeMillis),
            Avro::TimeMicros => Type::Scalar(Scalar::TimeMicros),
            Avro::TimestampMillis => timestamp(TimeUnit::Millisecond, true),
            Avro::TimestampMicros => timestamp(TimeUnit::Microsecond, true),
            Avro::TimestampNanos => timestamp(TimeUnit::Nanosecond, true),
            Avro::LocalTimestampMillis => timestamp(TimeUnit::Millisecond, false),
            Avro::LocalTimestampMicros => timestamp(TimeUnit::Microsecond, false),
            Avro::LocalTimestampNanos => timestamp(TimeUnit::Nanosecond, false),
            Avro::Array(array) => Type::Array(Box::new(self.resolve(&array.items, depth + 1)?)),
            Avro::Map(map) => Type::Map(Box::new(self.resolve(&map.types, depth + 1)?)),
            Avro::Union(union) => {
                let branches = union.variants().iter().map(|it| self.resolve(it, depth + 1));
                Type::Union(branches.collect::<Result<_, _>>()?)
            }
            Avro::Fixed(fixed) | Avro::Duration(fixed) | Avro::Uuid(UuidSchema::Fixed(fixed)) => {
                self.define(&fixed.name, Type::Scalar(Scalar::Fixed(fixed.size)))
            }
            Avro::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => Type::Scalar(Scalar::Bytes),
                InnerDecimalSchema::Fixed(fixed) => {
                    self.define(&fixed.name, Type::Scalar(Scalar::Fixed(fixed.size)))
                }
            },
            Avro::Enum(it) => {
                let symbols: Arc<[String]> = it.symbols.clone().into();
                self.define(&it.name, Type::Scalar(Scalar::Enum(symbols)))
            }
            Avro::Record(record) => Type::Record(self.record(record, depth)?),
            Avro::Ref { name } => self.reference(name, depth)?,
        })
    }

    fn record(&mut self, record: &RecordSchema, depth: usize) -> Result<Vec<Field>, SchemaError> {
        self.named.insert(record.name.clone(), None);
        let mut fields = Vec::with_capacity(record.fields.len());
        for field in &record.fields {
            fields.push(Field { name: field.name.clone(), of: self.resolve(&field.schema, depth + 1)? });
        }
        self.define(&record.name, Type::Record(fields.clone()));
        Ok(fields)
    }

    fn reference(&mut self, name: &Name, depth: usize) -> Result<Type, SchemaError> {
        match self.named.get(name) {
            Some(Some(found)) => {
                let found = found.clone();
                let (types, height) = extent(&found);
                self.count(types)?;
                if depth + height > DEPTH_LIMIT {
                    return Err(SchemaError::TooDeep);
                }
                Ok(found)
            }
            Some(None) => Err(SchemaError::Recursive { name: name.to_string() }),
            None => Err(SchemaError::Undefined { name: name.to_string() }),
        }
    }

    fn define(&mut self, name: &Name, of: Type) -> Type {
        self.named.insert(name.clone(), Some(of.clone()));
        of
    }

    fn count(&mut self, types: usize) -> Result<(), SchemaError> {
        self.types = self.types.saturating_add(types);
        if self.types > TYPE_LIMIT { Err(SchemaError::TooManyTypes) } else { Ok(()) }
    }
}

fn timestamp(unit: TimeUnit, utc: bool) -> Type {
    Type::Scalar(Scalar::Timestamp(unit, utc))
}

/// Number of types inside `of`, and how deep they are nested.
fn extent(of: &Type) -> (usize, usize) {
    let deepest = |parts: &mut dyn Iterator<Item = &Type>| {
        parts.map(extent).fold((1, 0), |(types, height), it| (types + it.0, height.max(it.1 + 1)))
    };
    match of {
        Type::Null | Type::Scalar(_) => (1, 0),
        Type::Array(item) | Type::Map(item) => deepest(&mut std::iter::once(&**item)),
        Type::Record(fields) => deepest(&mut fields.iter().map(|it| &it.of)),
        Type::Union(branches) => deepest(&mut branches.iter()),
    }
}
