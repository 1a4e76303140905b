//! Administration as tools do it: topics, partitions, settings, groups, records.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeLogDirsRequest, DescribeProducersRequest, IncrementalAlterConfigsRequest,
};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use telltale_testkit::engines::wait_until;
use telltale_testkit::wire::{ANYBODY, Writer, batch, text, topic_name};

use crate::clients::{PATIENCE, Record, config, producer, read_all, send_all};
use crate::support::{Kafka, kafka};

fn admin(kafka: &Kafka) -> AdminClient<DefaultClientContext> {
    config(&kafka.servers(), &[]).create().unwrap()
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))
}

/// Waits for an answer of the admin client, whose own thread brings it.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Gives a topic more partitions and waits until they are served.
pub(crate) fn add_partitions(kafka: &Kafka, topic: &str, count: i32) {
    let more = NewPartitions::new(topic, count as usize);
    let done = wait(admin(kafka).create_partitions([&more], &options())).unwrap();
    assert_eq!(done[0], Ok(topic.to_owned()));
    kafka.connect().await_topic(topic, count);
}

/// Deletes a group that must be there.
pub(crate) fn delete_group(kafka: &Kafka, group: &str) {
    let deleted = wait(admin(kafka).delete_groups(&[group], &options())).unwrap();
    assert_eq!(deleted, [Ok(group.to_owned())]);
}

/// The settings of a topic: value and source.
fn settings(kafka: &Kafka, topic: &str) -> BTreeMap<String, (String, ConfigSource)> {
    let resource = ResourceSpecifier::Topic(topic);
    let found = wait(admin(kafka).describe_configs([&resource], &options())).unwrap().remove(0).unwrap();
    let entries = found.entries.into_iter();
    entries.map(|it| (it.name, (it.value.unwrap_or_default(), it.source))).collect()
}

#[test]
fn topics_are_created_grown_and_deleted() {
    let kafka = kafka();
    let admin = admin(&kafka);
    let (one, two) = (kafka.name("one"), kafka.name("two"));
    let compact = NewTopic::new(&one, 3, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
    let plain = NewTopic::new(&two, 1, TopicReplication::Fixed(1)).set("retention.ms", "-1");
    let created = wait(admin.create_topics([&compact, &plain], &options())).unwrap();
    assert_eq!(created, [Ok(one.clone()), Ok(two.clone())]);
    let mut client = kafka.connect();
    client.await_topic(&one, 3);
    client.await_topic(&two, 1);
    let again = wait(admin.create_topics([&compact], &options())).unwrap();
    assert_eq!(again, [Err((one.clone(), RDKafkaErrorCode::TopicAlreadyExists))]);
    assert_eq!(settings(&kafka, &one)["cleanup.policy"].0, "compact");

    send_all(&producer(&kafka.servers(), &[]), &two, &[Record::of("before")]);
    add_partitions(&kafka, &two, 4);
    send_all(&producer(&kafka.servers(), &[]), &two, &[Record { partition: 3, ..Record::of("after") }]);
    assert_eq!(read_all(&kafka.servers(), &two, &[]).len(), 2, "records stay");

    let deleted = wait(admin.delete_topics(&[&one, &two], &options())).unwrap();
    assert_eq!(deleted, [Ok(one.clone()), Ok(two.clone())]);
    wait_until("the topic is gone", || client.fetch(&two, 0, false, 0).error_code == 3);
    wait_until("its deletion is over", || {
        let again = wait(admin.create_topics([&plain], &options())).unwrap();
        again == [Ok(two.clone())]
    });
    client.await_topic(&two, 1);
    assert_eq!(read_all(&kafka.servers(), &two, &[]), [], "a topic of the same name begins anew");
    let unknown = wait(admin.delete_topics(&[&kafka.name("none")], &options())).unwrap();
    assert!(matches!(&unknown[0], Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))), "{unknown:?}");
}

#[test]
fn settings_of_topics_are_shown_with_their_source_and_changed() {
    let kafka = kafka();
    let topic = kafka.topic("settings", &[("retention.ms", "1000000"), ("max.message.bytes", "5000")]);
    let before = settings(&kafka, &topic);
    assert_eq!(before["retention.ms"], ("1000000".to_owned(), ConfigSource::DynamicTopic));
    assert_eq!(before["max.message.bytes"].0, "5000");
    assert_eq!(before["cleanup.policy"].0, "delete");
    assert_ne!(before["cleanup.policy"].1, ConfigSource::DynamicTopic);

    // Replaces all: what is not named goes back to its default.
    let change = AlterConfig::new(ResourceSpecifier::Topic(&topic))
        .set("cleanup.policy", "compact")
        .set("retention.ms", "2000000");
    let altered = wait(admin(&kafka).alter_configs([&change], &options())).unwrap();
    assert!(altered[0].is_ok(), "{altered:?}");
    wait_until("the settings are replaced", || {
        let now = settings(&kafka, &topic);
        now["cleanup.policy"].0 == "compact"
            && now["retention.ms"].0 == "2000000"
            && now["max.message.bytes"].0 == "1048588"
    });

    // Changes single ones.
    let change = |name: &str, operation: i8, value: Option<&str>| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(operation)
            .with_value(value.map(text))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(&topic))
        .with_configs(vec![
            change("max.message.bytes", 0, Some("7000")),
            change("cleanup.policy", 2, Some("delete")),
            change("retention.ms", 1, None),
        ]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = kafka.connect().call(1, &request);
    assert_eq!(answer.responses[0].error_code, 0, "{:?}", answer.responses[0].error_message);
    wait_until("the settings are changed", || {
        let now = settings(&kafka, &topic);
        let mut policies: Vec<_> = now["cleanup.policy"].0.split(',').collect();
        policies.sort_unstable();
        now["max.message.bytes"].0 == "7000"
            && now["retention.ms"].0 == "604800000"
            && policies == ["compact", "delete"]
    });
}

