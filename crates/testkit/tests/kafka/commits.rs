//! Committed offsets: who may commit, what is kept with them, how they are deleted.

use kafka_protocol::ResponseError::{
    GroupIdNotFound, GroupSubscribedToTopic, NonEmptyGroup, OffsetMetadataTooLarge, UnknownMemberId,
    UnknownTopicOrPartition,
};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    DeleteGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use telltale_testkit::wire::{Client, Coordinates, group_id, text, topic_name};

use crate::clients::{PATIENCE, config};
use crate::members::committed;
use crate::support::{Kafka, kafka};
use crate::wire_group::{LOADING, RawMember};

/// A connection to the coordinator of a group.
fn coordinator(kafka: &Kafka, group: &str) -> Client {
    Client::coordinator(kafka.servers(), Coordinates::Group, group)
}

/// Commits an offset of a partition from outside the group; the error.
fn commit(client: &mut Client, group: &str, topic: &str, partition: i32, metadata: &str) -> i16 {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(7)
        .with_committed_metadata(Some(text(metadata)));
    let topic =
        OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let answer =
        client.call_until(7, &request, |it| !LOADING.contains(&it.topics[0].partitions[0].error_code));
    answer.topics[0].partitions[0].error_code
}

/// The committed offset and its metadata.
fn fetch(client: &mut Client, group: &str, topic: &str) -> (i64, String) {
    let topic =
        OffsetFetchRequestTopic::default().with_name(topic_name(topic)).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(Some(vec![topic]));
    let answer = client.call_until(5, &request, |it| !LOADING.contains(&it.error_code));
    let found = &answer.topics[0].partitions[0];
    assert_eq!((answer.error_code, found.error_code), (0, 0));
    (found.committed_offset, found.metadata.as_ref().map_or_else(String::new, ToString::to_string))
}

#[test]
fn a_consumer_commits_and_reads_back_what_it_committed() {
    let kafka = kafka();
    let topic = kafka.topic_of("committed", 3, &[]);
    let group = kafka.name("group");
    assert_eq!(committed(&kafka, &group, &topic, 3), [-1, -1, -1], "nothing yet");
    let consumer: BaseConsumer = config(&kafka.servers(), &[("group.id", &group)]).create().unwrap();
    let commit = |offsets: &[(i32, i64)]| {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&topic, *partition, Offset::Offset(*offset)).unwrap();
        }
        consumer.commit(&list, CommitMode::Sync).unwrap();
    };
    commit(&[(0, 5), (1, 0)]);
    assert_eq!(committed(&kafka, &group, &topic, 3), [5, 0, -1]);
    commit(&[(0, 3), (2, 9_000_000_000)]);
    assert_eq!(committed(&kafka, &group, &topic, 3), [3, 0, 9_000_000_000], "also back, and beyond the end");
    let other = kafka.name("other");
    assert_eq!(committed(&kafka, &other, &topic, 3), [-1, -1, -1], "each group has its own");
    let everything: BaseConsumer = config(&kafka.servers(), &[("group.id", &group)]).create().unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition(&topic, 1);
    assert_eq!(everything.committed_offsets(asked, PATIENCE).unwrap().count(), 1);
}

#[test]
fn metadata_is_kept_with_the_offset() {
    let kafka = kafka();
    let topic = kafka.topic("metadata", &[]);
    let group = kafka.name("group");
    let mut client = coordinator(&kafka, &group);
    assert_eq!(commit(&mut client, &group, &topic, 0, "by hand"), 0);
    assert_eq!(fetch(&mut client, &group, &topic), (7, "by hand".to_owned()));
    let largest = "x".repeat(4096);
    assert_eq!(commit(&mut client, &group, &topic, 0, &largest), 0);
    assert_eq!(commit(&mut client, &group, &topic, 0, &"x".repeat(4097)), OffsetMetadataTooLarge.code());
    assert_eq!(fetch(&mut client, &group, &topic), (7, largest));
    assert_eq!(fetch(&mut client, &group, &kafka.name("none")), (-1, String::new()), "nothing is no error");
}

#[test]
fn an_offset_of_a_partition_that_does_not_exist_is_refused() {
    let kafka = kafka();
    let topic = kafka.topic("partitions", &[]);
    let group = kafka.name("group");
    let mut client = coordinator(&kafka, &group);
    let unknown = UnknownTopicOrPartition.code();
    assert_eq!(commit(&mut client, &group, &topic, 1, ""), unknown);
    assert_eq!(commit(&mut client, &group, &kafka.name("none"), 0, ""), unknown);
}

#[test]
fn only_members_commit_while_there_are_any() {
    let kafka = kafka();
    let topic = kafka.topic("members", &[]);
    let group = kafka.name("group");
    let mut client = coordinator(&kafka, &group);
    assert_eq!(
        commit(&mut client, &group, &topic, 0, ""),
        0,
        "a group without members takes it from anybody"
    );
    let mut member = RawMember::new(&kafka, &group).with_topic(&topic, 1);
    let joined = member.join(60_000);
    member.sync(&joined);
    assert_eq!(commit(&mut client, &group, &topic, 0, ""), UnknownMemberId.code());
    assert_eq!(member.commit(8), 0);
    member.leave();
    assert_eq!(commit(&mut client, &group, &topic, 0, ""), 0);
}

#[test]
fn groups_and_single_offsets_are_deleted_when_nobody_uses_them() {
    let kafka = kafka();
    let topic = kafka.topic("used", &[]);
    let unused = kafka.topic("unused", &[]);
    let group = kafka.name("group");
    let mut client = coordinator(&kafka, &group);
    let delete_group = |group: &str| {
        let mut client = coordinator(&kafka, group);
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
        client.call_until(2, &request, |it| !LOADING.contains(&it.results[0].error_code)).results[0]
            .error_code
    };
    assert_eq!(delete_group(&group), GroupIdNotFound.code());
    for topic in [&topic, &unused] {
        assert_eq!(commit(&mut client, &group, topic, 0, ""), 0);
    }
    let mut member = RawMember::new(&kafka, &group).with_topic(&topic, 1);
    let joined = member.join(60_000);
    member.sync(&joined);
    assert_eq!(delete_group(&group), NonEmptyGroup.code());
    let mut forget = |topic: &str| {
        let partition = OffsetDeleteRequestPartition::default();
        let topic =
            OffsetDeleteRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = OffsetDeleteRequest::default().with_group_id(group_id(&group)).with_topics(vec![topic]);
        let answer = client.call(0, &request);
        (answer.error_code, answer.topics.first().map_or(0, |it| it.partitions[0].error_code))
    };
    assert_eq!(forget(&topic), (0, GroupSubscribedToTopic.code()));
    assert_eq!(forget(&unused), (0, 0));
    assert_eq!(committed(&kafka, &group, &unused, 1), [-1]);
    assert_eq!(committed(&kafka, &group, &topic, 1), [7]);
    member.leave();
    assert_eq!(delete_group(&group), 0);
    assert_eq!(committed(&kafka, &group, &topic, 1), [-1]);
    assert_eq!(delete_group(&group), GroupIdNotFound.code());
}
