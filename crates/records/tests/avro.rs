//! The Avro codecs agree with apache-avro on every schema and value, and on every broken byte.

mod shapes;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use arrow::array::AsArray;
use proptest::prelude::*;
use shapes::{Shape, anything, column, read_back, row, schema_json};
use telltale_records::avro::{Decoder, Encoder, MatrixDecoder};
use telltale_records::{Reason, Schema};

/// A schema and rows of it.
fn case(shape: impl Strategy<Value = Shape>, rows: usize) -> impl Strategy<Value = (Schema, Vec<Value>)> {
    prop::collection::vec(shape, 1..8).prop_flat_map(move |fields| {
        let schema = Schema::parse(&schema_json(&fields)).unwrap();
        (Just(schema), prop::collection::vec(row(&fields), 1..=rows))
    })
}

fn written(schema: &Schema, row: &Value) -> Vec<u8> {
    GenericDatumWriter::builder(schema.avro()).build().unwrap().write_value_to_vec(row.clone()).unwrap()
}

fn slices(payloads: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    payloads.iter().map(Vec::as_slice)
}

/// Equal to the bit, so that NaN equals itself.
fn same(schema: &Schema, a: &Value, b: &Value) -> bool {
    written(schema, a) == written(schema, b)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn columns_hold_what_apache_avro_wrote((schema, rows) in case(anything(), 4)) {
        let payloads: Vec<Vec<u8>> = rows.iter().map(|it| written(&schema, it)).collect();
        let decoded = Decoder::compile(&schema).unwrap().decode(slices(&payloads));
        prop_assert_eq!(&decoded.rejected, &[]);
        prop_assert_eq!(decoded.rows, (0..rows.len() as u32).collect::<Vec<_>>());
        for (index, row) in rows.iter().enumerate() {
            // A map's order is not the same twice, and maps have no column.
            if row_has_map(row) {
                continue;
            }
            let back = read_back(&decoded.columns, index, row);
            prop_assert!(same(&schema, &back, row), "{:?} became {:?}", row, back);
        }
    }

    #[test]
    fn apache_avro_reads_what_the_encoder_wrote((schema, rows) in case(column(), 4)) {
        let payloads: Vec<Vec<u8>> = rows.iter().map(|it| written(&schema, it)).collect();
        let decoded = Decoder::compile(&schema).unwrap().decode(slices(&payloads));
        let encoder = Encoder::compile(&schema, &schema.arrow()).unwrap();
        let bound = encoder.bind(&decoded.columns).unwrap();
        for (index, payload) in payloads.iter().enumerate() {
            let mut out = vec![9];
            bound.encode_row(index, &mut out).unwrap();
            prop_assert_eq!(&out[1..], payload.as_slice());
        }
    }

    #[test]
    fn a_cut_record_is_rejected_and_its_neighbours_are_not((schema, rows) in case(anything(), 1), cut in 0.0..1.0) {
        let whole = written(&schema, &rows[0]);
        prop_assume!(!whole.is_empty());
        let end = (whole.len() as f64 * cut) as usize;
        let payloads = [whole.clone(), whole[..end].to_vec(), [&whole[..], &[0]].concat(), whole];
        let decoded = Decoder::compile(&schema).unwrap().decode(slices(&payloads));
        prop_assert_eq!(decoded.rows, [0, 3]);
        prop_assert_eq!(decoded.rejected.len(), 2);
        let expected = if end == 0 { Reason::Empty } else { Reason::Truncated };
        prop_assert_eq!(decoded.rejected[0].1, expected);
        prop_assert_eq!(decoded.rejected[1].1, Reason::Trailing);
        let (first, last) = (decoded.columns.slice(0, 1), decoded.columns.slice(1, 1));
        prop_assert!(same(&schema, &read_back(&first, 0, &rows[0]), &read_back(&last, 0, &rows[0])));
    }

    /// Bytes are accepted exactly if they are what apache-avro would write for what it reads in them.
    #[test]
    fn changed_bytes_are_accepted_exactly_if_they_are_canonical(
        (schema, rows) in case(column(), 1),
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let mut bytes = written(&schema, &rows[0]);
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert_eq!(accepted(&schema, &bytes), canonical(&schema, &bytes), "{:?}", bytes);
    }

    #[test]
    fn noise_is_accepted_exactly_if_it_is_canonical(
        fields in prop::collection::vec(column(), 1..5),
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0..4_u8, Just(0x80), Just(0xff)], 0..24),
    ) {
        let schema = Schema::parse(&schema_json(&fields)).unwrap();
        prop_assert_eq!(accepted(&schema, &bytes), canonical(&schema, &bytes));
    }

    /// Nothing is promised about blocks written in another way, except that they do no harm.
    #[test]
    fn noise_does_no_harm_in_nested_types(
        fields in prop::collection::vec(anything(), 1..5),
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0..4_u8, Just(0x80), Just(0xff)], 0..40),
    ) {
        let schema = Schema::parse(&schema_json(&fields)).unwrap();
        accepted(&schema, &bytes);
    }

    #[test]
    fn a_matrix_holds_the_numbers_of_the_columns((schema, rows) in case(column(), 4)) {
        let payloads: Vec<Vec<u8>> = rows.iter().map(|it| written(&schema, it)).collect();
        let columns = Decoder::compile(&schema).unwrap().decode(slices(&payloads)).columns;
        let names: Vec<String> = columns.schema().fields().iter().map(|it| it.name().clone()).collect();
        let numeric: Vec<&str> = names.iter().map(String::as_str).rev()
            .filter(|it| MatrixDecoder::compile(&schema, &[it], &[]).is_ok()).collect();
        let captures: Vec<&str> = names.iter().map(String::as_str)
            .filter(|it| MatrixDecoder::compile(&schema, &[], &[it]).is_ok()).collect();
        let decoder = MatrixDecoder::compile(&schema, &numeric, &captures).unwrap();
        let mut broken = payloads.clone();
        broken.insert(1, [payloads[0].as_slice(), &[0]].concat());
        let matrix = decoder.decode(slices(&broken));
        prop_assert_eq!(matrix.rejected.len(), 1);
        prop_assert_eq!(matrix.len(), payloads.len());
        for (row, value) in rows.iter().enumerate() {
            let Value::Record(fields) = value else { panic!("a row is a record") };
            for (column, name) in numeric.iter().enumerate() {
                let value = number(&fields.iter().find(|it| it.0 == *name).unwrap().1);
                let found = matrix.row(row)[column];
                prop_assert!(found.to_bits() == value.to_bits() || found.is_nan() && value.is_nan(), "{}", name);
            }
            for (capture, name) in matrix.captures.iter().zip(&captures) {
                let value = bare(&fields.iter().find(|it| it.0 == *name).unwrap().1);
                match value {
                    Value::String(it) | Value::Enum(_, it) => prop_assert_eq!(capture.text(row), Some(it.as_str())),
                    Value::Null => prop_assert_eq!((capture.text(row), capture.long(row)), (None, None)),
                    _ => {
                        let column = columns.column_by_name(name).unwrap();
                        let wide = arrow_long(column, row);
                        prop_assert_eq!(capture.long(row), Some(wide));
                    }
                }
            }
        }
    }
}

