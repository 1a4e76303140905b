//! Turns columns of readings into model inputs, the same way for training and for scoring.
//!
//! ```text
//! features.toml ─▶ Specification ─┐
//! training rows ─▶ Fitting ───────┴▶ Normaliser ─▶ inputs of about -1 to 1, NaN where a value is missing
//! ```
//!
//! Rows are row-major `f32` with NaN for null, as `telltale_records::avro::MatrixDecoder` writes them.

pub mod fitting;
mod location;
pub mod normaliser;
pub mod specification;

pub use fitting::Fitting;
pub use normaliser::Normaliser;
pub use specification::{Condition, Feature, Label, Scale, Specification, SpecificationError, Transform};
