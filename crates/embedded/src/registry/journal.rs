//! The registry's memory on disk: one change a line, in JSON, appended.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use fs2::FileExt;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Error;
use super::compatibility::Level;

/// A change of the registry's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    /// A version of a subject was registered.
    Registered { subject: String, version: u32, id: u32, schema: String },
    /// A version was deleted; for good, or so that it can still be found when asked for.
    Deleted { subject: String, version: u32, permanent: bool },
    /// A level was set or removed, for a subject or for all.
    Level { subject: Option<String>, level: Option<Level> },
    /// A mode was set or removed, for a subject or for all.
    Mode { subject: Option<String>, mode: Option<Mode> },
}

/// Whether schemas can be registered, in Confluent's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Mode {
    ReadWrite,
    ReadOnly,
    Import,
}

impl Mode {
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_value(text.to_ascii_uppercase().into()).ok()
    }
}

/// The file that changes are appended to; locked against other processes while it is open.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    /// Bytes of whole lines.
    length: u64,
}

impl Journal {
    /// Opens or makes `registry.jsonl` in `folder` and returns what it holds; a last line that was written
    /// by half is cut off.
    pub(super) fn open(folder: &Path) -> Result<(Self, Vec<Change>), Error> {
        let path = folder.join("registry.jsonl");
        let failed = |source| Error::Journal { path: path.clone(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let options = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let mut file = options.map_err(failed)?;
        if let Err(source) = file.try_lock_exclusive() {
            let locked = source.kind() == fs2::lock_contended_error().kind();
            return Err(if locked { Error::Locked { path } } else { failed(source) });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.iter().rposition(|&it| it == b'\n').map_or(0, |it| it + 1);
        if whole < bytes.len() {
            let cut_bytes = bytes.len() - whole;
            warn!(?path, cut_bytes, "the last line was written by half, cutting it off");
            file.set_len(whole as u64).map_err(failed)?;
        }
        let lines = bytes[..whole].split(|&it| it == b'\n').enumerate();
        let mut changes = Vec::new();
        for (index, line) in lines.filter(|(_, line)| !line.is_empty()) {
            let damaged = |source| Error::Damaged { path: path.clone(), line: index + 1, source };
            changes.push(serde_json::from_slice(line).map_err(damaged)?);
        }
        Ok((Self { file, length: whole as u64 }, changes))
    }

    /// Appends changes; returns once they are on disk, or not at all.
    pub(super) fn append(&mut self, changes: &[Change]) -> std::io::Result<()> {
        let mut lines = Vec::new();
        for change in changes {
            serde_json::to_writer(&mut lines, change)?;
            lines.push(b'\n');
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // What is there by half must not stand before the next line.
            self.file.set_len(self.length)?;
        }
        written?;
        self.length += lines.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered(version: u32) -> Change {
        Change::Registered { subject: "s".into(), version, id: version, schema: "\"int\"".into() }
    }

    #[test]
    fn changes_survive_and_half_a_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, changes) = Journal::open(folder.path()).unwrap();
        assert!(changes.is_empty());
        journal.append(&[registered(1), registered(2)]).unwrap();
        assert!(matches!(Journal::open(folder.path()), Err(Error::Locked { .. })));
        drop(journal);
        let path = folder.path().join("registry.jsonl");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"registered\":{\"subj").unwrap();
        let (mut journal, changes) = Journal::open(folder.path()).unwrap();
        assert_eq!(changes, [registered(1), registered(2)]);
        journal.append(&[registered(3)]).unwrap();
        drop(journal);
        assert_eq!(Journal::open(folder.path()).unwrap().1.len(), 3);
    }

    #[test]
    fn a_damaged_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        journal.append(&[registered(1)]).unwrap();
        drop(journal);
        let path = folder.path().join("registry.jsonl");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("nonsense\n");
        std::fs::write(&path, text).unwrap();
        let error = Journal::open(folder.path()).unwrap_err();
        assert!(error.to_string().starts_with("line 2 of"), "{error}");
    }
}
