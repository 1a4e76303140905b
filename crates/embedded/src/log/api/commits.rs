//! `OffsetCommit`, `OffsetFetch`, `OffsetDelete`: positions of consumer groups.

use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::{Context, code, text};
use crate::log::broker::Broker;
use crate::log::committed::{Committed, Offsets};
use crate::log::group::{Caller, State};
use crate::log::groups::Slot;
use crate::log::journal::Entry;

/// `offset.metadata.max.bytes` of Kafka.
pub(super) const MAX_METADATA_BYTES: usize = 4096;
/// From this version on several groups are asked for at once.
const BATCHED: i16 = 8;
/// The answer for a partition without a committed offset.
const NO_OFFSET: i64 = -1;

/// Commits offsets, all of them or none but those that cannot be.
pub(super) fn commit(broker: &Broker, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let caller = Caller {
        member_id: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        generation: request.generation_id_or_member_epoch,
    };
    let mut good = Vec::new();
    let mut topics = Vec::new();
    for topic in &request.topics {
        let known = broker.catalog().get(&topic.name);
        let mut partitions = Vec::new();
        for asked in &topic.partitions {
            let metadata = asked.committed_metadata.as_deref().unwrap_or_default();
            let here = known.as_ref().and_then(|it| it.partition(asked.partition_index)).is_some();
            // An unknown partition is told before the coordinator is asked, as in Kafka.
            let error = match () {
                () if !here => Some(ResponseError::UnknownTopicOrPartition),
                () if metadata.len() > MAX_METADATA_BYTES => Some(ResponseError::OffsetMetadataTooLarge),
                () => None,
            };
            if error.is_none() {
                good.push(Committed {
                    topic: topic.name.to_string(),
                    partition: asked.partition_index,
                    offset: asked.committed_offset,
                    leader_epoch: asked.committed_leader_epoch,
                    metadata: metadata.to_owned(),
                });
            }
            partitions.push((asked.partition_index, error));
        }
        topics.push((topic.name.clone(), partitions));
    }
    let committed = store(broker, &request.group_id, caller, good);
    let topics = topics.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, error)| {
            let error = match error {
                Some(ResponseError::UnknownTopicOrPartition) => error,
                _ => committed.err().or(error),
            };
            OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(error.map_or(0, |it| it.code()))
        });
        OffsetCommitResponseTopic::default().with_partitions(partitions.collect()).with_name(name)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

fn store(
    broker: &Broker,
    group: &str,
    caller: Caller<'_>,
    offsets: Vec<Committed>,
) -> Result<(), ResponseError> {
    broker.with_groups(|groups| {
        if groups.get(group).is_none() && caller.generation >= 0 {
            return Err(ResponseError::IllegalGeneration);
        }
        let slot = groups.entry(group);
        slot.group.may_commit(caller, false, Instant::now())?;
        if !offsets.is_empty() {
            broker.record(&[Entry::Offsets { group: group.to_owned(), offsets: offsets.clone() }])?;
        }
        slot.offsets.commit(offsets);
        Ok(())
    })
}

