//! `Fetch`: record batches out of partitions, waiting for them if there are none yet.

use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, TopicName};
use uuid::Uuid;

use super::{Context, duration_ms};
use crate::log::broker::Broker;
use crate::log::catalog::{Topic, lock};
use crate::log::partition::{Fetched, Wanted};

/// The most that one answer carries, whatever the client allows, unless a single batch is larger.
const MAX_BYTES: usize = 32 << 20;
/// From this version on topics are named by id.
const NAMED_BY_ID: i16 = 13;

/// Answers at once if there is enough, else waits for records or for the time the client allows.
///
/// Incremental sessions are declined (session id 0), so every request names all its partitions.
pub(super) async fn fetch(broker: &Broker, request: FetchRequest, context: &Context) -> FetchResponse {
    let until = Instant::now() + duration_ms(request.max_wait_ms);
    let least = usize::try_from(request.min_bytes).unwrap_or(0);
    loop {
        let (response, found, failed) = read(broker, &request, context);
        let left = until.saturating_duration_since(Instant::now());
        if found >= least || failed || left.is_zero() || request.topics.is_empty() {
            return response;
        }
        // `read` has left the waiter with every partition, so an append since then wakes it at once. When the
        // time is over instead, the next round finds no time left and answers with what there is.
        let _ = tokio::time::timeout(left, context.waiter.notified()).await;
    }
}

/// Reads what there is now: the response, its bytes of records, and whether a partition failed.
fn read(broker: &Broker, request: &FetchRequest, context: &Context) -> (FetchResponse, usize, bool) {
    let mut left = usize::try_from(request.max_bytes).unwrap_or(0).min(MAX_BYTES);
    let mut found = 0;
    let mut failed = false;
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in &request.topics {
        let topic = find(broker, asked, context.version);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let wanted = Wanted {
                offset: partition.fetch_offset,
                max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0).min(left),
                committed: request.isolation_level == 1,
                at_least_one: found == 0,
            };
            let fetched =
                topic.as_ref().map_err(|it| *it).and_then(|it| read_one(it, partition, wanted, context));
            match &fetched {
                Ok(fetched) => {
                    found += fetched.records.len();
                    left = left.saturating_sub(fetched.records.len());
                }
                Err(_) => failed = true,
            }
            partitions.push(answer(partition.partition, fetched, wanted.committed));
        }
        let (name, id) = match context.version {
            NAMED_BY_ID.. => (TopicName::default(), asked.topic_id),
            _ => (asked.topic.clone(), Uuid::nil()),
        };
        topics.push(
            FetchableTopicResponse::default().with_topic(name).with_topic_id(id).with_partitions(partitions),
        );
    }
    (FetchResponse::default().with_responses(topics), found, failed)
}

fn find(broker: &Broker, asked: &FetchTopic, version: i16) -> Result<Arc<Topic>, ResponseError> {
    let catalog = broker.catalog();
    if version >= NAMED_BY_ID {
        catalog.by_id(asked.topic_id).ok_or(ResponseError::UnknownTopicId)
    } else {
        catalog.get(&asked.topic).ok_or(ResponseError::UnknownTopicOrPartition)
    }
}

fn read_one(
    topic: &Topic,
    asked: &FetchPartition,
    wanted: Wanted,
    context: &Context,
) -> Result<Fetched, ResponseError> {
    let partition = topic.partition(asked.partition).ok_or(ResponseError::UnknownTopicOrPartition)?;
    match asked.current_leader_epoch {
        ..=0 => {}
        _ => return Err(ResponseError::UnknownLeaderEpoch),
    }
    let mut log = lock(partition);
    let fetched = log.fetch(wanted)?;
    log.wake(&context.waiter);
    Ok(fetched)
}

fn answer(index: i32, fetched: Result<Fetched, ResponseError>, committed: bool) -> PartitionData {
    let answer =
        PartitionData::default().with_partition_index(index).with_preferred_read_replica(BrokerId(-1));
    match fetched {
        Ok(fetched) => {
            let aborted = fetched.aborted.iter().map(|it| {
                AbortedTransaction::default()
                    .with_producer_id(it.producer_id.into())
                    .with_first_offset(it.first_offset)
            });
            answer
                .with_high_watermark(fetched.end)
                .with_last_stable_offset(fetched.last_stable)
                .with_log_start_offset(fetched.start)
                .with_aborted_transactions(committed.then(|| aborted.collect()))
                .with_records(Some(fetched.records))
        }
        Err(error) => answer
            .with_error_code(error.code())
            .with_high_watermark(-1)
            .with_last_stable_offset(-1)
            .with_log_start_offset(-1)
            .with_aborted_transactions(committed.then(Vec::new))
            .with_records(Some(bytes::Bytes::new())),
    }
}
