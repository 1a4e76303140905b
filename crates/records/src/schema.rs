//! Avro schemas: parsed, checked against hostile ones, and seen as columns.
//!
//! A schema may come from a registry that a stranger writes to, so its size, nesting and number of types are
//! bounded and recursion is refused before any codec is compiled from it.

mod resolve;

use std::panic::catch_unwind;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Schema as ArrowSchema, SchemaRef, TimeUnit};

/// Readings as cars send them in JSON; field names are the JSON keys.
pub const READINGS: &str = include_str!("../../../schemas/readings.avsc");
/// Readings of first-generation devices that send Confluent Avro.
pub const CARDATA_V1: &str = include_str!("../../../schemas/cardata-v1.avsc");
/// Clean readings on the topic [`crate::topics::CLEAN`].
pub const CLEAN: &str = include_str!("../../../schemas/sensor-data-s-avro.avsc");
/// Window counts on the topic [`crate::topics::EVENTS_PER_5MIN`].
pub const EVENTS_PER_5MIN: &str = include_str!("../../../schemas/sensor-data-events-per-5min-t.avsc");
/// Predictions on the topic [`crate::topics::PREDICTIONS`].
pub const PREDICTIONS: &str = include_str!("../../../schemas/prediction.avsc");

/// Longest schema text that is parsed, in bytes.
pub const TEXT_LIMIT: usize = 256 * 1024;
/// Most types a schema may hold once every named reference is written out.
pub const TYPE_LIMIT: usize = 10_000;
/// Deepest nesting of types.
pub const DEPTH_LIMIT: usize = 32;

/// The registry's subject for the values of `topic`.
#[must_use]
pub fn subject(topic: &str) -> String {
    format!("{topic}-value")
}

/// A checked schema whose root is a record.
#[derive(Debug, Clone)]
pub struct Schema {
    json: Arc<str>,
    avro: Arc<apache_avro::Schema>,
    fields: Arc<[Field]>,
    arrow: SchemaRef,
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Name in the schema, and of the column.
    pub name: String,
    /// Type with every named reference resolved.
    pub of: Type,
}

/// A type with every named reference resolved.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    /// No bytes.
    Null,
    /// One value that can be a column.
    Scalar(Scalar),
    /// Blocks of items.
    Array(Box<Type>),
    /// Blocks of text keys with values.
    Map(Box<Type>),
    /// Fields one after the other.
    Record(Vec<Field>),
    /// One of these.
    Union(Vec<Type>),
}

/// A type whose values can be a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// True or false.
    Boolean,
    /// 32 bits with sign.
    Int,
    /// 64 bits with sign.
    Long,
    /// IEEE 754, 32 bits.
    Float,
    /// IEEE 754, 64 bits.
    Double,
    /// Any bytes; also decimals, whose unscaled digits they are.
    Bytes,
    /// UTF-8 text.
    String,
    /// So many bytes.
    Fixed(usize),
    /// One of these symbols.
    Enum(Arc<[String]>),
    /// Days since 1970.
    Date,
    /// Milliseconds since midnight.
    TimeMillis,
    /// Microseconds since midnight.
    TimeMicros,
    /// Time since 1970 in this unit; in UTC, or local to wherever it was written.
    Timestamp(TimeUnit, bool),
}

/// Why a schema was refused, or does not fit what is asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The text is longer than [`TEXT_LIMIT`].
    #[error("schema of {bytes} bytes is longer than {TEXT_LIMIT}")]
    TooLong {
        /// Length of the text.
        bytes: usize,
    },
    /// The text is not an Avro schema.
    #[error("not an Avro schema")]
    Invalid(#[source] Box<apache_avro::Error>),
    /// The library for schemas gave up over the text.
    #[error("no schema that can be read")]
    Unreadable,
    /// The root is not a record.
    #[error("the schema's root is {found}, not a record")]
    NotRecord {
        /// What the root is.
        found: String,
    },
    /// A type contains itself.
    #[error("type {name} contains itself; recursive schemas are not supported")]
    Recursive {
        /// The type's full name.
        name: String,
    },
    /// Types are nested deeper than [`DEPTH_LIMIT`].
    #[error("types are nested deeper than {DEPTH_LIMIT}")]
    TooDeep,
    /// Written out, the schema holds more than [`TYPE_LIMIT`] types.
    #[error("the schema holds more than {TYPE_LIMIT} types")]
    TooManyTypes,
    /// A reference names a type that was not defined before it.
    #[error("type {name} is not defined")]
    Undefined {
        /// The type's full name.
        name: String,
    },
    /// A field that is asked for is not there.
    #[error("the schema has no field {field}; it has {present}")]
    NoField {
        /// The field's name.
        field: String,
        /// The names that are there.
        present: String,
    },
    /// A field cannot be used as is asked.
    #[error("field {field} of type {found} cannot be {wanted}")]
    Unfit {
        /// The field's name.
        field: String,
        /// The field's type.
        found: String,
        /// What it should be.
        wanted: String,
    },
}

