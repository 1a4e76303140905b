//! `ListOffsets`, `OffsetForLeaderEpoch` and `DeleteRecords`: where partitions begin and end, and moving the begin.

use std::io;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use tracing::error;

use super::code;
use crate::log::batch::LEADER_EPOCH;
use crate::log::broker::Broker;
use crate::log::catalog::lock;
use crate::log::journal::Entry;

/// Time stamps with a meaning of their own.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;

/// Offsets by time, the first and the last ones.
pub(super) fn list_offsets(broker: &Broker, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let committed = request.isolation_level == 1;
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let found = look_up(broker, &topic.name, asked.partition_index, asked.timestamp, committed);
            let (timestamp, offset) = *found.as_ref().unwrap_or(&(-1, -1));
            ListOffsetsPartitionResponse::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(code(&found))
                .with_timestamp(timestamp)
                .with_offset(offset)
        });
        ListOffsetsTopicResponse::default()
            .with_partitions(partitions.collect())
            .with_name(topic.name.clone())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn look_up(
    broker: &Broker,
    topic: &str,
    index: i32,
    timestamp: i64,
    committed: bool,
) -> Result<(i64, i64), ResponseError> {
    let (_, partition) = broker.partition(topic, index)?;
    let log = lock(&partition);
    match timestamp {
        LATEST if committed => Ok((-1, log.last_stable())),
        LATEST => Ok((-1, log.end())),
        EARLIEST | EARLIEST_LOCAL => Ok((-1, log.start())),
        MAX_TIMESTAMP => found(log.newest(committed)),
        0.. => found(log.at_time(timestamp, committed)),
        _ => Err(ResponseError::UnsupportedVersion),
    }
}

fn found(result: io::Result<Option<(i64, i64)>>) -> Result<(i64, i64), ResponseError> {
    match result {
        Ok(found) => Ok(found.unwrap_or((-1, -1))),
        Err(source) => {
            error!(%source, "looking up an offset by time");
            Err(ResponseError::KafkaStorageError)
        }
    }
}

/// Where a leader's records end: there is one leader for ever, so the end of the log.
pub(super) fn offset_for_leader_epoch(
    broker: &Broker,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let end = broker.partition(&topic.topic, asked.partition).map(|(_, it)| lock(&it).end());
            let known = asked.leader_epoch == LEADER_EPOCH;
            EpochEndOffset::default()
                .with_partition(asked.partition)
                .with_error_code(code(&end))
                .with_leader_epoch(if known { LEADER_EPOCH } else { -1 })
                .with_end_offset(if known { end.unwrap_or(-1) } else { -1 })
        });
        OffsetForLeaderTopicResult::default()
            .with_partitions(partitions.collect())
            .with_topic(topic.topic.clone())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

/// Moves the start of partitions.
pub(super) fn delete_records(broker: &Broker, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let deleted = delete_before(broker, &topic.name, asked.partition_index, asked.offset);
            DeleteRecordsPartitionResult::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(code(&deleted))
                .with_low_watermark(deleted.unwrap_or(-1))
        });
        DeleteRecordsTopicResult::default()
            .with_partitions(partitions.collect())
            .with_name(topic.name.clone())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

fn delete_before(broker: &Broker, name: &str, index: i32, offset: i64) -> Result<i64, ResponseError> {
    // Held to the end: the journal is not rewritten in between, which would lose the new start.
    let catalog = broker.catalog();
    let topic = catalog.get(name).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let partition = topic.partition(index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    if !topic.config.deletes {
        return Err(ResponseError::PolicyViolation);
    }
    let mut log = lock(partition);
    let offset = if offset == -1 { log.end() } else { offset };
    if offset < 0 || offset > log.end() {
        return Err(ResponseError::OffsetOutOfRange);
    }
    if offset > log.start() {
        broker.record(&[Entry::LogStart { topic: name.to_owned(), partition: index, offset }])?;
    }
    log.delete_before(offset).map_err(|source| {
        error!(topic = name, index, %source, "records could not be deleted");
        ResponseError::KafkaStorageError
    })?;
    Ok(log.start())
}
