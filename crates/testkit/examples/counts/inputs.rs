//! What the loops work on: readings of the simulator's cars, the same in every run.

use telltale_records::avro::{Decoder, Encoder};
use telltale_records::{Batch, Schema, json, schema};
use telltale_simulator::fleet::{Fleet, Settings, car_id};

/// Records of a call.
pub(crate) const RECORDS: usize = 1_000;
/// When the first second is.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

fn fleet() -> Fleet {
    Fleet::new(1, Settings::default()).expect("the default settings are valid")
}

/// Cars and JSON texts of one second.
pub(crate) fn json_readings() -> Vec<(String, Vec<u8>)> {
    let fleet = fleet();
    let reading = |car| {
        let mut text = Vec::new();
        fleet.reading(car, START_MS).write_json(&mut text);
        (car_id(car), text)
    };
    (0..RECORDS as u32).map(reading).collect()
}

/// Rows of all sensors, one car after the other.
pub(crate) fn rows(count: usize) -> Vec<f32> {
    let fleet = fleet();
    (0..count as u32).flat_map(|it| fleet.reading(it, START_MS).values.map(|it| it as f32)).collect()
}

/// The readings as Avro of the schema `text`, whose fields are the first of a reading's but for the case of their names.
pub(crate) fn avro_readings(text: &str) -> (Schema, Vec<Vec<u8>>) {
    let readings = Schema::parse(schema::READINGS).expect("a shipped schema");
    let texts = json_readings();
    let mut decoder = json::Decoder::compile(&readings).expect("a shipped schema");
    let columns = decoder.decode(texts.iter().map(|(_, text)| &text[..])).columns;
    let schema = Schema::parse(text).expect("a shipped schema");
    let fields: Vec<usize> = (0..schema.fields().len()).collect();
    let columns = columns.project(&fields).expect("a reading has these fields");
    let encoder = Encoder::compile(&schema, &columns.schema()).expect("the types are the same");
    let bound = encoder.bind(&columns).expect("these are the columns");
    let encoded = |row| {
        let mut out = Vec::new();
        bound.encode_row(row, &mut out).expect("a reading can be written");
        out
    };
    (schema, (0..columns.num_rows()).map(encoded).collect())
}

/// The readings as the columns that clean Avro is written from.
pub(crate) fn decoder_and_payloads() -> (Schema, Decoder, Vec<Vec<u8>>) {
    let (schema, payloads) = avro_readings(schema::CLEAN);
    let decoder = Decoder::compile(&schema).expect("a shipped schema");
    (schema, decoder, payloads)
}

/// A batch of these keys and values.
pub(crate) fn batch(records: impl IntoIterator<Item = (String, Vec<u8>)>) -> Batch {
    let mut batch = Batch::new("sensor-data".into(), 0);
    for (offset, (car, value)) in records.into_iter().enumerate() {
        batch.push(offset as i64, Some(START_MS), Some(car.as_bytes()), Some(&value), []);
    }
    batch
}
