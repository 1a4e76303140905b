//! What a car sends: its sensors, their noise and resolution, and the JSON text.

use super::draw::Draw;
use super::drive::State;

/// Number of sensors.
pub(crate) const COUNT: usize = 18;

/// A sensor of every car.
#[derive(Debug, Clone, Copy)]
pub struct Sensor {
    /// Its key in the JSON text.
    pub name: &'static str,
    /// Digits after the point; 0 is an integer.
    pub decimals: u32,
    /// Standard deviation of its noise, in its unit.
    pub noise: f64,
    /// The least it can show, in its unit.
    pub least: f64,
    /// The most it can show, in its unit.
    pub most: f64,
}

const fn sensor(name: &'static str, decimals: u32, noise: f64, least: f64, most: f64) -> Sensor {
    Sensor { name, decimals, noise, least, most }
}

/// The sensors in the order of [`Reading::values`]. The noise of each is about 5 % of how much its value
/// varies over a healthy fleet.
pub const SENSORS: [Sensor; COUNT] = [
    sensor("coolant_temp", 2, 0.35, -40.0, 150.0),            // °C
    sensor("intake_air_temp", 2, 0.35, -40.0, 120.0),         // °C
    sensor("intake_air_flow_speed", 3, 0.22, 0.0, 60.0),      // m/s
    sensor("battery_percentage", 2, 0.9, 0.0, 100.0),         // %
    sensor("battery_voltage", 2, 0.65, 200.0, 450.0),         // V
    sensor("current_draw", 2, 1.8, -250.0, 400.0),            // A
    sensor("speed", 2, 2.0, 0.0, 220.0),                      // km/h
    sensor("engine_vibration_amplitude", 4, 0.03, 0.0, 10.0), // mm
    sensor("throttle_pos", 2, 0.65, 0.0, 100.0),              // %
    sensor("tire_pressure11", 0, 0.3, 0.0, 400.0),            // kPa
    sensor("tire_pressure12", 0, 0.3, 0.0, 400.0),
    sensor("tire_pressure21", 0, 0.3, 0.0, 400.0),
    sensor("tire_pressure22", 0, 0.3, 0.0, 400.0),
    sensor("accelerometer11_value", 4, 0.04, 0.0, 30.0), // m/s², amplitude
    sensor("accelerometer12_value", 4, 0.04, 0.0, 30.0),
    sensor("accelerometer21_value", 4, 0.04, 0.0, 30.0),
    sensor("accelerometer22_value", 4, 0.04, 0.0, 30.0),
    sensor("control_unit_firmware", 0, 0.0, 0.0, 100_000.0),
];

/// The names of the sensors in the order of [`Reading::values`].
pub const FEATURES: [&str; COUNT] = {
    let mut names = [""; COUNT];
    let mut index = 0;
    while index < COUNT {
        names[index] = SENSORS[index].name;
        index += 1;
    }
    names
};

pub(super) const COOLANT: usize = 0;
pub(super) const INTAKE_TEMP: usize = 1;
pub(super) const AIR_FLOW: usize = 2;
pub(super) const BATTERY: usize = 3;
pub(super) const VOLTAGE: usize = 4;
pub(super) const CURRENT: usize = 5;
pub(super) const SPEED: usize = 6;
pub(super) const VIBRATION: usize = 7;
pub(super) const THROTTLE: usize = 8;
pub(super) const TYRES: usize = 9;
pub(super) const ACCELEROMETERS: usize = 13;
const FIRMWARE: usize = 17;

/// What one car sends at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Number of the car.
    pub car: u32,
    /// When it was measured, in milliseconds since 1970.
    pub time_ms: i64,
    /// What the [`SENSORS`] show, at their resolution.
    pub values: [f64; COUNT],
    /// Whether a failure has begun and is not repaired.
    pub failure_occurred: bool,
}

/// Name of a car: `car-000001` for number 1.
#[must_use]
pub fn car_id(car: u32) -> String {
    format!("car-{car:06}")
}

