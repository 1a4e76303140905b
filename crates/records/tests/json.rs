//! JSON becomes the columns that a general parse of it gives, whatever the order of its keys.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use proptest::prelude::*;
use serde_json::{Value, json};
use telltale_records::json::Decoder;
use telltale_records::{Decoded, Reason, Schema};

const SCHEMA: &str = r#"{"type":"record","name":"r","fields":[
    {"name":"speed","type":"double"},
    {"name":"current","type":["null","double"]},
    {"name":"pressure","type":"int"},
    {"name":"failed","type":["null","string"]},
    {"name":"on","type":["boolean","null"]},
    {"name":"time","type":["null","long"]},
    {"name":"ratio","type":["null","float"]},
    {"name":"gear","type":["null",{"type":"enum","name":"g","symbols":["P","D"]}]}]}"#;

fn decoder() -> Decoder {
    Decoder::compile(&Schema::parse(SCHEMA).unwrap()).unwrap()
}

/// Row `row` as a JSON object without its nulls.
fn object(decoded: &Decoded, row: usize) -> Value {
    let columns = &decoded.columns;
    let mut found = serde_json::Map::new();
    let names: Vec<String> = columns.schema().fields().iter().map(|it| it.name().clone()).collect();
    for name in names {
        let column = columns.column_by_name(&name).unwrap();
        if column.is_null(row) {
            continue;
        }
        let value = match name.as_str() {
            "speed" | "current" => json!(column.as_primitive::<Float64Type>().value(row)),
            "ratio" => json!(column.as_primitive::<arrow::datatypes::Float32Type>().value(row)),
            "pressure" => json!(column.as_primitive::<Int32Type>().value(row)),
            "time" => json!(column.as_primitive::<Int64Type>().value(row)),
            "on" => json!(column.as_boolean().value(row)),
            _ => json!(column.as_string::<i32>().value(row)),
        };
        found.insert(name, value);
    }
    Value::Object(found)
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), -1e6..1e6, (-9_000_i64..9_000).prop_map(|it| it as f64 / 100.0)]
        .prop_filter("JSON has no NaN and no infinity", |it| it.is_finite())
        .prop_map(|it| it + 0.0) // minus zero is zero
}

/// A record: its keys with their values as JSON texts.
fn record() -> impl Strategy<Value = Vec<(String, String)>> {
    let optional = |it: BoxedStrategy<String>| prop_oneof![3 => it.prop_map(Some), 1 => Just(None)];
    let fields = (
        finite().prop_map(|it| json!(it).to_string()),
        optional(finite().prop_map(|it| json!(it).to_string()).boxed()),
        any::<i32>().prop_map(|it| it.to_string()),
        optional("\\PC{0,8}".prop_map(|it| json!(it).to_string()).boxed()),
        optional(any::<bool>().prop_map(|it| it.to_string()).boxed()),
        optional(any::<i64>().prop_map(|it| it.to_string()).boxed()),
        optional(
            any::<f32>()
                .prop_filter("finite", |it| it.is_finite())
                .prop_map(|it| json!(it).to_string())
                .boxed(),
        ),
        optional(prop_oneof![Just("\"P\"".to_owned()), Just("\"D\"".to_owned())].boxed()),
        optional(
            prop_oneof![Just("[1,{\"a\":\"]\"}]"), Just("\"x\""), Just("-0.5e-3")]
                .prop_map(str::to_owned)
                .boxed(),
        ),
    );
    fields.prop_map(|(speed, current, pressure, failed, on, time, ratio, gear, unknown)| {
        let all = [
            ("speed", Some(speed)),
            ("current", current),
            ("pressure", Some(pressure)),
            ("failed", failed),
            ("on", on),
            ("time", time),
            ("ratio", ratio),
            ("gear", gear),
            ("unknown", unknown),
        ];
        all.into_iter().filter_map(|(key, it)| Some((key.to_owned(), it?))).collect()
    })
}

