//! `telltale keys`: the pair of keys that models are signed and checked with.

use std::fs;
use std::path::{Path, PathBuf};

use telltale_model::Signer;

use super::Error;
use crate::cli::KeysCommand;
use crate::output::Output;

/// File with the key that models are signed with.
pub const SIGNING: &str = "signing-key.pem";
/// File with the key that signatures are checked with.
pub const VERIFYING: &str = "verifying-key.pem";

/// Runs the command.
///
/// # Errors
///
/// Returns why the keys could not be made or written.
pub fn run(command: KeysCommand, output: &mut Output) -> Result<(), Error> {
    let KeysCommand::Generate { out, replace } = command;
    if replace {
        for path in [out.join(SIGNING), out.join(VERIFYING)] {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::File { flag: "--out", path, source });
                }
                _ => {}
            }
        }
    }
    fs::create_dir_all(&out).map_err(|source| Error::File { flag: "--out", path: out.clone(), source })?;
    let (signing, verifying) = generate(&out)?;
    output.line(format_args!(
        "{}  for the trainer alone: whoever has it can put models in force",
        signing.display()
    ))?;
    output.line(format_args!("{}  for the scorers", verifying.display()))?;
    Ok(())
}

/// Makes a new pair in `folder`; existing files are left alone and an error.
///
/// # Errors
///
/// Returns why the keys could not be made or written.
pub fn generate(folder: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let (signing, verifying) = (folder.join(SIGNING), folder.join(VERIFYING));
    for path in [&signing, &verifying] {
        if path.exists() {
            return Err(Error::KeyExists { path: path.clone() });
        }
    }
    let signer = Signer::generate().map_err(Error::Key)?;
    // The public half first: a run that ends in between leaves no private key without it.
    fs::write(&verifying, signer.public_pem()).map_err(|source| Error::File {
        flag: "--out",
        path: verifying.clone(),
        source,
    })?;
    signer.save(&signing).map_err(Error::Key)?;
    Ok((signing, verifying))
}

/// The pair in `folder`, made if there is none.
///
/// # Errors
///
/// Returns why the keys could not be read, made or written.
pub fn take(folder: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let (signing, verifying) = (folder.join(SIGNING), folder.join(VERIFYING));
    if signing.exists() {
        // Written again, so that the two halves always belong together.
        let signer = Signer::load(&signing).map_err(Error::Key)?;
        fs::write(&verifying, signer.public_pem()).map_err(|source| Error::File {
            flag: "--data",
            path: verifying.clone(),
            source,
        })?;
        return Ok((signing, verifying));
    }
    if verifying.exists() {
        fs::remove_file(&verifying).map_err(|source| Error::File {
            flag: "--data",
            path: verifying.clone(),
            source,
        })?;
    }
    generate(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_there_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (signing, verifying) = take(folder.path()).unwrap();
        let before = (fs::read(&signing).unwrap(), fs::read(&verifying).unwrap());
        take(folder.path()).unwrap();
        assert_eq!(before, (fs::read(&signing).unwrap(), fs::read(&verifying).unwrap()));
        let error = generate(folder.path()).unwrap_err().to_string();
        assert!(error.contains("--replace"), "{error}");
        let out = folder.path().to_owned();
        run(KeysCommand::Generate { out, replace: true }, &mut Output::standard()).unwrap();
        assert_ne!(before.0, fs::read(&signing).unwrap());
    }
}