/// What the sensors of a healthy car would show without noise.
pub(super) fn healthy(state: &State) -> [f64; COUNT] {
    let State { speed, power, heat, ambient, charge, road, firmware, .. } = *state;
    let outside = ambient - 16.0;
    let current = power / 0.36;
    let tyre = 228.0 + 0.8 * outside + 22.0 * heat + 0.02 * speed;
    let shaking = 0.15 + 0.004 * speed + 2.2 * road;
    let mut values = [0.0; COUNT];
    values[COOLANT] = 58.0 + 38.0 * heat + 0.25 * outside;
    values[INTAKE_TEMP] = ambient + 6.0 + 10.0 * heat;
    values[AIR_FLOW] = 3.0 + 0.07 * speed + 0.14 * (power + 30.0);
    values[BATTERY] = charge;
    values[VOLTAGE] = 330.0 + 0.6 * charge - 0.12 * current;
    values[CURRENT] = current;
    values[SPEED] = speed;
    values[VIBRATION] = 0.2 + 0.008 * speed + 0.012 * (power + 30.0) + 0.25 * road;
    values[THROTTLE] = 30.0 + power; // one pedal: below 30 % it brakes, and the battery is charged
    for (wheel, value) in values[TYRES..TYRES + 4].iter_mut().enumerate() {
        *value = if wheel < 2 { tyre } else { tyre + 12.0 };
    }
    for (wheel, value) in values[ACCELEROMETERS..ACCELEROMETERS + 4].iter_mut().enumerate() {
        *value = if wheel < 2 { shaking } else { 1.1 * shaking };
    }
    values[FIRMWARE] = firmware;
    values
}

/// Turns what there is to measure into what the sensors show. `stuck` is a sensor whose reading is drawn
/// towards a value: its number, how far, and the value.
pub(super) fn measure(values: &mut [f64; COUNT], stuck: Option<(usize, f64, f64)>, noise: &mut Draw) {
    if let Some((sensor, how_far, at)) = stuck {
        values[sensor] += (at - values[sensor]) * how_far;
    }
    for (index, (value, sensor)) in values.iter_mut().zip(&SENSORS).enumerate() {
        let quiet = stuck.map_or(1.0, |(stuck, how_far, _)| if stuck == index { 1.0 - how_far } else { 1.0 });
        let shown = (*value + sensor.noise * quiet * noise.normal()).clamp(sensor.least, sensor.most);
        let scale = SCALES[sensor.decimals as usize];
        *value = (shown * scale).round() / scale;
    }
}

const SCALES: [f64; 5] = [1.0, 10.0, 100.0, 1000.0, 10_000.0];

impl Reading {
    /// Appends the reading as the car sends it, one JSON object.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.reserve(640);
        out.push(b'{');
        for (value, sensor) in self.values.iter().zip(&SENSORS) {
            out.push(b'"');
            out.extend_from_slice(sensor.name.as_bytes());
            out.extend_from_slice(b"\":");
            let scale = SCALES[sensor.decimals as usize];
            write_fixed(out, (value * scale).round() as i64, sensor.decimals);
            out.push(b',');
        }
        out.extend_from_slice(b"\"failure_occurred\":\"");
        out.extend_from_slice(if self.failure_occurred { b"true" } else { b"false" });
        out.extend_from_slice(b"\",\"car\":\"car-");
        if self.car < 100_000 {
            let zeros = 5 - self.car.max(1).ilog10() as usize;
            out.extend_from_slice(&b"00000"[..zeros]);
        }
        write_fixed(out, i64::from(self.car), 0);
        out.extend_from_slice(b"\",\"event_time\":");
        write_fixed(out, self.time_ms, 0);
        out.push(b'}');
    }
}

/// Appends `scaled / 10^decimals` in decimal.
fn write_fixed(out: &mut Vec<u8>, scaled: i64, decimals: u32) {
    let mut digits = [0_u8; 24];
    let mut at = digits.len();
    let mut left = scaled.unsigned_abs();
    let mut written = 0;
    while left > 0 || written <= decimals {
        if written == decimals && decimals > 0 {
            at -= 1;
            digits[at] = b'.';
        }
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        written += 1;
    }
    if scaled < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are() {
        let cases = [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (5, 2, "0.05"),
            (-5, 2, "-0.05"),
            (-1234, 2, "-12.34"),
            (100, 0, "100"),
            (i64::MAX, 0, "9223372036854775807"),
            (i64::MIN, 4, "-922337203685477.5808"),
        ];
        for (scaled, decimals, text) in cases {
            let mut out = Vec::new();
            write_fixed(&mut out, scaled, decimals);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
