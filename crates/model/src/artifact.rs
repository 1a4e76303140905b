//! The artifact: everything of a model in one unit of bytes, and the manifest that is signed over it.
//!
//! The bytes are one safetensors file. Numbers are tensors; the rest is JSON in its metadata. Nothing in it says
//! when or where it was made, so the same inputs, configuration and seed give the same SHA-256 (on machines with
//! the same vector instructions: the matrix library sums in an order that depends on them).

use std::borrow::Cow;
use std::collections::HashMap;

use safetensors::tensor::{Dtype, View, serialize};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use telltale_features::{Normaliser, Specification};
use telltale_records::manifest::{Manifest, OffsetRange, SignedManifest};

use crate::config::TrainingConfig;
use crate::delivery::chunk_count;
use crate::drift::Reference;
use crate::keys::{Signer, hex};
use crate::network::{Dense, Network};

/// The kind of model this crate trains.
pub const KIND: &str = "autoencoder";
/// Format of the bytes; a reader refuses any other.
pub(crate) const FORMAT: u32 = 1;
/// The metadata entry with everything that is not a number.
pub(crate) const METADATA: &str = "telltale";

/// What a model was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// What was read.
    pub ranges: Vec<OffsetRange>,
    /// Registry ids of the schemas the readings were written with.
    pub schema_ids: Vec<i32>,
    /// Version of the code that trained.
    pub code_version: String,
}

/// A trained model as bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// The safetensors file.
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes, in hexadecimal digits.
    pub sha256: String,
    /// What its manifest says of it.
    pub about: About,
}

/// Everything of a model that is not a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Format of the artifact.
    pub format: u32,
    /// Kind of model.
    pub kind: String,
    /// What the model sees of a reading.
    pub specification: Specification,
    /// How it was trained.
    pub config: TrainingConfig,
    /// Seed of the training run.
    pub seed: u64,
    /// Readings it learned from, after the filter and the capacity.
    pub rows: u64,
    /// Readings left out of the last pass because their device looked unwell.
    pub trimmed_rows: u64,
    /// Score above which a reading is an anomaly.
    pub threshold: f32,
    /// What it was made of.
    pub lineage: Lineage,
}

/// What of a release is not a function of the training run.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// Name that the versions of the model share.
    pub name: String,
    /// Number of the model, from 1.
    pub version: u64,
    /// Number of the decision, from 1.
    pub generation: u64,
    /// When it is signed, in ms since 1970.
    pub created_ms: i64,
    /// Seconds that training took.
    pub seconds: f64,
}

/// The parts of a model, in memory.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) about: About,
    pub(crate) normaliser: Normaliser,
    pub(crate) network: Network,
    /// `(features, features)` and, as bias, minus the mapped centre of the residuals.
    pub(crate) whitening: Dense,
    pub(crate) reference: Reference,
    /// Raw rows, `(n, features)`, row-major, NaN for missing.
    pub(crate) golden_rows: Vec<f32>,
    /// Their scores.
    pub(crate) golden_scores: Vec<f32>,
}

/// A tensor of an artifact.
struct Tensor<'a> {
    shape: Vec<usize>,
    values: &'a [f32],
}

impl View for Tensor<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<_>>().into()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

impl Artifact {
    /// Packs the parts; the order of everything is fixed.
    pub(crate) fn pack(parts: &Parts) -> Self {
        let shapes = shapes(&parts.about);
        let tensors = shapes.into_iter().map(|(name, shape)| {
            let values = parts.tensor(&name).expect("every name in the list of shapes is a part");
            (name, Tensor { shape, values })
        });
        let json = serde_json::to_string(&parts.about).expect("numbers, text and lists become JSON");
        let metadata = HashMap::from([(METADATA.to_owned(), json)]);
        let bytes =
            serialize(tensors, Some(metadata)).expect("shapes agree with the values they were taken from");
        Self { sha256: hex_of_sha256(&bytes), bytes, about: parts.about.clone() }
    }

    /// The manifest of this artifact for `release`.
    #[must_use]
    pub fn manifest(&self, release: &Release) -> Manifest {
        Manifest {
            name: release.name.clone(),
            version: release.version,
            generation: release.generation,
            kind: self.about.kind.clone(),
            sha256: self.sha256.clone(),
            size: self.bytes.len() as u64,
            chunks: chunk_count(self.bytes.len()),
            created_ms: release.created_ms,
            rows: self.about.rows,
            seconds: release.seconds,
            threshold: self.about.threshold,
            false_alarm_rate: self.about.config.false_alarm_rate,
            seed: self.about.seed,
            code_version: self.about.lineage.code_version.clone(),
            ranges: self.about.lineage.ranges.clone(),
            pinned: false,
        }
    }

    /// The signed manifest of this artifact for `release`.
    #[must_use]
    pub fn sign(&self, release: &Release, signer: &Signer) -> SignedManifest {
        sign(&self.manifest(release), signer)
    }
}

/// Signs `manifest`; for a rollback, an old one with a higher generation.
#[must_use]
pub fn sign(manifest: &Manifest, signer: &Signer) -> SignedManifest {
    let text = manifest.to_json();
    let signature = signer.sign(&text);
    SignedManifest { manifest: text, key_id: signer.id(), signature }
}

/// Name and shape of every tensor that an artifact must hold, no more and no less.
pub(crate) fn shapes(about: &About) -> Vec<(String, Vec<usize>)> {
    let features = about.specification.features.len();
    let widths = crate::network::widths(features, &about.config.hidden);
    let mut shapes = vec![
        ("golden.rows".to_owned(), vec![GOLDEN_ROWS, features]),
        ("golden.scores".to_owned(), vec![GOLDEN_ROWS]),
        ("normaliser.centres".to_owned(), vec![features]),
        ("normaliser.scales".to_owned(), vec![features]),
        ("reference.edges".to_owned(), vec![features, crate::drift::EDGES]),
        ("reference.shares".to_owned(), vec![features, crate::drift::BINS]),
        ("shortcut.weights".to_owned(), vec![features, features]),
        ("whitening.bias".to_owned(), vec![features]),
        ("whitening.weights".to_owned(), vec![features, features]),
    ];
    for (index, pair) in widths.windows(2).enumerate() {
        shapes.push((format!("layer{index}.bias"), vec![pair[1]]));
        shapes.push((format!("layer{index}.weights"), vec![pair[1], pair[0]]));
    }
    shapes
}

/// Rows whose scores every loader must reproduce.
pub(crate) const GOLDEN_ROWS: usize = 16;

impl Parts {
    fn tensor(&self, name: &str) -> Option<&[f32]> {
        Some(match name {
            "golden.rows" => &self.golden_rows,
            "golden.scores" => &self.golden_scores,
            "normaliser.centres" => self.normaliser.centres(),
            "normaliser.scales" => self.normaliser.scales(),
            "reference.edges" => &self.reference.edges,
            "reference.shares" => &self.reference.shares,
            "shortcut.weights" => &self.network.shortcut,
            "whitening.bias" => &self.whitening.bias,
            "whitening.weights" => &self.whitening.weights,
            layer => {
                let (index, part) = layer.strip_prefix("layer")?.split_once('.')?;
                let layer = self.network.layers.get(index.parse::<usize>().ok()?)?;
                if part == "bias" { &layer.bias } else { &layer.weights }
            }
        })
    }
}

pub(crate) fn hex_of_sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
