//! When which car fails how: episodes that begin, grow and are repaired.
//!
//! Each car's time is cut into slots; a slot holds one episode, wholly inside it, or none. Slots of
//! different cars begin at different times, drawn evenly over a slot, so the share of failing cars is the
//! same at any time, from the first moment on, and an episode is found without looking at others.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::draw::Draw;
use super::drive::{Stretch, Trip};
use super::{Settings, Stream, car_id, effect};

/// How a car fails.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A tyre loses air.
    TyreLeak,
    /// A shock absorber no longer damps, and sags.
    ShockAbsorber,
    /// The drive shaft is out of balance.
    DriveShaft,
    /// The cooling fails.
    Overheating,
    /// The battery holds less and resists more.
    BatteryDegradation,
    /// The air intake is clogged.
    IntakeRestriction,
    /// The control unit draws another current than the pedal asks for.
    FirmwareFault,
    /// A sensor jams at the upper end of its travel.
    StuckSensor,
    /// A loose plug disturbs the sensors of one harness.
    SensorSpikes,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 9] = [
        Self::TyreLeak,
        Self::ShockAbsorber,
        Self::DriveShaft,
        Self::Overheating,
        Self::BatteryDegradation,
        Self::IntakeRestriction,
        Self::FirmwareFault,
        Self::StuckSensor,
        Self::SensorSpikes,
    ];

    /// The mode's name, as in the truth and in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TyreLeak => "tyre-leak",
            Self::ShockAbsorber => "shock-absorber",
            Self::DriveShaft => "drive-shaft",
            Self::Overheating => "overheating",
            Self::BatteryDegradation => "battery-degradation",
            Self::IntakeRestriction => "intake-restriction",
            Self::FirmwareFault => "firmware-fault",
            Self::StuckSensor => "stuck-sensor",
            Self::SensorSpikes => "sensor-spikes",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|it| it.name() == text);
        found.ok_or_else(|| {
            format!("{text:?} is no failure mode; there are {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

/// One failure of one car.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Episode {
    /// Number of the car.
    pub car: u32,
    /// How it fails.
    pub mode: Mode,
    /// Which of the mode's parts fails; [`Episode::part_name`] names it.
    pub part: usize,
    /// When it begins, in milliseconds since 1970.
    pub start_ms: i64,
    /// When it is as bad as it gets.
    pub grown_ms: i64,
    /// When it is repaired; the first moment that is healthy again.
    pub end_ms: i64,
    /// Which way and how the failure goes, where that differs from one to the next, 0 to 1.
    pub(super) turn: f64,
}

impl Episode {
    /// How far the failure has grown at `time_ms`: 0 as it begins, evenly up to 1 when fully grown.
    #[must_use]
    pub fn growth(&self, time_ms: i64) -> f64 {
        if time_ms >= self.end_ms {
            return 0.0;
        }
        let grown = (time_ms - self.start_ms) as f64 / (self.grown_ms - self.start_ms) as f64;
        grown.clamp(0.0, 1.0)
    }

    /// The wheel, sensor or harness that fails, where the mode has such.
    #[must_use]
    pub fn part_name(&self) -> Option<&'static str> {
        effect::parts(self.mode).get(self.part).copied()
    }

    /// The episode as it is told to others.
    #[must_use]
    pub fn truth(&self) -> Truth {
        Truth {
            car: car_id(self.car),
            mode: self.mode,
            part: self.part_name().map(str::to_owned),
            start_ms: self.start_ms,
            grown_ms: self.grown_ms,
            end_ms: self.end_ms,
        }
    }
}

/// A failure as the simulator tells it, apart from the readings: one JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// Name of the car.
    pub car: String,
    /// How it fails.
    pub mode: Mode,
    /// The wheel, sensor or harness that fails, where the mode has such.
    pub part: Option<String>,
    /// When it begins, in milliseconds since 1970.
    pub start_ms: i64,
    /// When it is fully grown; it grows evenly until then.
    pub grown_ms: i64,
    /// When it is repaired; the first moment that is healthy again.
    pub end_ms: i64,
}

/// A slot is this much longer than the longest episode, so that episodes begin at irregular times.
const SLOT: f64 = 1.5;
/// The failure grows during this part of the episode and then stays until it is repaired.
const GROWING: f64 = 0.6;

/// The failures of a whole fleet.
#[derive(Debug, Clone)]
pub(super) struct Failures {
    modes: Vec<Mode>,
    shortest_ms: f64,
    longest_ms: f64,
    slot_ms: i64,
    /// Chance that a slot holds an episode.
    chance: f64,
}

impl Failures {
    pub(super) fn new(settings: Settings) -> Self {
        let milliseconds = |it: Duration| it.as_secs_f64() * 1000.0;
        let (shortest_ms, longest_ms) = (milliseconds(settings.shortest), milliseconds(settings.longest));
        let slot_ms = longest_ms * SLOT;
        let chance = settings.failure_share * slot_ms / f64::midpoint(shortest_ms, longest_ms);
        Self { modes: settings.modes, shortest_ms, longest_ms, slot_ms: slot_ms as i64, chance }
    }

    pub(super) fn at(&self, trip: &Trip, seed: u64, car: u32, time_ms: i64) -> Option<Episode> {
        let phase = self.phase(seed, car);
        let slot = time_ms.saturating_add(phase).div_euclid(self.slot_ms);
        let episode = self.in_slot(trip, seed, car, slot, phase)?;
        (episode.start_ms <= time_ms && time_ms < episode.end_ms).then_some(episode)
    }

    pub(super) fn between(
        &self,
        trip: Trip,
        seed: u64,
        car: u32,
        from_ms: i64,
        to_ms: i64,
    ) -> impl Iterator<Item = Episode> + '_ {
        let phase = self.phase(seed, car);
        let slots = (from_ms + phase).div_euclid(self.slot_ms)..=(to_ms + phase).div_euclid(self.slot_ms);
        slots
            .filter_map(move |slot| self.in_slot(&trip, seed, car, slot, phase))
            .filter(move |it| it.start_ms < to_ms && from_ms < it.end_ms)
    }

    fn phase(&self, seed: u64, car: u32) -> i64 {
        // Slots are numbered from about zero, so this number is no slot's.
        let mut draw = Draw::new(seed, Stream::Failures as u64, u64::from(car), i64::MIN);
        draw.between(0.0, self.slot_ms as f64) as i64
    }

    fn in_slot(&self, trip: &Trip, seed: u64, car: u32, slot: i64, phase: i64) -> Option<Episode> {
        let mut draw = Draw::new(seed, Stream::Failures as u64, u64::from(car), slot);
        if draw.unit() >= self.chance {
            return None;
        }
        let length = draw.between(self.shortest_ms, self.longest_ms);
        let into_slot = draw.between(0.0, self.slot_ms as f64 - length);
        let start_ms = slot * self.slot_ms - phase + into_slot as i64;
        let mut mode = self.modes[draw.below(self.modes.len())];
        let other = self.modes[draw.below(self.modes.len())];
        // Nothing turns at the charger, so a drive shaft does not begin to fail there.
        if mode == Mode::DriveShaft && trip.stretch_at(start_ms) == Stretch::Charging {
            mode = other;
        }
        Some(Episode {
            car,
            mode,
            part: draw.below(effect::parts(mode).len().max(1)),
            start_ms,
            grown_ms: start_ms + (length * GROWING) as i64,
            end_ms: start_ms + length as i64,
            turn: draw.unit(),
        })
    }
}
