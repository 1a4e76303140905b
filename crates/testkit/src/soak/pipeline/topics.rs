//! The topics that a soak runs on.

use anyhow::{Result, ensure};
use telltale_kafka::topics::Topics;

use super::Pipeline;
use crate::soak::scenario::Scenario;

impl Pipeline {
    /// With fewer copies than brokers, the death of one would end more than itself.
    pub(super) fn check_copies(&self) -> Result<()> {
        let brokers = self.machines.addresses.kafka.len();
        let outage = self.settings.scenario == Scenario::Outage;
        ensure!(
            !outage || brokers == 1,
            "an outage is one of all brokers, and faults strike {brokers} by turns"
        );
        for topic in Topics::open(&self.kafka())?.list()? {
            let (name, copies) = (topic.name, topic.replication);
            ensure!(copies == brokers, "{name} has {copies} copies on {brokers} brokers");
        }
        Ok(())
    }

    /// Makes the topics of the design.
    pub(super) fn create_topics(&self) -> Result<()> {
        let (partitions, kafka) = (self.settings.partitions.to_string(), self.kafka().bootstrap);
        self.telltale(&["topics", "create", "--partitions", &partitions, "--kafka", &kafka])
    }
}
