//! Proves that each record of the source topics has exactly one outcome.

pub mod balance;
pub mod offsets;
