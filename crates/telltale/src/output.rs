//! What a command prints: whoever reads it may have had enough.
//!
//! `println!` panics where nobody reads any more, as in `telltale models list | head -1`. Commands print here and hand the
//! error up; [`crate::main`] then ends as the system's own tools do.

use std::fmt::Display;
use std::io::{self, Stdout, Write};
use std::process::ExitCode;

use crate::commands::Error;

/// Standard output.
#[derive(Debug)]
pub struct Output {
    out: Stdout,
}

impl Output {
    /// The standard output of this process.
    #[must_use]
    pub fn standard() -> Self {
        Self { out: io::stdout() }
    }

    /// Prints a line.
    ///
    /// # Errors
    ///
    /// Returns what the system said, also that nobody reads any more.
    pub fn line(&mut self, line: impl Display) -> Result<(), Error> {
        writeln!(self.out, "{line}").map_err(Error::Output)
    }

    /// Prints text that holds its own ends of lines.
    ///
    /// # Errors
    ///
    /// As [`Output::line`].
    pub fn text(&mut self, text: impl Display) -> Result<(), Error> {
        write!(self.out, "{text}").map_err(Error::Output)
    }

    /// Hands on what was printed: whoever reads a pipe sees it at once.
    ///
    /// # Errors
    ///
    /// As [`Output::line`].
    pub fn flush(&mut self) -> Result<(), Error> {
        self.out.flush().map_err(Error::Output)
    }
}

/// The exit code of a command whose output nobody reads any more: 128 and SIGPIPE, as a shell reports `cat` or `grep`.
pub(crate) const CLOSED: u8 = 141;

/// How to end quietly, if `error` says that nobody reads any more.
pub(crate) fn closed(error: &Error) -> Option<ExitCode> {
    match error {
        Error::Output(source) if source.kind() == io::ErrorKind::BrokenPipe => Some(ExitCode::from(CLOSED)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reader_that_is_gone_is_a_quiet_end() {
        assert!(closed(&Error::Output(io::Error::from(io::ErrorKind::BrokenPipe))).is_some());
        assert!(closed(&Error::Output(io::Error::from(io::ErrorKind::StorageFull))).is_none());
        assert!(closed(&Error::NoModel).is_none());
    }
}
