//! x
pub mod folder;
pub mod metrics;
pub mod seen;
pub mod signals;
pub mod warnings;
pub mod watch;
/// x
pub const PREPROCESSOR_GROUP: &str = "telltale-preprocessor";
/// x
pub const SCORER_GROUP: &str = "telltale-scorer";
