//! How a car is driven: the few slow and fast quantities that all its sensors follow.
//!
//! ```text
//! cycle (100 min): battery falls while driving, rises in the last stretch, at the charger
//!   stretch (4 min): idle, city, motorway or charging; decides how warm the engine gets
//!     leg (20 s): the speed the driver wants, the slope and the surface of the road
//! ```
//!
//! Legs, stretches and cycles draw their numbers from their own index, and each value moves from the
//! leg before to this one as fast as mass and heat allow, so that a state needs no history.

use super::Stream;
use super::draw::Draw;

const LEG_MS: i64 = 20_000;
const LEGS: i64 = 12;
const STRETCH_MS: i64 = LEGS * LEG_MS;
/// The last stretch of a cycle is spent at the charger: 4 % of the time.
const STRETCHES: i64 = 25;
pub(super) const CYCLE_MS: i64 = STRETCHES * STRETCH_MS;
/// Time to reach the speed of a new leg.
const RAMP_S: f64 = 12.0;
/// Time constant of engine, gear and tyres warming up.
const WARMING_S: f64 = 60.0;
/// Power into the battery at the charger, and the most that braking recovers.
const CHARGING_KW: f64 = -30.0;
const DAY_MS: f64 = 86_400_000.0;

/// What a car is doing in a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stretch {
    Idle,
    City,
    Motorway,
    Charging,
}

/// Everything that the sensors of a healthy car follow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    /// km/h
    pub(crate) speed: f64,
    /// Power from the battery and engine to the wheels, kW; below zero it flows back.
    pub(crate) power: f64,
    /// How warm the drive is, 0 (cold) to 1 (long at full load)
    pub(crate) heat: f64,
    /// Temperature outside, °C
    pub(crate) ambient: f64,
    /// Charge of the battery, %
    pub(crate) charge: f64,
    /// How much the road shakes the wheels, 0 to about 1
    pub(crate) road: f64,
    /// How far the car is plugged in, 0 to 1
    pub(crate) plugged: f64,
    /// Number of the control unit's firmware
    pub(crate) firmware: f64,
}

/// The life of one car.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trip {
    seed: u64,
    car: u64,
    /// Cars are at different places of the cycle.
    phase_ms: i64,
    /// Mean temperature where the car is, °C
    climate: f64,
    /// When the day is warmest there, as a share of a day
    noon: f64,
    firmware: f64,
}

struct Leg {
    speed: f64,
    slope: f64,
    surface: f64,
}

impl Trip {
    pub(crate) fn new(seed: u64, car: u32) -> Self {
        let car = u64::from(car);
        let mut draw = Draw::new(seed, Stream::Car as u64, car, 0);
        Self {
            seed,
            car,
            phase_ms: draw.between(0.0, CYCLE_MS as f64) as i64,
            climate: 16.0 + 6.0 * draw.normal(),
            noon: draw.unit(),
            firmware: if draw.unit() < 0.5 { 1000.0 } else { 2000.0 },
        }
    }

    fn draw(&self, stream: Stream, index: i64) -> Draw {
        Draw::new(self.seed, stream as u64, self.car, index)
    }

    /// What the car is doing at `time_ms`.
    pub(crate) fn stretch_at(&self, time_ms: i64) -> Stretch {
        self.stretch(time_ms.saturating_add(self.phase_ms).div_euclid(STRETCH_MS))
    }

    fn stretch(&self, number: i64) -> Stretch {
        if number.rem_euclid(STRETCHES) == STRETCHES - 1 {
            return Stretch::Charging;
        }
        match self.draw(Stream::Stretches, number).unit() {
            share if share < 0.10 => Stretch::Idle,
            share if share < 0.60 => Stretch::City,
            _ => Stretch::Motorway,
        }
    }

    fn leg(&self, number: i64) -> Leg {
        let mut draw = self.draw(Stream::Legs, number);
        let speed = match self.stretch(number.div_euclid(LEGS)) {
            Stretch::Idle | Stretch::Charging => return Leg { speed: 0.0, slope: 0.0, surface: 0.3 },
            Stretch::City if draw.unit() < 0.15 => 0.0, // a traffic light
            Stretch::City => draw.between(15.0, 62.0),
            Stretch::Motorway => draw.between(75.0, 130.0),
        };
        Leg { speed, slope: draw.between(-0.03, 0.03), surface: draw.between(0.2, 1.0) }
    }

