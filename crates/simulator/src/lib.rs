//! Publishes a fleet over real MQTT connections, the same fleet for the same seed.

pub mod fleet;
