//! Hostile schemas are refused; every shipped schema has the fields of old, and old bytes still decode.

use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use telltale_records::avro::{Decoder, Encoder, MatrixDecoder};
use telltale_records::{Schema, SchemaError, json, schema};

fn nested(depth: usize) -> String {
    let mut of = "\"int\"".to_owned();
    for _ in 0..depth {
        of = format!("{{\"type\":\"array\",\"items\":{of}}}");
    }
    format!("{{\"type\":\"record\",\"name\":\"r\",\"fields\":[{{\"name\":\"a\",\"type\":{of}}}]}}")
}

/// Each record holds the one before it twice: 2^levels types from a short text.
fn doubling(levels: usize) -> String {
    let mut fields = vec![r#"{"name":"f0","type":{"type":"record","name":"r0","fields":[]}}"#.to_owned()];
    for level in 1..levels {
        let inner = format!("r{}", level - 1);
        fields.push(format!(
            r#"{{"name":"f{level}","type":{{"type":"record","name":"r{level}","fields":[
                {{"name":"a","type":"{inner}"}},{{"name":"b","type":"{inner}"}}]}}}}"#
        ));
    }
    format!(r#"{{"type":"record","name":"root","fields":[{}]}}"#, fields.join(","))
}

#[test]
fn hostile_schemas_are_refused_by_what_is_wrong_with_them() {
    let recursive = r#"{"type":"record","name":"r","fields":[{"name":"next","type":["null","r"]}]}"#;
    let indirect = r#"{"type":"record","name":"r","fields":[{"name":"a","type":
        {"type":"record","name":"s","fields":[{"name":"b","type":{"type":"array","items":"r"}}]}}]}"#;
    assert!(matches!(Schema::parse(recursive), Err(SchemaError::Recursive { name }) if name == "r"));
    assert!(matches!(Schema::parse(indirect), Err(SchemaError::Recursive { .. })));
    let unfit = include_str!("../../../testdata/fuzz/avro_schema/default-unfit-for-odd-precision.json");
    assert!(Schema::parse(unfit).is_err(), "the library panics over it");
    assert!(Schema::parse(&nested(20)).is_ok());
    assert!(matches!(Schema::parse(&nested(40)), Err(SchemaError::TooDeep)));
    assert!(Schema::parse(&nested(5_000)).is_err());
    assert!(Schema::parse(&doubling(8)).is_ok());
    assert!(matches!(Schema::parse(&doubling(24)), Err(SchemaError::TooManyTypes)));
    assert!(matches!(Schema::parse(&" ".repeat(schema::TEXT_LIMIT + 1)), Err(SchemaError::TooLong { .. })));
    assert!(
        matches!(Schema::parse("\"string\""), Err(SchemaError::NotRecord { found }) if found == "string")
    );
    let bad = [
        "",
        "{",
        "{}",
        "[]",
        "nonsense",
        r#"{"type":"record","name":"r"}"#,
        r#"{"type":"record","name":"r","fields":[{"name":"a","type":"undefined"}]}"#,
    ];
    for text in bad {
        assert!(Schema::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn shipped_schemas_have_the_fields_of_old() {
    let old = Schema::parse(schema::CARDATA_V1).unwrap();
    let clean = Schema::parse(schema::CLEAN).unwrap();
    let readings = Schema::parse(schema::READINGS).unwrap();
    assert_eq!((old.fields().len(), clean.fields().len(), readings.fields().len()), (19, 21, 21));
    for (index, field) in old.fields().iter().enumerate() {
        assert_eq!(readings.fields()[index].name, field.name);
        assert_eq!(clean.fields()[index].name, field.name.to_uppercase());
        assert!(clean.arrow().field(index).is_nullable() && !old.arrow().field(index).is_nullable());
    }
    let of = |name: &str| old.fields().iter().filter(|it| it.of.describe() == name).count();
    assert_eq!((of("float"), of("int"), of("string")), (13, 5, 1));
    assert_eq!((clean.fields()[19].name.as_str(), clean.fields()[20].name.as_str()), ("CAR", "EVENT_TIME"));
    Schema::parse(schema::EVENTS_PER_5MIN).unwrap();
    Schema::parse(schema::PREDICTIONS).unwrap();
    json::Decoder::compile(&readings).unwrap();
    assert_eq!(schema::subject("SENSOR_DATA_S_AVRO"), "SENSOR_DATA_S_AVRO-value");
}

#[test]
fn plans_that_do_not_fit_the_schema_say_which_field() {
    let clean = Schema::parse(schema::CLEAN).unwrap();
    let message = |it: Result<MatrixDecoder, SchemaError>| it.unwrap_err().to_string();
    assert_eq!(
        message(MatrixDecoder::compile(&clean, &["FAILURE_OCCURRED"], &[])),
        "field FAILURE_OCCURRED of type union of null, string cannot be a number"
    );
    assert!(
        message(MatrixDecoder::compile(&clean, &["SPED"], &[]))
            .starts_with("the schema has no field SPED; it has COOLANT_TEMP,")
    );
    assert!(message(MatrixDecoder::compile(&clean, &[], &["SPEED"])).ends_with("cannot be captured"));
    assert!(
        message(MatrixDecoder::compile(&clean, &["SPEED", "SPEED"], &[])).ends_with("cannot be used twice")
    );

    let events = Schema::parse(schema::EVENTS_PER_5MIN).unwrap();
    let missing = arrow::datatypes::Schema::new(events.arrow().fields()[1..].to_vec());
    let error = Encoder::compile(&events, &missing).unwrap_err().to_string();
    assert!(error.starts_with("field CAR of type string cannot be left out"), "{error}");
    let error = Encoder::compile(&events, &clean.arrow()).unwrap_err().to_string();
    assert!(error.contains("WINDOW_START"), "{error}");
    let predictions = Schema::parse(schema::PREDICTIONS).unwrap();
    let error = json::Decoder::compile(&predictions).unwrap_err().to_string();
    assert_eq!(error, "field contributions of type array cannot be read from JSON");
}

/// A value of each schema that is easy to recognise.
fn example(avro: &apache_avro::Schema) -> Value {
    use apache_avro::Schema as Avro;
    match avro {
        Avro::Record(it) => {
            Value::Record(it.fields.iter().map(|it| (it.name.clone(), example(&it.schema))).collect())
        }
        Avro::Union(it) => Value::Union(1, Box::new(example(&it.variants()[1]))),
        Avro::Int => Value::Int(32),
        Avro::Long => Value::Long(1_700_000_000_123),
        Avro::Float => Value::Float(12.5),
        Avro::Double => Value::Double(0.1),
        Avro::String => Value::String("car-000001".to_owned()),
        Avro::Enum(it) => Value::Enum(1, it.symbols[1].clone()),
        Avro::Array(it) => Value::Array(vec![example(&it.items); 2]),
        other => panic!("no shipped schema has {other:?}"),
    }
}

/// The golden bytes of each version of each schema; `UPDATE_GOLDEN=1` writes those that are not there yet.
#[test]
fn old_bytes_still_decode() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden");
    let versions = [
        ("readings-v1.avro", schema::READINGS),
        ("cardata-v1.avro", schema::CARDATA_V1),
        ("sensor-data-s-avro-v1.avro", schema::CLEAN),
        ("sensor-data-events-per-5min-t-v1.avro", schema::EVENTS_PER_5MIN),
        ("prediction-v1.avro", schema::PREDICTIONS),
    ];
    for (name, text) in versions {
        let schema = Schema::parse(text).unwrap();
        let value = example(schema.avro());
        let path = golden.join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
            std::fs::write(
                &path,
                GenericDatumWriter::builder(schema.avro())
                    .build()
                    .unwrap()
                    .write_value_to_vec(value.clone())
                    .unwrap(),
            )
            .unwrap();
        }
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let decoded = Decoder::compile(&schema).unwrap().decode([bytes.as_slice()]);
        assert_eq!(decoded.rejected, [], "{name}");
        let Value::Record(fields) = value else { panic!("{name} is no record") };
        for (field, expected) in fields {
            let Some(column) = decoded.columns.column_by_name(&field) else { continue };
            let found = arrow::util::display::array_value_to_string(column, 0).unwrap();
            let expected = match expected {
                Value::Union(_, it) => *it,
                it => it,
            };
            let expected = match expected {
                Value::Int(it) => it.to_string(),
                Value::Long(it) => it.to_string(),
                Value::Float(it) => it.to_string(),
                Value::Double(it) => it.to_string(),
                Value::String(it) | Value::Enum(_, it) => it,
                other => panic!("{other:?} has no column"),
            };
            assert_eq!(found, expected, "{name} {field}");
        }
    }
}
