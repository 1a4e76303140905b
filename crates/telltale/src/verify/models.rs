//! The models that predictions name, as the topics have them: loaded as a scorer loads them, when the first prediction asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use telltale_kafka::{Isolation, KafkaConfig, Reader};
use telltale_model::TrustedKeys;
use telltale_model::delivery::Chunks;
use telltale_model::loader::verify_manifest;
use telltale_records::topics;
use telltale_scorer::Versioned;
use tokio_util::sync::CancellationToken;

use crate::commands::models::{Known, each};

/// Models that are kept loaded; a rollback reaches no further back.
const LOADED: usize = 8;

/// Everything the topics say of models.
#[derive(Debug)]
pub struct Models {
    kafka: KafkaConfig,
    /// Keys that may sign; `None` where signatures are not looked at.
    trusted: Option<TrustedKeys>,
    known: Known,
    /// Chunks by the name of their model.
    chunks: BTreeMap<String, Chunks>,
    loaded: BTreeMap<(String, i64), Arc<Versioned>>,
    /// Where the topics ended when they were read last.
    read: Vec<i64>,
    stop: CancellationToken,
}

/// What is known of the model that a prediction names.
#[derive(Debug)]
pub enum Named {
    /// It can be scored with.
    Model(Arc<Versioned>),
    /// It was published, but its chunks are gone: later versions took their place.
    Gone,
    /// No prediction may name it, and why.
    Wrong(String),
}

impl Models {
    /// Reads what the topics hold now.
    ///
    /// # Errors
    ///
    /// Returns an error when a topic is missing or Kafka cannot be read.
    pub fn read(
        kafka: &KafkaConfig,
        trusted: Option<TrustedKeys>,
        stop: &CancellationToken,
    ) -> Result<Self, telltale_kafka::Error> {
        let mut models = Self {
            kafka: kafka.clone(),
            trusted,
            known: Known::default(),
            chunks: BTreeMap::new(),
            loaded: BTreeMap::new(),
            read: Vec::new(),
            stop: stop.clone(),
        };
        models.refresh()?;
        Ok(models)
    }

    /// Reads the topics once more if there is something new.
    fn refresh(&mut self) -> Result<(), telltale_kafka::Error> {
        let mut reader = Reader::open(&self.kafka, Isolation::Committed)?;
        let mut ends = Vec::new();
        for topic in [topics::MODELS_AUDIT, topics::MODELS] {
            for partition in reader.partitions(topic)? {
                ends.push(reader.watermarks(topic, partition)?.end);
            }
        }
        if ends == self.read {
            return Ok(());
        }
        self.known = Known::read(&self.kafka, &self.stop)?;
        let names = self.known.decisions.values().map(|it| (it.name.clone(), Chunks::default()));
        self.chunks = names.collect();
        each(&mut reader, topics::MODELS, &self.stop, |record| {
            let key = record.key().and_then(|it| std::str::from_utf8(it).ok());
            let Some((name, place)) = key.and_then(|it| it.split_once('/')) else { return };
            let Some(chunks) = self.chunks.get_mut(name) else { return };
            match record.value() {
                // What is no chunk leaves its model incomplete, as it does for a scorer.
                Some(value) => _ = chunks.insert(place, value),
                None => chunks.remove(place),
            }
        })?;
        self.read = ends;
        Ok(())
    }

    /// Whether somebody went back from version `from` to version `to`.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka cannot be read.
    pub fn rolled_back(&mut self, from: i64, to: i64) -> Result<bool, telltale_kafka::Error> {
        if !self.known.rolled_back(from, to) {
            self.refresh()?;
        }
        Ok(self.known.rolled_back(from, to))
    }

    /// The model called `name` with this version.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka cannot be read.
    pub fn get(&mut self, name: &str, version: i64) -> Result<Named, telltale_kafka::Error> {
        let key = (name.to_owned(), version);
        if let Some(model) = self.loaded.get(&key) {
            return Ok(Named::Model(Arc::clone(model)));
        }
        // A manifest and the first prediction by its model may be minutes apart, or no time at all.
        self.refresh()?;
        let published = self.known.decisions.iter().rev().find(|(_, it)| {
            it.name == name && u64::try_from(version).is_ok_and(|version| it.version == version)
        });
        let Some((&generation, manifest)) = published else {
            return Ok(Named::Wrong("which nobody published".to_owned()));
        };
        if let (Some(trusted), Some(signed)) = (&self.trusted, self.known.signed(generation))
            && let Err(error) = verify_manifest(signed, trusted)
        {
            return Ok(Named::Wrong(format!("which no scorer takes: {}", telltale_service::chain(&error))));
        }
        let model = match self.chunks.get(name).and_then(|it| it.load(manifest)) {
            None => return Ok(Named::Gone),
            Some(Ok(model)) => model,
            Some(Err(error)) => {
                let problem = format!("which does not load: {}", telltale_service::chain(&error));
                return Ok(Named::Wrong(problem));
            }
        };
        let model = Arc::new(Versioned { name: name.to_owned(), version, generation, model });
        if self.loaded.len() >= LOADED {
            self.loaded.pop_first();
        }
        self.loaded.insert(key, Arc::clone(&model));
        Ok(Named::Model(model))
    }
}
