//! An MQTT broker, a Kafka-protocol log and a schema registry inside one process, for laptops and tests.

mod engines;
pub mod log;
pub mod mqtt;
pub mod registry;
mod server;

pub use engines::{Engines, EnginesConfig, EnginesError};
