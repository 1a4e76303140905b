//! What a failure does to what the sensors measure.
//!
//! Each effect is nothing at growth 0. It breaks the way in which a healthy car's sensors go together; no
//! single value is impossible, and nothing marks it.

use super::draw::Draw;
use super::drive::State;
use super::failure::{Episode, Mode};
use super::reading::{
    ACCELEROMETERS, AIR_FLOW, BATTERY, COOLANT, COUNT, CURRENT, INTAKE_TEMP, SENSORS, SPEED, THROTTLE, TYRES,
    VIBRATION, VOLTAGE,
};

const WHEELS: [&str; 4] = ["11", "12", "21", "22"];

/// Sensors with a moving part that can jam, each with the end of its travel.
const JAMMING: [(usize, f64); 4] = [(THROTTLE, 92.0), (AIR_FLOW, 24.0), (SPEED, 150.0), (VIBRATION, 3.0)];
const JAMMING_NAMES: [&str; 4] =
    ["throttle_pos", "intake_air_flow_speed", "speed", "engine_vibration_amplitude"];

/// Sensors that share a plug.
const HARNESSES: [&[usize]; 3] = [
    &[COOLANT, INTAKE_TEMP, AIR_FLOW, VIBRATION, THROTTLE],
    &[TYRES, TYRES + 1, ACCELEROMETERS, ACCELEROMETERS + 1, SPEED],
    &[TYRES + 2, TYRES + 3, ACCELEROMETERS + 2, ACCELEROMETERS + 3, CURRENT],
];
const HARNESS_NAMES: [&str; 3] = ["engine", "front", "rear"];

/// Names of the parts that can fail in `mode`; none if the mode is about the whole car.
pub(super) fn parts(mode: Mode) -> &'static [&'static str] {
    match mode {
        Mode::TyreLeak | Mode::ShockAbsorber => &WHEELS,
        Mode::StuckSensor => &JAMMING_NAMES,
        Mode::SensorSpikes => &HARNESS_NAMES,
        Mode::DriveShaft
        | Mode::Overheating
        | Mode::BatteryDegradation
        | Mode::IntakeRestriction
        | Mode::FirmwareFault => &[],
    }
}

/// Changes `values` by the failure `episode`, grown to `growth`.
pub(super) fn apply(
    episode: &Episode,
    growth: f64,
    state: &State,
    spikes: &mut Draw,
    values: &mut [f64; COUNT],
) {
    match episode.mode {
        Mode::TyreLeak => {
            values[TYRES + episode.part] -= 30.0 * growth;
            values[ACCELEROMETERS + episode.part] += 0.5 * growth * state.road;
        }
        Mode::ShockAbsorber => {
            // The corner sags, which tilts the sensor, and follows the road undamped.
            values[ACCELEROMETERS + episode.part] += growth * (1.6 + 1.6 * state.road);
        }
        Mode::DriveShaft => {
            let turning = (0.35 + state.speed / 70.0).min(1.2) * (1.0 - state.plugged);
            let shaking = growth * turning;
            values[VIBRATION] += 1.5 * shaking;
            for value in &mut values[ACCELEROMETERS + 2..ACCELEROMETERS + 4] {
                *value += 0.7 * shaking;
            }
        }
        Mode::Overheating => {
            values[COOLANT] += 24.0 * growth;
            values[INTAKE_TEMP] += 4.0 * growth;
        }
        Mode::BatteryDegradation => {
            values[VOLTAGE] -= growth * (26.0 + 0.1 * values[CURRENT].abs());
            values[BATTERY] -= 12.0 * growth;
        }
        Mode::IntakeRestriction => {
            values[AIR_FLOW] -= growth * (3.0 + 0.4 * values[AIR_FLOW]);
            values[INTAKE_TEMP] += 5.0 * growth;
        }
        Mode::FirmwareFault => {
            let way = if episode.turn < 0.5 { -1.0 } else { 1.0 };
            let more = way * growth * (60.0 + 0.3 * values[CURRENT].abs());
            values[CURRENT] += more;
            values[VOLTAGE] -= 0.12 * more;
        }
        Mode::StuckSensor => {} // see `stuck`
        Mode::SensorSpikes => {
            for &sensor in HARNESSES[episode.part] {
                let (hit, size) = (spikes.unit() < 0.65, spikes.between(-1.0, 1.0));
                if hit {
                    let sigmas = (15.0 + 35.0 * size.abs()).copysign(size) * growth.sqrt();
                    values[sensor] += sigmas * SENSORS[sensor].noise;
                }
            }
        }
    }
}

/// A sensor that jams: its number, how far its reading is drawn to where it jams, and that value.
///
/// It jams at the end of its travel, where it moves least: a sensor that is stuck at a usual value cannot
/// be told from a healthy one in a single reading while the car drives at about that value.
pub(super) fn stuck(episode: &Episode, growth: f64) -> Option<(usize, f64, f64)> {
    if episode.mode != Mode::StuckSensor {
        return None;
    }
    let (sensor, end) = JAMMING[episode.part];
    Some((sensor, growth.sqrt(), end * (1.0 - 0.06 * episode.turn)))
}