fn row_has_map(value: &Value) -> bool {
    match value {
        Value::Map(_) => true,
        Value::Record(fields) => fields.iter().any(|(_, it)| row_has_map(it)),
        Value::Array(items) => items.iter().any(row_has_map),
        Value::Union(_, it) => row_has_map(it),
        _ => false,
    }
}

fn bare(value: &Value) -> &Value {
    if let Value::Union(_, inner) = value { inner } else { value }
}

fn number(value: &Value) -> f32 {
    match bare(value) {
        Value::Boolean(it) => f32::from(u8::from(*it)),
        Value::Int(it) | Value::Date(it) | Value::TimeMillis(it) => *it as f32,
        Value::Float(it) => *it,
        Value::Double(it) => *it as f32,
        Value::Enum(it, _) => *it as f32,
        Value::Null => f32::NAN,
        Value::Long(it)
        | Value::TimeMicros(it)
        | Value::TimestampMillis(it)
        | Value::TimestampMicros(it)
        | Value::TimestampNanos(it)
        | Value::LocalTimestampMillis(it)
        | Value::LocalTimestampMicros(it)
        | Value::LocalTimestampNanos(it) => *it as f32,
        other => panic!("{other:?} is no number"),
    }
}

fn arrow_long(column: &dyn arrow::array::Array, row: usize) -> i64 {
    use arrow::array::types::{Int32Type, Int64Type};
    use arrow::datatypes::DataType;
    match column.data_type() {
        DataType::Boolean => i64::from(column.as_boolean().value(row)),
        DataType::Int32 | DataType::Date32 | DataType::Time32(_) => {
            let data = column.to_data();
            let array = arrow::array::PrimitiveArray::<Int32Type>::from(
                data.into_builder().data_type(DataType::Int32).build().unwrap(),
            );
            i64::from(array.value(row))
        }
        _ => {
            let data = column.to_data();
            arrow::array::PrimitiveArray::<Int64Type>::from(
                data.into_builder().data_type(DataType::Int64).build().unwrap(),
            )
            .value(row)
        }
    }
}

