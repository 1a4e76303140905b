//! `FindCoordinator`, `DescribeCluster`, `DescribeLogDirs`: the one node is everything.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, DescribeLogDirsRequest,
    DescribeLogDirsResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    ListPartitionReassignmentsResponse, TopicName,
};

use super::{Context, text};
use crate::log::broker::{Broker, NODE_ID};
use crate::log::catalog::lock;

/// From this version on several coordinators are asked for at once.
const BATCHED: i16 = 4;

/// Groups and transactions are coordinated here.
pub(super) fn find_coordinator(
    request: FindCoordinatorRequest,
    context: &Context,
) -> FindCoordinatorResponse {
    let host = text(context.local.ip().to_string());
    let port = i32::from(context.local.port());
    if context.version < BATCHED {
        return FindCoordinatorResponse::default()
            .with_node_id(BrokerId(NODE_ID))
            .with_host(host)
            .with_port(port);
    }
    let here = |key| {
        Coordinator::default()
            .with_key(key)
            .with_node_id(BrokerId(NODE_ID))
            .with_host(host.clone())
            .with_port(port)
    };
    FindCoordinatorResponse::default()
        .with_coordinators(request.coordinator_keys.into_iter().map(here).collect())
}

/// A cluster of one.
pub(super) fn describe_cluster(
    broker: &Broker,
    request: &DescribeClusterRequest,
    context: &Context,
) -> DescribeClusterResponse {
    let this = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(NODE_ID))
        .with_host(text(context.local.ip().to_string()))
        .with_port(i32::from(context.local.port()));
    DescribeClusterResponse::default()
        .with_endpoint_type(request.endpoint_type)
        .with_cluster_id(text(broker.cluster_id.clone()))
        .with_controller_id(BrokerId(NODE_ID))
        .with_brokers(vec![this])
}

/// Bytes per partition.
pub(super) fn describe_log_dirs(broker: &Broker, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let catalog = broker.catalog();
    let mut topics = Vec::new();
    for topic in catalog.all() {
        let asked = |index: i32| match &request.topics {
            None => true,
            Some(asked) => asked.iter().any(|it| **it.topic == *topic.name && it.partitions.contains(&index)),
        };
        let partitions: Vec<_> = (0..topic.partitions.len() as i32)
            .filter(|it| asked(*it))
            .map(|index| {
                let size = topic.partition(index).map_or(0, |it| lock(it).size());
                DescribeLogDirsPartition::default()
                    .with_partition_index(index)
                    .with_partition_size(size as i64)
            })
            .collect();
        if !partitions.is_empty() {
            let name = TopicName(text(topic.name.clone()));
            topics.push(DescribeLogDirsTopic::default().with_name(name).with_partitions(partitions));
        }
    }
    let folder = broker.data.as_ref().map_or_else(|| "memory".to_owned(), |it| it.display().to_string());
    let result = DescribeLogDirsResult::default().with_log_dir(text(folder)).with_topics(topics);
    DescribeLogDirsResponse::default().with_results(vec![result])
}

/// Nothing ever moves.
pub(super) fn no_reassignments() -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default()
}
