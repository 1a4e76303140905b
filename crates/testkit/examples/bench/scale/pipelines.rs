//! What the preprocessor makes of readings, besides what is shipped.

use anyhow::{Result, ensure};

use crate::commands::pipeline;

/// The pipeline between a source, a target, and a table of counts.
pub(super) type Pipeline = fn(&str, &str, &str) -> Result<String>;

/// The cars' pipeline as it is shipped.
pub(super) fn shipped(source: &str, target: &str, windows: &str) -> Result<String> {
    pipeline(source, target, windows)
}

/// The same without counts per window: each reading has one outcome, and nothing grows with the number of cars.
pub(super) fn without_counts(source: &str, target: &str, windows: &str) -> Result<String> {
    let text = pipeline(source, target, windows)?;
    let parts: Vec<&str> = text.split("[[stream.window]]").collect();
    ensure!(parts.len() == 2, "the cars' pipeline has not one table of counts");
    Ok(parts[0].to_owned())
}

/// Readings of a hundred bytes, since the names of a car's 21 fields alone are longer: two sensors, the car and the time.
pub(super) fn small(source: &str, target: &str, windows: &str) -> Result<String> {
    Ok(format!(
        r#"
[[stream]]
source = "{source}"
format = "json"
schema = "small.avsc"
sql = """
SELECT coolant_temp AS COOLANT_TEMP, speed AS SPEED,
  COALESCE(_key, car) AS CAR, COALESCE(event_time, _timestamp) AS EVENT_TIME FROM input
"""
key = "CAR"
event_time = "EVENT_TIME"
target = "{target}"
target_schema = "small-clean.avsc"

[[stream.check]]
name = "coolant temperature is -60 to 300 °C"
sql = "COOLANT_TEMP BETWEEN -60 AND 300"

[[stream.check]]
name = "speed is 0 to 500"
sql = "SPEED BETWEEN 0 AND 500"

[[stream.window]]
target = "{windows}"
schema = "sensor-data-events-per-5min-t"
columns = {{ key = "CAR", start = "WINDOW_START", end = "WINDOW_END", count = "EVENT_COUNT" }}
size = "5m"
grace = "1h"
"#
    ))
}

/// The schema files that [`small`] names.
pub(super) const SMALL_SCHEMAS: [(&str, &str); 2] = [
    (
        "small.avsc",
        r#"{"type": "record", "name": "Small", "namespace": "telltale", "fields": [
  {"name": "coolant_temp", "type": "double"}, {"name": "speed", "type": "double"},
  {"name": "car", "type": ["null", "string"], "default": null},
  {"name": "event_time", "type": ["null", "long"], "default": null}]}"#,
    ),
    (
        "small-clean.avsc",
        r#"{"type": "record", "name": "SmallClean", "namespace": "telltale", "fields": [
  {"name": "COOLANT_TEMP", "type": "double"}, {"name": "SPEED", "type": "double"},
  {"name": "CAR", "type": "string"}, {"name": "EVENT_TIME", "type": "long"}]}"#,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_counts_are_left_out() {
        let (all, fewer) = (shipped("a", "b", "c").unwrap(), without_counts("a", "b", "c").unwrap());
        assert!(all.starts_with(&fewer) && !fewer.contains("\"c\""), "{fewer}");
        assert_eq!(all.matches("[[stream.check]]").count(), fewer.matches("[[stream.check]]").count());
    }
}
