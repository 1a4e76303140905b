//! Computes, trains, explains and stores models; the only crate that names candle.
//!
//! ```text
//! rows ─▶ Trainer ─▶ Artifact ─sign─▶ delivery::records ─▶ topic `models`
//!                                                             │
//! rows ─▶ Model::score ─▶ scores, shares ◀── load, verify ◀── delivery::Assembler
//! ```
//!
//! A [`Model`] that exists was verified: its signature, hash, shapes, numbers and golden scores hold.

mod activation;
mod adam;
pub mod artifact;
pub mod config;
pub mod delivery;
pub mod drift;
mod instructions;
mod kept;
pub mod kernel;
pub mod keys;
pub mod learn;
mod linear;
pub mod loader;
pub mod lstm;
pub mod network;
mod product;
mod random;
mod reference;
mod residuals;
pub mod score;
mod split;
mod threshold;
pub mod trainer;
mod trim;
mod usual;

pub use artifact::{Artifact, Lineage, Release};
pub use config::{ConfigError, TrainingConfig};
pub use keys::{KeyError, Signer, TrustedKeys};
pub use loader::{LoadError, load};
pub use random::device_hash;
pub use score::{Model, Scores};
pub use trainer::{CurvePoint, Rows, TrainError, Trained, Trainer};
