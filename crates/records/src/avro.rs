//! Avro without its envelope, by plans compiled once per schema.
//!
//! ```text
//! bytes ─▶ Decoder ───────▶ columns            (services that run SQL)
//! bytes ─▶ MatrixDecoder ─▶ row-major f32      (trainer, scorer)
//! columns ─▶ Encoder ─▶ bytes
//! ```
//!
//! The bytes may come from a stranger. A record that does not hold exactly what its schema says is rejected
//! with its reason; no count or length in it makes a decoder allocate more than the bytes that are there.

mod captured;
mod cursor;
mod decoder;
mod encoder;
mod matrix;

pub use captured::{Capture, Matrix};
pub use decoder::Decoder;
pub use encoder::{BoundEncoder, EncodeError, Encoder};
pub use matrix::MatrixDecoder;

pub(crate) use cursor::{Cursor, Fault, write_long};
