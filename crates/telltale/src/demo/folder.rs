//! Where a demo keeps what it needs: the user's folder, or one that is gone at the end.
//!
//! ```text
//! DIR/engines      the log, the registry and the broker's sessions
//! DIR/simulator    ledger of acknowledged readings, truth
//! DIR/keys         signing-key.pem, verifying-key.pem
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The folder of one demo.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    /// Removes the folder at the end, if nobody asked to keep it.
    _temporary: Option<TempDir>,
}

/// Why there is no folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The user's folder cannot be written to.
    #[error("writing to the folder {path}: choose one you may write to with --data")]
    Unwritable {
        /// What could not be made.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system's folder for temporary files cannot be written to.
    #[error("making a temporary folder: choose a folder you may write to with --data")]
    Temporary(#[source] io::Error),
    /// A folder that is to be checked does not hold a demo.
    #[error("{path} is not the data folder of a demo: it has no folder engines")]
    NotOne {
        /// The folder.
        path: PathBuf,
    },
}

impl Folder {
    /// Takes `data`, made if it is missing, or a temporary folder.
    ///
    /// # Errors
    ///
    /// Returns an error when the folder cannot be made or written to.
    pub fn take(data: Option<&Path>) -> Result<Self, FolderError> {
        let folder = match data {
            Some(root) => Self { root: root.to_owned(), _temporary: None },
            None => {
                let temporary =
                    tempfile::Builder::new().prefix("telltale-").tempdir().map_err(FolderError::Temporary)?;
                Self { root: temporary.path().to_owned(), _temporary: Some(temporary) }
            }
        };
        for path in [folder.root.clone(), folder.simulator(), folder.keys(), folder.log()] {
            fs::create_dir_all(&path).map_err(|source| FolderError::Unwritable { path, source })?;
        }
        // A folder may be there and still refuse files, on a full or read-only disk.
        let path = folder.root.join(".writable");
        let written = fs::write(&path, b"").and_then(|()| fs::remove_file(&path));
        written.map_err(|source| FolderError::Unwritable { path: folder.root.clone(), source })?;
        Ok(folder)
    }

    /// Takes the folder of an earlier demo, to look into it.
    ///
    /// # Errors
    ///
    /// Returns an error when it is not such a folder.
    pub fn of_earlier(data: &Path) -> Result<Self, FolderError> {
        let folder = Self { root: data.to_owned(), _temporary: None };
        if !folder.log().is_dir() {
            return Err(FolderError::NotOne { path: data.to_owned() });
        }
        Ok(folder)
    }

    /// What the engines keep: on the disk also when nothing is to be kept, since a log in memory would grow by
    /// some two kilobytes a reading.
    #[must_use]
    pub fn engines(&self) -> PathBuf {
        self.log()
    }

    /// What the simulator keeps.
    #[must_use]
    pub fn simulator(&self) -> PathBuf {
        self.root.join("simulator")
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    fn log(&self) -> PathBuf {
        self.root.join("engines")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_goes_and_a_chosen_one_stays() {
        let temporary = Folder::take(None).unwrap();
        let path = temporary.simulator();
        assert!(path.is_dir() && temporary.engines().is_dir());
        drop(temporary);
        assert!(!path.exists());

        let parent = tempfile::tempdir().unwrap();
        let chosen = parent.path().join("a/b");
        let folder = Folder::take(Some(&chosen)).unwrap();
        assert_eq!(folder.engines(), chosen.join("engines"));
        drop(folder);
        assert!(chosen.join("keys").is_dir());
        Folder::of_earlier(&chosen).unwrap();
    }

    #[test]
    fn an_unusable_folder_is_named_with_the_flag() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "x").unwrap();
        let message = Folder::take(Some(&file.join("below"))).unwrap_err().to_string();
        assert!(message.contains("file/below") && message.contains("--data"), "{message}");
        let message = Folder::of_earlier(parent.path()).unwrap_err().to_string();
        assert!(message.contains("is not the data folder of a demo"), "{message}");
    }
}
