//! The manifest of a model: what it is, what it was made of, and the signature over exactly these words.
//!
//! The record on the topic `models` holds the manifest as the text that was signed, so no reader has to agree
//! with the writer on how JSON is laid out.

use serde::{Deserialize, Serialize};

/// Longest manifest record that is looked at, in bytes.
pub const MANIFEST_LIMIT: usize = 1 << 20;

/// Longest model name, in bytes.
pub const NAME_LIMIT: usize = 64;

/// What a model is and what it was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name that the versions of a model share; the key of the manifest's record.
    pub name: String,
    /// Number of the model, from 1. A number is used once.
    pub version: u64,
    /// Number of the decision that put the model in force, from 1. Of two manifests the higher one counts, so
    /// rolling back is publishing an old version with a higher generation.
    pub generation: u64,
    /// Kind of model, such as `autoencoder`.
    pub kind: String,
    /// SHA-256 of the artifact, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Size of the artifact in bytes.
    pub size: u64,
    /// Number of chunks that the artifact is delivered in.
    pub chunks: u32,
    /// When the manifest was signed, in ms since 1970.
    pub created_ms: i64,
    /// Readings that the model learned from.
    pub rows: u64,
    /// Seconds that training took.
    pub seconds: f64,
    /// Score above which a reading is an anomaly.
    pub threshold: f32,
    /// Share of healthy readings that was asked to lie above the threshold.
    pub false_alarm_rate: f64,
    /// Seed of the training run.
    pub seed: u64,
    /// Version of the code that trained the model.
    pub code_version: String,
    /// What was read, in ascending order of topic and partition.
    pub ranges: Vec<OffsetRange>,
    /// Whether trainers hold new versions back until a higher generation lifts it: set by a rollback.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

/// Consecutive offsets of one partition that a model learned from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffsetRange {
    /// Topic that was read.
    pub topic: String,
    /// Partition that was read.
    pub partition: i32,
    /// First offset, inclusive.
    pub from: i64,
    /// Last offset, exclusive.
    pub to: i64,
}

/// A manifest as it travels: the signed text, and who signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedManifest {
    /// The manifest as JSON, exactly the text that was signed.
    pub manifest: String,
    /// Which key signed: the first 16 hexadecimal digits of the SHA-256 of the public key.
    pub key_id: String,
    /// The ed25519 signature of `manifest`, 128 hexadecimal digits.
    pub signature: String,
}

/// Why bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The record is larger than a manifest may be.
    #[error("manifest record of {bytes} bytes; at most {MANIFEST_LIMIT} are read")]
    TooLarge {
        /// Size of the record.
        bytes: usize,
    },
    /// The text is not a manifest.
    #[error("reading a model's manifest")]
    Json(#[from] serde_json::Error),
    /// A field has a value that no manifest may have.
    #[error("manifest field {field} is {value:?}, but must be {expected}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// What was found.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
}

impl Manifest {
    /// The text that is signed.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers, text and lists become JSON")
    }

    /// Reads and checks a manifest. Its signature is another matter.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        if text.len() > MANIFEST_LIMIT {
            return Err(ManifestError::TooLarge { bytes: text.len() });
        }
        let manifest: Self = serde_json::from_str(text)?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let hex =
            self.sha256.len() == 64 && self.sha256.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
        let checks = [
            (is_name(&self.name), "name", &self.name, "1 to 64 letters, digits, dots, dashes or underscores"),
            (self.version > 0, "version", &self.version.to_string(), "above 0"),
            (self.generation > 0, "generation", &self.generation.to_string(), "above 0"),
            (hex, "sha256", &self.sha256, "64 lower-case hexadecimal digits"),
            (self.chunks > 0, "chunks", &self.chunks.to_string(), "above 0"),
            (self.threshold.is_finite(), "threshold", &self.threshold.to_string(), "finite"),
        ];
        for (holds, field, value, expected) in checks {
            if !holds {
                let value = value.chars().take(80).collect();
                return Err(ManifestError::Field { field, value, expected });
            }
        }
        Ok(())
    }
}

impl SignedManifest {
    /// The value of the record on the topic `models`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text becomes JSON")
    }

    /// Reads the value of a record. Neither the manifest inside nor its signature is looked at.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_LIMIT {
            return Err(ManifestError::TooLarge { bytes: bytes.len() });
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// Whether `name` can name a model: it is a record key and part of other keys.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let allowed = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'-' | b'_');
    (1..=NAME_LIMIT).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            name: "cars".into(),
            version: 3,
            generation: 4,
            kind: "autoencoder".into(),
            sha256: "0".repeat(64),
            size: 9000,
            chunks: 1,
            created_ms: 1_700_000_000_000,
            rows: 5000,
            seconds: 1.25,
            threshold: 2.5,
            false_alarm_rate: 0.001,
            seed: 7,
            code_version: "0.1.0".into(),
            ranges: vec![OffsetRange { topic: "t".into(), partition: 0, from: 0, to: 10 }],
            pinned: false,
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let text = manifest().to_json();
        assert_eq!(Manifest::parse(&text).unwrap(), manifest());
        assert!(!text.contains("pinned"), "manifests of before read and write as they were");
        let pinned = Manifest { pinned: true, ..manifest() };
        assert_eq!(Manifest::parse(&pinned.to_json()).unwrap(), pinned);
        let signed = SignedManifest { manifest: text, key_id: "k".into(), signature: "s".into() };
        assert_eq!(SignedManifest::parse(&signed.to_bytes()).unwrap(), signed);
    }

    #[test]
    fn refuses_what_no_manifest_may_say() {
        type Change = fn(&mut Manifest);
        let cases: [(&str, Change); 6] = [
            ("name", |it| it.name = "a/b".into()),
            ("version", |it| it.version = 0),
            ("generation", |it| it.generation = 0),
            ("sha256", |it| it.sha256 = "F".repeat(64)),
            ("chunks", |it| it.chunks = 0),
            ("name", |it| it.name = "n".repeat(65)),
        ];
        for (field, change) in cases {
            let mut changed = manifest();
            change(&mut changed);
            let error = Manifest::parse(&changed.to_json()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("manifest field {field} is")), "{error}");
        }
        assert!(Manifest::parse("{}").is_err());
        assert!(matches!(
            SignedManifest::parse(&vec![b' '; MANIFEST_LIMIT + 1]),
            Err(ManifestError::TooLarge { .. })
        ));
    }
}