    /// The state at `time_ms`.
    pub(crate) fn state(&self, time_ms: i64) -> State {
        let time = time_ms.saturating_add(self.phase_ms);
        let stretch = time.div_euclid(STRETCH_MS);
        let into_stretch = time.rem_euclid(STRETCH_MS) as f64 / 1000.0;
        let (speed, road, drive_power) = self.motion(time);
        let plugged = self.plugged(stretch, into_stretch);
        let power = drive_power * (1.0 - plugged) + CHARGING_KW * plugged;
        let day = (time_ms as f64 / DAY_MS + self.noon) * std::f64::consts::TAU;
        State {
            speed,
            power: power.clamp(CHARGING_KW, 70.0),
            heat: self.heat(stretch, into_stretch),
            ambient: self.climate + 5.0 * day.sin(),
            charge: self.charge(stretch, into_stretch),
            road,
            plugged,
            firmware: self.firmware,
        }
    }

    /// Speed, road and power of the leg at `time`.
    fn motion(&self, time: i64) -> (f64, f64, f64) {
        let number = time.div_euclid(LEG_MS);
        let (before, now) = (self.leg(number - 1), self.leg(number));
        let x = (time.rem_euclid(LEG_MS) as f64 / 1000.0 / RAMP_S).min(1.0);
        let blend = x * x * (3.0 - 2.0 * x);
        let mixed = |before: f64, now: f64| before + (now - before) * blend;
        let speed = mixed(before.speed, now.speed);
        let acceleration = (now.speed - before.speed) / 3.6 * 6.0 * x * (1.0 - x) / RAMP_S; // m/s²
        let slope = mixed(before.slope, now.slope);
        let road = mixed(before.surface, now.surface) * (speed / 50.0).min(1.0);
        // Longitudinal dynamics of a car of 1,500 kg with c_w·A = 0.6 m², and 1 kW for everything else.
        let v = speed / 3.6;
        let force = 1500.0 * (acceleration + 9.81 * (slope + 0.01)) + 0.36 * v * v;
        (speed, road, 1.0 + force * v / 1000.0)
    }

    /// How far the car is plugged in: it takes a while to get out, and to come back.
    fn plugged(&self, stretch: i64, into_stretch: f64) -> f64 {
        if self.stretch(stretch) != Stretch::Charging {
            return 0.0;
        }
        let left = STRETCH_MS as f64 / 1000.0 - into_stretch;
        ((into_stretch - RAMP_S) / 5.0).min(left / 5.0).clamp(0.0, 1.0)
    }

    /// Warmth follows the kind of driving with the time constant [`WARMING_S`].
    ///
    /// What was before the stretch before weighs `exp(-8)`, below any sensor's resolution, so that is
    /// where the memory ends.
    fn heat(&self, stretch: i64, into_stretch: f64) -> f64 {
        let target = |number| {
            let mean = match self.stretch(number) {
                Stretch::Idle => 0.3,
                Stretch::City => 0.5,
                Stretch::Motorway => 0.75,
                Stretch::Charging => 0.4,
            };
            mean + 0.15 * (self.draw(Stream::Stretches, number ^ i64::MIN).unit() - 0.5)
        };
        let (earlier, before, now) = (target(stretch - 2), target(stretch - 1), target(stretch));
        let whole = (-(STRETCH_MS as f64) / 1000.0 / WARMING_S).exp();
        let at_start = before + (earlier - before) * whole;
        now + (at_start - now) * (-into_stretch / WARMING_S).exp()
    }

    /// The battery falls by what the stretches so far have used, and rises at the charger.
    fn charge(&self, stretch: i64, into_stretch: f64) -> f64 {
        let cycle = stretch.div_euclid(STRETCHES);
        let first = cycle * STRETCHES;
        let share = into_stretch * 1000.0 / STRETCH_MS as f64;
        let mut draw = self.draw(Stream::Cycles, cycle);
        let (full, empty) = (draw.between(75.0, 97.0), draw.between(20.0, 50.0));
        if stretch - first == STRETCHES - 1 {
            let full_next = self.draw(Stream::Cycles, cycle + 1).between(75.0, 97.0);
            return empty + (full_next - empty) * share;
        }
        let (mut used, mut all) = (0.0, 0.0);
        for number in first..first + STRETCHES - 1 {
            let use_of_it = match self.stretch(number) {
                Stretch::Idle => 0.2,
                Stretch::City | Stretch::Charging => 1.0,
                Stretch::Motorway => 1.6,
            };
            all += use_of_it;
            used += use_of_it
                * if number < stretch {
                    1.0
                } else if number == stretch {
                    share
                } else {
                    0.0
                };
        }
        full + (empty - full) * used / all
    }
}
