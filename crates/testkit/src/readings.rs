//! Readings of a small healthy fleet: the same numbers for the same car and second.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;

use telltale_records::avro::Encoder;
use telltale_records::{Schema, framing, json, schema};

/// A clean reading as the preprocessor writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Its car, the key.
    pub car: String,
    /// Its event time.
    pub time_ms: i64,
    /// Framed Avro.
    pub value: Vec<u8>,
}

/// Name of a car by its number.
#[must_use]
pub fn car(number: usize) -> String {
    format!("car-{number:06}")
}

/// A number between 0 and 1 that depends on nothing but its arguments.
fn noise(car: usize, second: usize, column: usize) -> f64 {
    let mut hasher = DefaultHasher::new();
    (car, second, column).hash(&mut hasher);
    (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
}

/// The 18 numbers of a reading: two hidden quantities and noise; what is an integer in the schema is whole.
#[must_use]
pub fn numbers(car: usize, second: usize) -> [f64; 18] {
    let (load, heat) = (noise(car, second, 90), noise(car, second, 91));
    std::array::from_fn(|column| {
        let share = column as f64 / 17.0;
        let value = 20.0 + 40.0 * (share * load + (1.0 - share) * heat) + 2.0 * noise(car, second, column);
        if (9..13).contains(&column) || column == 17 { value.round() } else { value }
    })
}

/// Clean readings of so many cars, one a second, under schema `id`.
///
/// # Panics
///
/// Never: the schemas are our own.
#[must_use]
pub fn readings(id: u32, cars: usize, seconds: Range<usize>) -> Vec<Reading> {
    changed_readings(id, cars, seconds, |it| it)
}

/// Readings whose numbers were changed.
///
/// # Panics
///
/// Panics when the changed numbers do not fit the schema.
#[must_use]
pub fn changed_readings(
    id: u32,
    cars: usize,
    seconds: Range<usize>,
    change: impl Fn([f64; 18]) -> [f64; 18],
) -> Vec<Reading> {
    let source = Schema::parse(schema::READINGS).expect("our schema can be parsed");
    let clean = Schema::parse(schema::CLEAN).expect("our schema can be parsed");
    let mut keys = Vec::new();
    let mut texts = Vec::new();
    for second in seconds {
        for number in 0..cars {
            let (name, time) = (car(number), 1_700_000_000_000 + 1000 * second as i64);
            let mut object = serde_json::Map::new();
            for (field, value) in source.fields().iter().zip(change(numbers(number, second))) {
                let whole = field.of.describe() == "int";
                object.insert(field.name.clone(), if whole { (value as i64).into() } else { value.into() });
            }
            object.insert("failure_occurred".into(), "false".into());
            object.insert("car".into(), name.clone().into());
            object.insert("event_time".into(), time.into());
            texts.push(serde_json::to_vec(&object).expect("an object can be written"));
            keys.push((name, time));
        }
    }
    let mut decoder = json::Decoder::compile(&source).expect("our schema can be read as JSON");
    let decoded = decoder.decode(texts.iter().map(Vec::as_slice));
    assert_eq!(decoded.rejected, [], "the numbers fit the schema");
    let encoder =
        Encoder::compile(&clean, &decoded.columns.schema()).expect("clean readings hold the columns");
    let bound = encoder.bind(&decoded.columns).expect("the columns are those of the schema");
    let framed = |(row, (car, time_ms)): (usize, (String, i64))| {
        let mut value = Vec::new();
        framing::write_header(id, &mut value);
        bound.encode_row(row, &mut value).expect("a row can be written");
        Reading { car, time_ms, value }
    };
    keys.into_iter().enumerate().map(framed).collect()
}
