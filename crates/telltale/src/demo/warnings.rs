//! Log lines while the live view has the terminal: kept here, shown in the view, printed at the end.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Lines kept; the view shows the last few.
const LINES: usize = 200;
/// Longest line kept, in bytes.
const LENGTH: usize = 400;

/// The latest log lines; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Warnings {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Warnings {
    /// The latest `count` lines, oldest first.
    #[must_use]
    pub fn latest(&self, count: usize) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
    }

    fn push(&self, line: &str) {
        let mut end = line.len().min(LENGTH);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line[..end].to_owned());
    }
}

impl io::Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The log writes whole events.
        String::from_utf8_lossy(bytes)
            .lines()
            .filter(|it| !it.trim().is_empty())
            .for_each(|it| self.push(it));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_latest_lines_are_kept_and_bounded() {
        let mut warnings = Warnings::default();
        (0..300).for_each(|it| warnings.write_all(format!("line {it}\n").as_bytes()).unwrap());
        warnings.write_all(format!("{}\n", "ü".repeat(1000)).as_bytes()).unwrap();
        let latest = warnings.latest(2);
        assert_eq!(latest[0], "line 299");
        assert_eq!(latest[1].len(), LENGTH);
        assert_eq!(warnings.latest(1000).len(), LINES);
    }
}
