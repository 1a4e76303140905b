//! What must hold for any bytes, one function for each place where bytes of strangers are read.
//!
//! The fuzzer calls these functions (`make fuzz`), and so does a property test in `make test`
//! (`crates/telltale/tests/hostile.rs`), which includes the same files. Each uses only what its crate offers to everyone.

#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "model")]
pub mod model;
#[cfg(feature = "records")]
pub mod records;
#[cfg(feature = "services")]
pub mod services;
#[cfg(feature = "sql")]
pub mod sql;
