//! Rows as readings, and everything a row can have wrong.

use std::path::Path;

use super::*;
use crate::load::mapping::Changes;
use crate::load::rows::Rows;
use telltale_records::schema;

const OLD: &str = "time,car,coolant_temp,intake_air_temp,intake_air_flow_speed,battery_percentage,battery_voltage,\
    current_draw,speed,engine_vibration_amplitude,throttle_pos,tire_pressure_1_1,tire_pressure_1_2,tire_pressure_2_1,\
    tire_pressure_2_2,accelerometer_1_1_value,accelerometer_1_2_value,accelerometer_2_1_value,\
    accelerometer_2_2_value,control_unit_firmware";
const ROW: &str =
    "1567606196,car1,39.3,34.5,123.3,0.8,246.1,0.6,24.9,2493.4,5.723834E-4,32,31,34,34,.5,+0.9,1e2,0.04,2000";

fn schema() -> Schema {
    Schema::parse(schema::READINGS).unwrap()
}

fn names(header: &str) -> Vec<String> {
    header.split(',').map(str::to_owned).collect()
}

fn mapping(columns: &[&str], constants: &[&str]) -> Mapping {
    let pairs = |texts: &[&str]| texts.iter().map(|it| it.parse().unwrap()).collect();
    let changes = Changes { columns: pairs(columns), constants: pairs(constants), ..Changes::default() };
    Mapping::load(None, changes).unwrap()
}

fn read(text: &str) -> Result<Reading, BadRow> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut rows = Rows::open(Path::new(file.path()), b',').unwrap();
    let plan = Plan::compile(rows.header(), &mapping(&[], &[]), &schema()).unwrap();
    let mut reading = Reading::default();
    plan.read(rows.next_row().unwrap().unwrap(), 1000, &mut reading)?;
    Ok(reading)
}

#[test]
fn a_row_of_an_old_export_is_a_reading_as_cars_send_it() {
    let reading = read(&format!("{OLD}\n{ROW}\n")).unwrap();
    assert_eq!((&*reading.car, reading.time_ms), (&b"car1"[..], 1_567_606_196_000));
    let expected = r#"{"coolant_temp":39.3,"intake_air_temp":34.5,"intake_air_flow_speed":123.3,"battery_percentage":0.8,"battery_voltage":246.1,"current_draw":0.6,"speed":24.9,"engine_vibration_amplitude":2493.4,"throttle_pos":5.723834E-4,"tire_pressure11":32,"tire_pressure12":31,"tire_pressure21":34,"tire_pressure22":34,"accelerometer11_value":0.5,"accelerometer12_value":0.9,"accelerometer21_value":1e2,"accelerometer22_value":0.04,"control_unit_firmware":2000,"failure_occurred":"false","car":"car1","event_time":1567606197000}"#;
    assert_eq!(String::from_utf8(reading.json.clone()).unwrap(), expected);
    serde_json::from_slice::<serde_json::Value>(&reading.json).unwrap();
}

#[test]
fn a_bad_row_is_named_by_line_and_column() {
    let cases = [
        ("39.3", "fast", "line 2, column coolant_temp: \"fast\" is not a number"),
        ("39.3", "NaN", "line 2, column coolant_temp: \"NaN\" is not a number that a reading can hold"),
        ("39.3", "inf", "a number that a reading can hold"),
        ("39.3", "", "line 2, column coolant_temp: the cell is empty, but must hold a number"),
        ("39.3", "\"4,5\"", "\"4,5\" is not a number"),
        (",32,", ",32.5,", "line 2, column tire_pressure_1_1: \"32.5\" is not a whole number"),
        (",32,", ",4000000000,", "a whole number of 32 bits"),
        ("car1", " ", "line 2, column car: the device has no name"),
        ("1567606196", "yesterday", "line 2, column time: \"yesterday\" is not a time"),
        (",2000", "", "line 2: the row has 19 cells, the header 20"),
        (",2000", ",2000,1", "line 2: the row has 21 cells, the header 20"),
    ];
    for (from, to, expected) in cases {
        let error = read(&format!("{OLD}\n{}\n", ROW.replacen(from, to, 1))).unwrap_err().to_string();
        assert!(error.contains(expected), "{to}: {error}");
    }
    let long = "x".repeat(300);
    let error = read(&format!("{OLD}\n{}\n", ROW.replacen("39.3", &long, 1))).unwrap_err().to_string();
    assert!(error.len() < 150, "{error}");
}

#[test]
fn a_header_that_does_not_fit_is_answered_by_what_to_do() {
    let without = |part: &str| OLD.replacen(part, "", 1);
    let cases = [
        (without("time,"), mapping(&[], &[]), "no column \"time\" for the event time: name it by --time"),
        (without("car,"), mapping(&[], &[]), "no column \"car\" for the device: name it by --car"),
        (without("coolant_temp,"), mapping(&[], &[]), "no column is field coolant_temp"),
        (format!("{OLD},note"), mapping(&[], &[]), "--map note= leaves it out"),
        (format!("{OLD},speed"), mapping(&[], &[]), "two columns \"speed\""),
        (format!("{OLD},v"), mapping(&["v=speed"], &[]), "columns \"speed\" and \"v\" are both field speed"),
        (OLD.replace(',', ";"), mapping(&[], &[]), "--delimiter ';'"),
        (OLD.replace(',', "\t"), mapping(&[], &[]), "--delimiter tab"),
        (OLD.to_owned(), mapping(&[], &["colour=red"]), "colour (--set) is no field"),
    ];
    for (header, mapping, expected) in cases {
        let error = Plan::compile(&names(&header), &mapping, &schema()).unwrap_err();
        assert!(error.contains(expected), "{header}: {error}");
    }
    Plan::compile(&names(&format!("{OLD},note")), &mapping(&["note="], &[]), &schema()).unwrap();
}

#[test]
fn numbers_keep_the_digits_of_the_file_where_json_can_have_them() {
    let cases = [
        ("1.50", "1.50"),
        ("-0.0", "-0.0"),
        ("1E5", "1E5"),
        ("1.", "1"),
        (".5", "0.5"),
        ("007", "7"),
        ("+1", "1"),
    ];
    for (text, expected) in cases {
        let mut out = Vec::new();
        write(Kind::Double, text, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{text}");
    }
}

#[test]
fn a_fleet_with_another_schema_is_loaded_by_it() {
    let text = r#"{"type":"record","name":"R","fields":[{"name":"id","type":"string"},
        {"name":"on","type":["null","boolean"],"default":null},{"name":"at","type":["null","long"],"default":null}]}"#;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "id,on,when\npump \"1\",,1970-01-01T00:00:01Z\n").unwrap();
    let mapping_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(mapping_file.path(), "car = \"id\"\ntime = \"when\"\n[columns]\nwhen = \"at\"").unwrap();
    let mapping = Mapping::load(Some(mapping_file.path()), Changes::default()).unwrap();
    let mut rows = Rows::open(file.path(), b',').unwrap();
    let plan = Plan::compile(rows.header(), &mapping, &Schema::parse(text).unwrap()).unwrap();
    let mut reading = Reading::default();
    plan.read(rows.next_row().unwrap().unwrap(), 0, &mut reading).unwrap();
    assert_eq!(String::from_utf8(reading.json).unwrap(), r#"{"id":"pump \"1\"","on":null,"at":1000}"#);
}