#[test]
fn every_setting_of_a_topic_has_kafkas_default() {
    let kafka = kafka();
    let topic = kafka.name("defaults");
    kafka.connect().create_topic(&topic, 1, &[]);
    let found = settings(&kafka, &topic);
    // Apache Kafka 4.3: a topic's settings with the defaults of a broker that sets none of them.
    let expected = [
        ("cleanup.policy", "delete"),
        ("compression.gzip.level", "-1"),
        ("compression.lz4.level", "9"),
        ("compression.type", "producer"),
        ("compression.zstd.level", "3"),
        ("delete.retention.ms", "86400000"),
        ("file.delete.delay.ms", "60000"),
        ("flush.messages", "9223372036854775807"),
        ("flush.ms", "9223372036854775807"),
        ("follower.replication.throttled.replicas", ""),
        ("index.interval.bytes", "4096"),
        ("leader.replication.throttled.replicas", ""),
        ("local.retention.bytes", "-2"),
        ("local.retention.ms", "-2"),
        ("max.compaction.lag.ms", "9223372036854775807"),
        ("max.message.bytes", "1048588"),
        ("message.timestamp.after.max.ms", "3600000"),
        ("message.timestamp.before.max.ms", "9223372036854775807"),
        ("message.timestamp.type", "CreateTime"),
        ("min.cleanable.dirty.ratio", "0.5"),
        ("min.compaction.lag.ms", "0"),
        ("min.insync.replicas", "1"),
        ("preallocate", "false"),
        ("remote.log.copy.disable", "false"),
        ("remote.log.delete.on.disable", "false"),
        ("remote.storage.enable", "false"),
        ("retention.bytes", "-1"),
        ("retention.ms", "604800000"),
        ("segment.index.bytes", "10485760"),
        ("segment.jitter.ms", "0"),
        ("segment.ms", "604800000"),
        ("unclean.leader.election.enable", "false"),
    ];
    for (name, value) in expected {
        assert_eq!(found.get(name).map(|it| it.0.as_str()), Some(value), "{name}");
    }
    let segment = if kafka.known_difference("segments of 64 MiB") { "67108864" } else { "1073741824" };
    assert_eq!(found["segment.bytes"].0, segment);
    assert_eq!(found.len(), expected.len() + 1, "no more and no fewer: {:?}", found.keys());
}

#[test]
fn compression_by_the_broker_is_kafkas_alone() {
    let kafka = kafka();
    let answer = kafka.connect().try_create_topic(&kafka.name("gzip"), 1, &[("compression.type", "gzip")]);
    let refused = kafka.known_difference("batches stored as sent");
    assert_eq!(answer.topics[0].error_code == 40, refused, "{:?}", answer.topics[0].error_message);
}

#[test]
fn settings_of_the_broker_can_be_read() {
    let kafka = kafka();
    let names = ["auto.create.topics.enable", "num.partitions", "transaction.max.timeout.ms", "node.id"];
    let resource = DescribeConfigsResource::default()
        .with_resource_type(4)
        .with_resource_name(text("1"))
        .with_configuration_keys(Some(names.map(text).into()));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let result = kafka.connect().call(4, &request).results.remove(0);
    assert_eq!(result.error_code, 0);
    let value = |name: &str| {
        let found = result.configs.iter().find(|it| it.name.as_str() == name).unwrap();
        found.value.as_ref().unwrap().to_string()
    };
    assert_eq!(value("auto.create.topics.enable"), "false");
    assert_eq!(value("transaction.max.timeout.ms"), "900000");
    assert_eq!(value("node.id"), "1");
    assert_eq!(result.configs.len(), names.len(), "only what was asked for");
}

