//! The development log as its clients see it, spoken to with `kafka-protocol` over real connections.

mod client;
mod groups;
mod protocol;
mod records;
mod transactions;
