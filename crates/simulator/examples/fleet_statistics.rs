//! Prints how each sensor varies over a healthy fleet, and how well a linear model finds each failure.

use std::time::Instant;

use telltale_simulator::fleet::{Fleet, SENSORS, Settings};

fn main() {
    let fleet = Fleet::new(1, Settings::default()).expect("the default settings are valid");
    let start = 1_700_000_000_000;
    let mut sums = [(0.0, 0.0, f64::MAX, f64::MIN); 18];
    let mut count = 0.0;
    for car in 0..2000 {
        for second in (0..3600).step_by(97) {
            let reading = fleet.reading(car, start + second * 1000);
            if reading.failure_occurred {
                continue;
            }
            count += 1.0;
            for (sum, value) in sums.iter_mut().zip(reading.values) {
                *sum = (sum.0 + value, sum.1 + value * value, sum.2.min(value), sum.3.max(value));
            }
        }
    }
    for (sensor, (sum, squares, least, most)) in SENSORS.iter().zip(sums) {
        let mean = sum / count;
        let deviation = (squares / count - mean * mean).sqrt();
        let noise = sensor.noise / deviation;
        println!(
            "{:28} {mean:9.3} ± {deviation:8.3}  {least:9.3} … {most:9.3}  noise {noise:.3}",
            sensor.name
        );
    }
    let (began, mut text, mut bytes) = (Instant::now(), Vec::new(), 0);
    for index in 0..1_000_000_u32 {
        text.clear();
        fleet.reading(index % 2000, start + i64::from(index / 2000) * 200).write_json(&mut text);
        bytes += text.len();
    }
    println!(
        "{} ns a reading with its text of {} bytes",
        began.elapsed().as_nanos() / 1_000_000,
        bytes / 1_000_000
    );
    println!("{}", String::from_utf8_lossy(&text));
}