fn written(record: &[(String, String)], comma: &str, colon: &str, edge: &str) -> String {
    let pairs: Vec<String> = record.iter().map(|(key, value)| format!("\"{key}\"{colon}{value}")).collect();
    format!("{edge}{{{edge}{}{edge}}}{edge}", pairs.join(comma))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The order changes from record to record or stays, so that both ways of reading are taken.
    #[test]
    fn columns_hold_what_a_general_parse_finds(
        records in prop::collection::vec((record().prop_flat_map(|it| prop_oneof![Just(it.clone()), Just(it).prop_shuffle()]), 0..3_usize), 1..6),
    ) {
        let texts: Vec<String> = records.iter().map(|(record, style)| {
            let (comma, colon, edge) = [(",", ":", ""), (", ", ": ", ""), (" ,\n\t", " : ", " \r\n")][*style];
            written(record, comma, colon, edge)
        }).collect();
        // Twice each, so that the second is read with the order of the first.
        let payloads: Vec<&[u8]> = texts.iter().flat_map(|it| [it.as_bytes(), it.as_bytes()]).collect();
        let decoded = decoder().decode(payloads.iter().copied());
        prop_assert_eq!(&decoded.rejected, &[]);
        for (row, payload) in payloads.iter().enumerate() {
            let general: Value = sonic_rs::from_slice(payload).unwrap();
            let mut expected = general.as_object().unwrap().clone();
            expected.remove("unknown");
            for key in ["speed", "current"] {
                // A number without a fraction is a double all the same.
                if let Some(number) = expected.get_mut(key) {
                    *number = json!(number.as_f64().unwrap());
                }
            }
            if let Some(ratio) = expected.get_mut("ratio") {
                *ratio = json!(ratio.as_f64().unwrap() as f32);
            }
            prop_assert_eq!(object(&decoded, row), Value::Object(expected));
        }
    }

    /// What the predicted way accepts with its order learned, a decoder that never saw the order accepts too.
    #[test]
    fn a_changed_byte_gives_the_same_outcome_whatever_was_learned(
        record in record(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let good = written(&record, ",", ":", "");
        let mut changed = good.clone().into_bytes();
        let at = at.index(changed.len());
        changed[at] = byte;
        let mut learned = decoder();
        learned.decode([good.as_bytes()]);
        let fresh = decoder().decode([changed.as_slice()]);
        let after = learned.decode([changed.as_slice()]);
        prop_assert_eq!(&fresh.columns, &after.columns);
        prop_assert_eq!(&fresh.rejected, &after.rejected);
        if fresh.rejected.is_empty() {
            prop_assert!(serde_json::from_slice::<Value>(&changed).is_ok());
        }
    }

    #[test]
    fn noise_is_rejected(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'{'), Just(b'"'), Just(b':')], 0..40)) {
        prop_assert_eq!(decoder().decode([bytes.as_slice()]).rejected.len(), 1);
    }
}

