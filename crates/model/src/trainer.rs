//! Trains a model on readings that stream by.
//!
//! ```text
//! feed ─▶ filter ─▶ kept rows ─finish─▶ order, split by device ─▶ normaliser ─▶ learn ⇄ leave out the unwell
//!                                                                                 │
//!                                    Artifact ◀─ threshold ◀─ whitening ◀─ held-back devices
//! ```
//!
//! The result is a function of (configuration, seed, set of rows): rows are put in order of device and time, so
//! it does not matter in which order partitions were read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use telltale_features::{Fitting, Normaliser, Specification};

use crate::artifact::{About, Artifact, FORMAT, GOLDEN_ROWS, KIND, Lineage, Parts};
use crate::config::{ConfigError, TrainingConfig};
use crate::drift::Reference;
use crate::kept::Kept;
use crate::kernel::Instructions;
use crate::learn::Learner;
use crate::network::{Dense, Network};
use crate::random::Random;
use crate::reference;
use crate::score::{Model, Scores};
use crate::split::{Noisy, Split};
use crate::threshold::threshold;
use crate::usual::usual;

/// Least rows that a model can be trained on.
pub const LEAST_ROWS: usize = 200;
/// Times the unwell are looked for and training goes on without them.
const ROUNDS: u32 = 2;

/// Readings to learn from.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// `(n, training columns)`, row-major, NaN for null.
    pub values: &'a [f32],
    /// [`crate::device_hash`] of each row's device.
    pub devices: &'a [u64],
    /// Event time of each row in ms.
    pub times_ms: &'a [i64],
    /// Whether each row is labelled as failing; empty where there is no label.
    pub failing: &'a [bool],
}

/// Collects readings and trains on them.
#[derive(Debug)]
pub struct Trainer {
    specification: Specification,
    config: TrainingConfig,
    seed: u64,
    seen: u64,
    stop: Arc<AtomicBool>,
    kept: Kept,
}

/// A trained model, and how training went.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The model as bytes.
    pub artifact: Artifact,
    /// The model, ready to score.
    pub model: Model,
    /// Its weights.
    pub network: Network,
    /// Loss after each pass.
    pub curve: Vec<CurvePoint>,
    /// Columns that did not vary and so carry nothing; worth a warning.
    pub constant_columns: Vec<String>,
}

/// One pass over the rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// Number of the pass, from 1; 0 is the linear network that training begins with.
    pub epoch: u32,
    /// Mean loss of the pass's steps.
    pub loss: f32,
    /// Loss on the held-back devices after the pass.
    pub held_back_loss: f32,
}

