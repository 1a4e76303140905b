//! What a broker refuses to an administrator, with the error for each.

use kafka_protocol::ResponseError::{
    InvalidConfig, InvalidPartitions, InvalidReplicationFactor, InvalidRequest, InvalidTopicException,
    OffsetOutOfRange, PolicyViolation, TopicAlreadyExists, UnknownTopicOrPartition,
};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, IncrementalAlterConfigsRequest,
};
use telltale_testkit::wire::{create_topics, plain, text, topic_name};

use crate::support::kafka;

#[test]
fn topics_that_cannot_be_are_not_created() {
    let kafka = kafka();
    let existing = kafka.topic("existing", &[]);
    let fresh = kafka.name("fresh");
    let mut client = kafka.connect();
    let mut create = |request: CreateTopicsRequest| {
        let answer = client.call(7, &request).topics.remove(0);
        if answer.error_code != 0 {
            assert!(answer.error_message.is_some_and(|it| !it.is_empty()), "an error has a message");
        }
        answer.error_code
    };
    assert_eq!(create(create_topics(&existing, 1, &[])), TopicAlreadyExists.code());
    for illegal in ["", ".", "..", "a/b", "a b", "ü", &"x".repeat(250)] {
        assert_eq!(create(create_topics(illegal, 1, &[])), InvalidTopicException.code(), "'{illegal}'");
    }
    for partitions in [0, -2] {
        assert_eq!(create(create_topics(&fresh, partitions, &[])), InvalidPartitions.code(), "{partitions}");
    }
    let settings = [
        ("no.such.setting", "1"),
        ("retention.ms", "soon"),
        ("retention.ms", "-2"),
        ("cleanup.policy", "burn"),
        ("min.cleanable.dirty.ratio", "2"),
        ("segment.bytes", "1000"),
        ("segment.bytes", "4294967296"),
        ("message.timestamp.type", "Yesterday"),
    ];
    for setting in settings {
        assert_eq!(create(create_topics(&fresh, 1, &[setting])), InvalidConfig.code(), "{setting:?}");
    }
    for copies in [0, 5, -2] {
        let mut request = create_topics(&fresh, 1, &[]);
        request.topics[0].replication_factor = copies;
        assert_eq!(create(request), InvalidReplicationFactor.code(), "{copies} copies");
    }
    let mut twice = create_topics(&fresh, 1, &[]);
    twice.topics.push(twice.topics[0].clone());
    assert_eq!(create(twice), InvalidRequest.code());
    assert_eq!(create(create_topics(&fresh, -1, &[])), 0, "-1 leaves the number to the broker");
}

#[test]
fn names_that_metrics_cannot_tell_apart_collide() {
    let kafka = kafka();
    let name = kafka.name("dot");
    let mut client = kafka.connect();
    client.create_topic(&format!("{name}.x_y"), 1, &[]);
    let answer = client.try_create_topic(&format!("{name}_x.y"), 1, &[]);
    assert_eq!(answer.topics[0].error_code, InvalidTopicException.code());
}

#[test]
fn a_topic_only_grows() {
    let kafka = kafka();
    let topic = kafka.topic_of("grows", 3, &[]);
    let mut client = kafka.connect();
    let mut extend = |name: &str, count| {
        let asked = CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![asked]).with_timeout_ms(30_000);
        client.call(3, &request).results[0].error_code
    };
    for count in [-1, 0, 2, 3] {
        assert_eq!(extend(&topic, count), InvalidPartitions.code(), "{count}");
    }
    assert_eq!(extend(&kafka.name("none"), 4), UnknownTopicOrPartition.code());
    assert_eq!(extend(&topic, 4), 0);
}

#[test]
fn records_are_deleted_only_where_they_are_and_may_be() {
    let kafka = kafka();
    let topic = kafka.topic("deletes", &[]);
    let compacted = kafka.topic("compacts", &[("cleanup.policy", "compact")]);
    let mut client = kafka.connect();
    client.produce(&topic, plain(&["a", "b"]));
    client.produce(&compacted, plain(&["a", "b"]));
    let mut delete = |name: &str, offset| {
        let partition = DeleteRecordsPartition::default().with_offset(offset);
        let asked =
            DeleteRecordsTopic::default().with_name(topic_name(name)).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![asked]).with_timeout_ms(30_000);
        client.call(2, &request).topics[0].partitions[0].error_code
    };
    assert_eq!(delete(&topic, 3), OffsetOutOfRange.code());
    assert_eq!(delete(&topic, -2), OffsetOutOfRange.code());
    assert_eq!(delete(&compacted, 1), PolicyViolation.code());
    assert_eq!(delete(&kafka.name("none"), 1), UnknownTopicOrPartition.code());
    assert_eq!(delete(&topic, 1), 0);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let kafka = kafka();
    let topic = kafka.topic("settings", &[]);
    let unknown = kafka.name("none");
    let mut client = kafka.connect();
    let mut change = |topic: &str, name: &str, operation, value: &str| {
        let change = AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(operation)
            .with_value(Some(text(value)));
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(topic))
            .with_configs(vec![change]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        client.call(1, &request).responses[0].error_code
    };
    assert_eq!(change(&topic, "no.such.setting", 0, "1"), InvalidConfig.code());
    assert_eq!(change(&topic, "retention.ms", 0, "soon"), InvalidConfig.code());
    assert_eq!(change(&topic, "retention.ms", 2, "1"), InvalidConfig.code(), "no list to append to");
    assert_eq!(change(&topic, "retention.ms", 0, "1"), 0);
    assert_eq!(change(&unknown, "retention.ms", 0, "1"), UnknownTopicOrPartition.code());
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(&unknown))
        .with_configuration_keys(None);
    let described = client.call(4, &DescribeConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(described.results[0].error_code, UnknownTopicOrPartition.code());
}

#[test]
fn what_is_not_there_is_not_deleted() {
    let kafka = kafka();
    let topic = kafka.topic("deleted", &[]);
    let mut client = kafka.connect();
    let mut delete = || {
        let request =
            DeleteTopicsRequest::default().with_topic_names(vec![topic_name(&topic)]).with_timeout_ms(30_000);
        client.call(5, &request).responses[0].error_code
    };
    assert_eq!(delete(), 0);
    assert_eq!(delete(), UnknownTopicOrPartition.code());
}
