//! Columns while they are being filled, row by row, with rows that may have to be taken back.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Float32Array, Float64Array, Int32Array, Int64Array,
    PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray, Time32MillisecondArray,
    Time64MicrosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowTimestampType, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};

use crate::dead_letter::Reason;
use crate::schema::{Scalar, Schema};

/// What became of a sequence of payloads.
#[derive(Debug)]
pub struct Decoded {
    /// A row for each payload that could be read.
    pub columns: RecordBatch,
    /// For each row, which payload it was.
    pub rows: Vec<u32>,
    /// The other payloads: which, why, and what exactly was wrong.
    pub rejected: Vec<Rejected>,
}

/// A payload that could not be read: its index, the kind of fault, and what exactly was wrong.
pub type Rejected = (u32, Reason, String);

/// The values of one column so far.
#[derive(Debug, Clone)]
pub(crate) enum Values {
    Boolean(Vec<bool>),
    Int(Vec<i32>),
    Long(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Text(Bytes),
    Symbol(Arc<[String]>, Bytes),
    Binary(Bytes),
    Fixed(usize, Bytes),
}

/// Values of any length, one after the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bytes {
    pub(crate) ends: Vec<i32>,
    pub(crate) data: Vec<u8>,
}

/// The column of a field that is called `name`.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: Arc<str>,
    pub(crate) values: Values,
    /// Whether each value is there; empty as long as no value is missing.
    present: Vec<bool>,
    pub(crate) nullable: bool,
    scalar: Scalar,
}

impl Bytes {
    /// Appends a value; false when the column can hold no more.
    #[inline]
    pub(crate) fn push(&mut self, value: &[u8]) -> bool {
        let Ok(end) = i32::try_from(self.data.len() + value.len()) else { return false };
        self.data.extend_from_slice(value);
        self.ends.push(end);
        true
    }

    fn push_empty(&mut self) {
        self.ends.push(self.ends.last().copied().unwrap_or(0));
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.data.truncate(self.ends.last().map_or(0, |it| it.cast_unsigned() as usize));
    }

    fn finish(self) -> (OffsetBuffer<i32>, Buffer) {
        let mut offsets = Vec::with_capacity(self.ends.len() + 1);
        offsets.push(0);
        offsets.extend_from_slice(&self.ends);
        (OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(self.data))
    }
}

impl Column {
    /// An empty column for each scalar field of `schema`, in order.
    pub(crate) fn all(schema: &Schema) -> Vec<Self> {
        let scalars = schema.fields().iter().filter_map(|it| it.scalar().map(|found| (it, found)));
        scalars.map(|(field, (scalar, null))| Self::new(&field.name, scalar, null.is_some())).collect()
    }

    pub(crate) fn new(name: &str, scalar: &Scalar, nullable: bool) -> Self {
        let values = match scalar {
            Scalar::Boolean => Values::Boolean(Vec::new()),
            Scalar::Int | Scalar::Date | Scalar::TimeMillis => Values::Int(Vec::new()),
            Scalar::Long | Scalar::TimeMicros | Scalar::Timestamp(..) => Values::Long(Vec::new()),
            Scalar::Float => Values::Float(Vec::new()),
            Scalar::Double => Values::Double(Vec::new()),
            Scalar::Bytes => Values::Binary(Bytes::default()),
            Scalar::Fixed(size) => Values::Fixed(*size, Bytes::default()),
            Scalar::String => Values::Text(Bytes::default()),
            Scalar::Enum(symbols) => Values::Symbol(Arc::clone(symbols), Bytes::default()),
        };
        Self { name: name.into(), values, present: Vec::new(), nullable, scalar: scalar.clone() }
    }

