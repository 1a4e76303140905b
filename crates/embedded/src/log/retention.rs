//! Retention: deletes the oldest segments when they are too old, or the partition is too large.

use std::io;
use std::time::SystemTime;

use tracing::debug;

use super::clock;
use super::partition::PartitionLog;
use super::topic_config::TopicConfig;

/// Deletes what the topic's settings no longer keep.
///
/// The age of a segment is that of its youngest record. The segment that is written to is closed first if
/// all of it has expired, as in Kafka. Nothing above the last stable offset is deleted.
pub(crate) fn apply(log: &mut PartitionLog, config: &TopicConfig, now: SystemTime) -> io::Result<()> {
    if !config.deletes {
        return Ok(());
    }
    let now = clock::millis(now);
    loop {
        let oldest = log.segments.front().expect("a log has a segment");
        let too_old = config.retention_ms.is_some_and(|keep| {
            oldest.max_timestamp != i64::MIN && now.saturating_sub(oldest.max_timestamp) > keep
        });
        let too_large = config.retention_bytes.is_some_and(|keep| log.size() - oldest.size() >= keep)
            && log.segments.len() > 1;
        let next = log.segments.get(1).map_or(log.end, |it| it.base);
        if oldest.size() == 0 || !(too_old || too_large) || next > log.last_stable() {
            return Ok(());
        }
        if log.segments.len() == 1 {
            log.roll(now)?;
        }
        debug!(partition = log.name, below = next, "deleting an expired segment");
        log.delete_oldest()?;
        log.producers.forget_before(log.start);
    }
}
