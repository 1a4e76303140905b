//! Proves that each record of the source topics has exactly one outcome.

pub mod balance;
pub mod ledger;
pub mod offsets;
pub mod read;