    /// Makes room for `rows` more values.
    pub(crate) fn reserve(&mut self, rows: usize) {
        match &mut self.values {
            Values::Boolean(it) => it.reserve(rows),
            Values::Int(it) => it.reserve(rows),
            Values::Long(it) => it.reserve(rows),
            Values::Float(it) => it.reserve(rows),
            Values::Double(it) => it.reserve(rows),
            Values::Text(it) | Values::Symbol(_, it) | Values::Binary(it) | Values::Fixed(_, it) => {
                it.ends.reserve(rows);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.values {
            Values::Boolean(it) => it.len(),
            Values::Int(it) => it.len(),
            Values::Long(it) => it.len(),
            Values::Float(it) => it.len(),
            Values::Double(it) => it.len(),
            Values::Text(it) | Values::Symbol(_, it) | Values::Binary(it) | Values::Fixed(_, it) => {
                it.ends.len()
            }
        }
    }

    /// Says that the value pushed with it is there.
    #[inline(always)]
    pub(crate) fn mark_present(&mut self) {
        if !self.present.is_empty() {
            self.present.push(true);
        }
    }

    /// Appends a missing value.
    pub(crate) fn push_null(&mut self) {
        if self.present.is_empty() {
            self.present.resize(self.len(), true);
        }
        self.present.push(false);
        match &mut self.values {
            Values::Boolean(it) => it.push(false),
            Values::Int(it) => it.push(0),
            Values::Long(it) => it.push(0),
            Values::Float(it) => it.push(0.0),
            Values::Double(it) => it.push(0.0),
            Values::Text(it) | Values::Symbol(_, it) | Values::Binary(it) | Values::Fixed(_, it) => {
                it.push_empty()
            }
        }
    }

    /// Takes back what follows the first `rows` values.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.present.truncate(rows);
        match &mut self.values {
            Values::Boolean(it) => it.truncate(rows),
            Values::Int(it) => it.truncate(rows),
            Values::Long(it) => it.truncate(rows),
            Values::Float(it) => it.truncate(rows),
            Values::Double(it) => it.truncate(rows),
            Values::Text(it) | Values::Symbol(_, it) | Values::Binary(it) | Values::Fixed(_, it) => {
                it.truncate(rows)
            }
        }
    }

    fn finish(self) -> ArrayRef {
        let nulls = (!self.present.is_empty()).then(|| NullBuffer::from(self.present));
        match (self.values, &self.scalar) {
            (Values::Boolean(it), _) => Arc::new(BooleanArray::new(it.into(), nulls)),
            (Values::Int(it), Scalar::Date) => Arc::new(Date32Array::new(it.into(), nulls)),
            (Values::Int(it), Scalar::TimeMillis) => Arc::new(Time32MillisecondArray::new(it.into(), nulls)),
            (Values::Int(it), _) => Arc::new(Int32Array::new(it.into(), nulls)),
            (Values::Long(it), Scalar::TimeMicros) => Arc::new(Time64MicrosecondArray::new(it.into(), nulls)),
            (Values::Long(it), Scalar::Timestamp(unit, utc)) => match unit {
                TimeUnit::Second => timestamps::<TimestampSecondType>(it, nulls, *utc),
                TimeUnit::Millisecond => timestamps::<TimestampMillisecondType>(it, nulls, *utc),
                TimeUnit::Microsecond => timestamps::<TimestampMicrosecondType>(it, nulls, *utc),
                TimeUnit::Nanosecond => timestamps::<TimestampNanosecondType>(it, nulls, *utc),
            },
            (Values::Long(it), _) => Arc::new(Int64Array::new(it.into(), nulls)),
            (Values::Float(it), _) => Arc::new(Float32Array::new(it.into(), nulls)),
            (Values::Double(it), _) => Arc::new(Float64Array::new(it.into(), nulls)),
            (Values::Text(it) | Values::Symbol(_, it), _) => {
                let (offsets, data) = it.finish();
                Arc::new(StringArray::new(offsets, data, nulls))
            }
            (Values::Binary(it) | Values::Fixed(_, it), _) => {
                let (offsets, data) = it.finish();
                Arc::new(BinaryArray::new(offsets, data, nulls))
            }
        }
    }
}

fn timestamps<T: ArrowTimestampType>(values: Vec<i64>, nulls: Option<NullBuffer>, utc: bool) -> ArrayRef {
    let array = PrimitiveArray::<T>::new(values.into(), nulls);
    Arc::new(if utc { array.with_timezone("+00:00") } else { array })
}

/// Makes a batch of `columns`, each of which has `rows` values.
pub(crate) fn finish(schema: SchemaRef, columns: Vec<Column>, rows: usize) -> RecordBatch {
    let arrays = columns.into_iter().map(Column::finish).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, arrays, &options)
        .expect("columns were made from the same schema and have a value for each row")
}

/// The number of a payload among those of one batch.
pub(crate) fn index(position: usize) -> u32 {
    u32::try_from(position).expect("a batch has fewer than 2^32 records")
}
