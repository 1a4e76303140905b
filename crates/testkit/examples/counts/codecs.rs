//! The loops of records and of the preprocessor: codecs, SQL, batches.

use std::sync::Arc;

use telltale_kafka::RegistryError;
use telltale_preprocessor::pipeline::Pipeline;
use telltale_preprocessor::{SchemaIds, Transform};
use telltale_records::avro::{Encoder, Matrix, MatrixDecoder};
use telltale_records::prediction::{Contribution, Prediction, Verdict};
use telltale_records::{Batch, Destination, Outgoing, Schema, Source, framing, json, schema};

use crate::inputs::{RECORDS, START_MS, avro_readings, batch, decoder_and_payloads, json_readings};
use crate::loops::Work;

/// Id of the schema that devices of the first generation write with.
const FIRST: u32 = 7;

pub(crate) fn json_to_columns() -> Work {
    let texts = json_readings();
    let schema = Schema::parse(schema::READINGS).expect("a shipped schema");
    let mut decoder = json::Decoder::compile(&schema).expect("a shipped schema");
    Work::new(RECORDS, move || {
        let decoded = decoder.decode(texts.iter().map(|(_, text)| &text[..]));
        assert!(decoded.rejected.is_empty(), "a reading was rejected");
        decoded
    })
}

pub(crate) fn columns_to_avro() -> Work {
    let (schema, decoder, payloads) = decoder_and_payloads();
    let columns = decoder.decode(payloads.iter().map(Vec::as_slice)).columns;
    let encoder = Encoder::compile(&schema, &columns.schema()).expect("the types are the same");
    let mut out = Vec::new();
    Work::new(RECORDS, move || {
        out.clear();
        let bound = encoder.bind(&columns).expect("these are the columns");
        for row in 0..RECORDS {
            bound.encode_row(row, &mut out).expect("a reading can be written");
        }
        out.len()
    })
}

pub(crate) fn avro_to_matrix_plain() -> Work {
    avro_to_matrix(schema::CARDATA_V1)
}

pub(crate) fn avro_to_matrix_nullable() -> Work {
    avro_to_matrix(schema::CLEAN)
}

fn avro_to_matrix(text: &str) -> Work {
    let (schema, payloads) = avro_readings(text);
    let sensors: Vec<&str> = schema.fields()[..18].iter().map(|it| it.name.as_str()).collect();
    let decoder = MatrixDecoder::compile(&schema, &sensors, &[]).expect("18 sensors are numbers");
    let mut matrix = Matrix::default();
    Work::new(RECORDS, move || {
        decoder.decode_into(payloads.iter().map(Vec::as_slice), &mut matrix);
        assert_eq!(matrix.rows.len(), RECORDS);
    })
}

pub(crate) fn avro_to_columns() -> Work {
    let (_, decoder, payloads) = decoder_and_payloads();
    Work::new(RECORDS, move || decoder.decode(payloads.iter().map(Vec::as_slice)))
}

pub(crate) fn prediction_to_avro() -> Work {
    let contributions =
        ["SPEED", "TIRE_PRESSURE11", "CURRENT_DRAW"].map(|sensor| Contribution { sensor, share: 0.3 });
    let mut out = Vec::new();
    Work::new(RECORDS, move || {
        out.clear();
        for offset in 0..RECORDS as i64 {
            let prediction = Prediction {
                car: "car-000001",
                event_time: START_MS + offset,
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
        out.len()
    })
}

pub(crate) fn batch_push() -> Work {
    let records = json_readings();
    let mut batch = Batch::new("sensor-data".into(), 0);
    Work::new(RECORDS, move || {
        batch.clear();
        for (offset, (car, value)) in records.iter().enumerate() {
            batch.push(offset as i64, Some(START_MS), Some(car.as_bytes()), Some(value), []);
        }
        batch.len()
    })
}

pub(crate) fn outgoing_push() -> Work {
    let cars = json_readings();
    let (_, payloads) = avro_readings(schema::CLEAN);
    let mut out = Outgoing::new();
    let topic = out.topic("SENSOR_DATA_S_AVRO");
    let mut source = Source { topic: "sensor-data".into(), partition: 0, offset: 0 };
    Work::new(RECORDS, move || {
        out.clear();
        for (offset, ((car, _), payload)) in cars.iter().zip(&payloads).enumerate() {
            source.offset = offset as i64;
            let to = Destination { topic, partition: None, timestamp_ms: Some(START_MS) };
            out.push(to, Some(car.as_bytes()), Some(payload), Some(&source), &[]);
        }
        out.len()
    })
}

pub(crate) fn sql() -> Work {
    let stream = Pipeline::cars().expect("the shipped pipeline").streams.remove(0);
    let readings = json_readings();
    let mut decoder = json::Decoder::compile(stream.input.source()).expect("a shipped schema");
    let columns = decoder.decode(readings.iter().map(|(_, text)| &text[..])).columns;
    let mapping = stream.input.mapping(&columns.schema()).expect("JSON has the columns of the schema");
    let rows: Vec<u32> = (0..RECORDS as u32).collect();
    let input = stream.input.table(&mapping, &columns, &batch(readings), &rows);
    Work::new(RECORDS, move || {
        let evaluated = stream.projection.evaluate(&input);
        let failed = stream.checks.first_failed(&evaluated.columns, &input);
        assert!(evaluated.failed.is_empty() && failed.iter().all(Option::is_none), "a reading has failed");
        evaluated.columns
    })
}

pub(crate) fn preprocess_json() -> Work {
    preprocess(&batch(json_readings()))
}

pub(crate) fn preprocess_avro() -> Work {
    let framed = |payload: Vec<u8>| {
        let mut value = Vec::new();
        framing::write_header(FIRST, &mut value);
        value.extend(payload);
        value
    };
    let (_, payloads) = avro_readings(schema::CARDATA_V1);
    let cars = json_readings().into_iter().map(|(car, _)| car);
    preprocess(&batch(cars.zip(payloads.into_iter().map(framed))))
}

fn preprocess(batch: &Batch) -> Work {
    let stream = Pipeline::cars().expect("the shipped pipeline").streams.remove(0);
    let ids = SchemaIds { target: 1, windows: vec![2] };
    let mut transform = Transform::new(stream, &ids, "preprocessor").expect("the schemas are shipped");
    let mut windows = transform.windows();
    let mut out = Outgoing::new();
    let batch = batch.clone();
    Work::new(RECORDS, move || {
        out.clear();
        let tally =
            transform.apply(&batch, &mut windows, &mut lookup, &mut out).expect("the schema is known");
        assert!(tally.rejected.is_empty(), "a reading was rejected: {tally:?}");
        out.len()
    })
}

fn lookup(id: u32) -> Result<Arc<Schema>, RegistryError> {
    assert_eq!(id, FIRST);
    Ok(Arc::new(Schema::parse(schema::CARDATA_V1).expect("a shipped schema")))
}
