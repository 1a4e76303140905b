//! What travels on each topic: schemas, Confluent framing, and codecs between bytes and columns.

pub mod avro;
pub mod batch;
mod columns;
pub mod dead_letter;
pub mod framing;
pub mod json;
pub mod manifest;
pub mod outgoing;
pub mod prediction;
pub mod schema;
pub mod source;
pub mod topics;

pub use batch::{Batch, Record};
pub use columns::{Decoded, Rejected};
pub use dead_letter::{Reason, Rejection};
pub use manifest::{Manifest, SignedManifest};
pub use outgoing::{Destination, Outgoing, OutgoingRecord, TopicHandle};
pub use schema::{Schema, SchemaError};
pub use source::Source;
