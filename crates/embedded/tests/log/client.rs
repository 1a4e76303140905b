//! A Kafka client of a few lines: one request at a time, in any version, also of bytes that are none.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, CreateTopicsResponse, FetchRequest, FetchResponse, GroupId,
    ListOffsetsRequest, ListOffsetsResponse, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
    TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use telltale_embedded::log::{Log, LogConfig};

/// A log in memory that answers fast.
pub(crate) fn log() -> Log {
    Log::start(config()).unwrap()
}

/// Settings for tests: a free port, and groups that do not gather.
pub(crate) fn config() -> LogConfig {
    let mut config = LogConfig::default();
    config.rebalance_delay = Duration::ZERO;
    config
}

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { stream, correlation_id: 0 }
    }

    /// Sends a request and reads its answer to the last byte.
    pub(crate) fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request);
        let mut body = self.receive().expect("the log has closed the connection");
        let key = ApiKey::try_from(R::KEY).unwrap();
        let header = ResponseHeader::decode(&mut body, key.response_header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation_id);
        let response = R::Response::decode(&mut body, version)
            .unwrap_or_else(|it| panic!("the answer to {key:?} version {version}: {it}"));
        assert!(body.is_empty(), "{} bytes behind the answer to {key:?} version {version}", body.len());
        response
    }

    /// Sends a request.
    pub(crate) fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation_id += 1;
        let key = ApiKey::try_from(R::KEY).unwrap();
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes, key.request_header_version(version)).unwrap();
        request.encode(&mut bytes, version).unwrap();
        self.send_frame(&bytes);
    }

    /// Sends bytes behind their length.
    pub(crate) fn send_frame(&mut self, bytes: &[u8]) {
        self.send_raw(&(bytes.len() as u32).to_be_bytes());
        self.send_raw(bytes);
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        // The log may have closed the connection already, which the next read shows.
        let _ = self.stream.write_all(bytes);
    }

    /// The next frame; `None` when the log has closed the connection.
    pub(crate) fn receive(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body).ok()?;
        Some(Bytes::from(body))
    }

    pub(crate) fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let response = self.try_create_topic(name, partitions, configs);
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
    }

    pub(crate) fn try_create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> CreateTopicsResponse {
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(-1)
            .with_configs(configs.collect());
        self.call(7, &CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000))
    }

    /// Writes a batch to partition 0.
    pub(crate) fn produce(&mut self, topic: &str, records: Bytes) -> PartitionProduceResponse {
        self.call::<ProduceRequest>(9, &produce_request(topic, records, -1))
            .responses
            .remove(0)
            .partition_responses
            .remove(0)
    }

    /// Reads partition 0 from an offset on.
    pub(crate) fn fetch(&mut self, topic: &str, offset: i64, committed: bool, wait_ms: i32) -> PartitionData {
        let request = fetch_request(topic, offset, committed, wait_ms);
        let mut response: FetchResponse = self.call(11, &request);
        assert_eq!(response.error_code, 0);
        response.responses.remove(0).partitions.remove(0)
    }

    /// Values that a consumer of partition 0 sees, with offsets.
    pub(crate) fn read(&mut self, topic: &str, committed: bool) -> Vec<(i64, String)> {
        let mut seen = Vec::new();
        let mut offset = self.offset_at(topic, -2).1;
        loop {
            let data = self.fetch(topic, offset, committed, 0);
            let (values, next) = values(&data, committed);
            seen.extend(values.into_iter().filter(|it| it.0 >= offset));
            match next {
                Some(next) => offset = next,
                None => return seen,
            }
        }
    }

    /// Time stamp and offset by time.
    pub(crate) fn offset_at(&mut self, topic: &str, timestamp: i64) -> (i64, i64) {
        let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let response: ListOffsetsResponse =
            self.call(7, &ListOffsetsRequest::default().with_topics(vec![topic]));
        let found = &response.topics[0].partitions[0];
        assert_eq!(found.error_code, 0);
        (found.timestamp, found.offset)
    }
}

/// The values that a consumer hands out of a fetched partition, and the offset behind the last batch.
pub(crate) fn values(data: &PartitionData, committed: bool) -> (Vec<(i64, String)>, Option<i64>) {
    assert_eq!(data.error_code, 0);
    let mut aborted = data.aborted_transactions.clone().unwrap_or_default();
    let mut skipping = std::collections::HashSet::new();
    let mut seen = Vec::new();
    let mut next = None;
    let mut bytes = data.records.clone().unwrap_or_default();
    while !bytes.is_empty() {
        let length = 12 + u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
        let base = i64::from_be_bytes(bytes[..8].try_into().unwrap());
        let delta = i32::from_be_bytes(bytes[23..27].try_into().unwrap());
        next = Some(base + i64::from(delta) + 1);
        for record in RecordBatchDecoder::decode(&mut bytes.split_to(length)).unwrap().records {
            aborted.retain(|it| {
                let begins = committed && it.first_offset <= record.offset;
                if begins {
                    skipping.insert(it.producer_id.0);
                }
                !begins
            });
            if record.control {
                skipping.remove(&record.producer_id);
            } else if !(record.transactional && skipping.contains(&record.producer_id)) {
                seen.push((record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
            }
        }
    }
    (seen, next)
}

pub(crate) fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

pub(crate) fn group_id(name: &str) -> GroupId {
    GroupId(text(name))
}

pub(crate) fn transactional_id(name: &str) -> TransactionalId {
    TransactionalId(text(name))
}

pub(crate) fn produce_request(topic: &str, records: Bytes, acks: i16) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1000).with_topic_data(vec![topic])
}

pub(crate) fn fetch_request(topic: &str, offset: i64, committed: bool, wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_isolation_level(i8::from(committed))
        .with_topics(vec![topic])
}

/// Who writes a batch: producer id, epoch, first sequence number, and whether in a transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) sequence: i32,
    pub(crate) transactional: bool,
}

/// Nobody in particular.
pub(crate) const ANYBODY: Writer = Writer { producer_id: -1, epoch: -1, sequence: -1, transactional: false };

/// A batch with a record per value; time stamps count up from 1000.
pub(crate) fn batch(writer: Writer, compression: Compression, values: &[&str]) -> Bytes {
    let records: Vec<_> = values
        .iter()
        .enumerate()
        .map(|(index, value)| Record {
            transactional: writer.transactional,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: writer.producer_id,
            producer_epoch: writer.epoch,
            timestamp_type: TimestampType::Creation,
            offset: index as i64,
            // Counts up from -1 too: only so the library makes one batch of them.
            sequence: writer.sequence + index as i32,
            timestamp: 1000 + index as i64,
            key: Some(Bytes::from(format!("key of {value}"))),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: Default::default(),
        })
        .collect();
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, &records, &RecordEncodeOptions { version: 2, compression })
        .unwrap();
    bytes.freeze()
}

/// A batch of anybody, uncompressed.
pub(crate) fn plain(values: &[&str]) -> Bytes {
    batch(ANYBODY, Compression::None, values)
}

/// What a produce answer says, for batches that are refused.
pub(crate) fn refused(answer: &PartitionProduceResponse) -> Option<kafka_protocol::ResponseError> {
    kafka_protocol::ResponseError::try_from_code(answer.error_code)
}
