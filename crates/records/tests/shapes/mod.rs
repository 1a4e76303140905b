//! Random schemas with random values of them, as apache-avro has them.

use apache_avro::types::Value;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int32Type, Int64Type, Time32MillisecondType,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType,
};
use proptest::prelude::*;

/// A type, before it has the names that a schema needs.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Plain(&'static str),
    Logical(&'static str, &'static str),
    Fixed(usize),
    Enum(usize),
    Array(Box<Shape>),
    Map(Box<Shape>),
    Record(Vec<Shape>),
    Union(Vec<Shape>),
}

const PLAIN: [&str; 7] = ["boolean", "int", "long", "float", "double", "bytes", "string"];
const LOGICAL: [(&str, &str); 9] = [
    ("int", "date"),
    ("int", "time-millis"),
    ("long", "time-micros"),
    ("long", "timestamp-millis"),
    ("long", "timestamp-micros"),
    ("long", "timestamp-nanos"),
    ("long", "local-timestamp-millis"),
    ("long", "local-timestamp-micros"),
    ("long", "local-timestamp-nanos"),
];

impl Shape {
    fn json(&self, names: &mut usize) -> String {
        *names += 1;
        let name = *names;
        match self {
            Self::Plain(of) => format!("\"{of}\""),
            Self::Logical(of, logical) => format!("{{\"type\":\"{of}\",\"logicalType\":\"{logical}\"}}"),
            Self::Fixed(size) => format!("{{\"type\":\"fixed\",\"name\":\"n{name}\",\"size\":{size}}}"),
            Self::Enum(count) => {
                let symbols: Vec<String> = (0..*count).map(|it| format!("\"S{it}\"")).collect();
                format!("{{\"type\":\"enum\",\"name\":\"n{name}\",\"symbols\":[{}]}}", symbols.join(","))
            }
            Self::Array(item) => format!("{{\"type\":\"array\",\"items\":{}}}", item.json(names)),
            Self::Map(item) => format!("{{\"type\":\"map\",\"values\":{}}}", item.json(names)),
            Self::Record(fields) => record(&format!("n{name}"), fields, names),
            Self::Union(branches) => {
                let branches: Vec<String> = branches.iter().map(|it| it.json(names)).collect();
                format!("[{}]", branches.join(","))
            }
        }
    }

    fn value(&self) -> BoxedStrategy<Value> {
        match self {
            Self::Plain("null") => Just(Value::Null).boxed(),
            Self::Plain("boolean") => any::<bool>().prop_map(Value::Boolean).boxed(),
            Self::Plain("int") => int().prop_map(Value::Int).boxed(),
            Self::Plain("long") => long().prop_map(Value::Long).boxed(),
            Self::Plain("float") => any::<f32>().prop_map(Value::Float).boxed(),
            Self::Plain("double") => any::<f64>().prop_map(Value::Double).boxed(),
            Self::Plain("bytes") => prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes).boxed(),
            Self::Plain(_) => "\\PC{0,12}".prop_map(Value::String).boxed(),
            Self::Logical(_, "date") => int().prop_map(Value::Date).boxed(),
            Self::Logical(_, "time-millis") => int().prop_map(Value::TimeMillis).boxed(),
            Self::Logical(_, "time-micros") => long().prop_map(Value::TimeMicros).boxed(),
            Self::Logical(_, "timestamp-millis") => long().prop_map(Value::TimestampMillis).boxed(),
            Self::Logical(_, "timestamp-micros") => long().prop_map(Value::TimestampMicros).boxed(),
            Self::Logical(_, "timestamp-nanos") => long().prop_map(Value::TimestampNanos).boxed(),
            Self::Logical(_, "local-timestamp-millis") => {
                long().prop_map(Value::LocalTimestampMillis).boxed()
            }
            Self::Logical(_, "local-timestamp-micros") => {
                long().prop_map(Value::LocalTimestampMicros).boxed()
            }
            Self::Logical(..) => long().prop_map(Value::LocalTimestampNanos).boxed(),
            Self::Fixed(size) => {
                let size = *size;
                prop::collection::vec(any::<u8>(), size).prop_map(move |it| Value::Fixed(size, it)).boxed()
            }
            Self::Enum(count) => (0..*count as u32).prop_map(|it| Value::Enum(it, format!("S{it}"))).boxed(),
            Self::Array(item) => prop::collection::vec(item.value(), 0..4).prop_map(Value::Array).boxed(),
            Self::Map(item) => {
                prop::collection::hash_map("[a-z]{0,3}", item.value(), 0..3).prop_map(Value::Map).boxed()
            }
            Self::Record(fields) => row(fields),
            Self::Union(branches) => {
                let branches: Vec<_> = branches.iter().map(Self::value).collect();
                (0..branches.len())
                    .prop_flat_map(move |index| {
                        branches[index].clone().prop_map(move |it| Value::Union(index as u32, Box::new(it)))
                    })
                    .boxed()
            }
        }
    }
}

fn int() -> impl Strategy<Value = i32> {
    prop_oneof![-70_i32..70, any::<i32>(), Just(i32::MIN), Just(i32::MAX)]
}

fn long() -> impl Strategy<Value = i64> {
    prop_oneof![-70_i64..70, -9_000_i64..9_000, any::<i64>(), Just(i64::MIN), Just(i64::MAX)]
}

