//! A Kafka client of a few lines: one request at a time, in any version, also of bytes that are none.
//!
//! For what librdkafka does not do or hides: single error codes, batches as they are stored, members that die.

use std::collections::HashSet;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, CreateTopicsResponse, FetchRequest, FetchResponse, FindCoordinatorRequest,
    GroupId, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, ProduceRequest, ProduceResponse,
    RequestHeader, ResponseHeader, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

/// The longest wait for an answer, and for a broker to become ready for a request.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// What a coordinator looks after, as `FindCoordinator` numbers it.
#[derive(Debug, Clone, Copy)]
pub enum Coordinates {
    /// A consumer group.
    Group = 0,
    /// A transactional id.
    Transaction = 1,
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// Connects to a broker.
    pub fn connect(address: impl ToSocketAddrs) -> Self {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_nodelay(true).expect("a TCP connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a TCP connection");
        Self { stream, correlation_id: 0 }
    }

    /// Connects to the coordinator of a group or of a transactional id, once there is one.
    pub fn coordinator(bootstrap: impl ToSocketAddrs, what: Coordinates, key: &str) -> Self {
        let mut client = Self::connect(bootstrap);
        let request = FindCoordinatorRequest::default().with_key(text(key)).with_key_type(what as i8);
        let found = client.call_until(3, &request, |it| it.error_code == 0);
        Self::connect((found.host.as_str(), u16::try_from(found.port).expect("a port")))
    }

    /// Sends a request and reads its answer to the last byte.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request);
        self.answer::<R>(version)
    }

    /// Repeats a request until its answer is what is waited for: brokers learn of topics and coordinators late.
    pub fn call_until<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        good: impl Fn(&R::Response) -> bool,
    ) -> R::Response
    where
        R::Response: Debug,
    {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let response = self.call(version, request);
            if good(&response) {
                return response;
            }
            assert!(Instant::now() < deadline, "still answered with {response:?}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Reads the answer to the request that was sent last.
    pub fn answer<R: Request>(&mut self, version: i16) -> R::Response {
        let mut body = self.receive().expect("the broker has closed the connection");
        let key = ApiKey::try_from(R::KEY).expect("a known request");
        let header =
            ResponseHeader::decode(&mut body, key.response_header_version(version)).expect("a header");
        assert_eq!(header.correlation_id, self.correlation_id);
        let response = R::Response::decode(&mut body, version)
            .unwrap_or_else(|it| panic!("the answer to {key:?} version {version}: {it}"));
        assert!(body.is_empty(), "{} bytes behind the answer to {key:?} version {version}", body.len());
        response
    }

    /// Sends a request.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation_id += 1;
        let key = ApiKey::try_from(R::KEY).expect("a known request");
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes, key.request_header_version(version)).expect("a header");
        request.encode(&mut bytes, version).unwrap_or_else(|it| panic!("{key:?} version {version}: {it}"));
        self.send_frame(&bytes);
    }

    /// Sends bytes behind their length.
    pub fn send_frame(&mut self, bytes: &[u8]) {
        self.send_raw(&(bytes.len() as u32).to_be_bytes());
        self.send_raw(bytes);
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        // The broker may have closed the connection already, which the next read shows.
        let _ = self.stream.write_all(bytes);
    }

    /// The next frame; `None` when the broker has closed the connection.
    pub fn receive(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body).ok()?;
        Some(Bytes::from(body))
    }

    /// Creates a topic and waits until the broker serves it.
    pub fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let response = self.try_create_topic(name, partitions, configs);
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
        self.await_topic(name, partitions);
    }

    /// Waits until every partition of a topic has a leader.
    pub fn await_topic(&mut self, name: &str, partitions: i32) {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        self.call_until(9, &request, |it| {
            let topic = &it.topics[0];
            topic.error_code == 0
                && topic.partitions.len() == partitions as usize
                && topic.partitions.iter().all(|it| it.error_code == 0 && it.leader_id.0 >= 0)
        });
        // The broker tells of its leadership a little before it takes it up.
        let asked = (0..partitions)
            .map(|it| ListOffsetsPartition::default().with_partition_index(it).with_timestamp(-2));
        let topic = ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(asked.collect());
        let request = ListOffsetsRequest::default().with_topics(vec![topic]);
        self.call_until(7, &request, |it| it.topics[0].partitions.iter().all(|it| it.error_code == 0));
    }

    /// Asks for a topic to be created.
    pub fn try_create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> CreateTopicsResponse {
        let request = create_topics(name, partitions, configs);
        self.call(7, &request)
    }

    /// Writes a batch to partition 0.
    pub fn produce(&mut self, topic: &str, records: Bytes) -> PartitionProduceResponse {
        self.produce_as(None, topic, records)
    }

    /// Writes a batch to partition 0 as a transactional producer.
    pub fn produce_as(
        &mut self,
        name: Option<&str>,
        topic: &str,
        records: Bytes,
    ) -> PartitionProduceResponse {
        let request = produce_request(topic, records, -1).with_transactional_id(name.map(transactional_id));
        let mut response: ProduceResponse = self.call(9, &request);
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// Reads partition 0 from an offset on.
    pub fn fetch(&mut self, topic: &str, offset: i64, committed: bool, wait_ms: i32) -> PartitionData {
        let request = fetch_request(topic, offset, committed, wait_ms);
        let mut response: FetchResponse = self.call(11, &request);
        assert_eq!(response.error_code, 0);
        response.responses.remove(0).partitions.remove(0)
    }

    /// Values that a consumer of partition 0 sees, with offsets.
    pub fn read(&mut self, topic: &str, committed: bool) -> Vec<(i64, String)> {
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
    pub fn offset_at(&mut self, topic: &str, timestamp: i64) -> (i64, i64) {
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
pub fn values(data: &PartitionData, committed: bool) -> (Vec<(i64, String)>, Option<i64>) {
    assert_eq!(data.error_code, 0);
    let mut aborted = data.aborted_transactions.clone().unwrap_or_default();
    let mut skipping = HashSet::new();
    let mut seen = Vec::new();
    let mut next = None;
    let mut bytes = data.records.clone().unwrap_or_default();
    while bytes.len() > 12 {
        let length = 12 + u32::from_be_bytes(bytes[8..12].try_into().expect("four bytes")) as usize;
        if bytes.len() < length {
            break; // Kafka cuts its answer where the limit falls
        }
        let base = i64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"));
        let delta = i32::from_be_bytes(bytes[23..27].try_into().expect("four bytes"));
        next = Some(base + i64::from(delta) + 1);
        for record in RecordBatchDecoder::decode(&mut bytes.split_to(length)).expect("a batch").records {
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
                let value = record.value.expect("a value");
                seen.push((record.offset, String::from_utf8(value.to_vec()).expect("text")));
            }
        }
    }
    (seen, next)
}

/// Text as requests carry it.
pub fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// The name of a topic.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// The name of a consumer group.
pub fn group_id(name: &str) -> GroupId {
    GroupId(text(name))
}

/// The name of a transactional producer.
pub fn transactional_id(name: &str) -> TransactionalId {
    TransactionalId(text(name))
}

/// A request for one topic, replicated as the broker likes.
pub fn create_topics(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreateTopicsRequest {
    let configs = configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    });
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(-1)
        .with_configs(configs.collect());
    CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000)
}