#[test]
fn each_fault_has_its_reason_and_names_the_key() {
    let deep = format!(r#"{{"speed":1,"pressure":2,"x":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    let cases: [(&str, Reason, &str); 26] = [
        ("", Reason::Empty, "no bytes"),
        ("  \n", Reason::Empty, "white space"),
        ("[1,2]", Reason::SchemaMismatch, "the payload is a list, not a JSON object"),
        ("\"x\"", Reason::SchemaMismatch, "the payload is text"),
        ("null", Reason::SchemaMismatch, "the payload is null"),
        ("12", Reason::SchemaMismatch, "the payload is a number"),
        ("hello", Reason::Malformed, "not JSON"),
        (r#"{"speed":1,"pressure":2"#, Reason::Malformed, "not JSON"),
        (r#"{"speed":1,"pressure":2}}"#, Reason::Malformed, "not JSON"),
        (r#"{"speed":1,"pressure":2} x"#, Reason::Malformed, "not JSON"),
        (r#"{"speed":1,"pressure":2,}"#, Reason::Malformed, "not JSON"),
        (r#"{"speed":01,"pressure":2}"#, Reason::Malformed, "not JSON"),
        (r#"{"speed":1.,"pressure":2}"#, Reason::Malformed, "not JSON"),
        (r#"{"speed":NaN,"pressure":2}"#, Reason::Malformed, "not JSON"),
        (r#"{"speed":Infinity,"pressure":2}"#, Reason::Malformed, "not JSON"),
        (r#"{"speed":1e999,"pressure":2}"#, Reason::Malformed, "not JSON"),
        (
            r#"{"speed":"1","pressure":2}"#,
            Reason::SchemaMismatch,
            "key speed: found text instead of a number",
        ),
        (
            r#"{"speed":null,"pressure":2}"#,
            Reason::SchemaMismatch,
            "key speed: found null instead of a number",
        ),
        (r#"{"speed":1}"#, Reason::SchemaMismatch, "key pressure is missing"),
        (
            r#"{"speed":1,"pressure":2.5}"#,
            Reason::SchemaMismatch,
            "key pressure: found a number with a fraction",
        ),
        (r#"{"speed":1,"pressure":3000000000}"#, Reason::OutOfRange, "key pressure: 3000000000 does not fit"),
        (r#"{"speed":1,"pressure":2,"ratio":1e39}"#, Reason::OutOfRange, "key ratio: 1"),
        (r#"{"speed":1,"pressure":2,"gear":"X"}"#, Reason::OutOfRange, "key gear: \"X\" is not a symbol"),
        (
            r#"{"speed":1,"pressure":2,"failed":{"a":1}}"#,
            Reason::SchemaMismatch,
            "key failed: found an object",
        ),
        (r#"{"speed":1,"pressure":2,"speed":1}"#, Reason::Malformed, "key speed appears twice"),
        (&deep, Reason::Malformed, "nested deeper than 64"),
    ];
    let mut decoder = decoder();
    for (payload, reason, detail) in cases {
        let good = br#"{"pressure":2,"speed":1}"#.as_slice();
        let decoded = decoder.decode([good, payload.as_bytes(), good]);
        assert_eq!(decoded.rows, [0, 2], "{payload:.80}");
        let (index, found, text) = &decoded.rejected[0];
        assert_eq!((*index, *found), (1, reason), "{payload:.80}: {text}");
        assert!(text.contains(detail), "{payload:.80}: {text}");
    }
    let invalid = b"{\"speed\":1,\"pressure\":2,\"failed\":\"\xff\"}".as_slice();
    assert_eq!(decoder.decode([invalid]).rejected[0].1, Reason::Malformed);
}

#[test]
fn a_record_in_the_order_learned_must_end_where_it_ends() {
    let full =
        r#"{"speed":1,"current":2.5,"pressure":3,"failed":"no","on":true,"time":4,"ratio":0.5,"gear":"P"}"#;
    let mut decoder = decoder();
    for rest in [" x", "}", ",", "\"", "{}", "\0"] {
        let text = format!("{full}{rest}");
        let decoded = decoder.decode([full, text.as_str(), full].map(str::as_bytes));
        assert_eq!(decoded.rows, [0, 2], "{text}");
        assert_eq!(decoded.rejected[0].1, Reason::Malformed, "{text}");
    }
    for end in 1..full.len() {
        assert_eq!(decoder.decode([&full.as_bytes()[..end]]).rejected[0].1, Reason::Malformed, "{end}");
    }
    assert!(decoder.decode([format!(" {full}\r\n").as_bytes()]).rejected.is_empty());
}

#[test]
fn a_key_that_needs_escapes_teaches_no_order() {
    let mut decoder = decoder();
    let tricky = br#"{"x\":1,\"on":1,"speed":1,"pressure":2,"current":null,"failed":null,"on":null,"time":null,"ratio":null,"gear":null}"#;
    let twice = br#"{"x":1,"on":1,"speed":1,"pressure":2,"current":null,"failed":null,"on":null,"time":null,"ratio":null,"gear":null}"#;
    let decoded = decoder.decode([tricky.as_slice(), twice.as_slice()]);
    assert_eq!(decoded.rows, [0]);
    assert_eq!(decoded.rejected[0].1, Reason::SchemaMismatch, "on is 1 there");
}
