//! Loads a model, and says exactly why not when it does not.
//!
//! ```text
//! size cap ─▶ signature ─▶ manifest ─▶ size, hash ─▶ names, shapes, dtypes ─▶ finiteness ─▶ golden scores ─▶ Model
//! ```
//!
//! Nothing is parsed before its signature holds, since a corrupted artifact may well parse.

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use telltale_features::Normaliser;
use telltale_features::normaliser::NormaliserError;
use telltale_records::manifest::{Manifest, ManifestError, SignedManifest};

use crate::artifact::{About, FORMAT, KIND, METADATA, Parts, hex_of_sha256, shapes};
use crate::config::ConfigError;
use crate::drift::Reference;
use crate::kernel::Instructions;
use crate::keys::TrustedKeys;
use crate::network::{Dense, Network, widths};
use crate::score::{Model, Scores};

/// Largest artifact that is looked at, in bytes.
pub const SIZE_LIMIT: usize = 4 << 20;

/// How far a golden score may be off, relative to 1 + the score: machines differ in the last bits.
pub(crate) const GOLDEN_TOLERANCE: f32 = 1e-2;

/// Why a model was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Larger than any model.
    #[error("artifact of {bytes} bytes; at most {SIZE_LIMIT} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Signed by a key that is not trusted.
    #[error("manifest is signed by key {key_id:?}; trusted are {trusted:?}")]
    UntrustedKey {
        /// Id of the key, as the manifest says.
        key_id: String,
        /// Ids of the trusted keys.
        trusted: Vec<String>,
    },
    /// The signature is not of this text by this key.
    #[error("signature of the manifest by key {key_id:?} does not hold")]
    Signature {
        /// Id of the key.
        key_id: String,
    },
    /// The signed text is not a manifest.
    #[error("manifest is signed, but not valid")]
    Manifest(#[from] ManifestError),
    /// Not as long as the manifest says.
    #[error("artifact has {found} bytes, manifest says {expected}")]
    Size {
        /// Size of the artifact.
        found: usize,
        /// Size the manifest says.
        expected: u64,
    },
    /// Not the bytes the manifest is about.
    #[error("artifact has SHA-256 {found}, manifest says {expected}")]
    Hash {
        /// Hash of the artifact.
        found: String,
        /// Hash the manifest says.
        expected: String,
    },
    /// The bytes are no safetensors file with our metadata.
    #[error("artifact cannot be read: {problem}")]
    Format {
        /// What is wrong.
        problem: String,
    },
    /// A setting that no training run has.
    #[error("artifact says how it was trained, but not sensibly")]
    Config(#[from] ConfigError),
    /// A tensor is missing, superfluous, or of another shape or type.
    #[error("tensor {name}: {problem}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A number is infinite or not a number.
    #[error("tensor {name} holds a value that is not finite")]
    NotFinite {
        /// Name of the tensor.
        name: String,
    },
    /// The normaliser does not fit the specification.
    #[error("artifact's normaliser is not valid")]
    Normaliser(#[from] NormaliserError),
    /// The artifact and its manifest disagree.
    #[error("{field} is {artifact} in the artifact, {manifest} in the manifest")]
    Disagree {
        /// Name of the field.
        field: &'static str,
        /// What the artifact says.
        artifact: String,
        /// What the manifest says.
        manifest: String,
    },
    /// The model does not give the scores it gave when it was trained.
    #[error("golden row {row} scores {found}, but scored {expected} when the model was trained")]
    Golden {
        /// Index of the row.
        row: usize,
        /// The score now.
        found: f32,
        /// The score then.
        expected: f32,
    },
}

/// Checks who signed, and reads what was signed.
///
/// # Errors
///
/// Says which check failed.
pub fn verify_manifest(signed: &SignedManifest, trusted: &TrustedKeys) -> Result<Manifest, LoadError> {
    let key_id: String = signed.key_id.chars().take(64).collect();
    match trusted.verify(&signed.key_id, &signed.manifest, &signed.signature) {
        None => return Err(LoadError::UntrustedKey { key_id, trusted: trusted.ids() }),
        Some(false) => return Err(LoadError::Signature { key_id }),
        Some(true) => {}
    }
    Ok(Manifest::parse(&signed.manifest)?)
}

/// Loads the model that `signed` is about from `bytes`.
///
/// # Errors
///
/// Says which check failed; they are made in the order of this page's picture.
pub fn load(
    signed: &SignedManifest,
    bytes: &[u8],
    trusted: &TrustedKeys,
) -> Result<(Manifest, Model), LoadError> {
    if bytes.len() > SIZE_LIMIT {
        return Err(LoadError::TooLarge { bytes: bytes.len() });
    }
    let manifest = verify_manifest(signed, trusted)?;
    let model = load_verified(&manifest, bytes)?;
    Ok((manifest, model))
}

/// Loads the model of a manifest whose signature holds.
///
/// # Errors
///
/// Says which check failed.
pub(crate) fn load_verified(manifest: &Manifest, bytes: &[u8]) -> Result<Model, LoadError> {
    if bytes.len() > SIZE_LIMIT {
        return Err(LoadError::TooLarge { bytes: bytes.len() });
    }
    if bytes.len() as u64 != manifest.size {
        return Err(LoadError::Size { found: bytes.len(), expected: manifest.size });
    }
    let found = hex_of_sha256(bytes);
    if found != manifest.sha256 {
        return Err(LoadError::Hash { found, expected: manifest.sha256.clone() });
    }
    let model = unpack(bytes, found)?;
    let about = model.about();
    let pairs = [
        ("kind", about.kind.clone(), manifest.kind.clone()),
        ("threshold", about.threshold.to_string(), manifest.threshold.to_string()),
        ("seed", about.seed.to_string(), manifest.seed.to_string()),
    ];
    for (field, artifact, manifest) in pairs {
        if artifact != manifest {
            return Err(LoadError::Disagree { field, artifact, manifest });
        }
    }
    Ok(model)
}

/// Reads the parts and lets the golden rows decide.
pub(crate) fn unpack(bytes: &[u8], sha256: String) -> Result<Model, LoadError> {
    let parts = read(bytes)?;
    let (rows, expected) = (parts.golden_rows.clone(), parts.golden_scores.clone());
    let model = Model::new(parts, sha256, Instructions::detect());
    let mut scores = Scores::default();
    model.score(&rows, &mut scores);
    for (row, (&found, expected)) in scores.scores.iter().zip(expected).enumerate() {
        let close = (found - expected).abs() <= GOLDEN_TOLERANCE * (1.0 + expected.abs());
        if !close {
            return Err(LoadError::Golden { row, found, expected });
        }
    }
    Ok(model)
}

fn read(bytes: &[u8]) -> Result<Parts, LoadError> {
    let format = |problem: String| LoadError::Format { problem };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|it| format(it.to_string()))?;
    let metadata = header.metadata().as_ref().and_then(|it| it.get(METADATA));
    let json = metadata.ok_or_else(|| format(format!("no metadata entry {METADATA:?}")))?;
    let about: About = serde_json::from_str(json).map_err(|it| format(it.to_string()))?;
    if about.format != FORMAT || about.kind != KIND {
        let About { format: found, kind, .. } = &about;
        return Err(format(format!(
            "format {found} of kind {kind:?}; this program reads format {FORMAT} of {KIND:?}"
        )));
    }
    about.config.check()?;
    about.specification.check().map_err(format)?;
    if !(about.threshold > 0.0 && about.threshold.is_finite()) {
        return Err(format(format!("threshold {} is not above 0", about.threshold)));
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(|it| format(it.to_string()))?;
    let expected = shapes(&about);
    if let Some(name) = tensors.names().into_iter().find(|it| !expected.iter().any(|(name, _)| name == it)) {
        return Err(LoadError::Tensor {
            name: name.to_owned(),
            problem: "is not part of this kind of model".into(),
        });
    }
    let tensor = |name: &str| values(&tensors, &expected, name);
    let hidden = widths(about.specification.features.len(), &about.config.hidden);
    let layers = hidden.windows(2).enumerate().map(|(index, pair)| {
        let weights = tensor(&format!("layer{index}.weights"))?;
        Ok(Dense { inputs: pair[0], outputs: pair[1], weights, bias: tensor(&format!("layer{index}.bias"))? })
    });
    let layers = layers.collect::<Result<Vec<_>, LoadError>>()?;
    let network = Network { layers, shortcut: tensor("shortcut.weights")? };
    let features = about.specification.features.len();
    let normaliser = Normaliser::from_parts(
        about.specification.clone(),
        tensor("normaliser.centres")?,
        tensor("normaliser.scales")?,
    )?;
    let whitening = Dense {
        inputs: features,
        outputs: features,
        weights: tensor("whitening.weights")?,
        bias: tensor("whitening.bias")?,
    };
    let reference = Reference { edges: tensor("reference.edges")?, shares: tensor("reference.shares")? };
    let (golden_rows, golden_scores) = (tensor("golden.rows")?, tensor("golden.scores")?);
    Ok(Parts { about, normaliser, network, whitening, reference, golden_rows, golden_scores })
}

/// Values of the tensor `name`, which must be as expected and finite.
fn values(
    tensors: &SafeTensors<'_>,
    expected: &[(String, Vec<usize>)],
    name: &str,
) -> Result<Vec<f32>, LoadError> {
    let problem = |problem: String| LoadError::Tensor { name: name.to_owned(), problem };
    let shape =
        expected.iter().find(|(it, _)| it == name).map(|(_, shape)| shape.as_slice()).unwrap_or_default();
    let tensor = tensors.tensor(name).map_err(|_| problem("is missing".to_owned()))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        let (dtype, found) = (tensor.dtype(), tensor.shape());
        return Err(problem(format!("is {dtype:?} of shape {found:?}, but must be F32 of shape {shape:?}")));
    }
    let values: Vec<f32> =
        tensor.data().as_chunks::<4>().0.iter().map(|it| f32::from_le_bytes(*it)).collect();
    // A golden row may lack a value; nothing else may.
    let finite = values.iter().all(|it| it.is_finite() || (name == "golden.rows" && it.is_nan()));
    if finite { Ok(values) } else { Err(LoadError::NotFinite { name: name.to_owned() }) }
}
