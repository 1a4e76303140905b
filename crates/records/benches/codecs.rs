//! What the codecs cost per record, beside the naive ways. `make bench` runs it.
//!
//! Each benchmark does 1,000 records; divan's items per second are records per second.

use apache_avro::reader::datum::GenericDatumReader;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use telltale_records::avro::{Decoder, Encoder, Matrix, MatrixDecoder};
use telltale_records::prediction::{Contribution, Prediction, Verdict};
use telltale_records::{Schema, json, schema};

const RECORDS: usize = 1_000;
/// Every digit of a random double; the cars of the simulator send 2 to 4.
const FULL: usize = 20;

fn main() {
    divan::main();
}

/// Readings as JSON with at most so many digits after the point, the keys in the order of the schema.
fn json_readings(digits: usize) -> Vec<Vec<u8>> {
    let schema = Schema::parse(schema::READINGS).unwrap();
    let mut state = 7_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let reading = |number: usize| {
        let mut text = String::from("{");
        for field in schema.fields() {
            let value = match field.name.as_str() {
                "failure_occurred" => "\"false\"".to_owned(),
                "car" => format!("\"car-{number:06}\""),
                "event_time" => format!("{}", 1_700_000_000_000_u64 + number as u64),
                "control_unit_firmware" => "2000".to_owned(),
                name if name.starts_with("tire") => format!("{}", 25 + (random() * 10.0) as i32),
                _ => {
                    let text = format!("{}", random() * 100.0);
                    text[..text.len().min(3 + digits)].to_owned()
                }
            };
            text.push_str(&format!("\"{}\":{value},", field.name));
        }
        text.pop();
        text.push('}');
        text.into_bytes()
    };
    (0..RECORDS).map(reading).collect()
}

/// The same readings as Avro of the schema `text`, whose fields have the same names but for case.
fn avro_readings(text: &str) -> (Schema, Vec<Vec<u8>>) {
    let readings = Schema::parse(schema::READINGS).unwrap();
    let texts = json_readings(FULL);
    let columns = json::Decoder::compile(&readings).unwrap().decode(texts.iter().map(Vec::as_slice)).columns;
    let schema = Schema::parse(text).unwrap();
    let columns = columns.project(&(0..schema.fields().len()).collect::<Vec<_>>()).unwrap();
    let encoder = Encoder::compile(&schema, &columns.schema()).unwrap();
    let bound = encoder.bind(&columns).unwrap();
    let encoded = |row| {
        let mut out = Vec::new();
        bound.encode_row(row, &mut out).unwrap();
        out
    };
    (schema, (0..RECORDS).map(encoded).collect())
}

fn numeric(schema: &Schema) -> Vec<&str> {
    schema.fields()[..18].iter().map(|it| it.name.as_str()).collect()
}

fn counted<'a, 'b>(bencher: Bencher<'a, 'b>) -> Bencher<'a, 'b> {
    bencher.counter(ItemsCount::new(RECORDS))
}

#[divan::bench(name = "1 Avro to apache-avro Value", args = ["plain", "nullable"])]
fn avro_to_value(bencher: Bencher<'_, '_>, of: &str) {
    let (schema, payloads) = avro_readings(named(of));
    let reader = GenericDatumReader::builder(schema.avro()).build().unwrap();
    counted(bencher).bench_local(|| {
        for payload in &payloads {
            black_box(reader.read_value(&mut payload.as_slice()).unwrap());
        }
    });
}

#[divan::bench(name = "2 Avro to columns", args = ["plain", "nullable"])]
fn avro_to_columns(bencher: Bencher<'_, '_>, of: &str) {
    let (schema, payloads) = avro_readings(named(of));
    let decoder = Decoder::compile(&schema).unwrap();
    counted(bencher).bench_local(|| decoder.decode(payloads.iter().map(Vec::as_slice)));
}

#[divan::bench(name = "3 Avro to 18 f32", args = ["plain", "nullable"])]
fn avro_to_matrix(bencher: Bencher<'_, '_>, of: &str) {
    let (schema, payloads) = avro_readings(named(of));
    let decoder = MatrixDecoder::compile(&schema, &numeric(&schema), &[]).unwrap();
    let mut matrix = Matrix::default();
    counted(bencher).bench_local(|| {
        decoder.decode_into(payloads.iter().map(Vec::as_slice), &mut matrix);
        black_box(&matrix);
    });
}

