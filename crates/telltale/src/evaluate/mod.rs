//! Figures of a run: how right, how soon, how fast. Pure; nothing here knows where the records come from.

pub mod latency;
pub mod ranks;
pub mod truth;

pub use latency::Latencies;
pub use ranks::Ranks;
pub use truth::{Episode, Evaluation, Health, ModeFound, Truth};