impl Schema {
    /// Parses and checks a schema.
    ///
    /// # Errors
    ///
    /// Returns what makes the text no usable schema: not Avro, its root not a record, recursion, or a bound
    /// exceeded.
    pub fn parse(json: &str) -> Result<Self, SchemaError> {
        if json.len() > TEXT_LIMIT {
            return Err(SchemaError::TooLong { bytes: json.len() });
        }
        // The library panics where it writes about a default that does not fit a type with an odd `precision`.
        let avro =
            catch_unwind(|| apache_avro::Schema::parse_str(json)).map_err(|_| SchemaError::Unreadable)?;
        let avro = avro.map_err(|it| SchemaError::Invalid(Box::new(it)))?;
        let fields = resolve::root(&avro)?;
        let columns: Vec<ArrowField> = fields.iter().filter_map(Field::arrow).collect();
        Ok(Self {
            json: json.into(),
            avro: Arc::new(avro),
            fields: fields.into(),
            arrow: Arc::new(ArrowSchema::new(columns)),
        })
    }

    /// The text as it was parsed, with documentation and defaults: what is registered.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The schema as apache-avro has it, for compatibility checks.
    #[must_use]
    pub fn avro(&self) -> &apache_avro::Schema {
        &self.avro
    }

    /// The columns that records of this schema become: the scalar fields, in order.
    ///
    /// Fields that are lists, maps, records or unions of several types have no column; codecs skip them.
    #[must_use]
    pub fn arrow(&self) -> SchemaRef {
        Arc::clone(&self.arrow)
    }

    /// The fields, in order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The field called `name`.
    ///
    /// # Errors
    ///
    /// Returns [`SchemaError::NoField`], which names the fields that are there.
    pub fn field(&self, name: &str) -> Result<&Field, SchemaError> {
        self.fields.iter().find(|it| it.name == name).ok_or_else(|| self.no_field(name))
    }

    pub(crate) fn no_field(&self, name: &str) -> SchemaError {
        let present: Vec<&str> = self.fields.iter().map(|it| it.name.as_str()).collect();
        SchemaError::NoField { field: name.to_owned(), present: present.join(", ") }
    }
}

impl Field {
    /// The scalar this field is, and the union branch that is null if it may be null.
    #[must_use]
    pub fn scalar(&self) -> Option<(&Scalar, Option<u8>)> {
        match &self.of {
            Type::Scalar(scalar) => Some((scalar, None)),
            Type::Union(branches) => match branches.as_slice() {
                [Type::Null, Type::Scalar(scalar)] => Some((scalar, Some(0))),
                [Type::Scalar(scalar), Type::Null] => Some((scalar, Some(1))),
                _ => None,
            },
            _ => None,
        }
    }

    fn arrow(&self) -> Option<ArrowField> {
        let (scalar, null) = self.scalar()?;
        Some(ArrowField::new(&self.name, scalar.arrow(), null.is_some()))
    }

    pub(crate) fn unfit(&self, wanted: impl Into<String>) -> SchemaError {
        SchemaError::Unfit { field: self.name.clone(), found: self.of.describe(), wanted: wanted.into() }
    }
}

impl Type {
    /// Fewest bytes a value takes; zero only for types whose values never take any.
    #[must_use]
    pub fn smallest(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Scalar(Scalar::Fixed(size)) => *size,
            Self::Scalar(Scalar::Float) => 4,
            Self::Scalar(Scalar::Double) => 8,
            Self::Scalar(_) | Self::Array(_) | Self::Map(_) => 1,
            Self::Record(fields) => smallest_record(fields),
            Self::Union(branches) => branches.iter().map(Self::smallest).min().unwrap_or(0).saturating_add(1),
        }
    }

    /// The type in words, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Scalar(scalar) => scalar.describe(),
            Self::Array(_) => "array".to_owned(),
            Self::Map(_) => "map".to_owned(),
            Self::Record(_) => "record".to_owned(),
            Self::Union(branches) => {
                let names: Vec<String> = branches.iter().take(8).map(Self::describe).collect();
                format!("union of {}", names.join(", "))
            }
        }
    }
}

/// Fewest bytes a record of `fields` takes.
pub(crate) fn smallest_record(fields: &[Field]) -> usize {
    fields.iter().fold(0, |sum, field| sum.saturating_add(field.of.smallest()))
}

impl Scalar {
    /// The column type that holds such values without loss.
    #[must_use]
    pub fn arrow(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int => DataType::Int32,
            Self::Long => DataType::Int64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Bytes | Self::Fixed(_) => DataType::Binary,
            Self::String | Self::Enum(_) => DataType::Utf8,
            Self::Date => DataType::Date32,
            Self::TimeMillis => DataType::Time32(TimeUnit::Millisecond),
            Self::TimeMicros => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp(unit, utc) => DataType::Timestamp(*unit, utc.then(|| "+00:00".into())),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Boolean => "boolean".to_owned(),
            Self::Int => "int".to_owned(),
            Self::Long => "long".to_owned(),
            Self::Float => "float".to_owned(),
            Self::Double => "double".to_owned(),
            Self::Bytes => "bytes".to_owned(),
            Self::String => "string".to_owned(),
            Self::Fixed(size) => format!("fixed of {size} bytes"),
            Self::Enum(symbols) => format!("enum of {} symbols", symbols.len()),
            Self::Date => "date".to_owned(),
            Self::TimeMillis | Self::TimeMicros => "time of day".to_owned(),
            Self::Timestamp(..) => "timestamp".to_owned(),
        }
    }
}
