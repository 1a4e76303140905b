//! The command line: the demo, a look into topics and models, and the proof that nothing was lost.

pub mod evaluate;
pub mod ports;
pub mod process;
// show
pub mod summary;
pub mod verify;
pub mod view;
