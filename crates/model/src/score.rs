//! A verified model, ready to score.

use telltale_features::Normaliser;
use telltale_features::specification::missing;

use crate::artifact::{About, Parts};
use crate::drift::{Counts, Reference};
use crate::kernel::{Instructions, Kernel, Results, Scratch, Share, TOP};

/// Scores readings. Made by [`crate::load`] only, so its signature, hash, shapes and golden scores hold.
#[derive(Debug, Clone)]
pub struct Model {
    about: About,
    sha256: String,
    normaliser: Normaliser,
    reference: Reference,
    kernel: Kernel,
}

/// Scores of a batch, and the memory that scoring it takes; reused from batch to batch.
#[derive(Debug, Clone, Default)]
pub struct Scores {
    /// One score per row, never negative; NaN for a row that cannot be scored.
    pub scores: Vec<f32>,
    /// The features that contribute most to each score, largest first.
    pub top: Vec<[Share; TOP]>,
    /// Rows that cannot be scored, ascending.
    pub unscorable: Vec<Unscorable>,
    inputs: Vec<f32>,
    scratch: Scratch,
}

/// A row that cannot be scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unscorable {
    /// Index of the row.
    pub row: usize,
    /// Features it lacks; when that is not too many, the score was not a finite number.
    pub missing: usize,
}

impl Scores {
    /// The network's inputs of the rows last scored.
    pub(crate) fn inputs(&self) -> &[f32] {
        &self.inputs
    }
}

impl Model {
    pub(crate) fn new(parts: Parts, sha256: String, instructions: Instructions) -> Self {
        let kernel = Kernel::new(&parts.network, &parts.whitening, instructions);
        let Parts { about, normaliser, reference, .. } = parts;
        Self { about, sha256, normaliser, reference, kernel }
    }

    /// What the model was made of and how.
    #[must_use]
    pub fn about(&self) -> &About {
        &self.about
    }

    /// SHA-256 of the artifact, in hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The same model, scoring as machines do whose arithmetic rounds otherwise than this one's: scores and shares of one
    /// reading are equal, bit for bit, on all machines with fused multiply-add, and on all without.
    #[must_use]
    pub fn other_rounding(&self) -> Self {
        Self { kernel: self.kernel.other_rounding(), ..self.clone() }
    }

    /// Columns of a row, in order.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        self.normaliser.specification().columns()
    }

    /// Score above which a reading is an anomaly.
    #[must_use]
    pub fn threshold(&self) -> f32 {
        self.about.threshold
    }

    /// The way from a row to the model's inputs.
    #[must_use]
    pub fn normaliser(&self) -> &Normaliser {
        &self.normaliser
    }

    /// Where the training rows lay.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Scores rows: the mean over the features that are present of the squared residual in units of what is usual
    /// for healthy devices.
    ///
    /// Rows do not influence each other, so a batch scores as its rows would one by one, bit for bit.
    ///
    /// # Shapes
    ///
    /// `rows` is `(n, columns)`, row-major, NaN for null.
    ///
    /// # Panics
    ///
    /// Panics when the length of `rows` is not a multiple of the number of columns.
    ///
    /// # Source
    ///
    /// "Anomaly Detection Using Autoencoders with Nonlinear Dimensionality Reduction", MLSDA 2014,
    /// <https://doi.org/10.1145/2689746.2689747>; the scaling of residuals is Mahalanobis' distance.
    pub fn score(&self, rows: &[f32], scores: &mut Scores) {
        let specification = self.normaliser.specification();
        let features = specification.features.len();
        let count = rows.len() / features;
        let Scores { scores, top, unscorable, inputs, scratch } = scores;
        inputs.clear();
        self.normaliser.apply(rows, features, inputs);
        scores.clear();
        scores.resize(count, 0.0);
        top.resize(count, [Share::default(); TOP]);
        unscorable.clear();
        self.kernel.run(inputs, scratch, &mut Results::Scores(scores, top));
        for (row, score) in scores.iter_mut().enumerate() {
            let missing = missing(&inputs[row * features..][..features]);
            if specification.lacks_too_much(missing) || !score.is_finite() {
                *score = f32::NAN;
                unscorable.push(Unscorable { row, missing });
            }
        }
    }

    /// Counts the rows last scored into `scores` for [`Reference::stability_index`].
    pub fn count(&self, scores: &Scores, counts: &mut Counts) {
        self.reference.count(&scores.inputs, counts);
    }
}
