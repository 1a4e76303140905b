//! Settings of the checks, the same for one look and for following.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use telltale_model::TrustedKeys;

use super::Error;
use super::recompute::Sample;
use crate::demo::{PREPROCESSOR_GROUP, SCORER_GROUP};

/// What is checked, and how strictly.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Checks")]
pub struct Checks {
    /// Devices may be out of order in sensor-data: the bridge shares its subscription with others
    #[arg(long, env = "ANY_ORDER")]
    pub any_order: bool,

    /// Most readings of one device that a reconnect may bring again: the in-flight window, which is the bridge's
    /// --receive-maximum or the broker's own, whichever is smaller
    #[arg(long, env = "IN_FLIGHT", value_name = "READINGS", default_value = "1000")]
    pub in_flight: NonZeroUsize,

    /// How long the preprocessor keeps windows open after their end (`grace` in pipeline.toml)
    #[arg(long, env = "WINDOW_GRACE", value_name = "DURATION", default_value = "1h")]
    pub window_grace: humantime::Duration,

    /// Predictions to recompute from their model and reading, bit for bit: all, none, or 1/N of them
    ///
    /// Which ones follows from a hash of the reading's place, so that the same topics give the same sample.
    #[arg(long, env = "RECOMPUTE", value_name = "SHARE", default_value = "1/100")]
    pub recompute: Sample,

    /// File with a public key (PEM) that may sign models; several times for several keys; signatures are not looked at
    /// without any
    #[arg(long, env = "TRUSTED_KEY", value_name = "FILE", value_delimiter = ',')]
    pub trusted_key: Vec<PathBuf>,

    /// Consumer group of the preprocessor: what it has committed must have its outcome
    #[arg(long, env = "PREPROCESSOR_GROUP", value_name = "NAME", default_value = PREPROCESSOR_GROUP)]
    pub preprocessor_group: String,

    /// Consumer group of the scorer
    #[arg(long, env = "SCORER_GROUP", value_name = "NAME", default_value = SCORER_GROUP)]
    pub scorer_group: String,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            any_order: false,
            in_flight: NonZeroUsize::new(1000).expect("1000 is not 0"),
            window_grace: Duration::from_secs(3600).into(),
            recompute: Sample::OneOf(100),
            trusted_key: Vec::new(),
            preprocessor_group: PREPROCESSOR_GROUP.to_owned(),
            scorer_group: SCORER_GROUP.to_owned(),
        }
    }
}

impl Checks {
    /// The keys that may sign models; `None` where signatures are not looked at.
    ///
    /// # Errors
    ///
    /// Returns an error when a key cannot be read.
    pub fn trusted(&self) -> Result<Option<TrustedKeys>, Error> {
        match &self.trusted_key[..] {
            [] => Ok(None),
            files => Ok(Some(TrustedKeys::load(files)?)),
        }
    }

    /// How long windows are open, in ms.
    pub(super) fn grace_ms(&self) -> i64 {
        i64::try_from(self.window_grace.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        checks: Checks,
    }

    #[test]
    fn the_defaults_are_those_of_the_command_line() {
        let parsed = Command::try_parse_from(["verify"]).unwrap().checks;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Checks::default()));
    }
}
