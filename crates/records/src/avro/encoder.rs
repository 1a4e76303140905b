//! Columns to Avro.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, LargeStringArray, RecordBatch, StringArray,
    StringViewArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Schema as ArrowSchema, Time32MillisecondType, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};

use super::cursor::write_long;
use crate::dead_letter::Reason;
use crate::schema::{Field, Scalar, Schema, SchemaError};

/// Encodes rows of one set of columns as records of one schema.
#[derive(Debug, Clone)]
pub struct Encoder {
    steps: Vec<Step>,
}

/// An [`Encoder`] with the columns of one batch.
#[derive(Debug)]
pub struct BoundEncoder<'a> {
    fields: Vec<(&'a Step, Option<Source<'a>>)>,
}

/// A row that is no record of the schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field}: {detail}")]
pub struct EncodeError {
    /// The field that could not be written.
    pub field: String,
    /// Why a dead letter of this row would say it was rejected.
    pub reason: Reason,
    /// What exactly was wrong.
    pub detail: &'static str,
}

#[derive(Debug, Clone)]
struct Step {
    name: String,
    scalar: Scalar,
    null_branch: Option<u8>,
    /// Index of the column; a nullable field without one is always null.
    column: Option<usize>,
}

/// The values of a column, by how they are read.
#[derive(Debug)]
enum Values<'a> {
    Double(&'a [f64]),
    Float(&'a [f32]),
    Int(&'a [i32]),
    Long(&'a [i64]),
    /// Rarer whole numbers, widened; `None` above the range of i64.
    Wide(Vec<Option<i64>>),
    Boolean(&'a BooleanArray),
    Text(&'a StringArray),
    LargeText(&'a LargeStringArray),
    TextView(&'a StringViewArray),
    Binary(&'a BinaryArray),
}

#[derive(Debug)]
struct Source<'a> {
    array: &'a ArrayRef,
    nulls: bool,
    values: Values<'a>,
    /// Units of the field in one unit of the column, and the other way round.
    scale: (i64, i64),
}

impl Encoder {
    /// Compiles a plan for columns of `columns` and records of `schema`.
    ///
    /// Columns are matched to fields by name: exactly, or else without regard to case if only one fits (SQL
    /// engines change the case of names). A nullable field without a column is written as null.
    ///
    /// # Errors
    ///
    /// Returns an error when a field that must have a value has no column, a column has no field, or a column's
    /// type cannot be written as the field's.
    pub fn compile(schema: &Schema, columns: &ArrowSchema) -> Result<Self, SchemaError> {
        let mut used = vec![false; columns.fields().len()];
        let mut steps = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let Some((scalar, null_branch)) = field.scalar() else {
                return Err(field.unfit("written from a column"));
            };
            let column = find(columns, &field.name);
            match column {
                Some(index) => {
                    used[index] = true;
                    let found = columns.field(index).data_type();
                    if !writable(found, scalar) {
                        return Err(field.unfit(format!("written from a column of type {found}")));
                    }
                }
                None if null_branch.is_none() => return Err(missing(field, columns)),
                None => {}
            }
            steps.push(Step { name: field.name.clone(), scalar: scalar.clone(), null_branch, column });
        }
        match used.iter().position(|it| !it) {
            Some(index) => Err(schema.no_field(columns.field(index).name())),
            None => Ok(Self { steps }),
        }
    }

    /// Binds the plan to `batch`, whose columns must be those the plan was compiled for.
    ///
    /// # Errors
    ///
    /// Returns an error when a column is missing or of another type.
    pub fn bind<'a>(&'a self, batch: &'a RecordBatch) -> Result<BoundEncoder<'a>, SchemaError> {
        let mut fields = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let source = match step.column {
                None => None,
                Some(index) => Some(step.source(batch.columns().get(index))?),
            };
            fields.push((step, source));
        }
        Ok(BoundEncoder { fields })
    }
}

impl BoundEncoder<'_> {
    /// Appends row `row` to `out`, without a Confluent header; on an error `out` is as it was.
    ///
    /// # Errors
    ///
    /// Returns an error when a value is missing where the schema wants one, or out of the field's range.
    ///
    /// # Panics
    ///
    /// Panics when there is no such row.
    pub fn encode_row(&self, row: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        for (step, source) in &self.fields {
            if let Err((reason, detail)) = write(step, source.as_ref(), row, out) {
                out.truncate(start);
                return Err(EncodeError { field: step.name.clone(), reason, detail });
            }
        }
        Ok(())
    }
}

type WriteFault = (Reason, &'static str);
const RANGE: WriteFault = (Reason::OutOfRange, "the number does not fit the field");
const MISMATCH: WriteFault = (Reason::SchemaMismatch, "the column's type changed");

#[inline(always)]
fn write(step: &Step, source: Option<&Source<'_>>, row: usize, out: &mut Vec<u8>) -> Result<(), WriteFault> {
    let source = source.filter(|it| !it.nulls || it.array.is_valid(row));
    let Some(source) = source else {
        return match step.null_branch {
            Some(branch) => {
                out.push(branch * 2);
                Ok(())
            }
            None => Err((Reason::SchemaMismatch, "it is null and the schema wants a value")),
        };
    };
    if let Some(null_branch) = step.null_branch {
        out.push((1 - null_branch) * 2);
    }
    match (&step.scalar, &source.values) {
        (Scalar::Double, Values::Double(it)) => out.extend_from_slice(&it[row].to_le_bytes()),
        (Scalar::Double, Values::Float(it)) => out.extend_from_slice(&f64::from(it[row]).to_le_bytes()),
        (Scalar::Float, Values::Float(it)) => out.extend_from_slice(&it[row].to_le_bytes()),
        (Scalar::Float, Values::Double(it)) => out.extend_from_slice(&(it[row] as f32).to_le_bytes()),
        (Scalar::Boolean, Values::Boolean(it)) => out.push(u8::from(it.value(row))),
        (Scalar::String, Values::Text(it)) => write_bytes(it.value(row).as_bytes(), out),
        (Scalar::String, Values::TextView(it)) => write_bytes(it.value(row).as_bytes(), out),
        (Scalar::String, Values::LargeText(it)) => write_bytes(it.value(row).as_bytes(), out),
        (Scalar::Bytes, Values::Binary(it)) => write_bytes(it.value(row), out),
        (Scalar::Fixed(size), Values::Binary(it)) => {
            let value = it.value(row);
            if value.len() != *size {
                return Err((Reason::SchemaMismatch, "the value's length is not that of the fixed type"));
            }
            out.extend_from_slice(value);
        }
        (Scalar::Enum(symbols), _) => {
            let text = source.text(row).ok_or(MISMATCH)?;
            let index = symbols.iter().position(|it| it == text);
            write_long(
                index.ok_or((Reason::OutOfRange, "the text is not a symbol of the enum"))? as i64,
                out,
            );
        }
        (scalar, _) => {
            let value = source.whole(row)?;
            match scalar {
                Scalar::Int | Scalar::Date | Scalar::TimeMillis => {
                    write_long(i64::from(i32::try_from(value).map_err(|_| RANGE)?), out);
                }
                Scalar::Long | Scalar::TimeMicros | Scalar::Timestamp(..) => write_long(value, out),
                Scalar::Double => out.extend_from_slice(&(value as f64).to_le_bytes()),
                Scalar::Float => out.extend_from_slice(&(value as f32).to_le_bytes()),
                _ => return Err(MISMATCH),
            }
        }
    }
    Ok(())
}

fn write_bytes(value: &[u8], out: &mut Vec<u8>) {
    write_long(value.len() as i64, out);
    out.extend_from_slice(value);
}

impl Source<'_> {
    fn text(&self, row: usize) -> Option<&str> {
        match &self.values {
            Values::Text(it) => Some(it.value(row)),
            Values::LargeText(it) => Some(it.value(row)),
            Values::TextView(it) => Some(it.value(row)),
            _ => None,
        }
    }

    #[inline(always)]
    fn whole(&self, row: usize) -> Result<i64, WriteFault> {
        let value = match &self.values {
            Values::Int(it) => i64::from(it[row]),
            Values::Long(it) => it[row],
            Values::Wide(it) => it[row].ok_or(RANGE)?,
            _ => return Err(MISMATCH),
        };
        match self.scale {
            (1, 1) => Ok(value),
            (times, 1) => value.checked_mul(times).ok_or(RANGE),
            (_, by) => Ok(value.div_euclid(by)),
        }
    }
}

impl Step {
    fn source<'a>(&self, array: Option<&'a ArrayRef>) -> Result<Source<'a>, SchemaError> {
        let unfit = |found: &str| SchemaError::Unfit {
            field: self.name.clone(),
            found: self.scalar.arrow().to_string(),
            wanted: format!("written from a column of type {found}"),
        };
        let array = array.ok_or_else(|| unfit("nothing"))?;
        let found = array.data_type();
        if !writable(found, &self.scalar) {
            return Err(unfit(&found.to_string()));
        }
        let mut scale = (1, 1);
        if let (DataType::Timestamp(from, _), Scalar::Timestamp(to, _)) = (found, &self.scalar) {
            let (from, to) = (per_second(*from), per_second(*to));
            scale = if to >= from { (to / from, 1) } else { (1, from / to) };
        }
        let values = values(array).ok_or_else(|| unfit(&found.to_string()))?;
        Ok(Source { array, nulls: array.null_count() > 0 || *found == DataType::Null, values, scale })
    }
}

fn values(array: &ArrayRef) -> Option<Values<'_>> {
    macro_rules! wide {
        ($of:ty) => {
            Values::Wide(
                array.as_primitive::<$of>().values().iter().map(|it| i64::try_from(*it).ok()).collect(),
            )
        };
    }
    Some(match array.data_type() {
        DataType::Float64 => Values::Double(array.as_primitive::<Float64Type>().values()),
        DataType::Float32 => Values::Float(array.as_primitive::<Float32Type>().values()),
        DataType::Int32 => Values::Int(array.as_primitive::<Int32Type>().values()),
        DataType::Int64 => Values::Long(array.as_primitive::<Int64Type>().values()),
        DataType::Date32 => Values::Int(array.as_primitive::<Date32Type>().values()),
        DataType::Time32(TimeUnit::Millisecond) => {
            Values::Int(array.as_primitive::<Time32MillisecondType>().values())
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            Values::Long(array.as_primitive::<Time64MicrosecondType>().values())
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            Values::Long(array.as_primitive::<TimestampSecondType>().values())
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Values::Long(array.as_primitive::<TimestampMillisecondType>().values())
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Values::Long(array.as_primitive::<TimestampMicrosecondType>().values())
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            Values::Long(array.as_primitive::<TimestampNanosecondType>().values())
        }
        DataType::Int8 => wide!(Int8Type),
        DataType::Int16 => wide!(Int16Type),
        DataType::UInt8 => wide!(UInt8Type),
        DataType::UInt16 => wide!(UInt16Type),
        DataType::UInt32 => wide!(UInt32Type),
        DataType::UInt64 => wide!(UInt64Type),
        DataType::Boolean => Values::Boolean(array.as_boolean()),
        DataType::Utf8 => Values::Text(array.as_string()),
        DataType::LargeUtf8 => Values::LargeText(array.as_string()),
        DataType::Utf8View => Values::TextView(array.as_string_view()),
        DataType::Binary => Values::Binary(array.as_binary()),
        // Only null: every row is written as such before its value is looked at.
        DataType::Null => Values::Wide(Vec::new()),
        _ => return None,
    })
}

/// Whether values of `column` can be written as `scalar`; whole numbers are checked row by row.
fn writable(column: &DataType, scalar: &Scalar) -> bool {
    let text = matches!(column, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if *column == DataType::Null {
        return true;
    }
    match scalar {
        Scalar::Boolean => *column == DataType::Boolean,
        Scalar::Int => column.is_integer(),
        Scalar::Long => {
            column.is_integer() || matches!(column, DataType::Timestamp(TimeUnit::Millisecond, _))
        }
        Scalar::Float | Scalar::Double => {
            column.is_integer() || matches!(column, DataType::Float32 | DataType::Float64)
        }
        Scalar::Bytes | Scalar::Fixed(_) => *column == DataType::Binary,
        Scalar::String | Scalar::Enum(_) => text,
        Scalar::Date => *column == DataType::Date32,
        Scalar::TimeMillis => *column == DataType::Time32(TimeUnit::Millisecond),
        Scalar::TimeMicros => *column == DataType::Time64(TimeUnit::Microsecond),
        Scalar::Timestamp(..) => matches!(column, DataType::Timestamp(..) | DataType::Int64),
    }
}

fn find(columns: &ArrowSchema, name: &str) -> Option<usize> {
    let exact = columns.fields().iter().position(|it| it.name() == name);
    exact.or_else(|| {
        let mut alike =
            columns.fields().iter().enumerate().filter(|(_, it)| it.name().eq_ignore_ascii_case(name));
        let first = alike.next()?;
        alike.next().is_none().then_some(first.0)
    })
}

fn missing(field: &Field, columns: &ArrowSchema) -> SchemaError {
    let present: Vec<&str> = columns.fields().iter().map(|it| it.name().as_str()).collect();
    field.unfit(format!("left out; the columns are {}", present.join(", ")))
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}
