//! What the user of the demo sees: a live view in a terminal, plain lines without one.

pub mod balance;
pub mod draw;
pub mod numbers;
pub mod plain;
pub mod screen;
pub mod terminal;
pub mod worst;

pub use screen::Screen;
