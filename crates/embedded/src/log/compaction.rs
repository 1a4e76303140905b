//! Compaction.

use std::io;
use std::time::SystemTime;

use super::catalog::Partition;
use super::topic_config::TopicConfig;

/// later
pub(crate) fn apply(_partition: &Partition, _config: &TopicConfig, _now: SystemTime) -> io::Result<()> {
    Ok(())
}
