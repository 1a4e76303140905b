//! How a model is trained: part of what its SHA-256 is a function of.

use serde::{Deserialize, Serialize};

use crate::network::{LAYER_LIMIT, WIDTH_LIMIT};

/// Most rows a trainer may be told to keep; bounds its memory.
pub const CAPACITY_LIMIT: usize = 10_000_000;

/// How an autoencoder is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Most passes over the rows.
    pub epochs: u32,
    /// Most rows visited in all passes together; bounds the time that training takes.
    pub visits: u64,
    /// Rows of one step.
    pub batch: usize,
    /// Step size of Adam at the start; it falls to a hundredth along a cosine.
    pub learning_rate: f32,
    /// Standard deviation of the noise added to inputs while learning, in normalised units.
    pub noise: f32,
    /// Share of devices held back to stop early, to scale residuals and to set the threshold.
    pub held_back: f64,
    /// Passes without improvement on the held-back devices before training stops.
    pub patience: u32,
    /// Share of healthy readings to score above the threshold.
    pub false_alarm_rate: f64,
    /// Most rows kept; of more, whole minutes of devices are chosen by hash.
    pub capacity: usize,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            hidden: vec![24, 12, 24],
            epochs: 100,
            visits: 200_000,
            batch: 256,
            learning_rate: 5e-3,
            noise: 0.05,
            held_back: 0.3,
            patience: 15,
            false_alarm_rate: 0.005,
            capacity: 100_000,
        }
    }
}

/// A setting that no training run can have.
#[derive(Debug, thiserror::Error)]
#[error("training setting {field} is {value}, but must be {expected}")]
pub struct ConfigError {
    /// Name of the setting.
    pub field: &'static str,
    /// What was given.
    pub value: String,
    /// What is allowed.
    pub expected: String,
}

impl TrainingConfig {
    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// Names the first setting that is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let layers = !self.hidden.is_empty() && self.hidden.len() < LAYER_LIMIT;
        let widths = self.hidden.iter().all(|it| (1..=WIDTH_LIMIT).contains(it));
        let positive = |it: f32| it > 0.0 && it.is_finite();
        let checks = [
            (
                layers && widths,
                "hidden",
                format!("{:?}", self.hidden),
                format!("1 to {} widths of 1 to {WIDTH_LIMIT}", LAYER_LIMIT - 1),
            ),
            (self.epochs > 0, "epochs", self.epochs.to_string(), "above 0".to_owned()),
            (self.visits > 0, "visits", self.visits.to_string(), "above 0".to_owned()),
            ((1..=65_536).contains(&self.batch), "batch", self.batch.to_string(), "1 to 65536".to_owned()),
            (
                positive(self.learning_rate),
                "learning_rate",
                self.learning_rate.to_string(),
                "above 0".to_owned(),
            ),
            ((0.0..=10.0).contains(&self.noise), "noise", self.noise.to_string(), "0 to 10".to_owned()),
            (
                (0.05..=0.5).contains(&self.held_back),
                "held_back",
                self.held_back.to_string(),
                "0.05 to 0.5".to_owned(),
            ),
            (self.patience > 0, "patience", self.patience.to_string(), "above 0".to_owned()),
            (
                (1e-5..=0.2).contains(&self.false_alarm_rate),
                "false_alarm_rate",
                self.false_alarm_rate.to_string(),
                "0.00001 to 0.2".to_owned(),
            ),
            (
                (1000..=CAPACITY_LIMIT).contains(&self.capacity),
                "capacity",
                self.capacity.to_string(),
                format!("1000 to {CAPACITY_LIMIT}"),
            ),
        ];
        for (holds, field, value, expected) in checks {
            if !holds {
                return Err(ConfigError { field, value, expected });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_is_checked() {
        assert!(TrainingConfig::default().check().is_ok());
        type Change = fn(&mut TrainingConfig);
        let cases: [(&str, Change); 11] = [
            ("hidden", |it| it.hidden.clear()),
            ("hidden", |it| it.hidden = vec![0]),
            ("epochs", |it| it.epochs = 0),
            ("visits", |it| it.visits = 0),
            ("batch", |it| it.batch = 0),
            ("learning_rate", |it| it.learning_rate = f32::NAN),
            ("noise", |it| it.noise = -1.0),
            ("held_back", |it| it.held_back = 0.9),
            ("patience", |it| it.patience = 0),
            ("false_alarm_rate", |it| it.false_alarm_rate = 0.0),
            ("capacity", |it| it.capacity = 10),
        ];
        for (field, change) in cases {
            let mut config = TrainingConfig::default();
            change(&mut config);
            let error = config.check().unwrap_err();
            assert_eq!(error.field, field, "{error}");
        }
    }
}
