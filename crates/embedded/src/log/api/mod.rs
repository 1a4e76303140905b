//! The requests that are served, each answered by one function: request and shared state in, response out.

mod cluster;
mod commits;
mod configs;
mod consume;
mod describe;
mod fetch;
mod groups;
mod metadata;
mod produce;
mod producers;
mod topics;

use std::net::SocketAddr;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Notify;

use super::broker::Broker;

/// What is known of the caller.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) version: i16,
    pub(crate) client_id: String,
    /// The address the client connected to, which it is told as the broker's.
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    /// Wakes a fetch that waits for records.
    pub(crate) waiter: Arc<Notify>,
}

/// The requests that are served, from the lowest to the highest version.
///
/// Some stop short of what the protocol library knows: `Produce` 12, `AddPartitionsToTxn` 4, `TxnOffsetCommit`
/// 5 and `EndTxn` 5 belong to transactions that bump the epoch each time (KIP-890), which are not served;
/// `Produce` 13 and `OffsetCommit` 10 name topics by id.
pub(crate) const SERVED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 3, 11),
    (ApiKey::Fetch, 4, 16),
    (ApiKey::ListOffsets, 1, 8),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::OffsetCommit, 2, 9),
    (ApiKey::OffsetFetch, 1, 9),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::AddPartitionsToTxn, 0, 3),
    (ApiKey::AddOffsetsToTxn, 0, 4),
    (ApiKey::EndTxn, 0, 4),
    (ApiKey::TxnOffsetCommit, 0, 4),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::AlterConfigs, 0, 2),
    (ApiKey::DescribeLogDirs, 1, 4),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::ListPartitionReassignments, 0, 0),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::ConsumerGroupHeartbeat, 0, 1),
    (ApiKey::DescribeCluster, 0, 2),
    (ApiKey::DescribeProducers, 0, 0),
    (ApiKey::DescribeTransactions, 0, 0),
    (ApiKey::ListTransactions, 0, 2),
];

/// Whether a request of this type and version has an answer here.
pub(crate) fn is_served(key: ApiKey, version: i16) -> bool {
    SERVED.iter().any(|(it, least, most)| *it == key && (*least..=*most).contains(&version))
}

fn versions() -> ApiVersionsResponse {
    let served = |(key, least, most): &(ApiKey, i16, i16)| {
        ApiVersion::default().with_api_key(*key as i16).with_min_version(*least).with_max_version(*most)
    };
    ApiVersionsResponse::default().with_api_keys(SERVED.iter().map(served).collect())
}

/// What a client gets that asks for versions in a form of the future.
pub(crate) fn unsupported_version() -> ApiVersionsResponse {
    versions().with_error_code(ResponseError::UnsupportedVersion.code())
}

/// Serves a request; `None` when the client wants no answer.
pub(crate) async fn serve(broker: &Broker, request: RequestKind, context: &Context) -> Option<ResponseKind> {
    Some(match request {
        RequestKind::Produce(it) => return produce::produce(broker, it).map(Into::into),
        RequestKind::Fetch(it) => fetch::fetch(broker, it, context).await.into(),
        RequestKind::JoinGroup(it) => groups::join(broker, it, context).await.into(),
        RequestKind::SyncGroup(it) => groups::sync(broker, it).await.into(),
        RequestKind::ConsumerGroupHeartbeat(_) => groups::classic_only().into(),
        RequestKind::Heartbeat(it) => groups::heartbeat(broker, &it).into(),
        RequestKind::LeaveGroup(it) => groups::leave(broker, it, context).into(),
        RequestKind::OffsetCommit(it) => commits::commit(broker, it).into(),
        RequestKind::OffsetFetch(it) => commits::fetch(broker, it, context).into(),
        RequestKind::OffsetDelete(it) => commits::delete(broker, it).into(),
        RequestKind::ListOffsets(it) => consume::list_offsets(broker, it).into(),
        RequestKind::OffsetForLeaderEpoch(it) => consume::offset_for_leader_epoch(broker, it).into(),
        RequestKind::DeleteRecords(it) => consume::delete_records(broker, it).into(),
        RequestKind::Metadata(it) => metadata::metadata(broker, it, context).into(),
        RequestKind::FindCoordinator(it) => cluster::find_coordinator(it, context).into(),
        RequestKind::DescribeCluster(it) => cluster::describe_cluster(broker, &it, context).into(),
        RequestKind::DescribeLogDirs(it) => cluster::describe_log_dirs(broker, it).into(),
        RequestKind::ListPartitionReassignments(_) => cluster::no_reassignments().into(),
        RequestKind::CreateTopics(it) => topics::create(broker, it).into(),
        RequestKind::DeleteTopics(it) => topics::delete(broker, it, context).into(),
        RequestKind::CreatePartitions(it) => topics::create_partitions(broker, it).into(),
        RequestKind::DescribeConfigs(it) => configs::describe(broker, it).into(),
        RequestKind::AlterConfigs(it) => configs::replace(broker, it).into(),
        RequestKind::IncrementalAlterConfigs(it) => configs::change(broker, it).into(),
        RequestKind::DescribeGroups(it) => describe::groups(broker, it, context).into(),
        RequestKind::ListGroups(it) => describe::list_groups(broker, &it).into(),
        RequestKind::DeleteGroups(it) => describe::delete_groups(broker, it).into(),
        RequestKind::DescribeProducers(it) => describe::producers(broker, it).into(),
        RequestKind::ListTransactions(it) => describe::list_transactions(broker, &it).into(),
        RequestKind::DescribeTransactions(it) => describe::transactions(broker, it).into(),
        RequestKind::InitProducerId(it) => producers::init(broker, &it, context).into(),
        RequestKind::AddPartitionsToTxn(it) => producers::add_partitions(broker, it, context).into(),
        RequestKind::AddOffsetsToTxn(it) => producers::add_offsets(broker, &it, context).into(),
        RequestKind::TxnOffsetCommit(it) => producers::stage_offsets(broker, it).into(),
        RequestKind::EndTxn(it) => producers::end(broker, &it, context).into(),
        // ApiVersions; anything else is not in the table and was turned away before.
        _ => versions().into(),
    })
}

/// The code of an outcome, 0 when it went well.
fn code<T>(outcome: &Result<T, ResponseError>) -> i16 {
    outcome.as_ref().err().map_or(0, ResponseError::code)
}

fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from_string(value.into())
}

/// A time as the protocol counts it, at least 0.
fn duration_ms(ms: i32) -> std::time::Duration {
    std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
