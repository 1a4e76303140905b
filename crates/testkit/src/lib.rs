//! What tests share: the engines they run on, services beside them, readings, records in and out, waiting for a state, and
//! the fault machine behind `make soak`.
//!
//! A test says what must hold and runs on either kind of engine: on embedded ones of its own with `make test`, on Apache
//! Kafka, HiveMQ and a schema registry with `make test-engines`, which sets `TELLTALE_TEST_ENGINES` to the folder of
//! `make up`. A real engine that is missing fails the test; nothing is skipped.

pub mod beside;
pub mod by_hand;
pub mod differences;
pub mod engines;
pub mod gate;
pub mod poison;
pub mod proxy;
pub mod readings;
pub mod records;
pub mod signals;
pub mod soak;
pub mod tls;
pub mod wire;

use std::time::Duration;

pub use beside::{Process, beside, host, metric, metrics};
pub use by_hand::ByHand;
pub use engines::{Engine, Engines, Kind, wait_until};
pub use readings::{changed_readings, readings};
pub use records::{Writer, Written, extent, outcomes, written};

/// Longest wait for a state; far longer than a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(120);
