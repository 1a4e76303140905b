//! What preprocessing costs: the SQL planned once or for each batch, and the whole way of a record.

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use divan::Bencher;
use divan::counter::ItemsCount;
use telltale_kafka::RegistryError;
use telltale_preprocessor::pipeline::{CARS, Pipeline};
use telltale_preprocessor::{SchemaIds, Transform};
use telltale_records::schema::{self, Schema};
use telltale_records::{Batch, Outgoing, framing};

const ROWS: usize = 1_000;
const NOW: i64 = 1_700_000_123_456;

fn main() {
    divan::main();
}

/// Projection and checks of the cars' pipeline as prepared physical expressions.
#[divan::bench]
fn sql_planned_once(bencher: Bencher) {
    let stream = Pipeline::cars().unwrap().streams.remove(0);
    let input = table(stream.input.schema());
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        let evaluated = stream.projection.evaluate(black_box(&input));
        let failed = stream.checks.first_failed(&evaluated.columns, &input);
        assert!(evaluated.failed.is_empty() && failed.iter().all(Option::is_none));
        evaluated.columns
    });
}

/// The projection alone, through DataFusion's engine, planned for each batch.
#[divan::bench]
fn sql_planned_for_each_batch(bencher: Bencher) {
    let stream = Pipeline::cars().unwrap().streams.remove(0);
    let input = table(stream.input.schema());
    let sql = CARS.split("\"\"\"").nth(1).unwrap();
    let mut config = SessionConfig::new().with_target_partitions(1);
    config.options_mut().sql_parser.enable_ident_normalization = false;
    let context = SessionContext::new_with_config(config);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        let memory = MemTable::try_new(input.schema(), vec![vec![input.clone()]]).unwrap();
        context.register_table("input", Arc::new(memory)).unwrap();
        let found = runtime.block_on(async { context.sql(sql).await.unwrap().collect().await.unwrap() });
        context.deregister_table("input").unwrap();
        found
    });
}

/// Bytes in, bytes out: decode JSON, SQL, checks, encode Avro, count windows.
#[divan::bench]
fn json_record(bencher: Bencher) {
    whole(bencher, |car| json(car).into_bytes());
}

/// Bytes in, bytes out, for devices of the first generation.
#[divan::bench]
fn avro_record(bencher: Bencher) {
    whole(bencher, |_| avro());
}

fn whole(bencher: Bencher, value: impl Fn(usize) -> Vec<u8>) {
    let stream = Pipeline::cars().unwrap().streams.remove(0);
    let ids = SchemaIds { target: 1, windows: vec![2] };
    let mut transform = Transform::new(stream, &ids, "preprocessor").unwrap();
    let mut windows = transform.windows();
    let mut batch = Batch::new("sensor-data".into(), 0);
    for row in 0..ROWS {
        let key = format!("car-{row:06}");
        batch.push(row as i64, Some(NOW), Some(key.as_bytes()), Some(&value(row)), []);
    }
    let mut out = Outgoing::new();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        out.clear();
        let tally = transform.apply(&batch, &mut windows, &mut lookup, &mut out).unwrap();
        assert!(tally.rejected.is_empty(), "{tally:?}");
        out.len()
    });
}

fn lookup(id: u32) -> Result<Arc<Schema>, RegistryError> {
    assert_eq!(id, 7);
    Ok(Arc::new(Schema::parse(schema::CARDATA_V1).expect("a shipped schema")))
}

fn table(schema: &SchemaRef) -> RecordBatch {
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.data_type() {
            DataType::Float64 => {
                Arc::new(Float64Array::from_iter_values((0..ROWS).map(|it| it as f64 / 100.0)))
            }
            DataType::Int32 => Arc::new(Int32Array::from_iter_values((0..ROWS).map(|it| it as i32 % 300))),
            DataType::Int64 => Arc::new(Int64Array::from_iter_values((0..ROWS).map(|it| NOW + it as i64))),
            _ => Arc::new(StringArray::from_iter_values((0..ROWS).map(|it| format!("car-{it:06}")))),
        }
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).unwrap()
}

fn json(car: usize) -> String {
    format!(
        "{{\"coolant_temp\":39.395103,\"intake_air_temp\":34.53991,\"intake_air_flow_speed\":123.317856,\
         \"battery_percentage\":0.82654595,\"battery_voltage\":246.12367,\"current_draw\":0.6586564,\
         \"speed\":24.934872,\"engine_vibration_amplitude\":2493.487,\"throttle_pos\":0.034893095,\
         \"tire_pressure11\":32,\"tire_pressure12\":31,\"tire_pressure21\":34,\"tire_pressure22\":34,\
         \"accelerometer11_value\":0.5295712,\"accelerometer12_value\":0.9600553,\
         \"accelerometer21_value\":0.88389874,\"accelerometer22_value\":0.043890715,\
         \"control_unit_firmware\":2000,\"failure_occurred\":\"false\",\
         \"car\":\"car-{car:06}\",\"event_time\":{NOW}}}"
    )
}

fn avro() -> Vec<u8> {
    let mut value = Vec::new();
    framing::write_header(7, &mut value);
    for _ in 0..9 {
        value.extend_from_slice(&2.0_f32.to_le_bytes());
    }
    value.extend_from_slice(&[60; 4]);
    for _ in 0..4 {
        value.extend_from_slice(&3.0_f32.to_le_bytes());
    }
    value.extend_from_slice(b"\xe8\x0f\x0afalse");
    value
}
