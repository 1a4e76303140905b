//! A batch in, records out: every record has exactly one outcome, in order, whatever its neighbours are.

use arrow::array::AsArray;
use proptest::prelude::*;
use telltale_records::avro::Decoder;
use telltale_records::schema::{self, Schema};

use super::*;
use crate::pipeline::Pipeline;

const IDS: [u32; 2] = [1, 2];
/// Ids of writers: cardata-v1, one that lacks fields, and one whose fields are of other types.
const V1: u32 = 7;
const POOR: u32 = 8;
const OTHER: u32 = 9;
/// An id for which the registry does not answer.
const AWAY: u32 = 500;

const NOW: i64 = 1_700_000_123_456;

fn lookup(id: u32) -> Result<Arc<Schema>, RegistryError> {
    let text = match id {
        V1 => schema::CARDATA_V1.to_owned(),
        POOR => {
            r#"{"type": "record", "name": "P", "fields": [{"name": "speed", "type": "double"}]}"#.to_owned()
        }
        OTHER => schema::CARDATA_V1.replace(r#""speed", "type": "float""#, r#""speed", "type": "string""#),
        AWAY => {
            return Err(RegistryError::Refused {
                attempt: "asking".into(),
                url: "u".into(),
                code: 1,
                message: "no".into(),
            });
        }
        _ => return Err(RegistryError::UnknownId { id }),
    };
    Ok(Arc::new(Schema::parse(&text).unwrap()))
}

fn transform() -> Transform {
    let stream = Pipeline::cars().unwrap().streams.remove(0);
    Transform::new(stream, &SchemaIds { target: IDS[0], windows: vec![IDS[1]] }, "preprocessor").unwrap()
}

fn json() -> String {
    let numbers = "coolant_temp intake_air_temp intake_air_flow_speed battery_percentage battery_voltage current_draw \
                   speed engine_vibration_amplitude throttle_pos accelerometer11_value accelerometer12_value \
                   accelerometer21_value accelerometer22_value";
    let whole = "tire_pressure11 tire_pressure12 tire_pressure21 tire_pressure22 control_unit_firmware";
    let numbers = numbers.split_whitespace().map(|it| format!("\"{it}\":1.5"));
    let whole = whole.split_whitespace().map(|it| format!("\"{it}\":30"));
    let fields: Vec<String> = numbers.chain(whole).collect();
    format!("{{{},\"failure_occurred\":\"false\",\"car\":\"car1\",\"event_time\":{NOW}}}", fields.join(","))
}

/// A cardata-v1 record with `speed`.
fn v1(id: u32, speed: f32) -> Vec<u8> {
    let mut value = Vec::new();
    framing::write_header(id, &mut value);
    for index in 0..9 {
        value.extend_from_slice(&if index == 6 { speed } else { 2.0_f32 }.to_le_bytes());
    }
    value.extend_from_slice(&[60; 4]);
    for _ in 0..4 {
        value.extend_from_slice(&3.0_f32.to_le_bytes());
    }
    value.extend_from_slice(&[0xe8, 0x0f]);
    value.extend_from_slice(b"\x0afalse");
    value
}

struct Case {
    name: &'static str,
    key: Option<&'static [u8]>,
    value: Option<Vec<u8>>,
    reason: Option<Reason>,
    detail: &'static str,
}

fn case(name: &'static str, value: impl Into<Vec<u8>>, reason: Reason, detail: &'static str) -> Case {
    Case { name, key: Some(b"car1"), value: Some(value.into()), reason: Some(reason), detail }
}

/// Every kind of poison that the issue names, and more.
fn corpus() -> Vec<Case> {
    use Reason::{
        BadKey, BadTime, Empty, Malformed, OutOfRange, SchemaMismatch, Trailing, Truncated, UnknownSchema,
    };
    let with = |from: &str, to: &str| {
        assert!(json().contains(from), "{from}");
        json().replacen(from, to, 1)
    };
    let whole = v1(V1, 2.0);
    let mut trailing = whole.clone();
    trailing.push(0);
    vec![
        Case { name: "no value", key: Some(b"car1"), value: None, reason: Some(Empty), detail: "no value" },
        case("empty value", "", Empty, "no bytes"),
        case("truncated JSON", &json()[..100], Malformed, ""),
        case("text", "hello", Malformed, ""),
        case("number as text", with("\"speed\":1.5", "\"speed\":\"1.5\""), SchemaMismatch, "speed"),
        case(
            "fraction for a whole number",
            with("\"tire_pressure11\":30", "\"tire_pressure11\":30.5"),
            SchemaMismatch,
            "tire_pressure11",
        ),
        case("missing field", with("\"speed\":1.5,", ""), SchemaMismatch, "speed"),
        case("NaN in JSON", with("\"speed\":1.5", "\"speed\":NaN"), Malformed, ""),
        case("beyond a double", with("\"speed\":1.5", "\"speed\":1e999"), Malformed, ""),
        case(
            "out of range",
            with("\"speed\":1.5", "\"speed\":700"),
            OutOfRange,
            "not fulfilled: speed is 0 to 500",
        ),
        case(
            "below zero",
            with("\"tire_pressure22\":30", "\"tire_pressure22\":-1"),
            OutOfRange,
            "tire pressures",
        ),
        case(
            "another car's name",
            with("\"car1\"", "\"car2\""),
            BadKey,
            "the car in the value is the car in the key",
        ),
        Case {
            name: "a key too long to keep",
            key: Some(&[b'x'; 2000]),
            value: Some(v1(V1, 2.0)),
            reason: Some(BadKey),
            detail: "longer than 1024",
        },
        case("clock weeks behind", with("1700000123456", "1699000123456"), BadTime, "before the record's"),
        case("clock ahead", with("1700000123456", "1700009123456"), BadTime, "after the record's"),
        case("time in seconds, before 1970", with("1700000123456", "-5"), BadTime, "not in milliseconds"),
        case(
            "time in microseconds",
            with("1700000123456", "1700000123456000"),
            BadTime,
            "not in milliseconds",
        ),
        case("truncated header", [0, 0, 0], Truncated, "too few for a schema id"),
        case("truncated Avro", &whole[..40], Truncated, ""),
        case("trailing byte", trailing, Trailing, ""),
        case("header and nothing more", &whole[..5], Empty, ""),
        case("unknown schema", v1(4242, 2.0), UnknownSchema, "no schema 4242"),
        case(
            "schema that lacks fields",
            v1(POOR, 2.0),
            SchemaMismatch,
            "schema 8: field coolant_temp is missing",
        ),
        case(
            "schema of other types",
            v1(OTHER, 2.0),
            SchemaMismatch,
            "schema 9: field speed is Utf8, but must be Float64",
        ),
        case("NaN in Avro", v1(V1, f32::NAN), OutOfRange, "SPEED is not a finite number"),
        case("infinity in Avro", v1(V1, f32::INFINITY), OutOfRange, "SPEED is not a finite number"),
        Case {
            name: "no key at all",
            key: None,
            value: Some(whole.clone()),
            reason: Some(BadKey),
            detail: "CAR is missing",
        },
        Case {
            name: "key is no text",
            key: Some(b"\xff"),
            value: Some(whole.clone()),
            reason: Some(BadKey),
            detail: "CAR is missing",
        },
        Case { name: "good JSON", key: Some(b"car1"), value: Some(json().into()), reason: None, detail: "" },
        Case {
            name: "good JSON without key",
            key: None,
            value: Some(json().into()),
            reason: None,
            detail: "",
        },
        Case {
            name: "other order of keys",
            key: Some(b"car1"),
            value: Some(
                format!(
                    "{{\"x\":[1],\"event_time\":{NOW},{}",
                    &json()[1..json().rfind(",\"event_time").unwrap()]
                )
                .into_bytes()
                .into_iter()
                .chain(*b"}")
                .collect(),
            ),
            reason: None,
            detail: "",
        },
        Case { name: "good Avro", key: Some(b"car1"), value: Some(whole), reason: None, detail: "" },
    ]
}

/// What became of each record: its topic, and of dead letters reason and detail.
fn outcomes(out: &Outgoing, records: usize) -> Vec<(String, String, String)> {
    let mut outcomes = Vec::new();
    for record in out.records().filter(|it| it.topic() != topics::EVENTS_PER_5MIN) {
        let header = |name: &str| {
            let found = record.headers().find(|(it, _)| *it == name);
            found.map(|(_, value)| String::from_utf8(value.to_vec()).unwrap()).unwrap_or_default()
        };
        assert_eq!(header("src"), format!("sensor-data-3-{}", outcomes.len()), "one outcome each, in order");
        outcomes.push((record.topic().to_owned(), header("reason"), header("detail")));
    }
    assert_eq!(outcomes.len(), records, "each record has one outcome");
    outcomes
}

fn run(transform: &mut Transform, windows: &mut [Windows], cases: &[&Case]) -> (Outgoing, Tally) {
    let mut batch = Batch::new("sensor-data".into(), 3);
    for (offset, case) in cases.iter().enumerate() {
        batch.push(offset as i64, Some(NOW), case.key, case.value.as_deref(), []);
    }
    let mut out = Outgoing::new();
    let tally = transform.apply(&batch, windows, &mut lookup, &mut out).unwrap();
    (out, tally)
}

fn assert_outcome(case: &Case, (topic, reason, detail): &(String, String, String)) {
    match case.reason {
        None => assert_eq!((topic.as_str(), detail.as_str()), (topics::CLEAN, ""), "{}", case.name),
        Some(expected) => {
            assert_eq!(
                (topic.as_str(), reason.as_str()),
                (topics::DEAD_LETTERS, expected.as_str()),
                "{}: {detail}",
                case.name
            );
            assert!(detail.contains(case.detail), "{}: {detail}", case.name);
        }
    }
}

#[test]
fn each_poison_is_one_dead_letter_with_its_reason() {
    let corpus = corpus();
    let mut transform = transform();
    for case in &corpus {
        let mut windows = transform.windows();
        let (out, tally) = run(&mut transform, &mut windows, &[case]);
        assert_outcome(case, &outcomes(&out, 1)[0]);
        assert_eq!(tally.rejected.values().sum::<u64>(), u64::from(case.reason.is_some()));
        // Only what is clean is counted.
        assert_eq!(windows[0].len(), usize::from(case.reason.is_none()), "{}", case.name);
        if case.reason.is_some() {
            let dead = out.records().next().unwrap();
            assert_eq!(
                (dead.key(), dead.value()),
                (case.key, case.value.as_deref()),
                "{}: bytes as they came",
                case.name
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_record_fares_the_same_among_any_neighbours(order in prop::collection::vec(0..100_usize, 1..60)) {
        let corpus = corpus();
        let cases: Vec<&Case> = order.iter().map(|it| &corpus[it % corpus.len()]).collect();
        let mut transform = transform();
        let mut windows = transform.windows();
        let (out, _) = run(&mut transform, &mut windows, &cases);
        for (case, outcome) in cases.iter().zip(outcomes(&out, cases.len())) {
            assert_outcome(case, &outcome);
        }
        let good = cases.iter().filter(|it| it.reason.is_none()).count();
        let rows: Vec<_> = out.records().filter(|it| it.topic() == topics::EVENTS_PER_5MIN).collect();
        prop_assert_eq!(rows.len(), usize::from(good > 0), "one row for the car and its window");
        if let [row] = rows.as_slice() {
            prop_assert_eq!(row.partition(), Some(3));
            prop_assert_eq!(row.key(), Some(&b"car1@1700000100000"[..]));
            let decoder = Decoder::compile(&Schema::parse(schema::EVENTS_PER_5MIN).unwrap()).unwrap();
            let (id, payload) = framing::split(row.value().unwrap()).unwrap();
            prop_assert_eq!(id, IDS[1]);
            let decoded = decoder.decode([payload]).columns;
            let number = |name: &str| decoded.column_by_name(name).unwrap().as_primitive::<Int64Type>().value(0);
            prop_assert_eq!((number("WINDOW_END"), number("EVENT_COUNT")), (1_700_000_400_000, good as i64));
        }
    }
}

#[test]
fn json_and_old_avro_become_the_same_table() {
    let corpus = corpus();
    let mut transform = transform();
    let mut windows = transform.windows();
    let cases: Vec<&Case> = corpus.iter().filter(|it| it.reason.is_none()).collect();
    let (out, _) = run(&mut transform, &mut windows, &cases);
    let decoder = Decoder::compile(&Schema::parse(schema::CLEAN).unwrap()).unwrap();
    let clean: Vec<_> = out.records().filter(|it| it.topic() == topics::CLEAN).collect();
    let payloads: Vec<&[u8]> =
        clean.iter().map(|it| framing::split(it.value().unwrap()).unwrap().1).collect();
    let columns = decoder.decode(payloads).columns;
    assert_eq!(columns.num_rows(), 4);
    let speeds = columns.column_by_name("SPEED").unwrap().as_primitive::<Float64Type>().values().to_vec();
    assert_eq!(speeds, [1.5, 1.5, 1.5, 2.0]);
    for (row, record) in clean.iter().enumerate() {
        assert_eq!((record.key(), record.timestamp_ms()), (Some(&b"car1"[..]), Some(NOW)));
        assert_eq!(columns.column_by_name("CAR").unwrap().as_string::<i32>().value(row), "car1");
        assert_eq!(columns.column_by_name("EVENT_TIME").unwrap().as_primitive::<Int64Type>().value(row), NOW);
    }
}

#[test]
fn a_registry_that_is_away_holds_the_batch_back() {
    let mut transform = transform();
    let mut batch = Batch::new("sensor-data".into(), 3);
    batch.push(0, Some(NOW), Some(b"car1"), Some(&v1(AWAY, 1.0)), []);
    let mut windows = transform.windows();
    let failed = transform.apply(&batch, &mut windows, &mut lookup, &mut Outgoing::new());
    assert!(failed.unwrap_err().is_passing());
}

#[test]
fn a_late_reading_is_delivered_and_counted_as_late() {
    let mut transform = transform();
    let mut windows = transform.windows();
    let mut batch = Batch::new("sensor-data".into(), 3);
    let at = |time: i64| json().replace("1700000123456", &time.to_string());
    let times = [NOW, NOW - 2 * 3_600_000, NOW - 600_000];
    for (offset, time) in times.into_iter().enumerate() {
        batch.push(offset as i64, Some(NOW), Some(b"car1"), Some(at(time).as_bytes()), []);
    }
    let mut out = Outgoing::new();
    let tally = transform.apply(&batch, &mut windows, &mut lookup, &mut out).unwrap();
    assert!(outcomes(&out, 3).iter().all(|it| it.0 == topics::CLEAN));
    assert_eq!(tally.late, BTreeMap::from([(topics::EVENTS_PER_5MIN.to_owned(), 1)]));
    assert_eq!(windows[0].len(), 2);
}
