//! `Metadata`: which topics there are, and that this node leads every partition.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};

use super::{Context, text};
use crate::log::batch::LEADER_EPOCH;
use crate::log::broker::{Broker, NODE_ID};
use crate::log::catalog::{Topic, is_legal_name};
use crate::log::topic_config::TopicConfig;

/// From this version on no list of topics means all of them; before, an empty one did.
const NULL_IS_ALL: i16 = 1;

/// Describes the topics that were asked for, or all.
pub(super) fn metadata(broker: &Broker, request: MetadataRequest, context: &Context) -> MetadataResponse {
    let everything = match &request.topics {
        None => true,
        Some(topics) => topics.is_empty() && context.version < NULL_IS_ALL,
    };
    let topics = if everything {
        broker.catalog().all().map(|it| describe(it)).collect()
    } else {
        let may_create = broker.defaults.auto_create && request.allow_auto_topic_creation;
        let asked = request.topics.unwrap_or_default();
        asked
            .into_iter()
            .map(|asked| match asked.name {
                Some(name) => by_name(broker, name, may_create),
                None => broker.catalog().by_id(asked.topic_id).map_or_else(
                    || {
                        MetadataResponseTopic::default()
                            .with_error_code(ResponseError::UnknownTopicId.code())
                            .with_topic_id(asked.topic_id)
                    },
                    |it| describe(&it),
                ),
            })
            .collect()
    };
    let this = MetadataResponseBroker::default()
        .with_node_id(BrokerId(NODE_ID))
        .with_host(text(context.local.ip().to_string()))
        .with_port(i32::from(context.local.port()));
    MetadataResponse::default()
        .with_brokers(vec![this])
        .with_cluster_id(Some(text(broker.cluster_id.clone())))
        .with_controller_id(BrokerId(NODE_ID))
        .with_topics(topics)
}

fn by_name(broker: &Broker, name: TopicName, may_create: bool) -> MetadataResponseTopic {
    let known = broker.catalog().get(&name);
    let found = match known {
        Some(topic) => Ok(topic),
        None if !is_legal_name(&name) => Err(ResponseError::InvalidTopicException),
        None if may_create => create(broker, &name),
        None => Err(ResponseError::UnknownTopicOrPartition),
    };
    match found {
        Ok(topic) => describe(&topic),
        Err(error) => MetadataResponseTopic::default().with_error_code(error.code()).with_name(Some(name)),
    }
}

fn create(broker: &Broker, name: &str) -> Result<Arc<Topic>, ResponseError> {
    let created = broker.create_topic(name, broker.defaults.partitions, TopicConfig::default());
    match created {
        // Two clients asked at the same time.
        Err(ResponseError::TopicAlreadyExists) => {
            broker.catalog().get(name).ok_or(ResponseError::UnknownTopicOrPartition)
        }
        other => other,
    }
}

fn describe(topic: &Topic) -> MetadataResponseTopic {
    let here = vec![BrokerId(NODE_ID)];
    let partition = |index: usize| {
        MetadataResponsePartition::default()
            .with_partition_index(index as i32)
            .with_leader_id(BrokerId(NODE_ID))
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(here.clone())
            .with_isr_nodes(here.clone())
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(topic.name.clone()))))
        .with_topic_id(topic.id)
        .with_partitions((0..topic.partitions.len()).map(partition).collect())
}
