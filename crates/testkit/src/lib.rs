//! What tests share: the engines they run on, and waiting for a state.
//!
//! A test says what must hold and runs on either kind of engine: on embedded ones of its own with `make test`, on Apache
//! Kafka, HiveMQ and a schema registry with `make test-engines`, which sets `TELLTALE_TEST_ENGINES` to the folder of
//! `make up`. A real engine that is missing fails the test; nothing is skipped.

pub mod differences;
pub mod engines;
pub mod wire;

use std::time::{Duration, Instant};

pub use engines::{Engine, Engines, Kind, wait_until};

/// Longest wait for a state; far longer than a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The time at which whoever starts to wait now gives up.
#[must_use]
pub fn deadline() -> Instant {
    Instant::now() + PATIENCE
}
