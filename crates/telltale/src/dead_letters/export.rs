//! Dead letters as JSON lines, and their bytes as files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use telltale_records::Record;

use crate::commands::Error;
use crate::show;

/// One dead letter as a JSON object: all of it, so that nothing but this line is needed to look into it.
///
/// Bytes that are not text are given in hexadecimal digits, under `key_hex` and `value_hex`.
#[must_use]
pub fn line(record: Record<'_>) -> Value {
    let place = record.source();
    let mut object = Map::new();
    object.insert("partition".to_owned(), json!(place.partition));
    object.insert("offset".to_owned(), json!(place.offset));
    object.insert("time".to_owned(), json!(record.timestamp_ms().map(show::time)));
    object.insert("time_ms".to_owned(), json!(record.timestamp_ms()));
    let mut headers = Map::new();
    for (name, value) in record.headers() {
        bytes(&mut headers, name, value);
    }
    object.insert("headers".to_owned(), Value::Object(headers));
    bytes(&mut object, "key", record.key());
    bytes(&mut object, "value", record.value());
    Value::Object(object)
}

/// Writes the value of a dead letter into a file of its own in `folder`; returns its name.
///
/// # Errors
///
/// Returns an error when the file cannot be written.
pub fn file(folder: &Path, record: Record<'_>) -> Result<String, Error> {
    let place = record.source();
    let name = format!("{}-{}.bin", place.partition, place.offset);
    let path = folder.join(&name);
    fs::write(&path, record.value().unwrap_or_default()).map_err(|source| Error::File {
        flag: "--files",
        path,
        source,
    })?;
    Ok(name)
}

fn bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(std::str::from_utf8) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), json!(text)),
        Some(Err(_)) => {
            let mut digits = String::new();
            bytes.unwrap_or_default().iter().for_each(|it| {
                let _ = write!(digits, "{it:02x}");
            });
            object.insert(format!("{name}_hex"), json!(digits))
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_records::{Batch, topics};

    #[test]
    fn a_line_holds_every_byte() {
        let mut batch = Batch::new(topics::DEAD_LETTERS.into(), 0);
        batch.push(5, Some(1000), Some(b"car-1"), Some(&[1, 0xff]), [("reason", Some(&b"malformed"[..]))]);
        batch.push(6, None, None, None, []);
        let expected = r#"{"headers":{"reason":"malformed"},"key":"car-1","offset":5,"partition":0,"time":"1970-01-01T00:00:01.000Z","time_ms":1000,"value_hex":"01ff"}"#;
        assert_eq!(line(batch.record(0)).to_string(), expected);
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(file(folder.path(), batch.record(0)).unwrap(), "0-5.bin");
        assert_eq!(fs::read(folder.path().join("0-5.bin")).unwrap(), [1, 0xff]);
        assert!(line(batch.record(1))["value"].is_null());
    }
}