#[test]
fn records_are_deleted_up_to_an_offset() {
    let kafka = kafka();
    let topic = kafka.topic_of("records", 2, &[]);
    let records: Vec<_> =
        (0..10).map(|it| Record { partition: it % 2, ..Record::of(it.to_string()) }).collect();
    send_all(&producer(&kafka.servers(), &[]), &topic, &records);
    let delete = |offset: Offset| {
        let mut before = TopicPartitionList::new();
        before.add_partition_offset(&topic, 0, offset).unwrap();
        let deleted = wait(admin(&kafka).delete_records(&before, &options())).unwrap();
        let done = &deleted.elements()[0];
        done.error().map(|()| done.offset()).map_err(|it| it.rdkafka_error_code().unwrap())
    };
    assert_eq!(delete(Offset::Offset(3)), Ok(Offset::Offset(3)));
    let left = |partition: i32| {
        let read = read_all(&kafka.servers(), &topic, &[]);
        read.into_iter().filter(|it| it.partition == partition).map(|it| it.offset).collect::<Vec<_>>()
    };
    assert_eq!((left(0), left(1)), (vec![3, 4], vec![0, 1, 2, 3, 4]));
    assert_eq!(kafka.connect().fetch(&topic, 2, false, 0).error_code, 1, "offset out of range");
    assert_eq!(delete(Offset::Offset(1)), Ok(Offset::Offset(3)), "never back");
    assert_eq!(delete(Offset::Offset(6)), Err(RDKafkaErrorCode::OffsetOutOfRange));
    assert_eq!(delete(Offset::End), Ok(Offset::Offset(5)));
    assert_eq!(left(0), Vec::<i64>::new());
    send_all(&producer(&kafka.servers(), &[]), &topic, &[Record::of("next")]);
    assert_eq!(left(0), [5], "offsets go on");
}

#[test]
fn groups_are_deleted_by_the_admin_client() {
    let kafka = kafka();
    let topic = kafka.topic("read", &[]);
    let group = kafka.name("group");
    send_all(&producer(&kafka.servers(), &[]), &topic, &[Record::of("a")]);
    let member = crate::members::Member::join(&kafka, &group, &topic, &[]);
    wait_until("an offset is committed", || crate::members::committed(&kafka, &group, &topic, 1) == [1]);
    let delete = || wait(admin(&kafka).delete_groups(&[&group], &options())).unwrap().remove(0);
    assert_eq!(delete(), Err((group.clone(), RDKafkaErrorCode::NonEmptyGroup)));
    member.leave();
    assert_eq!(delete(), Ok(group.clone()));
    assert_eq!(delete(), Err((group.clone(), RDKafkaErrorCode::GroupIdNotFound)));
}

#[test]
fn librdkafka_lists_groups_and_members() {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let kafka = kafka();
    let topic = kafka.topic("listed", &[]);
    let group = kafka.name("group");
    let member = crate::members::Member::join(&kafka, &group, &topic, &[]);
    crate::members::await_shared(&[&member], 1);
    let consumer: BaseConsumer = config(&kafka.servers(), &[]).create().unwrap();
    let list = consumer.fetch_group_list(Some(&group), PATIENCE).unwrap();
    let found = &list.groups()[0];
    assert_eq!((found.name(), found.state(), found.protocol_type()), (group.as_str(), "Stable", "consumer"));
    assert_eq!((found.members().len(), found.members()[0].client_id()), (1, "conformance"));
}

#[test]
fn sizes_and_producers_of_partitions_are_told() {
    let kafka = kafka();
    let topic = kafka.topic("sizes", &[]);
    let mut client = kafka.connect();
    let writer = Writer { producer_id: 123_456, epoch: 3, sequence: 0, transactional: false };
    let compression = kafka_protocol::records::Compression::None;
    assert_eq!(client.produce(&topic, batch(writer, compression, &["a", "b"])).error_code, 0);
    assert_eq!(client.produce(&topic, batch(ANYBODY, compression, &["c"])).error_code, 0);
    let asked = TopicRequest::default().with_name(topic_name(&topic)).with_partition_indexes(vec![0]);
    let producers = client.call(0, &DescribeProducersRequest::default().with_topics(vec![asked]));
    let partition = &producers.topics[0].partitions[0];
    let found: Vec<_> = partition
        .active_producers
        .iter()
        .map(|it| (it.producer_id.0, it.producer_epoch, it.last_sequence, it.current_txn_start_offset))
        .collect();
    assert_eq!((partition.error_code, found), (0, vec![(123_456, 3, 1, -1)]));

    let dirs = client.call(1, &DescribeLogDirsRequest::default().with_topics(None)).results;
    let size = dirs.iter().flat_map(|it| &it.topics).find(|it| it.name.as_str() == topic).unwrap();
    assert!(size.partitions[0].partition_size > 100, "{size:?}");
}

#[test]
fn asking_whether_it_would_work_changes_nothing() {
    let kafka = kafka();
    let topic = kafka.topic("exists", &[]);
    let name = kafka.name("tried");
    let options = options().validate_only(true);
    let new = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
    assert_eq!(wait(admin(&kafka).create_topics([&new], &options)).unwrap(), [Ok(name.clone())]);
    let more = NewPartitions::new(&topic, 5);
    assert_eq!(wait(admin(&kafka).create_partitions([&more], &options)).unwrap(), [Ok(topic.clone())]);
    let real = wait(admin(&kafka).create_topics([&new], &self::options())).unwrap();
    assert_eq!(real, [Ok(name)], "it was not there yet");
    kafka.connect().await_topic(&topic, 1);
}
