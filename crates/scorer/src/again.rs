//! Scores readings once more, by the very step of the service, for those who check what it wrote.

use std::sync::Arc;

use telltale_kafka::Registry;
use telltale_records::{Batch, Outgoing, schema};

use crate::config::StepError;
use crate::models::Versioned;
use crate::step::{Memory, Writer, score};

/// The scorer's step without the service around it.
pub struct Again {
    registry: Arc<Registry>,
    predictions: String,
    /// Decoders are compiled for one model: kept as long as it stays the same.
    memory: Option<(Arc<Versioned>, Memory)>,
    readings: String,
}

impl Again {
    /// Starts for the readings of one topic and the predictions of another.
    #[must_use]
    pub fn new(registry: Arc<Registry>, readings: &str, predictions: &str) -> Self {
        Self { registry, predictions: predictions.to_owned(), memory: None, readings: readings.to_owned() }
    }

    /// Appends what the service writes for each record of `batch` with `model` in force: a prediction, framed with
    /// `schema_id`, or a dead letter.
    ///
    /// # Errors
    ///
    /// Returns an error when the registry could not be asked.
    pub fn score(
        &mut self,
        batch: &Batch,
        model: &Arc<Versioned>,
        schema_id: u32,
        out: &mut Outgoing,
    ) -> Result<(), StepError> {
        if self.memory.as_ref().is_none_or(|(it, _)| !Arc::ptr_eq(it, model)) {
            self.memory = Some((Arc::clone(model), Memory::new(schema::subject(&self.readings))));
        }
        let (_, memory) = self.memory.as_mut().expect("it was made above");
        let writer = Writer { topic: &self.predictions, schema_id, model, alerts: false };
        score(memory, &self.registry, &writer, batch, out)
    }
}

impl std::fmt::Debug for Again {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Again").field("predictions", &self.predictions).finish_non_exhaustive()
    }
}
