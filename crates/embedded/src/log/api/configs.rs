//! `DescribeConfigs`, `AlterConfigs`, `IncrementalAlterConfigs`: settings of topics, and those of the node to read.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response as incremental;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::text;
use crate::log::broker::{Broker, NODE_ID};
use crate::log::topic_config::{KNOWN, Known, TopicConfig, Type};

/// Kinds of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Where a value comes from, as the protocol numbers it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Topic = 1,
    Static = 4,
    Default = 5,
}

/// How an incremental change works, as the protocol numbers it.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Refusal = (ResponseError, String);

/// Every setting of a topic with its value.
pub(super) fn values(config: &TopicConfig) -> impl Iterator<Item = (&'static Known, String, Source)> + '_ {
    KNOWN.iter().map(|known| match config.set.get(known.name) {
        Some(value) => (known, value.clone(), Source::Topic),
        None => (known, known.default.to_owned(), Source::Default),
    })
}

/// Shows settings.
pub(super) fn describe(broker: &Broker, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let synonyms = request.include_synonyms;
    let describe = |resource: DescribeConfigsResource| {
        let described = describe_one(broker, &resource, synonyms);
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match described {
            Ok(configs) => result.with_configs(configs),
            Err((error, why)) => result.with_error_code(error.code()).with_error_message(Some(text(why))),
        }
    };
    DescribeConfigsResponse::default().with_results(request.resources.into_iter().map(describe).collect())
}

fn describe_one(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    synonyms: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let wanted = |name: &str| {
        resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| &**key == name))
    };
    match resource.resource_type {
        TOPIC => {
            let topic = broker.catalog().get(&resource.resource_name).ok_or_else(unknown_topic)?;
            let values = values(&topic.config).filter(|(known, ..)| wanted(known.name));
            Ok(values
                .map(|(known, value, source)| shown(known.name, value, source, known.kind, synonyms))
                .collect())
        }
        BROKER => {
            let settings = [
                ("auto.create.topics.enable", broker.defaults.auto_create.to_string(), Type::Boolean),
                ("broker.id", NODE_ID.to_string(), Type::Int),
                ("default.replication.factor", "1".to_owned(), Type::Int),
                ("node.id", NODE_ID.to_string(), Type::Int),
                ("num.partitions", broker.defaults.partitions.to_string(), Type::Int),
                ("offsets.topic.replication.factor", "1".to_owned(), Type::Int),
                ("transaction.max.timeout.ms", "900000".to_owned(), Type::Int),
            ];
            let settings = settings.into_iter().filter(|(name, ..)| wanted(name));
            let shown = settings.map(|(name, value, kind)| {
                shown(name, value, Source::Static, kind, synonyms).with_read_only(true)
            });
            Ok(shown.collect())
        }
        other => {
            Err((ResponseError::InvalidRequest, format!("settings of resource type {other} are not served")))
        }
    }
}

fn unknown_topic() -> Refusal {
    (ResponseError::UnknownTopicOrPartition, "This server does not host this topic-partition.".to_owned())
}

fn shown(
    name: &str,
    value: String,
    source: Source,
    kind: Type,
    synonyms: bool,
) -> DescribeConfigsResourceResult {
    let synonym = DescribeConfigsSynonym::default()
        .with_name(text(name))
        .with_value(Some(text(value.clone())))
        .with_source(source as i8);
    DescribeConfigsResourceResult::default()
        .with_name(text(name))
        .with_value(Some(text(value)))
        .with_config_source(source as i8)
        .with_config_type(kind as i8)
        .with_synonyms(if synonyms { vec![synonym] } else { Vec::new() })
}

/// Replaces all settings of topics.
pub(super) fn replace(broker: &Broker, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let only_try = request.validate_only;
    let responses = request.resources.into_iter().map(|resource| {
        let set = resource
            .configs
            .iter()
            .filter_map(|it| it.value.as_ref().map(|value| (it.name.to_string(), value.to_string())));
        let set = set.collect();
        let changed = alter(broker, resource.resource_type, &resource.resource_name, only_try, |_| Ok(set));
        let (code, message) = outcome(changed);
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

/// Changes single settings of topics.
pub(super) fn change(
    broker: &Broker,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let only_try = request.validate_only;
    let responses = request.resources.into_iter().map(|resource| {
        let change = |set| apply(set, &resource.configs);
        let changed = alter(broker, resource.resource_type, &resource.resource_name, only_try, change);
        let (code, message) = outcome(changed);
        incremental::AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

fn outcome(changed: Result<(), Refusal>) -> (i16, Option<StrBytes>) {
    match changed {
        Ok(()) => (0, None),
        Err((error, why)) => (error.code(), Some(text(why))),
    }
}

fn alter(
    broker: &Broker,
    kind: i8,
    name: &str,
    only_try: bool,
    change: impl FnOnce(BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Refusal>,
) -> Result<(), Refusal> {
    if kind != TOPIC {
        let why = "only settings of topics can be changed in this development log".to_owned();
        return Err((ResponseError::InvalidRequest, why));
    }
    let topic = broker.catalog().get(name).ok_or_else(unknown_topic)?;
    let set = change(topic.config.set.clone())?;
    let config = TopicConfig::parse(set).map_err(|why| (ResponseError::InvalidConfig, why))?;
    if only_try {
        return Ok(());
    }
    broker.configure(name, config).map_err(|error| (error, error.to_string()))
}

fn apply(
    mut set: BTreeMap<String, String>,
    changes: &[AlterableConfig],
) -> Result<BTreeMap<String, String>, Refusal> {
    for change in changes {
        let name = change.name.to_string();
        let known = KNOWN.iter().find(|it| it.name == name);
        let value = change.value.as_ref().map(|it| it.to_string()).unwrap_or_default();
        let items = |list: &str| -> Vec<String> {
            list.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
        };
        let present = set.get(&name).map(String::as_str).or(known.map(|it| it.default)).unwrap_or_default();
        let is_list = known.is_some_and(|it| it.kind == Type::List);
        match change.config_operation {
            SET => drop(set.insert(name, value)),
            DELETE => drop(set.remove(&name)),
            APPEND if is_list => {
                let mut list = items(present);
                list.extend(items(&value));
                list.sort();
                list.dedup();
                set.insert(name, list.join(","));
            }
            SUBTRACT if is_list => {
                let removed = items(&value);
                let mut list = items(present);
                list.retain(|it| !removed.contains(it));
                set.insert(name, list.join(","));
            }
            other => {
                let why = format!("operation {other} cannot be used on configuration {name}");
                return Err((ResponseError::InvalidConfig, why));
            }
        }
    }
    Ok(set)
}
