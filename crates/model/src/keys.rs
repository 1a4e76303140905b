//! Keys that sign models and keys that are trusted: ed25519, as PEM files that openssl reads too.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::artifact::hex_of_sha256;

/// Largest key file that is read, in bytes.
const FILE_LIMIT: u64 = 64 << 10;

/// A private key.
#[derive(Clone)]
pub struct Signer {
    key: SigningKey,
}

/// Public keys, any of which may have signed.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys {
    keys: Vec<VerifyingKey>,
}

/// Why a key could not be made, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file could not be read or written.
    #[error("{action} key file {}", file.display())]
    File {
        /// "reading" or "writing".
        action: &'static str,
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file does not hold what it should.
    #[error("key file {} holds no {expected}: {problem}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What the decoder said.
        problem: String,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes for a new key: {problem}")]
    Random {
        /// What the operating system said.
        problem: String,
    },
    /// No key is trusted, so no model could ever be loaded.
    #[error("no trusted key was given; name the public key file of the trainer")]
    NoneTrusted,
}

impl Signer {
    /// Makes a new key from the operating system's random bytes.
    ///
    /// # Errors
    ///
    /// Fails when the system has none.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|it| KeyError::Random { problem: it.to_string() })?;
        Ok(Self { key: SigningKey::from_bytes(&seed) })
    }

    /// Reads a PKCS#8 PEM file.
    ///
    /// # Errors
    ///
    /// Names the file and what is wrong with it.
    pub fn load(file: &Path) -> Result<Self, KeyError> {
        let text = read(file)?;
        let key = SigningKey::from_pkcs8_pem(&text).map_err(|it| KeyError::Content {
            file: file.to_owned(),
            expected: "ed25519 private key (PKCS#8 PEM)",
            problem: it.to_string(),
        })?;
        Ok(Self { key })
    }

    /// Writes the key to a new file that only its owner may read. An existing file is left alone.
    ///
    /// # Errors
    ///
    /// Names the file; one that exists already is an error.
    pub fn save(&self, file: &Path) -> Result<(), KeyError> {
        let text = self.key.to_pkcs8_pem(LineEnding::LF).expect("an ed25519 key has a PEM form");
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.open(file).and_then(|mut it| it.write_all(text.as_bytes()));
        written.map_err(|source| KeyError::File { action: "writing", file: file.to_owned(), source })
    }

    /// The public key as PEM text, for the scorers.
    #[must_use]
    pub fn public_pem(&self) -> String {
        self.key.verifying_key().to_public_key_pem(LineEnding::LF).expect("an ed25519 key has a PEM form")
    }

    /// Which key this is, as manifests name it.
    #[must_use]
    pub fn id(&self) -> String {
        id(&self.key.verifying_key())
    }

    /// The keys that trust this one alone.
    #[must_use]
    pub fn trusted(&self) -> TrustedKeys {
        TrustedKeys { keys: vec![self.key.verifying_key()] }
    }

    /// The signature of `text`, in hexadecimal digits.
    pub(crate) fn sign(&self, text: &str) -> String {
        hex(&self.key.sign(text.as_bytes()).to_bytes())
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.id())
    }
}

impl TrustedKeys {
    /// Reads public keys, one PEM file each.
    ///
    /// # Errors
    ///
    /// Names the file and what is wrong with it; no file at all is an error.
    pub fn load(files: &[PathBuf]) -> Result<Self, KeyError> {
        let keys = files.iter().map(|file| Self::key(file)).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(KeyError::NoneTrusted);
        }
        Ok(Self { keys })
    }

    fn key(file: &Path) -> Result<VerifyingKey, KeyError> {
        let content = |problem| KeyError::Content {
            file: file.to_owned(),
            expected: "ed25519 public key (PEM)",
            problem,
        };
        let key = VerifyingKey::from_public_key_pem(&read(file)?).map_err(|it| content(it.to_string()))?;
        // A weak key verifies signatures that nobody made.
        if key.is_weak() { Err(content("the key is weak".to_owned())) } else { Ok(key) }
    }

    /// Ids of the trusted keys.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.keys.iter().map(id).collect()
    }

    /// Whether the trusted key `key_id` signed `text`; `None` when no such key is trusted.
    pub(crate) fn verify(&self, key_id: &str, text: &str, signature: &str) -> Option<bool> {
        let key = self.keys.iter().find(|it| id(it) == key_id)?;
        let signature = unhex(signature).and_then(|it| Signature::from_slice(&it).ok());
        Some(signature.is_some_and(|it| key.verify_strict(text.as_bytes(), &it).is_ok()))
    }
}

fn id(key: &VerifyingKey) -> String {
    hex_of_sha256(key.as_bytes())[..16].to_owned()
}

fn read(file: &Path) -> Result<String, KeyError> {
    let error = |source| KeyError::File { action: "reading", file: file.to_owned(), source };
    let size = std::fs::metadata(file).map_err(error)?.len();
    if size > FILE_LIMIT {
        let source =
            std::io::Error::new(std::io::ErrorKind::FileTooLarge, format!("{size} bytes are no key"));
        return Err(error(source));
    }
    std::fs::read_to_string(file).map_err(error)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    // Lower case only: one signature has one form.
    let digit = |it: u8| match it {
        b'0'..=b'9' => Some(it - b'0'),
        b'a'..=b'f' => Some(it - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_key_signs_what_its_public_key_trusts() {
        let folder = tempfile::tempdir().unwrap();
        let (private, public) = (folder.path().join("key.pem"), folder.path().join("key.pub.pem"));
        let signer = Signer::generate().unwrap();
        signer.save(&private).unwrap();
        std::fs::write(&public, signer.public_pem()).unwrap();
        let loaded = Signer::load(&private).unwrap();
        let trusted = TrustedKeys::load(&[public]).unwrap();
        assert_eq!(trusted.ids(), [loaded.id()]);
        let signature = loaded.sign("words");
        assert_eq!(trusted.verify(&loaded.id(), "words", &signature), Some(true));
        assert_eq!(trusted.verify(&loaded.id(), "other words", &signature), Some(false));
        assert_eq!(trusted.verify(&loaded.id(), "words", &signature.to_uppercase()), Some(false));
        assert_eq!(trusted.verify(&loaded.id(), "words", "zz"), Some(false));
        let stranger = Signer::generate().unwrap();
        assert_eq!(trusted.verify(&stranger.id(), "words", &stranger.sign("words")), None);
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        assert!(Signer::load(&file).unwrap_err().to_string().starts_with("reading key file /"));
        std::fs::write(&file, "no key").unwrap();
        assert!(Signer::load(&file).unwrap_err().to_string().contains("holds no ed25519 private key"));
        assert!(
            TrustedKeys::load(std::slice::from_ref(&file))
                .unwrap_err()
                .to_string()
                .contains("holds no ed25519 public key")
        );
        assert!(matches!(TrustedKeys::load(&[]), Err(KeyError::NoneTrusted)));
        let exists = Signer::generate().unwrap().save(&file).unwrap_err();
        assert!(exists.to_string().starts_with("writing key file /"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "no key", "an existing key is never overwritten");
    }
}