#[divan::bench(name = "4 Avro to 18 f32 with car and time")]
fn avro_to_matrix_and_captures(bencher: Bencher<'_, '_>) {
    let (schema, payloads) = avro_readings(schema::CLEAN);
    let decoder = MatrixDecoder::compile(&schema, &numeric(&schema), &["CAR", "EVENT_TIME"]).unwrap();
    let mut matrix = Matrix::default();
    counted(bencher).bench_local(|| {
        decoder.decode_into(payloads.iter().map(Vec::as_slice), &mut matrix);
        black_box(&matrix);
    });
}

#[divan::bench(name = "5 columns to Avro", args = ["plain", "nullable"])]
fn columns_to_avro(bencher: Bencher<'_, '_>, of: &str) {
    let (schema, payloads) = avro_readings(named(of));
    let columns = Decoder::compile(&schema).unwrap().decode(payloads.iter().map(Vec::as_slice)).columns;
    let encoder = Encoder::compile(&schema, &columns.schema()).unwrap();
    let mut out = Vec::new();
    counted(bencher).bench_local(|| {
        out.clear();
        let bound = encoder.bind(&columns).unwrap();
        for row in 0..RECORDS {
            bound.encode_row(row, &mut out).unwrap();
        }
        black_box(&out);
    });
}

#[divan::bench(name = "6 JSON to serde_json Value", args = [4, FULL])]
fn json_to_value(bencher: Bencher<'_, '_>, digits: usize) {
    let payloads = json_readings(digits);
    counted(bencher).bench_local(|| {
        for payload in &payloads {
            black_box(serde_json::from_slice::<serde_json::Value>(payload).unwrap());
        }
    });
}

#[divan::bench(name = "7 JSON to columns, keys in order", args = [4, FULL])]
fn json_to_columns(bencher: Bencher<'_, '_>, digits: usize) {
    let payloads = json_readings(digits);
    let mut decoder = json::Decoder::compile(&Schema::parse(schema::READINGS).unwrap()).unwrap();
    counted(bencher).bench_local(|| decoder.decode(payloads.iter().map(Vec::as_slice)));
}

/// Every second record has one key less, so the order learned is always the wrong one.
#[divan::bench(name = "8 JSON to columns, keys in changing order", args = [4, FULL])]
fn json_to_columns_general(bencher: Bencher<'_, '_>, digits: usize) {
    let mut payloads = json_readings(digits);
    for payload in payloads.iter_mut().step_by(2) {
        let text = String::from_utf8(payload.clone()).unwrap();
        let (first, rest) = text[1..].split_once(',').unwrap();
        *payload = format!("{{{},{first}}}", rest.trim_end_matches('}')).into_bytes();
    }
    let mut decoder = json::Decoder::compile(&Schema::parse(schema::READINGS).unwrap()).unwrap();
    counted(bencher).bench_local(|| decoder.decode(payloads.iter().map(Vec::as_slice)));
}

#[divan::bench(name = "9 prediction to Avro")]
fn prediction_to_avro(bencher: Bencher<'_, '_>) {
    let contributions =
        ["SPEED", "TIRE_PRESSURE11", "CURRENT_DRAW"].map(|sensor| Contribution { sensor, share: 0.3 });
    let mut out = Vec::new();
    counted(bencher).bench_local(|| {
        out.clear();
        for offset in 0..RECORDS as i64 {
            let prediction = Prediction {
                car: "car-000001",
                event_time: 1_700_000_000_000 + offset,
                score: 0.7,
                threshold: 2.5,
                verdict: Verdict::Normal,
                contributions: &contributions,
                model_name: "cars",
                model_version: 3,
                source_partition: 1,
                source_offset: offset,
            };
            prediction.write(&mut out);
        }
        black_box(&out);
    });
}

fn named(of: &str) -> &'static str {
    if of == "plain" { schema::CARDATA_V1 } else { schema::CLEAN }
}
