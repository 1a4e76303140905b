//! What a pipeline file may say, and what is said of one that is wrong.

use super::*;

const SCHEMA: &str = r#"{"type": "record", "name": "R", "fields": [
    {"name": "speed", "type": "double"}, {"name": "car", "type": ["null", "string"]}]}"#;
const TARGET: &str = r#"{"type": "record", "name": "T", "fields": [
    {"name": "SPEED", "type": ["null", "double"]}, {"name": "CAR", "type": ["null", "string"]},
    {"name": "TIME", "type": "long"}]}"#;

const GOOD: &str = r#"
[[stream]]
source = "raw"
schema = "in.avsc"
sql = """
SELECT speed AS SPEED,
  car AS CAR,
  _timestamp AS TIME
FROM input
"""
key = "CAR"
event_time = "TIME"
target = "clean"
target_schema = "out.avsc"

[[stream.check]]
name = "speed"
sql = "SPEED >= 0"

[[stream.window]]
target = "counts"
schema = "sensor-data-events-per-5min-t"
columns = { key = "CAR", start = "WINDOW_START", end = "WINDOW_END", count = "EVENT_COUNT" }
size = "5m"
grace = "1h"
"#;

fn parse(text: &str) -> Result<Pipeline, PipelineError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.avsc"), SCHEMA).unwrap();
    std::fs::write(folder.path().join("out.avsc"), TARGET).unwrap();
    std::fs::write(folder.path().join("list.avsc"), r#"{"type": "record", "name": "L", "fields": [{"name": "a", "type": {"type": "array", "items": "int"}}]}"#).unwrap();
    std::fs::write(folder.path().join("bad.avsc"), "{").unwrap();
    Pipeline::parse(text, "p.toml", folder.path())
}

#[test]
fn the_pipeline_for_cars_is_sound() {
    let pipeline = Pipeline::cars().unwrap();
    assert_eq!(pipeline.sources(), ["sensor-data"]);
    let stream = pipeline.stream("sensor-data").unwrap();
    assert_eq!(stream.target, "SENSOR_DATA_S_AVRO");
    assert_eq!(stream.windows[0].target, "SENSOR_DATA_EVENTS_PER_5MIN_T");
    assert_eq!(stream.windows[0].size, Duration::from_secs(300));
    assert_eq!(stream.rules.len(), 12);
}