/// A request with one batch for partition 0.
pub fn produce_request(topic: &str, records: Bytes, acks: i16) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic])
}

/// A request for up to 1 MiB of partition 0.
pub fn fetch_request(topic: &str, offset: i64, committed: bool, wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_isolation_level(i8::from(committed))
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// Who writes a batch: producer id, epoch, first sequence number, and whether in a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Writer {
    /// As `InitProducerId` gave it, -1 for none.
    pub producer_id: i64,
    /// As `InitProducerId` gave it, -1 for none.
    pub epoch: i16,
    /// Of the first record, -1 for none.
    pub sequence: i32,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
}

/// Nobody in particular.
pub const ANYBODY: Writer = Writer { producer_id: -1, epoch: -1, sequence: -1, transactional: false };

/// A batch with a record per value; keys are made of the values, time stamps count up from 1000.
pub fn batch(writer: Writer, compression: Compression, values: &[&str]) -> Bytes {
    batch_at(1000, writer, compression, values)
}

/// The same with time stamps that count up from `time`.
pub fn batch_at(time: i64, writer: Writer, compression: Compression, values: &[&str]) -> Bytes {
    let records: Vec<_> = values
        .iter()
        .enumerate()
        .map(|(index, value)| {
            let value = Bytes::copy_from_slice(value.as_bytes());
            let key = Bytes::from([b"key of ".as_slice(), &value].concat());
            record(writer, index, time + index as i64, Some(key), Some(value))
        })
        .collect();
    encoded(&records, compression)
}

/// The record of a batch that stands at `index`.
pub fn record(
    writer: Writer,
    index: usize,
    timestamp: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
) -> Record {
    Record {
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
        timestamp,
        key,
        value,
        headers: Default::default(),
    }
}

/// Records as one batch.
pub fn encoded(records: &[Record], compression: Compression) -> Bytes {
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, records, &RecordEncodeOptions { version: 2, compression })
        .expect("records of one batch");
    bytes.freeze()
}

/// A batch of anybody, uncompressed.
pub fn plain(values: &[&str]) -> Bytes {
    batch(ANYBODY, Compression::None, values)
}

/// What a produce answer says, for batches that are refused.
pub fn refused(answer: &PartitionProduceResponse) -> Option<ResponseError> {
    ResponseError::try_from_code(answer.error_code)
}
