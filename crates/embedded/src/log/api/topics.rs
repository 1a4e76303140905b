//! `CreateTopics`, `DeleteTopics`, `CreatePartitions`.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};

use super::configs::{self, Source};
use super::{Context, text};
use crate::log::broker::Broker;
use crate::log::catalog::{Topic, is_legal_name};
use crate::log::topic_config::TopicConfig;

/// The most partitions a topic may have: each is a file that stays open.
const MAX_PARTITIONS: i32 = 1000;
/// From this version on topics to delete are named one by one, by name or id.
const DELETE_BY_ID: i16 = 6;

/// What went wrong, for a person.
type Refusal = (ResponseError, String);

/// Creates topics, or only says whether it could.
pub(super) fn create(broker: &Broker, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let create = |topic: &CreatableTopic| {
        let twice = request.topics.iter().filter(|it| it.name == topic.name).count() > 1;
        let result = CreatableTopicResult::default().with_name(topic.name.clone());
        let created = if twice {
            Err((ResponseError::InvalidRequest, "the topic is named twice".to_owned()))
        } else {
            create_one(broker, topic, request.validate_only)
        };
        match created {
            Ok(Created { topic, partitions, config }) => result
                .with_topic_id(topic.map(|it| it.id).unwrap_or_default())
                .with_num_partitions(partitions)
                .with_replication_factor(1)
                .with_configs(Some(described(&config))),
            Err((error, why)) => result
                .with_error_code(error.code())
                .with_error_message(Some(text(why)))
                .with_num_partitions(-1)
                .with_replication_factor(-1),
        }
    };
    CreateTopicsResponse::default().with_topics(request.topics.iter().map(create).collect())
}

struct Created {
    /// `None` when it was only tried.
    topic: Option<Arc<Topic>>,
    partitions: i32,
    config: TopicConfig,
}

fn create_one(broker: &Broker, asked: &CreatableTopic, only_try: bool) -> Result<Created, Refusal> {
    let refuse = |error, why: String| Err((error, why));
    if !is_legal_name(&asked.name) {
        return refuse(
            ResponseError::InvalidTopicException,
            format!("Topic name is invalid: '{}'", asked.name.as_str()),
        );
    }
    if broker.catalog().get(&asked.name).is_some() {
        return refuse(
            ResponseError::TopicAlreadyExists,
            format!("Topic '{}' already exists.", asked.name.as_str()),
        );
    }
    if let Some(other) = broker.catalog().colliding(&asked.name) {
        return refuse(
            ResponseError::InvalidTopicException,
            format!("Topic '{}' collides with existing topics: {}", asked.name.as_str(), other.name),
        );
    }
    let partitions = match (asked.assignments.len() as i32, asked.num_partitions) {
        (0, -1) => broker.defaults.partitions,
        (0, count) => count,
        (assigned, _) => assigned,
    };
    if !(1..=MAX_PARTITIONS).contains(&partitions) {
        let why = format!(
            "Number of partitions was {partitions}; this development log has 1 to {MAX_PARTITIONS} per topic."
        );
        return refuse(ResponseError::InvalidPartitions, why);
    }
    if !matches!(asked.replication_factor, -1 | 1) {
        let why =
            format!("Replication factor: {} larger than available brokers: 1.", asked.replication_factor);
        return refuse(ResponseError::InvalidReplicationFactor, why);
    }
    let mut set = BTreeMap::new();
    for config in &asked.configs {
        if let Some(value) = &config.value {
            set.insert(config.name.to_string(), value.to_string());
        }
    }
    let config = TopicConfig::parse(set).map_err(|why| (ResponseError::InvalidConfig, why))?;
    let topic = if only_try {
        None
    } else {
        let created = broker.create_topic(&asked.name, partitions, config.clone());
        Some(created.map_err(|error| (error, error.to_string()))?)
    };
    Ok(Created { topic, partitions, config })
}

fn described(config: &TopicConfig) -> Vec<CreatableTopicConfigs> {
    let one = |(known, value, source): (_, String, Source)| {
        let known: &crate::log::topic_config::Known = known;
        CreatableTopicConfigs::default()
            .with_name(text(known.name))
            .with_value(Some(text(value)))
            .with_config_source(source as i8)
    };
    configs::values(config).map(one).collect()
}

/// Deletes topics by name or id.
pub(super) fn delete(
    broker: &Broker,
    request: DeleteTopicsRequest,
    context: &Context,
) -> DeleteTopicsResponse {
    let result = |name: Option<TopicName>, deleted: &Result<Arc<Topic>, ResponseError>| {
        DeletableTopicResult::default().with_name(name).with_error_code(super::code(deleted))
    };
    let responses = if context.version < DELETE_BY_ID {
        let delete = |name: TopicName| {
            let deleted = broker.delete_topic(&name);
            result(Some(name), &deleted)
        };
        request.topic_names.into_iter().map(delete).collect()
    } else {
        let delete = |asked: kafka_protocol::messages::delete_topics_request::DeleteTopicState| {
            let name = match asked.name {
                Some(name) => Ok(name),
                None => {
                    let known = broker.catalog().by_id(asked.topic_id);
                    known.map(|it| TopicName(text(it.name.clone()))).ok_or(ResponseError::UnknownTopicId)
                }
            };
            let deleted = name.as_ref().map_err(|it| *it).and_then(|it| broker.delete_topic(it));
            let id = deleted.as_ref().map_or(asked.topic_id, |it| it.id);
            result(name.ok(), &deleted).with_topic_id(id)
        };
        request.topics.into_iter().map(delete).collect()
    };
    DeleteTopicsResponse::default().with_responses(responses)
}

/// Gives topics more partitions.
pub(super) fn create_partitions(
    broker: &Broker,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let extend = |topic: CreatePartitionsTopic| {
        let extended = extend(broker, &topic, request.validate_only);
        let result = CreatePartitionsTopicResult::default().with_name(topic.name);
        match extended {
            Ok(()) => result,
            Err((error, why)) => result.with_error_code(error.code()).with_error_message(Some(text(why))),
        }
    };
    CreatePartitionsResponse::default().with_results(request.topics.into_iter().map(extend).collect())
}

fn extend(broker: &Broker, asked: &CreatePartitionsTopic, only_try: bool) -> Result<(), Refusal> {
    let unknown = || {
        (ResponseError::UnknownTopicOrPartition, "This server does not host this topic-partition.".to_owned())
    };
    let topic = broker.catalog().get(&asked.name).ok_or_else(unknown)?;
    let now = topic.partitions.len() as i32;
    if asked.count <= now || asked.count > MAX_PARTITIONS {
        let why = format!(
            "Topic currently has {now} partitions, which can grow up to {MAX_PARTITIONS}, not to {}.",
            asked.count
        );
        return Err((ResponseError::InvalidPartitions, why));
    }
    if only_try {
        return Ok(());
    }
    broker.add_partitions(&asked.name, asked.count).map_err(|error| (error, error.to_string()))
}
