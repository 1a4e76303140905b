//! What travels on each topic: schemas, Confluent framing, and codecs between bytes and columns.

pub mod batch;
pub mod dead_letter;
pub mod framing;
pub mod manifest;
pub mod outgoing;
pub mod source;
pub mod topics;

pub use batch::{Batch, Record};
pub use dead_letter::{Reason, Rejection};
pub use manifest::{Manifest, SignedManifest};
pub use outgoing::{Destination, Outgoing, TopicHandle};
pub use source::Source;