/// Tells what was committed.
pub(super) fn fetch(broker: &Broker, request: OffsetFetchRequest, context: &Context) -> OffsetFetchResponse {
    let stable = request.require_stable;
    if context.version < BATCHED {
        let asked = request
            .topics
            .map(|topics| topics.into_iter().map(|it| (it.name, it.partition_indexes)).collect::<Vec<_>>());
        let topics = look_up(broker, &request.group_id, asked, stable);
        let partition = |it: Found| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(it.index)
                .with_committed_offset(it.offset)
                .with_committed_leader_epoch(it.leader_epoch)
                .with_metadata(Some(it.metadata))
                .with_error_code(it.error)
        };
        let topics = topics.into_iter().map(|(name, partitions)| {
            OffsetFetchResponseTopic::default()
                .with_name(name)
                .with_partitions(partitions.into_iter().map(partition).collect())
        });
        return OffsetFetchResponse::default().with_topics(topics.collect());
    }
    let groups = request.groups.into_iter().map(|group| {
        let asked =
            group.topics.map(|topics| topics.into_iter().map(|it| (it.name, it.partition_indexes)).collect());
        let partition = |it: Found| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(it.index)
                .with_committed_offset(it.offset)
                .with_committed_leader_epoch(it.leader_epoch)
                .with_metadata(Some(it.metadata))
                .with_error_code(it.error)
        };
        let topics = look_up(broker, &group.group_id, asked, stable).into_iter().map(|(name, partitions)| {
            OffsetFetchResponseTopics::default()
                .with_name(name)
                .with_partitions(partitions.into_iter().map(partition).collect())
        });
        OffsetFetchResponseGroup::default().with_topics(topics.collect()).with_group_id(group.group_id)
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

struct Found {
    index: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: StrBytes,
    error: i16,
}

/// The offsets of the partitions that were asked for, or of all.
fn look_up(
    broker: &Broker,
    group: &str,
    asked: Option<Vec<(TopicName, Vec<i32>)>>,
    stable: bool,
) -> Vec<(TopicName, Vec<Found>)> {
    broker.with_groups(|groups| {
        let nothing = Offsets::default();
        let offsets = groups.get(group).map_or(&nothing, |it| &it.offsets);
        let asked = asked.unwrap_or_else(|| everything(offsets));
        let find = |topic: &str, index: i32| match offsets.get(topic, index) {
            _ if stable && offsets.is_unstable(topic, index) => {
                Found { error: ResponseError::UnstableOffsetCommit.code(), ..nothing_found(index) }
            }
            Some(known) => Found {
                index,
                offset: known.offset,
                leader_epoch: known.leader_epoch,
                metadata: text(known.metadata.clone()),
                error: 0,
            },
            None => nothing_found(index),
        };
        let topics = asked.into_iter().map(|(name, indexes)| {
            let found = indexes.into_iter().map(|it| find(&name, it)).collect();
            (name, found)
        });
        topics.collect()
    })
}

fn nothing_found(index: i32) -> Found {
    Found { index, offset: NO_OFFSET, leader_epoch: -1, metadata: StrBytes::default(), error: 0 }
}

fn everything(offsets: &Offsets) -> Vec<(TopicName, Vec<i32>)> {
    let mut topics: Vec<(TopicName, Vec<i32>)> = Vec::new();
    for (topic, index) in offsets.partitions() {
        match topics.last_mut() {
            Some((name, indexes)) if ***name == *topic => indexes.push(index),
            _ => topics.push((TopicName(text(topic)), vec![index])),
        }
    }
    topics
}

/// Forgets offsets of topics that the group does not read any more.
pub(super) fn delete(broker: &Broker, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    broker.with_groups(|groups| {
        let Some(slot) = groups.get_mut(&request.group_id) else {
            return OffsetDeleteResponse::default().with_error_code(ResponseError::GroupIdNotFound.code());
        };
        let topics = request.topics.iter().map(|topic| {
            let indexes: Vec<_> = topic.partitions.iter().map(|it| it.partition_index).collect();
            let deleted = forget(broker, &request.group_id, slot, &topic.name, &indexes);
            let partitions = indexes.iter().map(|index| {
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(*index)
                    .with_error_code(code(&deleted))
            });
            OffsetDeleteResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        let topics = topics.collect();
        OffsetDeleteResponse::default().with_topics(topics)
    })
}

fn forget(
    broker: &Broker,
    group: &str,
    slot: &mut Slot,
    topic: &str,
    partitions: &[i32],
) -> Result<(), ResponseError> {
    if slot.group.state != State::Empty && slot.group.subscribes_to(topic) {
        return Err(ResponseError::GroupSubscribedToTopic);
    }
    broker.record(&[Entry::OffsetsDeleted {
        group: group.to_owned(),
        topic: topic.to_owned(),
        partitions: partitions.to_vec(),
    }])?;
    for index in partitions {
        slot.offsets.forget(topic, *index);
    }
    Ok(())
}