/// Why no model came of the rows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The specification is not valid.
    #[error("feature specification: {problem}")]
    Specification {
        /// What is wrong.
        problem: String,
    },
    /// The parts of [`Rows`] do not belong together.
    #[error("{values} values, {devices} devices and {times} times are no rows of {columns} columns")]
    Shape {
        /// Number of values.
        values: usize,
        /// Number of devices.
        devices: usize,
        /// Number of times.
        times: usize,
        /// Columns of the specification.
        columns: usize,
    },
    /// Too few rows passed the filter.
    #[error("{kept} of {seen} readings can be learned from; at least {LEAST_ROWS} are needed")]
    TooFew {
        /// Rows that can be learned from.
        kept: usize,
        /// Rows that were fed.
        seen: u64,
    },
    /// The fused pass and candle differ.
    #[error("this machine does not compute the model rightly: {problem}")]
    Reference {
        /// What differs.
        problem: String,
    },
    /// No column varies.
    #[error("no column varies in {rows} readings: there is nothing to learn")]
    Constant {
        /// Rows that were learned from.
        rows: usize,
    },
    /// The numbers ran away.
    #[error("training diverged in pass {epoch}: the loss is {loss}; lower the learning rate")]
    Diverged {
        /// Number of the pass.
        epoch: u32,
        /// The loss.
        loss: f32,
    },
    /// The thread for training could not be started.
    #[error("starting the training thread")]
    Thread(#[source] std::io::Error),
    /// Training was told to stop.
    #[error("training was told to stop")]
    Stopped,
    /// The training thread panicked.
    #[error("the training thread panicked")]
    Panicked,
    /// The model does not pass the checks that its readers make.
    #[error("the trained model does not pass its own checks")]
    Check(#[from] crate::loader::LoadError),
}

impl Trainer {
    /// Starts without rows.
    ///
    /// # Errors
    ///
    /// Says which setting is out of range.
    pub fn new(specification: Specification, config: TrainingConfig, seed: u64) -> Result<Self, TrainError> {
        config.check()?;
        specification.check().map_err(|problem| TrainError::Specification { problem })?;
        Ok(Self { specification, config, seed, seen: 0, stop: Arc::default(), kept: Kept::default() })
    }

    /// Takes rows in, as they are read. Memory is bounded by the configuration's capacity.
    ///
    /// # Errors
    ///
    /// Fails when the parts of `rows` do not belong together.
    pub fn feed(&mut self, rows: &Rows<'_>) -> Result<(), TrainError> {
        let columns = self.specification.training_columns().len();
        let features = self.specification.features.len();
        let count = rows.devices.len();
        let labels = rows.failing.is_empty() || rows.failing.len() == count;
        if rows.values.len() != count * columns || rows.times_ms.len() != count || !labels {
            let Rows { values, devices, times_ms, .. } = rows;
            let (values, devices, times) = (values.len(), devices.len(), times_ms.len());
            return Err(TrainError::Shape { values, devices, times, columns });
        }
        self.seen += count as u64;
        for (index, row) in rows.values.chunks_exact(columns).enumerate() {
            if self.specification.learns_from(row, rows.failing.get(index) == Some(&true)) {
                self.kept.take(&row[..features], rows.devices[index], rows.times_ms[index]);
            }
        }
        if self.kept.devices.len() >= self.config.capacity * 2 {
            self.kept.limit(features, self.config.capacity);
        }
        Ok(())
    }

    /// A switch that ends [`Trainer::finish`] with [`TrainError::Stopped`] before its next pass.
    #[must_use]
    pub fn stop_switch(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Rows fed so far, learned from or not.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Trains on the rows fed. Takes a thread, so that a panic is an error, and as long as `visits` says.
    ///
    /// # Errors
    ///
    /// Says why there is no model.
    pub fn finish(self, lineage: Lineage) -> Result<Trained, TrainError> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("learn".to_owned());
            let running = thread.spawn_scoped(scope, || self.train(lineage)).map_err(TrainError::Thread)?;
            running.join().map_err(|_| TrainError::Panicked)?
        })
    }

    fn train(mut self, lineage: Lineage) -> Result<Trained, TrainError> {
        let features = self.specification.features.len();
        self.kept.limit(features, self.config.capacity);
        let kept = std::mem::take(&mut self.kept).ordered(features);
        let rows = kept.devices.len();
        if rows < LEAST_ROWS {
            return Err(TrainError::TooFew { kept: rows, seen: self.seen });
        }
        let held_back = kept.held_back(self.config.held_back);
        let (normaliser, usual) = self.fit(&kept, &held_back);
        let constant_columns: Vec<_> = normaliser.constant_columns().into_iter().map(str::to_owned).collect();
        if constant_columns.len() == features {
            return Err(TrainError::Constant { rows });
        }
        let mut learning = Split::new(&kept, &normaliser, &usual, |row| !held_back[row]);
        let mut held = Split::new(&kept, &normaliser, &usual, |row| held_back[row]);

        // First without layers: that finds the worst of the unwell at once.
        let linear = |learning: &Split| learning.denoiser(features, self.config.noise);
        for _ in 0..ROUNDS {
            let network = Network::linear(linear(&learning));
            let found = held.whiten(&network);
            learning.trim(&network, &found);
            held.trim(&network, &found);
        }
        let mut random = Random::new(self.seed);
        let mut network = Network::initial(linear(&learning), &self.config.hidden, &mut random);
        let mut curve = Vec::new();
        for _ in 0..ROUNDS {
            network = self.learn(network, &learning, &held, &mut random, &mut curve)?;
            let found = held.whiten(&network);
            learning.trim(&network, &found);
            held.trim(&network, &found);
        }
        let trimmed_rows = [&learning, &held].iter().flat_map(|it| &it.keep).filter(|it| !**it).count();
        let healthy = Split::scale_with(&network, &learning, held);
        let whitening = healthy.whiten(&network);
        let threshold = threshold(&healthy.kept_scores(&network, &whitening), self.config.false_alarm_rate);
        let about = About {
            format: FORMAT,
            kind: KIND.to_owned(),
            specification: self.specification,
            config: self.config,
            seed: self.seed,
            rows: rows as u64,
            trimmed_rows: trimmed_rows as u64,
            threshold,
            lineage,
        };
        let (artifact, model) = packed(about, normaliser, network.clone(), whitening, &kept, &learning)?;
        Ok(Trained { artifact, model, network, curve, constant_columns })
    }

    /// What normalises the learned rows, and which rows are usual by it. Noise may be so wild that it hides behind
    /// the scales that it widened, so both are found in turns.
    fn fit(&self, kept: &Kept, held_back: &[bool]) -> (Normaliser, Vec<bool>) {
        let features = self.specification.features.len();
        let normaliser = |usual: &[bool]| {
            let mut fitting = Fitting::new(self.specification.clone());
            let rows = kept.values.chunks_exact(features).zip(held_back.iter().zip(usual));
            rows.filter(|(_, (held, usual))| !**held && **usual).for_each(|(row, _)| fitting.add(row));
            fitting.finish()
        };
        let mut keep = vec![true; held_back.len()];
        let mut inputs = Vec::new();
        for _ in 0..ROUNDS {
            inputs.clear();
            normaliser(&keep).apply(&kept.values, features, &mut inputs);
            inputs.iter_mut().filter(|it| it.is_nan()).for_each(|it| *it = 0.0);
            keep = usual(&inputs, features, self.config.noise, keep);
        }
        (normaliser(&keep), keep)
    }

    /// Learns from the rows of `learning` that are kept, and returns the network that did best on `held`.
    fn learn(
        &self,
        start: Network,
        learning: &Split,
        held: &Split,
        random: &mut Random,
        curve: &mut Vec<CurvePoint>,
    ) -> Result<Network, TrainError> {
        let config = &self.config;
        let features = start.features();
        let clean = learning.kept_inputs(features);
        let held = Noisy::new(held.kept_inputs(features), config.noise);
        let rows = clean.len() / features;
        let passes =
            (config.visits / u64::from(ROUNDS) / rows.max(1) as u64).clamp(1, u64::from(config.epochs));
        let mut learner = Learner::new(&start, Instructions::detect());
        let mut best = (held.mean_loss(&start), start);
        if curve.is_empty() {
            curve.push(CurvePoint { epoch: 0, loss: best.0, held_back_loss: best.0 });
        }
        let mut order: Vec<usize> = (0..rows).collect();
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        // The first steps leave a good beginning before they find a better end, so patience is with the steps alone.
        let (mut lowest, mut without_improvement) = (f32::INFINITY, 0);
        for pass in 0..passes {
            if self.stop.load(Ordering::Relaxed) {
                return Err(TrainError::Stopped);
            }
            random.shuffle(&mut order);
            let (mut total, mut steps) = (0.0, 0.0);
            for (step, batch) in order.chunks(config.batch).enumerate() {
                inputs.clear();
                targets.clear();
                for row in batch {
                    targets.extend_from_slice(&clean[row * features..][..features]);
                }
                inputs.extend(targets.iter().map(|it| it + config.noise * random.normal()));
                let done = (pass as f32 + (step * config.batch) as f32 / rows as f32) / passes as f32;
                total += learner.step(&inputs, &targets, config.learning_rate * annealed(done));
                steps += 1.0;
            }
            let network = learner.network();
            let point = CurvePoint {
                epoch: curve.len() as u32,
                loss: total / steps,
                held_back_loss: held.mean_loss(&network),
            };
            curve.push(point);
            if !point.loss.is_finite() || !point.held_back_loss.is_finite() || !network.is_finite() {
                return Err(TrainError::Diverged { epoch: point.epoch, loss: point.loss });
            }
            if point.held_back_loss < best.0 {
                best = (point.held_back_loss, network);
            }
            if point.held_back_loss < lowest {
                lowest = point.held_back_loss;
                without_improvement = 0;
            } else {
                without_improvement += 1;
                if without_improvement >= config.patience {
                    break;
                }
            }
        }
        Ok(best.1)
    }
}

