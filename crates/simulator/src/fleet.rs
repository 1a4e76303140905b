//! A fleet of cars whose readings are a function of seed, car and time alone.
//!
//! ```text
//! (seed, car, time) ─▶ drive: speed, power, heat, … ─▶ sensors ─▶ failure's effect ─▶ noise ─▶ Reading
//!                  └─▶ failure: the episode at this time, if any ──────┘
//! ```
//!
//! Nothing is carried from one reading to the next, so any part of the fleet can be made by any process,
//! from any time on, in any order.

mod draw;
mod drive;
mod effect;
mod failure;
mod reading;

use std::time::Duration;

use draw::Draw;
pub use failure::{Episode, Mode, Truth};
pub use reading::{FEATURES, Reading, SENSORS, Sensor, car_id};

/// What a fleet is like, besides its seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Share of the cars that are failing at any time, 0 to [`MAX_SHARE`].
    pub failure_share: f64,
    /// How failures happen; each mode in the list is as likely as the others.
    pub modes: Vec<Mode>,
    /// Shortest time from the beginning of a failure to its repair.
    pub shortest: Duration,
    /// Longest time from the beginning of a failure to its repair.
    pub longest: Duration,
}

/// The largest failure share: failures of one car do not overlap and leave healthy time between them.
pub const MAX_SHARE: f64 = 0.3;

impl Default for Settings {
    fn default() -> Self {
        Self {
            failure_share: 0.02,
            modes: Mode::ALL.to_vec(),
            shortest: Duration::from_secs(20),
            longest: Duration::from_secs(120),
        }
    }
}

/// Why there is no such fleet.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Too many cars would fail at once, or fewer than none.
    #[error("the failure share {share} is not from 0 to {MAX_SHARE}")]
    Share {
        /// The share as given.
        share: f64,
    },
    /// Failures must happen somehow.
    #[error("the failure share is {share} but there are no failure modes")]
    NoModes {
        /// The share as given.
        share: f64,
    },
    /// Failures end after they begin, and within a time that fits the clock.
    #[error("failures cannot last from {shortest:?} to {longest:?}: 1 s to 365 days, the shorter first")]
    Lengths {
        /// The shortest time as given.
        shortest: Duration,
        /// The longest time as given.
        longest: Duration,
    },
}

impl Settings {
    fn check(&self) -> Result<(), SettingsError> {
        let share = self.failure_share;
        if !(0.0..=MAX_SHARE).contains(&share) {
            return Err(SettingsError::Share { share });
        }
        if self.modes.is_empty() && share > 0.0 {
            return Err(SettingsError::NoModes { share });
        }
        let (shortest, longest) = (self.shortest, self.longest);
        let year = Duration::from_secs(365 * 86_400);
        if shortest < Duration::from_secs(1) || longest < shortest || longest > year {
            return Err(SettingsError::Lengths { shortest, longest });
        }
        Ok(())
    }
}

/// A fleet of cars. Cars are numbers; [`car_id`] names them.
#[derive(Debug, Clone)]
pub struct Fleet {
    seed: u64,
    failures: failure::Failures,
}

/// Separates the independent streams of random numbers that one seed gives.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
enum Stream {
    Car = 1,
    Legs,
    Stretches,
    Cycles,
    Failures,
    Noise,
    Spikes,
}

impl Fleet {
    /// Makes the fleet of `seed`.
    ///
    /// # Errors
    ///
    /// Returns which setting makes no sense.
    pub fn new(seed: u64, settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        Ok(Self { seed, failures: failure::Failures::new(settings) })
    }

    /// What `car` sends at `time_ms`, in milliseconds since 1970.
    #[must_use]
    pub fn reading(&self, car: u32, time_ms: i64) -> Reading {
        self.observe(car, time_ms).0
    }

    /// What `car` sends at `time_ms`, and the failure it has then, if any.
    #[must_use]
    pub fn observe(&self, car: u32, time_ms: i64) -> (Reading, Option<Episode>) {
        let trip = drive::Trip::new(self.seed, car);
        let state = trip.state(time_ms);
        let mut values = reading::healthy(&state);
        let mut noise = Draw::new(self.seed, Stream::Noise as u64, u64::from(car), time_ms);
        let episode = self.failures.at(&trip, self.seed, car, time_ms);
        let mut stuck = None;
        if let Some(episode) = &episode {
            let growth = episode.growth(time_ms);
            let mut spikes = Draw::new(self.seed, Stream::Spikes as u64, u64::from(car), time_ms);
            effect::apply(episode, growth, &state, &mut spikes, &mut values);
            stuck = effect::stuck(episode, growth);
        }
        reading::measure(&mut values, stuck, &mut noise);
        (Reading { car, time_ms, values, failure_occurred: episode.is_some() }, episode)
    }

    /// The failure that `car` has at `time_ms`, if any.
    #[must_use]
    pub fn truth(&self, car: u32, time_ms: i64) -> Option<Episode> {
        let trip = drive::Trip::new(self.seed, car);
        self.failures.at(&trip, self.seed, car, time_ms)
    }

    /// The failures of `car` that touch the time from `from_ms` up to but not including `to_ms`, in order.
    pub fn episodes(&self, car: u32, from_ms: i64, to_ms: i64) -> impl Iterator<Item = Episode> + '_ {
        let trip = drive::Trip::new(self.seed, car);
        self.failures.between(trip, self.seed, car, from_ms, to_ms)
    }
}

#[cfg(test)]
mod tests;
