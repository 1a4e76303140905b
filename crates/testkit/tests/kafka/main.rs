//! What a Kafka client may rely upon, held against the embedded log and against Apache Kafka.
//!
//! The same tests run on both: on the embedded log by default, on the engines of `make up` when
//! `TELLTALE_TEST_ENGINES` names their folder. Where the embedded log is known to differ, the test says so by
//! `known_difference`, and docs/CONFORMANCE.md gives the reason. Raw requests expect a single broker.

mod admin;
mod admin_errors;
mod cleanup;
mod clients;
mod commits;
mod cooperative;
mod group_errors;
mod groups;
mod limits;
mod members;
mod metadata;
mod offsets;
mod producers;
mod protocols;
mod records;
mod restart;
mod support;
mod transaction_errors;
mod transactions;
mod wire_group;
mod wire_transaction;
