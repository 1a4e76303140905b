//! The file for `telltale load` is what the fleet makes: 100 cars, 100 readings each.

use std::fmt::Write as _;
use std::path::Path;

use telltale_simulator::fleet::{Fleet, SENSORS, Settings, car_id};

const CARS: u32 = 100;
const READINGS: i64 = 100;
/// 2026-01-01T00:00:00Z
const START_MS: i64 = 1_767_225_600_000;

/// The header of old exports: wheels are numbered 1_1 where cars say 11.
fn column(sensor: &str) -> String {
    for (prefix, suffix) in [("tire_pressure", ""), ("accelerometer", "_value")] {
        let wheel = sensor.strip_prefix(prefix).and_then(|it| it.strip_suffix(suffix));
        if let Some((axle, side)) = wheel.and_then(|it| it.split_at_checked(1)) {
            return format!("{prefix}_{axle}_{side}{suffix}");
        }
    }
    sensor.to_owned()
}

fn csv() -> String {
    let fleet = Fleet::new(7, Settings::default()).unwrap();
    let columns: Vec<String> = SENSORS.iter().map(|it| column(it.name)).collect();
    let mut text = format!("time,car,{}\n", columns.join(","));
    for second in 0..READINGS {
        for car in 1..=CARS {
            let time_ms = START_MS + second * 1000;
            let reading = fleet.reading(car, time_ms);
            write!(text, "{},{}", time_ms / 1000, car_id(car)).unwrap();
            for (value, sensor) in reading.values.iter().zip(&SENSORS) {
                write!(text, ",{value:.*}", sensor.decimals as usize).unwrap();
            }
            text.push('\n');
        }
    }
    text
}

/// `UPDATE_GOLDEN=1` writes the file anew.
#[test]
fn the_file_in_testdata_is_what_the_fleet_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/car-sensor-data.csv");
    let made = csv();
    #[expect(
        clippy::disallowed_methods,
        reason = "asked for by whoever runs the test, no setting of a service"
    )]
    let update = std::env::var("UPDATE_GOLDEN").is_ok();
    if update {
        std::fs::write(&path, &made).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert_eq!(found.lines().count(), 1 + 10_000);
    let differs = found.lines().zip(made.lines()).enumerate().find(|(_, (found, made))| found != made);
    assert!(found == made, "car-sensor-data.csv differs from the fleet: {differs:?}");
}
