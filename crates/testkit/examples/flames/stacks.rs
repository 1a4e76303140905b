//! Stacks as inferno folds them: `thread;outermost;…;innermost 17`.

use std::path::Path;

use anyhow::{Context as _, Result};

/// What inferno writes behind functions of the kernel.
const KERNEL: &str = "_[k]";

/// A stack, and how often it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stack {
    /// Name of the thread.
    pub(crate) thread: String,
    /// Functions, outermost first.
    pub(crate) frames: Vec<String>,
    /// How often.
    pub(crate) samples: u64,
}

impl Stack {
    /// Whether the kernel was at work.
    pub(crate) fn is_in_kernel(&self) -> bool {
        self.frames.last().is_some_and(|it| it.ends_with(KERNEL))
    }

    /// Whether any function has one of these in its name.
    pub(crate) fn has(&self, parts: &[&str]) -> bool {
        self.frames.iter().any(|frame| parts.iter().any(|part| frame.contains(part)))
    }
}

/// Reads a file of stacks.
pub(crate) fn parse(folded: &Path) -> Result<Vec<Stack>> {
    let text = std::fs::read_to_string(folded).with_context(|| format!("reading {}", folded.display()))?;
    text.lines().map(|it| stack(it).with_context(|| format!("this is no stack: {it}"))).collect()
}

fn stack(line: &str) -> Option<Stack> {
    let (names, samples) = line.rsplit_once(' ')?;
    let mut names = names.split(';').map(str::to_owned);
    Some(Stack { thread: names.next()?, frames: names.collect(), samples: samples.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_thread_its_functions_and_a_number() {
        let found = stack("rdk:broker1;start_thread;f<A, B>;sys_read_[k] 12").unwrap();
        assert_eq!((found.thread.as_str(), found.samples), ("rdk:broker1", 12));
        assert_eq!(found.frames, ["start_thread", "f<A, B>", "sys_read_[k]"]);
        assert!(found.is_in_kernel() && found.has(&["f<"]) && !found.has(&["g<"]));
        assert!(!stack("main 3").unwrap().is_in_kernel());
        assert_eq!(stack("no number"), None);
    }
}
