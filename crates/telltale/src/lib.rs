//! The command line: the demo, a look into topics and models, and the proof that nothing was lost.
//!
//! ```text
//! cli ─▶ commands ─▶ kafka, registry, mqtt                        topics, models, dead-letters, verify, probe
//!    └─▶ demo ─▶ engines and every service in this process ─▶ watch ─▶ view
//!                     └─ stop: simulator, bridge, preprocessor, scorer ─▶ verify ─▶ summary
//! ```
//!
//! `evaluate`, `verify::balance`, `view` and `summary` are pure: values in, values out.

pub mod cli;
pub mod commands;
pub mod demo;
pub mod evaluate;
pub mod ports;
pub mod process;
pub mod show;
pub mod simulator_files;
pub mod summary;
pub mod truth_records;
pub mod verify;
pub mod view;


