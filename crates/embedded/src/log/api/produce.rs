//! `Produce`: record batches into partitions.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::text;
use crate::log::batch::{self, Header, Refusal};
use crate::log::broker::Broker;
use crate::log::catalog::{Topic, lock};
use crate::log::clock;
use crate::log::partition::Appended;
use crate::log::topic_config::TopicConfig;
use crate::log::transaction::Identity;

/// Appends each batch; `None` when the producer wants no answer (`acks=0`).
pub(super) fn produce(broker: &Broker, request: ProduceRequest) -> Option<ProduceResponse> {
    let acks = request.acks;
    let named = request.transactional_id.is_some();
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for data in request.topic_data {
        let topic = broker.catalog().get(&data.name);
        let mut partitions = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let appended = match (&topic, acks) {
                (_, ..-1 | 2..) => refused(ResponseError::InvalidRequiredAcks, "acks must be 0, 1 or all"),
                (Some(topic), _) => append(broker, topic, &partition, named),
                (None, _) => refused(ResponseError::UnknownTopicOrPartition, "there is no such topic"),
            };
            partitions.push(answer(partition.index, appended, topic.as_deref()));
        }
        topics
            .push(TopicProduceResponse::default().with_name(data.name).with_partition_responses(partitions));
    }
    (acks != 0).then(|| ProduceResponse::default().with_responses(topics))
}

fn refused<T>(error: ResponseError, why: &'static str) -> Result<T, Refusal> {
    Err(Refusal { error, why })
}

/// Appends a batch; `named` says whether the request names a transactional producer.
fn append(
    broker: &Broker,
    topic: &Topic,
    data: &PartitionProduceData,
    named: bool,
) -> Result<Appended, Refusal> {
    let Some(partition) = topic.partition(data.index) else {
        return refused(ResponseError::UnknownTopicOrPartition, "there is no such partition");
    };
    let Some(records) = data.records.as_deref() else {
        return refused(ResponseError::InvalidRecord, "there are no records");
    };
    let header = batch::check(records)?;
    if header.is_transactional() && !named {
        return refused(
            ResponseError::TransactionalIdAuthorizationFailed,
            "a transactional batch in a request that names no transactional id",
        );
    }
    let now = clock::now();
    check_times(&topic.config, &header, records, clock::millis(now))?;
    if topic.config.compacts && batch::has_missing_key(&header, records) {
        return refused(ResponseError::InvalidRecord, "a compacted topic cannot take records without a key");
    }
    if !header.is_transactional() {
        return lock(partition).append(records, &header, &topic.config, now);
    }
    // The transaction cannot end between the check and the append, so no record comes after its marker.
    let transactions = lock(&broker.transactions);
    let producer = Identity { producer_id: header.producer_id, epoch: header.producer_epoch };
    if let Err(error) = transactions.may_write(producer, &topic.name, data.index) {
        return refused(error, "the producer has no open transaction with this partition");
    }
    lock(partition).append(records, &header, &topic.config, now)
}

/// Refuses records whose time stamps are too far from the log's clock, unless the log stamps them itself.
fn check_times(config: &TopicConfig, header: &Header, records: &[u8], now: i64) -> Result<(), Refusal> {
    let (ahead, behind) = (config.timestamp_after_max_ms, config.timestamp_before_max_ms);
    if config.log_append_time {
        return Ok(());
    }
    // Most topics look only ahead, which the header answers.
    let (oldest, youngest) = match behind {
        i64::MAX => (header.max_timestamp, header.max_timestamp),
        _ => batch::time_span(header, records),
    };
    if youngest.saturating_sub(now) > ahead || now.saturating_sub(oldest) > behind {
        return refused(
            ResponseError::InvalidTimestamp,
            "a time stamp is further from the log's clock than message.timestamp.*.max.ms of the topic",
        );
    }
    Ok(())
}

fn answer(
    index: i32,
    appended: Result<Appended, Refusal>,
    topic: Option<&Topic>,
) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(index);
    match appended {
        Ok(appended) => {
            let partition = topic.and_then(|it| it.partition(index));
            answer
                .with_base_offset(appended.base_offset)
                .with_log_append_time_ms(appended.append_time)
                .with_log_start_offset(partition.map_or(-1, |it| lock(it).start()))
        }
        Err(refusal) => answer
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_error_code(refusal.error.code())
            .with_error_message(Some(text(refusal.why))),
    }
}