fn record(name: &str, fields: &[Shape], names: &mut usize) -> String {
    let fields: Vec<String> = fields
        .iter()
        .enumerate()
        .map(|(index, it)| format!("{{\"name\":\"f{index}\",\"type\":{}}}", it.json(names)))
        .collect();
    format!("{{\"type\":\"record\",\"name\":\"{name}\",\"fields\":[{}]}}", fields.join(","))
}

/// The text of a schema whose root has `fields`.
pub(crate) fn schema_json(fields: &[Shape]) -> String {
    record("root", fields, &mut 0)
}

/// A value of a record with `fields`.
pub(crate) fn row(fields: &[Shape]) -> BoxedStrategy<Value> {
    let values: Vec<_> = fields.iter().map(Shape::value).collect();
    let named = |it: Vec<Value>| it.into_iter().enumerate().map(|(i, it)| (format!("f{i}"), it)).collect();
    values.prop_map(move |it| Value::Record(named(it))).boxed()
}

fn scalar() -> impl Strategy<Value = Shape> {
    prop_oneof![
        4 => prop::sample::select(&PLAIN[..]).prop_map(Shape::Plain),
        1 => prop::sample::select(&LOGICAL[..]).prop_map(|(of, logical)| Shape::Logical(of, logical)),
        1 => (0_usize..20).prop_map(Shape::Fixed),
        1 => (1_usize..70).prop_map(Shape::Enum),
    ]
}

/// A scalar, or one that may be null, with null before or after it.
pub(crate) fn column() -> impl Strategy<Value = Shape> {
    let null = || Shape::Plain("null");
    (scalar(), 0..3).prop_map(move |(of, null_at)| match null_at {
        0 => of,
        1 => Shape::Union(vec![null(), of]),
        _ => Shape::Union(vec![of, null()]),
    })
}

/// Any type, nested up to three deep.
pub(crate) fn anything() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![3 => scalar(), 1 => Just(Shape::Plain("null"))];
    let nested = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|it| Shape::Array(Box::new(it))),
            inner.clone().prop_map(|it| Shape::Map(Box::new(it))),
            prop::collection::vec(inner, 0..4).prop_map(Shape::Record),
            Just(Shape::Union(["null", "long", "string"].map(Shape::Plain).to_vec())),
            Just(Shape::Union(vec![Shape::Plain("double")])),
        ]
    });
    prop_oneof![2 => column(), 1 => nested]
}

/// Row `row` of `columns`, as apache-avro would have the values of `original`; fields without a column are
/// taken from `original`.
pub(crate) fn read_back(columns: &RecordBatch, row: usize, original: &Value) -> Value {
    let Value::Record(fields) = original else { panic!("{original:?} is not a record") };
    let read = |(name, was): &(String, Value)| {
        let Some(column) = columns.column_by_name(name) else { return (name.clone(), was.clone()) };
        let value = match was {
            Value::Union(branch, _) => {
                let null_first = matches!(was, Value::Union(0, it) if **it == Value::Null)
                    || matches!(was, Value::Union(1, it) if **it != Value::Null);
                let (null, some) = if null_first { (0, 1) } else { (1, 0) };
                let value = if column.is_null(row) {
                    Value::Union(null, Box::new(Value::Null))
                } else {
                    Value::Union(some, Box::new(cell(column, row, was)))
                };
                let _ = branch;
                value
            }
            _ => cell(column, row, was),
        };
        (name.clone(), value)
    };
    Value::Record(fields.iter().map(read).collect())
}

fn cell(column: &dyn Array, row: usize, was: &Value) -> Value {
    let was = if let Value::Union(_, inner) = was { inner } else { was };
    macro_rules! number {
        ($of:ty) => {
            column.as_primitive::<$of>().value(row)
        };
    }
    match column.data_type() {
        DataType::Boolean => Value::Boolean(column.as_boolean().value(row)),
        DataType::Int32 => Value::Int(number!(Int32Type)),
        DataType::Int64 => Value::Long(number!(Int64Type)),
        DataType::Float32 => Value::Float(number!(Float32Type)),
        DataType::Float64 => Value::Double(number!(Float64Type)),
        DataType::Date32 => Value::Date(number!(Date32Type)),
        DataType::Time32(_) => Value::TimeMillis(number!(Time32MillisecondType)),
        DataType::Time64(_) => Value::TimeMicros(number!(Time64MicrosecondType)),
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            let value = number!(TimestampMillisecondType);
            if zone.is_some() { Value::TimestampMillis(value) } else { Value::LocalTimestampMillis(value) }
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let value = number!(TimestampMicrosecondType);
            if zone.is_some() { Value::TimestampMicros(value) } else { Value::LocalTimestampMicros(value) }
        }
        DataType::Timestamp(_, zone) => {
            let value = number!(TimestampNanosecondType);
            if zone.is_some() { Value::TimestampNanos(value) } else { Value::LocalTimestampNanos(value) }
        }
        DataType::Utf8 => {
            let text = column.as_string::<i32>().value(row).to_owned();
            match was {
                Value::Enum(..) => Value::Enum(text[1..].parse().unwrap(), text),
                _ => Value::String(text),
            }
        }
        DataType::Binary => {
            let bytes = column.as_binary::<i32>().value(row).to_vec();
            match was {
                Value::Fixed(..) => Value::Fixed(bytes.len(), bytes),
                _ => Value::Bytes(bytes),
            }
        }
        other => panic!("no column should be {other}"),
    }
}