#[test]
fn a_good_file_says_what_it_says() {
    let pipeline = parse(GOOD).unwrap();
    let stream = pipeline.stream("raw").unwrap();
    assert_eq!(stream.format, Format::Auto);
    assert_eq!(stream.key.as_deref(), Some("CAR"));
    assert_eq!(stream.rules, [Rule { name: "speed".to_owned(), reason: Reason::OutOfRange }]);
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    // What to write instead of what, the line of the error, and words it must hold.
    let cases: &[(&str, &str, usize, &str)] = &[
        ("car AS CAR", "cart AS CAR", 7, "cart"),
        ("car AS CAR", "car AS CART", 5, "\"CART\", which the target schema does not have"),
        ("car AS CAR", "car AS car", 5, "did you mean CAR?"),
        ("car AS CAR,", "car AS CAR, car AS CAR,", 5, "CAR"),
        ("  car AS CAR,\n", "", 5, "column \"CAR\", which the SQL does not give"),
        ("car AS CAR", "car + AS CAR", 7, "No field named \"AS\""),
        ("car AS CAR", "(car AS CAR", 7, "ParserError"),
        (
            "speed AS SPEED",
            "car AS SPEED",
            5,
            "column \"SPEED\" is Utf8, but the target schema wants Float64; use CAST",
        ),
        ("_timestamp AS TIME", "_timestamp * 1e3 AS TIME", 5, "column \"TIME\" is Float64"),
        ("_timestamp AS TIME", "CAST(now() AS BIGINT) AS TIME", 5, "now() gives another result"),
        ("speed AS SPEED", "random() AS SPEED", 5, "random() gives another result"),
        ("speed AS SPEED", "no_such_function(speed) AS SPEED", 6, "no_such_function"),
        ("speed AS SPEED", "(SELECT max(speed) FROM input) AS SPEED", 5, "a subquery reads other rows"),
        ("speed AS SPEED", "sum(speed) OVER () AS SPEED", 5, "window function"),
        (
            "FROM input",
            "FROM input WHERE speed > 0",
            5,
            "WHERE drops rows, but every record must have exactly one outcome; to set records aside use [[stream.check]]",
        ),
        ("FROM input", "FROM input LIMIT 1", 5, "LIMIT drops rows"),
        ("FROM input", "FROM input ORDER BY speed", 5, "ORDER BY is not supported"),
        ("FROM input", "FROM input CROSS JOIN input AS b", 6, "Ambiguous"),
        (
            "FROM input",
            "FROM (SELECT * FROM input CROSS JOIN (SELECT 1))",
            5,
            "a join changes the number of rows",
        ),
        ("FROM input", "FROM readings", 9, "table 'datafusion.public.readings' not found"),
        ("FROM input", "FROM (SELECT DISTINCT * FROM input)", 5, "DISTINCT drops rows"),
        (
            "FROM input",
            "FROM (SELECT * FROM input UNION ALL SELECT * FROM input)",
            5,
            "UNION changes the number of rows",
        ),
        (
            "FROM input",
            "FROM (SELECT avg(speed) AS speed, max(car) AS car, max(_timestamp) AS _timestamp FROM input)",
            5,
            "an aggregate makes one row of many",
        ),
        ("FROM input\n", "FROM input;\nDROP TABLE input\n", 5, ""),
        ("sql = \"SPEED >= 0\"", "sql = \"SPED >= 0\"", 18, "SPED"),
        (
            "sql = \"SPEED >= 0\"",
            "sql = \"SPEED + 1\"",
            18,
            "a check must be true or false, but \"SPEED + 1\" is Float64",
        ),
        ("sql = \"SPEED >= 0\"", "sql = \"sum(SPEED) > 0\"", 18, "aggregate"),
        ("sql = \"SPEED >= 0\"", "sql = \"SPEED >= 0\"\nreason = \"ugly\"", 19, "out-of-range"),
        (
            "sql = \"SPEED >= 0\"",
            "sql = \"SPEED >= 0\"\n[[stream.check]]\nname = \"speed\"\nsql = \"true\"",
            20,
            "two checks",
        ),
        ("key = \"CAR\"", "key = \"KAR\"", 11, "no column \"KAR\"; it has SPEED, CAR, TIME"),
        ("key = \"CAR\"", "key = \"SPEED\"", 11, "is Float64, but must be Utf8"),
        ("key = \"CAR\"", "kee = \"CAR\"", 11, "unknown field `kee`"),
        ("key = \"CAR\"", "key = 3", 11, "expected a string"),
        ("key = \"CAR\"", "key = \"CAR", 11, ""),
        ("source = \"raw\"", "", 2, "missing field `source`"),
        ("source = \"raw\"", "source = \"a b\"", 3, "cannot be a topic"),
        ("source = \"raw\"", "source = \"clean\"", 3, "this pipeline writes the topic"),
        ("source = \"raw\"", "source = \"raw\"\nformat = \"xml\"", 4, "unknown variant `xml`"),
        ("target = \"counts\"", "target = \"clean\"", 21, "written already"),
        ("target = \"counts\"", "target = \"dead-letters\"", 21, "written already"),
        ("size = \"5m\"", "size = \"5 parsecs\"", 24, "not a time such as"),
        ("size = \"5m\"", "size = \"1500ms\"", 24, "whole number of seconds"),
        ("grace = \"1h\"", "grace = \"9999y\"", 25, "longer than a year"),
        ("key = \"CAR\"", "key = \"CAR\"\nmax_ahead = \"61m\"", 12, "longer than 1h"),
        ("count = \"EVENT_COUNT\"", "count = \"N\"", 23, "no column \"N\""),
        ("count = \"EVENT_COUNT\"", "count = \"WINDOW_END\"", 23, "four fields"),
        ("schema = \"in.avsc\"", "schema = \"none.avsc\"", 4, "none.avsc"),
        ("schema = \"in.avsc\"", "schema = \"bad.avsc\"", 4, "not an Avro schema"),
        ("schema = \"in.avsc\"", "schema = \"in\"", 4, "readings, cardata-v1"),
        ("target_schema = \"out.avsc\"", "target_schema = \"list.avsc\"", 14, "simple types"),
        ("key = \"CAR\"", "alias = { S = \"spud\" }", 11, "S is to become column spud"),
    ];
    let mut wrong = Vec::new();
    for (from, to, line, words) in cases {
        assert!(GOOD.contains(from), "{from}");
        let error = parse(&GOOD.replacen(from, to, 1)).expect_err(to).to_string();
        if !error.starts_with(&format!("p.toml:{line}: ")) || !error.contains(words) {
            wrong.push(format!("{to}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn hostile_files_are_refused() {
    let deep = format!("a = {}", "[".repeat(100_000));
    let long = GOOD.replace("speed AS SPEED", &format!("speed{} AS SPEED", " + 1".repeat(100_000)));
    let nested =
        GOOD.replace("speed AS SPEED", &format!("{}speed{} AS SPEED", "(".repeat(5_000), ")".repeat(5_000)));
    let chained = GOOD.replace("speed AS SPEED", &format!("speed{} AS SPEED", " + 1".repeat(10_000)));
    for text in
        ["", "\u{0}", "[[stream]]", "stream = 1", "[stream]\nsource = 1", &deep, &long, &nested, &chained]
    {
        let error = parse(text).expect_err("a hostile file").to_string();
        assert!(error.starts_with("p.toml:"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.toml");
    std::fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
    assert!(Pipeline::load(&path).unwrap_err().to_string().contains("big.toml is larger than"));
    assert!(Pipeline::load(&folder.path().join("none.toml")).unwrap_err().to_string().contains("none.toml"));
}
