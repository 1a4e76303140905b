//! Proves that each record of the source topics has exactly one outcome, and what else the delivery contract says.

pub mod balance;
pub mod ledger;
pub mod offsets;
pub mod read;
pub mod sequence;
pub mod show;
pub mod windows;
