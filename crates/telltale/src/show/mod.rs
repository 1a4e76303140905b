//! Records as text for a person.

pub mod value;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use telltale_records::Record;
use telltale_records::schema::Schema;

/// A record on several lines: place, time and key, its headers, its value.
pub fn record(record: Record<'_>, schema: impl FnOnce(u32) -> Result<Arc<Schema>, String>) -> String {
    let mut text = record.source().to_string();
    if let Some(time) = record.timestamp_ms() {
        let _ = write!(text, "  {}", self::time(time));
    }
    match record.key() {
        Some(key) => {
            let _ = write!(text, "  key {}", value::plain(key));
        }
        None => text.push_str("  no key"),
    }
    for (name, header) in record.headers() {
        let header = header.map_or_else(|| "(null)".to_owned(), value::plain);
        let _ = write!(text, "\n    {name}: {header}");
    }
    let _ = write!(text, "\n    {}", value::value(record.value(), schema));
    text
}

/// A Kafka time stamp as RFC 3339 text.
#[must_use]
pub fn time(milliseconds: i64) -> String {
    // Beyond year 9999 the format ends; a stranger's time stamp may be anything.
    const LAST: u64 = 253_402_300_799_999;
    match u64::try_from(milliseconds) {
        Ok(it) if it <= LAST => {
            humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(it)).to_string()
        }
        _ => format!("{milliseconds} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_records::Batch;

    #[test]
    fn a_record_shows_its_place_time_key_headers_and_value() {
        let mut batch = Batch::new("dead-letters".into(), 0);
        batch.push(
            5,
            Some(1_000),
            Some(b"car-000001"),
            Some(b"{}"),
            [("reason", Some(&b"empty"[..])), ("x", None)],
        );
        batch.push(6, Some(i64::MAX), None, None, []);
        let text = |index| record(batch.record(index), |_| Err(String::new()));
        let expected = "dead-letters-0-5  1970-01-01T00:00:01.000Z  key car-000001\n    reason: empty\n    x: (null)\n    {}";
        assert_eq!(text(0), expected);
        assert_eq!(text(1), "dead-letters-0-6  9223372036854775807 ms  no key\n    (tombstone)");
    }
}
