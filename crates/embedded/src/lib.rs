//! An MQTT broker, a Kafka-protocol log and a schema registry inside one process, for laptops and tests.

pub mod log;
pub mod mqtt;
pub mod registry;
