//! The development log where it has no reference: its files, and bytes that are no requests. Whatever Apache Kafka does
//! too is tested on both, by the conformance tests in `crates/testkit`.

mod client;
mod protocol;
mod records;