/// Falls from 1 to 0.01 along a cosine while `done` goes from 0 to 1.
fn annealed(done: f32) -> f32 {
    0.01 + 0.99 * 0.5 * (1.0 + (done * std::f32::consts::PI).cos())
}

fn packed(
    about: About,
    normaliser: Normaliser,
    network: Network,
    whitening: Dense,
    kept: &Kept,
    learning: &Split,
) -> Result<(Artifact, Model), TrainError> {
    let features = network.features();
    // Rows evenly over the devices, so over the states that a device can be in.
    let rows = kept.devices.len();
    let golden = (0..GOLDEN_ROWS).map(|it| it * (rows - 1) / (GOLDEN_ROWS - 1));
    let golden_rows: Vec<f32> = golden
        .flat_map(|it| kept.values[it * features..][..features].iter().map(|it| finite_or_nan(*it)))
        .collect();
    let mut parts = Parts {
        about,
        reference: Reference::fit(&learning.inputs, features),
        normaliser,
        network,
        whitening,
        golden_rows,
        golden_scores: vec![0.0; GOLDEN_ROWS],
    };
    let model = Model::new(parts.clone(), String::new(), Instructions::detect());
    let mut scores = Scores::default();
    model.score(&parts.golden_rows, &mut scores);
    // A model that this machine computes wrongly is not given out.
    reference::confirm(&parts.network, &parts.whitening, scores.inputs(), &scores.scores)
        .map_err(|problem| TrainError::Reference { problem })?;
    parts.golden_scores = scores.scores;
    let artifact = Artifact::pack(&parts);
    let model = crate::loader::unpack(&artifact.bytes, artifact.sha256.clone())?;
    Ok((artifact, model))
}

fn finite_or_nan(value: f32) -> f32 {
    if value.is_finite() { value } else { f32::NAN }
}
