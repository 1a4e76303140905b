//! What a client learns of the cluster: brokers, topics, partitions, leaders, request versions.

use bytes::BytesMut;
use kafka_protocol::ResponseError::{InvalidTopicException, UnknownTopicId, UnknownTopicOrPartition};
use kafka_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use telltale_testkit::wire::{Client, topic_name};

use crate::clients::{PATIENCE, config};
use crate::support::kafka;

/// Metadata of one topic.
fn ask(client: &mut Client, topic: MetadataRequestTopic) -> MetadataResponseTopic {
    client.call(12, &MetadataRequest::default().with_topics(Some(vec![topic]))).topics.remove(0)
}

fn named(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(topic_name(name)))
}

#[test]
fn a_topic_is_described_with_its_partitions_leaders_and_copies() {
    let kafka = kafka();
    let topic = kafka.topic_of("described", 5, &[]);
    let consumer: BaseConsumer = config(&kafka.servers(), &[]).create().unwrap();
    let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE).unwrap();
    let brokers: Vec<_> = metadata.brokers().iter().map(|it| it.id()).collect();
    let described = &metadata.topics()[0];
    assert_eq!((described.name(), described.error()), (topic.as_str(), None));
    let mut ids: Vec<_> = described.partitions().iter().map(|it| it.id()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2, 3, 4]);
    for partition in described.partitions() {
        assert!(brokers.contains(&partition.leader()));
        assert!(!partition.replicas().is_empty() && partition.isr().contains(&partition.leader()));
    }
    let everything = consumer.fetch_metadata(None, PATIENCE).unwrap();
    assert!(everything.topics().iter().any(|it| it.name() == topic));
}

#[test]
fn a_topic_is_found_by_its_id() {
    let kafka = kafka();
    let topic = kafka.topic("id", &[]);
    let mut client = kafka.connect();
    let by_name = ask(&mut client, named(&topic));
    assert!(!by_name.topic_id.is_nil());
    let by_id =
        ask(&mut client, MetadataRequestTopic::default().with_name(None).with_topic_id(by_name.topic_id));
    assert_eq!(by_id.name.unwrap().as_str(), topic);
    let unknown = uuid::Uuid::from_u128(7);
    let by_id = ask(&mut client, MetadataRequestTopic::default().with_name(None).with_topic_id(unknown));
    assert_eq!(by_id.error_code, UnknownTopicId.code());
}

#[test]
fn unknown_and_illegal_topics_are_told_apart() {
    let kafka = kafka();
    let mut client = kafka.connect();
    let unknown = kafka.name("unknown");
    assert_eq!(ask(&mut client, named(&unknown)).error_code, UnknownTopicOrPartition.code());
    let too_long = "x".repeat(250);
    for illegal in ["a/b", "a b", "ü", too_long.as_str()] {
        assert_eq!(ask(&mut client, named(illegal)).error_code, InvalidTopicException.code(), "{illegal}");
    }
    let consumer: BaseConsumer = config(&kafka.servers(), &[]).create().unwrap();
    let metadata = consumer.fetch_metadata(Some(&unknown), PATIENCE).unwrap();
    let error = metadata.topics()[0].error().map(RDKafkaErrorCode::from);
    assert_eq!(error, Some(RDKafkaErrorCode::UnknownTopicOrPartition));
}

#[test]
fn asking_for_a_topic_does_not_create_it() {
    let kafka = kafka();
    let mut client = kafka.connect();
    let topic = kafka.name("not-created");
    let request = MetadataRequest::default()
        .with_topics(Some(vec![named(&topic)]))
        .with_allow_auto_topic_creation(true);
    for _ in 0..2 {
        assert_eq!(client.call(9, &request).topics[0].error_code, UnknownTopicOrPartition.code());
    }
}

#[test]
fn no_list_means_all_topics_and_an_empty_one_none() {
    let kafka = kafka();
    let topic = kafka.topic("listed", &[]);
    let mut client = kafka.connect();
    let all = client.call(9, &MetadataRequest::default().with_topics(None));
    assert!(all.topics.iter().any(|it| it.name.as_ref().is_some_and(|name| name.as_str() == topic)));
    let none = client.call(9, &MetadataRequest::default().with_topics(Some(Vec::new())));
    assert_eq!((none.topics.len(), none.brokers.is_empty()), (0, false), "brokers are always told");
}

#[test]
fn the_cluster_has_a_name_a_controller_and_brokers() {
    let kafka = kafka();
    let mut client = kafka.connect();
    let cluster = client.call(0, &DescribeClusterRequest::default());
    assert_eq!(cluster.error_code, 0);
    let metadata = client.call(9, &MetadataRequest::default().with_topics(Some(Vec::new())));
    assert_eq!(metadata.cluster_id.as_deref(), Some(&*cluster.cluster_id));
    assert_eq!(metadata.brokers.len(), cluster.brokers.len());
    assert!(cluster.brokers.iter().any(|it| it.broker_id == cluster.controller_id));
    let broker = &cluster.brokers[0];
    Client::connect((broker.host.as_str(), u16::try_from(broker.port).unwrap()));
}

#[test]
fn a_client_of_the_future_learns_the_versions() {
    let kafka = kafka();
    let mut client = kafka.connect();
    // ApiVersions in version 99 with correlation id 7 and no client id.
    client.send_frame(&[0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 0]);
    let mut body = client.receive().unwrap();
    assert_eq!(ResponseHeader::decode(&mut body, 0).unwrap().correlation_id, 7);
    let versions = ApiVersionsResponse::decode(&mut body, 0).unwrap();
    assert_eq!(versions.error_code, 35, "the answer is in version 0, and says so");
    assert!(versions.api_keys.iter().any(|it| it.api_key == ApiKey::ApiVersions as i16));
    // The connection stays open for the second try.
    assert_eq!(client.call(3, &api_versions()).error_code, 0);
}

fn api_versions() -> ApiVersionsRequest {
    use kafka_protocol::protocol::StrBytes;
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("conformance"))
        .with_client_software_version(StrBytes::from_static_str("1"))
}

#[test]
fn a_version_that_is_not_announced_closes_the_connection() {
    let kafka = kafka();
    let mut client = kafka.connect();
    let versions = client.call(3, &api_versions());
    let metadata = versions.api_keys.iter().find(|it| it.api_key == ApiKey::Metadata as i16).unwrap();
    let mut bytes = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(ApiKey::Metadata as i16)
        .with_request_api_version(metadata.max_version + 1)
        .encode(&mut bytes, 2)
        .unwrap();
    client.send_frame(&bytes);
    assert_eq!(client.receive(), None);
}
