//! What is deleted under the services: the topic of predictions; readings that retention takes before they were read.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use telltale_kafka::topics::Topics;
use telltale_kafka::{Isolation, Reader};
use telltale_records::topics;
use tokio_util::sync::CancellationToken;

use super::Pipeline;
use crate::soak::plan::Service;
use crate::soak::scenario::no_open_transaction;

/// Time for what a stopped process has sent to arrive.
const SETTLED: Duration = Duration::from_millis(200);
/// Those that are overtaken.
const AWAY: [Service; 2] = [Service::Preprocessor(1), Service::Preprocessor(2)];
/// What they say then, each of a partition of its own.
const SAID: &str = "can no longer read sensor-data-";

impl Pipeline {
    /// Deletes the predictions, and counts them while nobody writes and no transaction is open: one that is open commits its
    /// offsets even if what it wrote is gone.
    pub(super) fn delete_predictions(&mut self) -> Result<()> {
        let kafka = self.kafka();
        loop {
            self.signal_scorers("STOP")?;
            std::thread::sleep(SETTLED);
            if no_open_transaction(&kafka, self.settings.partitions)? {
                break;
            }
            self.signal_scorers("CONT")?;
            std::thread::sleep(SETTLED);
        }
        self.deleted = crate::written(&kafka, topics::PREDICTIONS).len() as u64;
        Topics::open(&kafka)?.delete(topics::PREDICTIONS)?;
        self.signal_scorers("CONT")
    }

    fn signal_scorers(&mut self, signal: &str) -> Result<()> {
        for scorer in [Service::Scorer(1), Service::Scorer(2)] {
            self.of(scorer).signal(signal)?;
        }
        Ok(())
    }

    /// Deletes all there is to read and starts those who would have read it; when they have said what they miss, goes on behind
    /// it, as an operator would.
    pub(super) fn overtake(&mut self) -> Result<()> {
        let stop = CancellationToken::new();
        let ends = self.delete_readings()?;
        for service in AWAY {
            self.of(service).start()?;
        }
        self.until("both preprocessors say what they miss", &stop, |it| {
            AWAY.iter().all(|&service| it.log(service).contains(SAID))
        })?;
        for service in AWAY {
            self.of(service).kill();
        }
        let group: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.kafka().bootstrap)
            .set("group.id", "telltale-preprocessor")
            .create()
            .context("asking for the preprocessors' group")?;
        // The group has members until their sessions have ended.
        self.until("the group's offsets can be set", &stop, |_| {
            group.commit(&ends, CommitMode::Sync).is_ok()
        })?;
        for service in AWAY {
            self.of(service).start()?;
        }
        Ok(())
    }

    /// Deletes what is in `sensor-data` and counts it; says where it ended.
    fn delete_readings(&mut self) -> Result<TopicPartitionList> {
        let kafka = self.kafka();
        let reader = Reader::open(&kafka, Isolation::Committed)?;
        let mut ends = TopicPartitionList::new();
        for partition in reader.partitions(topics::SENSOR_DATA)? {
            let there = reader.watermarks(topics::SENSOR_DATA, partition)?;
            self.deleted += u64::try_from(there.end - there.start)?;
            ends.add_partition_offset(topics::SENSOR_DATA, partition, Offset::Offset(there.end))?;
        }
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &kafka.bootstrap).create()?;
        let deleted = self.runtime.block_on(admin.delete_records(&ends, &AdminOptions::new()));
        for element in deleted.context("deleting readings")?.elements() {
            element
                .error()
                .with_context(|| format!("deleting readings of partition {}", element.partition()))?;
        }
        Ok(ends)
    }
}
