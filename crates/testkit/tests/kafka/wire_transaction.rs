//! A transactional producer, request by request.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest,
    InitProducerIdResponse, OffsetFetchRequest, ProducerId, TxnOffsetCommitRequest,
};
use kafka_protocol::records::Compression;
use telltale_testkit::wire::{
    Client, Coordinates, Writer, batch, group_id, refused, topic_name, transactional_id,
};

use crate::support::Kafka;
use crate::wire_group::LOADING;

/// The transaction before is still being ended.
const CONCURRENT_TRANSACTIONS: i16 = 51;

/// A transactional producer of one topic.
pub(crate) struct RawProducer {
    /// To the coordinator, which is the only broker.
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) topic: String,
    pub(crate) id: ProducerId,
    pub(crate) epoch: i16,
    pub(crate) sequence: i32,
}

/// Asks for a producer id, once the coordinator is ready and an older transaction is over.
pub(crate) fn try_init(
    client: &mut Client,
    name: &str,
    timeout_ms: i32,
    claimed: (ProducerId, i16),
) -> InitProducerIdResponse {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(transactional_id(name)))
        .with_transaction_timeout_ms(timeout_ms)
        .with_producer_id(claimed.0)
        .with_producer_epoch(claimed.1);
    client.call_until(4, &request, |it| {
        it.error_code != CONCURRENT_TRANSACTIONS && !LOADING.contains(&it.error_code)
    })
}

impl RawProducer {
    /// Begins, or takes over from an earlier producer of the name.
    pub(crate) fn begin(kafka: &Kafka, name: &str, topic: &str, timeout_ms: i32) -> Self {
        let mut client = Client::coordinator(kafka.servers(), Coordinates::Transaction, name);
        let begun = try_init(&mut client, name, timeout_ms, (ProducerId(-1), -1));
        assert_eq!(begun.error_code, 0);
        Self {
            client,
            name: name.to_owned(),
            topic: topic.to_owned(),
            id: begun.producer_id,
            epoch: begun.producer_epoch,
            sequence: 0,
        }
    }

    /// Adds partition 0 of the topic; the error.
    pub(crate) fn add_partition(&mut self) -> i16 {
        self.add(&self.topic.clone(), 0)
    }

    /// Adds a partition; the error.
    pub(crate) fn add(&mut self, topic: &str, partition: i32) -> i16 {
        let topic =
            AddPartitionsToTxnTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id(&self.name))
            .with_v3_and_below_producer_id(self.id)
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let code = |it: &kafka_protocol::messages::AddPartitionsToTxnResponse| {
            it.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
        };
        let answer = self.client.call_until(3, &request, |it| code(it) != CONCURRENT_TRANSACTIONS);
        code(&answer)
    }

    /// Writes a record; the error.
    pub(crate) fn write(&mut self, value: &str) -> Option<ResponseError> {
        let writer = Writer {
            producer_id: self.id.0,
            epoch: self.epoch,
            sequence: self.sequence,
            transactional: true,
        };
        let answer = {
            let records = batch(writer, Compression::None, &[value]);
            self.client.produce_as(Some(&self.name), &self.topic, records)
        };
        self.sequence += i32::from(answer.error_code == 0);
        refused(&answer)
    }

    /// Adds the offsets of a group; the error.
    pub(crate) fn add_group(&mut self, group: &str) -> i16 {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(transactional_id(&self.name))
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_group_id(group_id(group));
        self.client.call_until(3, &request, |it| it.error_code != CONCURRENT_TRANSACTIONS).error_code
    }

    /// Puts an offset of partition 0 of the topic into the transaction, from outside the group; the error.
    pub(crate) fn stage(&mut self, group: &str, offset: i64) -> i16 {
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name(&self.topic))
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional_id(&self.name))
            .with_group_id(group_id(group))
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic]);
        let code =
            |it: &kafka_protocol::messages::TxnOffsetCommitResponse| it.topics[0].partitions[0].error_code;
        let answer = self.client.call_until(3, &request, |it| !LOADING.contains(&code(it)));
        code(&answer)
    }

    /// Commits or aborts; the error.
    pub(crate) fn end(&mut self, committed: bool) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(&self.name))
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_committed(committed);
        self.client.call_until(3, &request, |it| it.error_code != CONCURRENT_TRANSACTIONS).error_code
    }
}

/// The committed offset of a group in partition 0, or the error while a transaction will decide.
pub(crate) fn stable_offset(kafka: &Kafka, group: &str, topic: &str) -> Result<i64, i16> {
    let topic =
        OffsetFetchRequestTopics::default().with_name(topic_name(topic)).with_partition_indexes(vec![0]);
    let asked =
        OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_groups(vec![asked]).with_require_stable(true);
    let mut client = Client::coordinator(kafka.servers(), Coordinates::Group, group);
    let answer = client.call_until(8, &request, |it| !LOADING.contains(&it.groups[0].error_code));
    let found = &answer.groups[0].topics[0].partitions[0];
    if found.error_code == 0 { Ok(found.committed_offset) } else { Err(found.error_code) }
}
