//! Newer protocols: what each engine offers, and what a client does where it is not offered.

use std::collections::BTreeMap;

use kafka_protocol::messages::{ApiKey, ApiVersionsRequest};
use kafka_protocol::protocol::StrBytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use telltale_testkit::engines::wait_until;

use crate::clients::{PATIENCE, config};
use crate::support::{Kafka, kafka};

/// The requests an engine serves, with their lowest and highest versions.
fn served(kafka: &Kafka) -> BTreeMap<i16, (i16, i16)> {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("conformance"))
        .with_client_software_version(StrBytes::from_static_str("1"));
    let versions = kafka.connect().call(3, &request);
    versions.api_keys.iter().map(|it| (it.api_key, (it.min_version, it.max_version))).collect()
}

#[test]
fn every_request_that_our_clients_use_is_served_in_versions_they_know() {
    use ApiKey::{
        AddOffsetsToTxn, AddPartitionsToTxn, ApiVersions, CreatePartitions, CreateTopics, DeleteGroups,
        DeleteRecords, DeleteTopics, DescribeConfigs, DescribeGroups, EndTxn, Fetch, FindCoordinator,
        Heartbeat, IncrementalAlterConfigs, InitProducerId, JoinGroup, LeaveGroup, ListGroups, ListOffsets,
        Metadata, OffsetCommit, OffsetDelete, OffsetFetch, OffsetForLeaderEpoch, Produce, SyncGroup,
        TxnOffsetCommit,
    };
    // The range of librdkafka 2.12, which stops below transactions of KIP-890 and topic ids in Produce.
    let needed = [
        (Produce, 7, 10),
        (Fetch, 11, 16),
        (ListOffsets, 2, 7),
        (Metadata, 4, 12),
        (OffsetCommit, 7, 9),
        (OffsetFetch, 7, 9),
        (FindCoordinator, 2, 2),
        (JoinGroup, 5, 5),
        (Heartbeat, 3, 3),
        (LeaveGroup, 1, 1),
        (SyncGroup, 3, 3),
        (DescribeGroups, 4, 4),
        (ListGroups, 4, 4),
        (ApiVersions, 3, 3),
        (CreateTopics, 4, 4),
        (DeleteTopics, 1, 1),
        (DeleteRecords, 1, 1),
        (InitProducerId, 4, 4),
        (OffsetForLeaderEpoch, 2, 2),
        (AddPartitionsToTxn, 0, 0),
        (AddOffsetsToTxn, 0, 0),
        (EndTxn, 1, 1),
        (TxnOffsetCommit, 3, 3),
        (DescribeConfigs, 1, 1),
        (CreatePartitions, 0, 0),
        (DeleteGroups, 1, 1),
        (IncrementalAlterConfigs, 1, 1),
        (OffsetDelete, 0, 0),
    ];
    let served = served(&kafka());
    for (key, least, most) in needed {
        let (from, to) = served.get(&(key as i16)).copied().unwrap_or((i16::MAX, -1));
        assert!(from <= most && to >= least, "{key:?}: {from} to {to} served, {least} to {most} needed");
    }
}

#[test]
fn the_group_protocol_of_kip_848_is_offered_by_kafka_alone() {
    let kafka = kafka();
    let topic = kafka.topic_of("kip-848", 2, &[]);
    let group = kafka.name("group");
    let settings = [("group.id", group.as_str()), ("group.protocol", "consumer")];
    let consumer: BaseConsumer = config(&kafka.servers(), &settings).create().unwrap();
    consumer.subscribe(&[&topic]).unwrap();
    let mut error = None;
    wait_until("the consumer has joined, or knows that it cannot", || {
        consumer.poll(PATIENCE / 600);
        error = consumer.client().fatal_error().map(|it| it.0);
        error.is_some() || consumer.assignment().is_ok_and(|it| it.count() == 2)
    });
    // Served only to say so, as Kafka does where only the classic protocol is switched on.
    assert!(served(&kafka).contains_key(&(ApiKey::ConsumerGroupHeartbeat as i16)));
    let refused = kafka.known_difference("KIP-848 groups");
    assert_eq!(error, refused.then_some(RDKafkaErrorCode::UnsupportedVersion));
}

#[test]
fn transactions_of_kip_890_are_offered_by_kafka_alone() {
    let kafka = kafka();
    let served = served(&kafka);
    let newest = |key: ApiKey| served[&(key as i16)].1;
    // Clients that know them (Java from 4.0) fall back to the older transactions where these versions are missing.
    let newer =
        (newest(ApiKey::Produce) >= 12, newest(ApiKey::EndTxn) >= 5, newest(ApiKey::TxnOffsetCommit) >= 5);
    let offered = !kafka.known_difference("KIP-890 transactions");
    assert_eq!(newer, (offered, offered, offered));
}

#[test]
fn incremental_fetch_sessions_are_offered_by_kafka_alone() {
    use telltale_testkit::wire::{fetch_request, plain, values};
    let kafka = kafka();
    let topic = kafka.topic("session", &[]);
    let mut client = kafka.connect();
    client.produce(&topic, plain(&["a"]));
    // Epoch 0 asks for a session; an engine that has none answers 0 and is sent full requests.
    let request = fetch_request(&topic, 0, false, 0).with_session_epoch(0);
    let answer: kafka_protocol::messages::FetchResponse = client.call(11, &request);
    assert_eq!(values(&answer.responses[0].partitions[0], false).0.len(), 1);
    assert_eq!(answer.session_id == 0, kafka.known_difference("fetch sessions"));
}

#[test]
fn share_groups_and_quotas_are_offered_by_kafka_alone() {
    let kafka = kafka();
    let served = served(&kafka);
    let offered = !kafka.known_difference("share groups, quotas, ACLs");
    for key in [ApiKey::ShareGroupHeartbeat, ApiKey::DescribeClientQuotas, ApiKey::DescribeAcls] {
        assert_eq!(served.contains_key(&(key as i16)), offered, "{key:?}");
    }
}