fn accepted(schema: &Schema, bytes: &[u8]) -> bool {
    let decoded = Decoder::compile(schema).unwrap().decode([bytes]);
    assert_eq!(decoded.columns.num_rows() + decoded.rejected.len(), 1);
    decoded.rejected.is_empty()
}

fn canonical(schema: &Schema, bytes: &[u8]) -> bool {
    apache_avro::util::max_allocation_bytes(1 << 20);
    let mut rest = bytes;
    let Ok(value) = GenericDatumReader::builder(schema.avro()).build().unwrap().read_value(&mut rest) else {
        return false;
    };
    rest.is_empty()
        && GenericDatumWriter::builder(schema.avro())
            .build()
            .unwrap()
            .write_value_to_vec(value)
            .is_ok_and(|it| it == bytes)
}

#[test]
fn counts_that_the_bytes_do_not_justify_cost_nothing() {
    let item = |item: &str| {
        let field = format!(r#"{{"name":"a","type":{{"type":"array","items":{item}}}}}"#);
        Schema::parse(&format!(r#"{{"type":"record","name":"r","fields":[{field}]}}"#)).unwrap()
    };
    let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0];
    assert!(accepted(&item("\"null\""), &huge), "2^63 - 1 nulls take no bytes");
    assert!(!accepted(&item("\"long\""), &huge));
    assert!(!accepted(&item("\"double\""), &[0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    // A block that states its size: one item of one byte, then one whose size is not that of the item.
    assert!(accepted(&item("\"long\""), &[0x01, 0x02, 0x08, 0]));
    assert!(!accepted(&item("\"long\""), &[0x01, 0x04, 0x08, 0]));
    assert!(!accepted(&item("\"long\""), &[0x01, 0x01, 0x08, 0]));
}

#[test]
fn a_rejection_names_the_field_and_the_place() {
    let schema = Schema::parse(
        r#"{"type":"record","name":"r","fields":[{"name":"a","type":"long"},{"name":"b","type":"string"}]}"#,
    )
    .unwrap();
    let cases: [(&[u8], Reason, &str); 8] = [
        (&[], Reason::Empty, "the payload has no bytes"),
        (&[2], Reason::Truncated, "field b at byte 1 of 1: the bytes end inside its value"),
        (&[2, 4, 65], Reason::Truncated, "field b at byte 2 of 3: the bytes end inside its value"),
        (&[2, 1], Reason::Malformed, "field b at byte 2 of 2: its length is negative"),
        (&[2, 2, 0xff], Reason::Malformed, "field b at byte 3 of 3: its text is not UTF-8"),
        (&[0x80, 0], Reason::Malformed, "field a at byte 0 of 2: its number is written with needless bytes"),
        (&[0xff; 12], Reason::Malformed, "field a at byte 0 of 12: its number has more than 64 bits"),
        (&[2, 0, 7, 7], Reason::Trailing, "2 of 4 bytes are left after the last field"),
    ];
    let decoder = Decoder::compile(&schema).unwrap();
    let matrix = MatrixDecoder::compile(&schema, &["a"], &["b"]).unwrap();
    for (payload, reason, detail) in cases {
        let expected = vec![(0, reason, detail.to_owned())];
        assert_eq!(decoder.decode([payload]).rejected, expected);
        assert_eq!(matrix.decode([payload]).rejected, expected);
    }
}
