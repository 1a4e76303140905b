//! What cars send is what the schema of the readings says.

use arrow::array::{AsArray, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use telltale_records::json::Decoder;
use telltale_records::schema::{READINGS, Schema};
use telltale_simulator::fleet::{FEATURES, Fleet, Settings};

#[test]
fn readings_decode_by_the_schema_of_readings() {
    let schema = Schema::parse(READINGS).unwrap();
    let fleet = Fleet::new(9, Settings { failure_share: 0.3, ..Settings::default() }).unwrap();
    let readings: Vec<_> = (0..2000).map(|car| fleet.reading(car, 1_760_000_000_000)).collect();
    let mut texts = Vec::new();
    for reading in &readings {
        let mut text = Vec::new();
        reading.write_json(&mut text);
        texts.push(text);
    }
    let decoded = Decoder::compile(&schema).unwrap().decode(texts.iter().map(Vec::as_slice));
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected.first());
    assert_eq!(decoded.rows.len(), readings.len());
    let columns = &decoded.columns;
    let double = DataType::Float64;
    for (index, name) in FEATURES.iter().enumerate() {
        let column = cast(columns.column_by_name(name).unwrap(), &double).unwrap();
        let column: &Float64Array = column.as_primitive();
        let expected = readings.iter().map(|it| it.values[index]);
        assert!(column.values().iter().copied().eq(expected), "{name}");
    }
    let time: &Int64Array = columns.column_by_name("event_time").unwrap().as_primitive();
    assert!(time.values().iter().all(|&it| it == 1_760_000_000_000));
}
