//! Bytes of a record as text: Avro by its schema, JSON as it is, anything else as bytes.

use std::fmt::Write as _;
use std::sync::Arc;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use serde_json::{Map, Number, Value as Json};
use telltale_records::framing;
use telltale_records::schema::Schema;

/// Bytes shown of a value that is neither Avro nor text.
const BYTES_SHOWN: usize = 64;
/// Characters shown of a text.
const TEXT_SHOWN: usize = 4096;

/// The value as one line of text; never fails, whatever the bytes are.
///
/// `schema` finds the schema of an id, or says why it cannot.
pub fn value(bytes: Option<&[u8]>, schema: impl FnOnce(u32) -> Result<Arc<Schema>, String>) -> String {
    let Some(bytes) = bytes else { return "(tombstone)".to_owned() };
    if bytes.is_empty() {
        return "(empty)".to_owned();
    }
    if let Some((id, payload)) = framing::split(bytes) {
        let decoded = schema(id).and_then(|it| avro(&it, payload));
        return match decoded {
            Ok(json) => json.to_string(),
            Err(problem) => format!("(not readable as Avro with schema {id}: {problem}) {}", plain(bytes)),
        };
    }
    plain(bytes)
}

/// Key or header as text.
#[must_use]
pub fn plain(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|it| it.is_control() && !it.is_whitespace()) => {
            let mut shown: String =
                text.chars().take(TEXT_SHOWN).map(|it| if it.is_whitespace() { ' ' } else { it }).collect();
            if shown.len() < text.len() {
                let _ = write!(shown, "… ({} bytes)", text.len());
            }
            shown
        }
        _ => {
            let mut shown = String::from("0x");
            bytes.iter().take(BYTES_SHOWN).for_each(|it| {
                let _ = write!(shown, "{it:02x}");
            });
            if bytes.len() > BYTES_SHOWN {
                let _ = write!(shown, "… ({} bytes)", bytes.len());
            }
            shown
        }
    }
}

fn avro(schema: &Schema, mut payload: &[u8]) -> Result<Json, String> {
    let reader = GenericDatumReader::builder(schema.avro()).build().map_err(|error| error.to_string())?;
    let value = reader.read_value(&mut payload).map_err(|error| error.to_string())?;
    if !payload.is_empty() {
        return Err(format!("{} bytes are left after the record", payload.len()));
    }
    Ok(json(value))
}

/// JSON as a person expects it; unlike Avro's own JSON, the branch of a union is not named.
fn json(value: Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(it) => Json::Bool(it),
        Value::Int(it) | Value::Date(it) | Value::TimeMillis(it) => it.into(),
        Value::Long(it)
        | Value::TimeMicros(it)
        | Value::TimestampMillis(it)
        | Value::TimestampMicros(it)
        | Value::TimestampNanos(it)
        | Value::LocalTimestampMillis(it)
        | Value::LocalTimestampMicros(it)
        | Value::LocalTimestampNanos(it) => it.into(),
        Value::Float(it) => float(f64::from(it), it.to_string()),
        Value::Double(it) => float(it, it.to_string()),
        Value::Bytes(it) | Value::Fixed(_, it) => Json::String(plain(&it)),
        Value::String(it) | Value::Enum(_, it) => Json::String(it),
        Value::Union(_, it) => json(*it),
        Value::Array(items) => Json::Array(items.into_iter().map(json).collect()),
        Value::Map(entries) => {
            let mut entries: Vec<_> = entries.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Json::Object(entries.into_iter().map(|(name, it)| (name, json(it))).collect::<Map<_, _>>())
        }
        Value::Record(fields) => {
            Json::Object(fields.into_iter().map(|(name, it)| (name, json(it))).collect())
        }
        other => Json::String(format!("{other:?}")),
    }
}

/// JSON has no NaN and no infinity; they are shown as text.
fn float(value: f64, text: String) -> Json {
    // An f32 is shown with its own digits, not with those of the f64 nearest to it.
    let shortest = text.parse().unwrap_or(value);
    Number::from_f64(shortest).map_or(Json::String(text), Json::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: u32) -> Result<Arc<Schema>, String> {
        Err("the registry does not have it".to_owned())
    }

    #[test]
    fn what_is_not_avro_is_shown_as_it_is() {
        let cases: [(Option<&[u8]>, &str); 6] = [
            (None, "(tombstone)"),
            (Some(b""), "(empty)"),
            (Some(b"{\"speed\":\n 3}"), "{\"speed\":  3}"),
            (Some(b"\x01\xff"), "0x01ff"),
            (Some(b"a\x1b[2Jb"), "0x611b5b324a62"),
            (
                Some(b"\0\0\0\0\x09\x02"),
                "(not readable as Avro with schema 9: the registry does not have it) 0x000000000902",
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(value(bytes, none), expected);
        }
        assert!(value(Some(&[b'x'; 5000]), none).ends_with("x… (5000 bytes)"));
        assert!(value(Some(&[0xff; 100]), none).ends_with("ff… (100 bytes)"));
    }

    #[test]
    fn avro_is_shown_as_json_and_half_a_record_as_a_fault() {
        let text = r#"{"type":"record","name":"R","fields":[
            {"name":"car","type":["null","string"]},{"name":"speed","type":"float"}]}"#;
        let schema = Arc::new(Schema::parse(text).unwrap());
        let mut bytes = Vec::new();
        framing::write_header(1, &mut bytes);
        bytes.extend_from_slice(&[2, 4, b'c', b'1']);
        bytes.extend_from_slice(&0.1_f32.to_le_bytes());
        let found = |bytes: &[u8]| value(Some(bytes), |_| Ok(Arc::clone(&schema)));
        assert_eq!(found(&bytes), r#"{"car":"c1","speed":0.1}"#);
        assert!(found(&bytes[..bytes.len() - 1]).starts_with("(not readable as Avro with schema 1: "));
        bytes.push(0);
        assert!(found(&bytes).contains("1 bytes are left after the record"));
        let end = bytes.len() - 1;
        bytes[end - 4..end].copy_from_slice(&f32::NAN.to_le_bytes());
        bytes.pop();
        assert_eq!(found(&bytes), r#"{"car":"c1","speed":"NaN"}"#);
    }
}
