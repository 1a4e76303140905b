//! `InitProducerId`, `AddPartitionsToTxn`, `AddOffsetsToTxn`, `TxnOffsetCommit`, `EndTxn`: producers with an identity.

use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse, ProducerId,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use super::commits::MAX_METADATA_BYTES;
use super::{Context, code};
use crate::log::broker::Broker;
use crate::log::catalog::lock;
use crate::log::clock;
use crate::log::committed::Committed;
use crate::log::group::Caller;
use crate::log::journal::Entry;
use crate::log::transaction::Identity;

/// From these versions on a fenced producer is told so; older ones know only of an invalid epoch.
const INIT_SAYS_FENCED: i16 = 4;
const OTHERS_SAY_FENCED: i16 = 2;

fn in_words_of(version: i16, says_fenced: i16, error: ResponseError) -> ResponseError {
    match error {
        ResponseError::ProducerFenced if version < says_fenced => ResponseError::InvalidProducerEpoch,
        other => other,
    }
}

/// Gives a producer its identity, and takes it from an earlier one with the same transactional id.
pub(super) fn init(
    broker: &Broker,
    request: &InitProducerIdRequest,
    context: &Context,
) -> InitProducerIdResponse {
    match try_init(broker, request) {
        Ok(identity) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(identity.producer_id))
            .with_producer_epoch(identity.epoch),
        Err(error) => InitProducerIdResponse::default()
            .with_error_code(in_words_of(context.version, INIT_SAYS_FENCED, error).code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}

fn try_init(broker: &Broker, request: &InitProducerIdRequest) -> Result<Identity, ResponseError> {
    let mut transactions = lock(&broker.transactions);
    let Some(id) = &request.transactional_id else {
        let producer_id = broker.new_producer_id(&mut transactions)?;
        return Ok(Identity { producer_id, epoch: 0 });
    };
    if id.is_empty() {
        return Err(ResponseError::InvalidRequest);
    }
    let claimed = Identity { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    let claimed = (claimed.producer_id >= 0).then_some(claimed);
    let open = transactions.before_init(id, request.transaction_timeout_ms, claimed)?;
    if open && let Some(ending) = transactions.fence(id) {
        broker.end_transaction(&mut transactions, &ending, None)?;
    }
    broker.reserve_producer_id(transactions.next_producer_id())?;
    let begun = transactions.init(id, request.transaction_timeout_ms).clone();
    let identity = Identity { producer_id: begun.producer_id, epoch: begun.epoch };
    broker.record(&[Entry::Transaction(begun)])?;
    Ok(identity)
}

/// Adds partitions to a transaction, all of them or none.
pub(super) fn add_partitions(
    broker: &Broker,
    request: AddPartitionsToTxnRequest,
    context: &Context,
) -> AddPartitionsToTxnResponse {
    let caller = Identity {
        producer_id: request.v3_and_below_producer_id.0,
        epoch: request.v3_and_below_producer_epoch,
    };
    let topics = request.v3_and_below_topics;
    let named =
        || topics.iter().flat_map(|topic| topic.partitions.iter().map(|it| (topic.name.to_string(), *it)));
    let exists = |(topic, index): &(String, i32)| broker.partition(topic, *index).is_ok();
    let all_exist = named().all(|it| exists(&it));
    let added = if all_exist {
        let id = &request.v3_and_below_transactional_id;
        add(broker, id, caller, named().collect(), Vec::new())
    } else {
        Err(ResponseError::OperationNotAttempted)
    };
    let error = |topic: &str, index: i32| match added {
        Ok(()) => 0,
        Err(_) if !all_exist && !exists(&(topic.to_owned(), index)) => {
            ResponseError::UnknownTopicOrPartition.code()
        }
        Err(error) => in_words_of(context.version, OTHERS_SAY_FENCED, error).code(),
    };
    let results = topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|index| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(error(&topic.name, *index))
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect())
}

fn add(
    broker: &Broker,
    id: &str,
    caller: Identity,
    partitions: Vec<(String, i32)>,
    groups: Vec<String>,
) -> Result<(), ResponseError> {
    let now = clock::millis(clock::now());
    let mut transactions = lock(&broker.transactions);
    let before = transactions.get(id).cloned();
    match transactions.add(id, caller, partitions, groups, now)? {
        Some(_) => broker.record_transaction(&mut transactions, id, before),
        None => Ok(()),
    }
}

/// Adds the offsets of a group to a transaction.
pub(super) fn add_offsets(
    broker: &Broker,
    request: &AddOffsetsToTxnRequest,
    context: &Context,
) -> AddOffsetsToTxnResponse {
    let caller = Identity { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    let added =
        add(broker, &request.transactional_id, caller, Vec::new(), vec![request.group_id.to_string()]);
    let added = added.map_err(|it| in_words_of(context.version, OTHERS_SAY_FENCED, it));
    AddOffsetsToTxnResponse::default().with_error_code(code(&added))
}

/// Keeps offsets until the transaction ends.
pub(super) fn stage_offsets(broker: &Broker, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let staged = try_stage(broker, &request);
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|it| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(it.partition_index)
                .with_error_code(code(&staged))
        });
        TxnOffsetCommitResponseTopic::default()
            .with_partitions(partitions.collect())
            .with_name(topic.name.clone())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

fn try_stage(broker: &Broker, request: &TxnOffsetCommitRequest) -> Result<(), ResponseError> {
    let producer_id = request.producer_id.0;
    let producer = Identity { producer_id, epoch: request.producer_epoch };
    let caller = Caller {
        member_id: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    let mut offsets = Vec::new();
    for topic in &request.topics {
        for asked in &topic.partitions {
            broker.partition(&topic.name, asked.partition_index)?;
            let metadata = asked.committed_metadata.as_deref().unwrap_or_default();
            if metadata.len() > MAX_METADATA_BYTES {
                return Err(ResponseError::OffsetMetadataTooLarge);
            }
            offsets.push(Committed {
                topic: topic.name.to_string(),
                partition: asked.partition_index,
                offset: asked.committed_offset,
                leader_epoch: asked.committed_leader_epoch,
                metadata: metadata.to_owned(),
            });
        }
    }
    let group = request.group_id.to_string();
    // Held until the offsets are staged, so that the transaction cannot end in between.
    let transactions = lock(&broker.transactions);
    transactions.may_stage(&request.transactional_id, producer, &group)?;
    broker.with_groups(|groups| {
        if groups.get(&group).is_none() && caller.generation >= 0 {
            return Err(ResponseError::IllegalGeneration);
        }
        let slot = groups.entry(&group);
        slot.group.may_commit(caller, true, Instant::now())?;
        broker
            .record(&[Entry::OffsetsStaged { group: group.clone(), producer_id, offsets: offsets.clone() }])
            .map_err(|_logged| ResponseError::NotCoordinator)?;
        slot.offsets.stage(producer_id, offsets);
        Ok(())
    })
}

/// Commits or aborts a transaction.
pub(super) fn end(broker: &Broker, request: &EndTxnRequest, context: &Context) -> EndTxnResponse {
    let caller = Identity { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    let mut transactions = lock(&broker.transactions);
    let before = transactions.get(&request.transactional_id).cloned();
    let ended = match transactions.end(&request.transactional_id, caller, request.committed) {
        Ok(Some(ending)) => broker.end_transaction(&mut transactions, &ending, before),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    drop(transactions);
    let ended = ended.map_err(|it| in_words_of(context.version, OTHERS_SAY_FENCED, it));
    EndTxnResponse::default().with_error_code(code(&ended))
}

#[cfg(test)]
#[path = "producers_tests.rs"]
mod tests;
