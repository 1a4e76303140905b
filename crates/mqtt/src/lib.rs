//! The MQTT edge: sessions of devices that publish, and of services that subscribe.
//!
//! ```text
//! device::Publisher ──▶ window ──▶ device::Session ══ MQTT ══▶ broker ══ MQTT ══▶ subscriber::Session
//!        ▲                               │                                              │ messages with receipts
//!        └── events: acknowledged, lost ◀┘                        subscriber::Acks ◀────┘ once they are safe elsewhere
//! ```
//!
//! This crate is the only one that names the MQTT client. It keeps three promises that the client alone does
//! not: a publish stays in the window until the broker has acknowledged it and is sent again in order after a
//! reconnect; an acknowledgement never reaches another connection than the one its message came on; and a
//! message that the broker cannot take is refused before it is sent.

mod codec;
pub mod config;
mod connection;
pub mod device;
mod fault;
pub mod ledger;
mod qos;
mod reconnect;
pub mod subscriber;
pub mod topic;

pub use config::{ConfigError, Endpoint, MqttConfig, Version};
pub use device::LastWill;
pub use fault::Fault;
pub use qos::Qos;
