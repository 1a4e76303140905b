//! The preprocessor's part in the exactly-once loop: one worker's streams and the windows of its partitions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use telltale_kafka::exactly_once::{Fault, Health, Step};
use telltale_kafka::{Isolation, KafkaConfig, Reader, Registry, TopicPartition};
use telltale_records::{Batch, Outgoing};
use telltale_service::Service;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Error;
use crate::metrics::{Metrics, ReasonLabel, TableLabel};
use crate::pipeline::{Pipeline, Stream};
use crate::restore::restore;
use crate::transform::{SchemaIds, Tally, Transform};
use crate::windows::Windows;
use crate::writers::Writers;

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) pipeline: Pipeline,
    /// Ids of each stream's schemas, in the pipeline's order.
    pub(crate) ids: Vec<SchemaIds>,
    pub(crate) kafka: KafkaConfig,
    pub(crate) registry: Registry,
    pub(crate) metrics: Metrics,
    pub(crate) service: Service,
    pub(crate) stop: CancellationToken,
}

/// One worker.
pub(crate) struct Preprocess<'a> {
    shared: &'a Shared,
    component: String,
    /// Plans by source topic, made when a partition of it is assigned.
    transforms: HashMap<Arc<str>, (Transform, Writers)>,
    windows: HashMap<TopicPartition, Vec<Windows>>,
    /// What was processed since the last commit.
    tally: Tally,
    /// How many windows the metric knows of this worker.
    shown_windows: i64,
}

impl<'a> Preprocess<'a> {
    pub(crate) fn new(shared: &'a Shared, worker: usize) -> Self {
        Self {
            shared,
            component: format!("worker-{worker}"),
            transforms: HashMap::new(),
            windows: HashMap::new(),
            tally: Tally::default(),
            shown_windows: 0,
        }
    }

    fn plans(&mut self, topic: &Arc<str>) -> Result<(&'a Stream, &mut Transform, &mut Writers), Error> {
        let streams: &'a [Arc<Stream>] = &self.shared.pipeline.streams;
        let index =
            streams.iter().position(|it| *it.source == **topic).expect("only the pipeline's topics are read");
        let stream = &streams[index];
        if !self.transforms.contains_key(topic) {
            let made =
                Transform::new(Arc::clone(stream), &self.shared.ids[index], self.shared.service.name());
            let made = made.map_err(|source| Error::Schema { topic: topic.to_string(), source })?;
            self.transforms.insert(Arc::clone(topic), (made, Writers::new(&stream.subjects)));
        }
        let (transform, writers) = self.transforms.get_mut(topic).expect("it has just been made");
        Ok((stream, transform, writers))
    }

    fn take_over(&mut self, partition: &TopicPartition, reader: &mut Reader) -> Result<(), Error> {
        let shared = self.shared;
        let (stream, transform, _) = self.plans(&partition.topic)?;
        let mut windows = transform.windows();
        for (table, windows) in stream.windows.iter().zip(&mut windows) {
            let started = Instant::now();
            let mut lookup = |id| shared.registry.schema(id);
            let foreign = restore(reader, table, partition.partition, windows, &mut lookup, &shared.stop)?;
            if foreign > 0 {
                shared.metrics.foreign_rows.inc_by(foreign);
                warn!(
                    table = table.target,
                    partition = partition.partition,
                    foreign,
                    "records that are no rows of the table"
                );
            }
            let elapsed = started.elapsed();
            shared.metrics.restore_duration.observe(elapsed.as_secs_f64());
            info!(
                table = table.target,
                partition = partition.partition,
                windows = windows.len(),
                ?elapsed,
                "windows read back"
            );
        }
        self.windows.insert(partition.clone(), windows);
        Ok(())
    }

    fn show_windows(&mut self) {
        let count: usize = self.windows.values().flatten().map(Windows::len).sum();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.shared.metrics.open_windows.inc_by(count - self.shown_windows);
        self.shown_windows = count;
    }
}

impl Step for Preprocess<'_> {
    type Error = Error;

    fn assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault<Error>> {
        let opened = Reader::open(&self.shared.kafka, Isolation::Committed);
        let mut reader = opened.map_err(|it| Error::from(it).fault())?;
        for partition in partitions {
            self.take_over(partition, &mut reader).map_err(Error::fault)?;
        }
        self.show_windows();
        Ok(())
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.windows.remove(partition);
        }
        // Whatever was processed and not committed is processed again.
        self.tally = Tally::default();
        self.show_windows();
    }

    fn process(&mut self, batch: &Batch, out: &mut Outgoing) -> Result<(), Fault<Error>> {
        let started = Instant::now();
        let shared = self.shared;
        let partition = TopicPartition { topic: Arc::clone(batch.topic()), partition: batch.partition() };
        let mut windows = self.windows.remove(&partition).unwrap_or_default();
        let (stream, transform, writers) = self.plans(batch.topic()).map_err(Error::fault)?;
        assert_eq!(
            windows.len(),
            stream.windows.len(),
            "{partition} was not assigned before its records came"
        );
        let mut asked = false;
        let mut lookup = |id| writers.schema(id, &shared.registry, &mut asked);
        let tally =
            transform.apply(batch, &mut windows, &mut lookup, out).map_err(|it| Fault::Passing(it.into()))?;
        self.windows.insert(partition, windows);
        self.tally.add(tally);
        shared.metrics.batch_duration.observe(started.elapsed().as_secs_f64());
        Ok(())
    }

    fn committed(&mut self) {
        let tally = std::mem::take(&mut self.tally);
        for (reason, count) in tally.rejected {
            self.shared
                .metrics
                .rejected
                .get_or_create(&ReasonLabel { reason: reason.as_str() })
                .inc_by(count);
        }
        for (table, count) in tally.late {
            self.shared.metrics.late.get_or_create(&TableLabel { table }).inc_by(count);
        }
        self.show_windows();
    }

    fn health(&mut self, health: Health<'_>) {
        match health {
            Health::Ready => self.shared.service.ready(&self.component),
            Health::NotReady(reason) => self.shared.service.not_ready(&self.component, reason),
        }
    }
}
