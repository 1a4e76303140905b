//! librdkafka as our services use it: producers that report, consumers that read to the end.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};

/// The longest wait for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Settings of a client; those given later win.
pub(crate) fn config(servers: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("client.id", "conformance");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config
}

/// What became of one record: partition and offset, or the error.
pub(crate) type Delivery = Result<(i32, i64), RDKafkaErrorCode>;

/// Delivery reports in the order in which they came.
#[derive(Default)]
pub(crate) struct Reports(Mutex<Vec<(usize, Delivery)>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let delivery = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.rdkafka_error_code().expect("a code")),
        };
        self.0.lock().unwrap().push((index, delivery));
    }
}

/// A producer with delivery reports.
pub(crate) fn producer(servers: &str, settings: &[(&str, &str)]) -> BaseProducer<Reports> {
    config(servers, settings).create_with_context(Reports::default()).unwrap()
}

/// A record to send, or one that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// A record for partition 0 with a value and the key `k`.
    pub(crate) fn of(value: impl Into<Vec<u8>>) -> Self {
        Self { timestamp: 1_000, key: Some(b"k".to_vec()), value: Some(value.into()), ..Self::default() }
    }

    /// The value as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.value.clone().unwrap_or_default()).unwrap()
    }
}

/// Sends records and waits for what becomes of each, in their order.
pub(crate) fn send(producer: &BaseProducer<Reports>, topic: &str, records: &[Record]) -> Vec<Delivery> {
    producer.context().0.lock().unwrap().clear();
    for (index, record) in records.iter().enumerate() {
        enqueue(producer, topic, index, record);
    }
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        producer.poll(Duration::from_millis(10));
        let mut reports = producer.context().0.lock().unwrap();
        if reports.len() == records.len() {
            reports.sort_by_key(|it| it.0);
            return reports.drain(..).map(|it| it.1).collect();
        }
        assert!(Instant::now() < deadline, "{} of {} records are reported", reports.len(), records.len());
    }
}

fn enqueue(producer: &BaseProducer<Reports>, topic: &str, index: usize, record: &Record) {
    let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: value.as_deref() })
    });
    let mut next: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(topic, index)
        .partition(record.partition)
        .timestamp(record.timestamp)
        .headers(headers);
    next.key = record.key.as_deref();
    next.payload = record.value.as_deref();
    loop {
        match producer.send(next) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(Duration::from_millis(10));
                next = back;
            }
            Err((error, _)) => {
                // Refused before it was sent: reported like the others.
                let code = error.rdkafka_error_code().expect("a code");
                return producer.context().0.lock().unwrap().push((index, Err(code)));
            }
        }
    }
}

/// Sends records that must all arrive.
pub(crate) fn send_all(producer: &BaseProducer<Reports>, topic: &str, records: &[Record]) {
    for (delivery, record) in send(producer, topic, records).into_iter().zip(records) {
        delivery.unwrap_or_else(|it| panic!("{it} for {record:?}"));
    }
}

/// Everything that a consumer finds in a topic, partition by partition.
pub(crate) fn read_all(servers: &str, topic: &str, settings: &[(&str, &str)]) -> Vec<Record> {
    read_from(servers, topic, Offset::Beginning, settings)
}

/// Everything from a position on, partition by partition.
pub(crate) fn read_from(
    servers: &str,
    topic: &str,
    offset: Offset,
    settings: &[(&str, &str)],
) -> Vec<Record> {
    // librdkafka reads only what is committed unless it is told otherwise.
    let mut all = vec![
        ("group.id", "reader"),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
        ("isolation.level", "read_uncommitted"),
    ];
    all.extend_from_slice(settings);
    let consumer: BaseConsumer = config(servers, &all).create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let mut positions = TopicPartitionList::new();
    let mut open = BTreeSet::new();
    for partition in metadata.topics()[0].partitions() {
        positions.add_partition_offset(topic, partition.id(), offset).unwrap();
        open.insert(partition.id());
    }
    consumer.assign(&positions).unwrap();
    let mut records = read_until_end(&consumer, &mut open);
    records.sort_by_key(|it| (it.partition, it.offset));
    records
}

/// Polls an assigned consumer until each of the partitions has come to its end.
pub(crate) fn read_until_end(consumer: &BaseConsumer, open: &mut BTreeSet<i32>) -> Vec<Record> {
    let deadline = Instant::now() + 2 * PATIENCE;
    let mut records = Vec::new();
    while !open.is_empty() {
        assert!(Instant::now() < deadline, "partitions {open:?} do not end after {} records", records.len());
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => records.push(owned(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(KafkaError::MessageConsumption(code))) if is_passing(code) => {}
            Some(Err(error)) => panic!("{error}"),
        }
    }
    records
}

/// Errors of connections, which librdkafka mends by itself.
pub(crate) fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, RequestTimedOut};
    matches!(code, AllBrokersDown | BrokerTransportFailure | OperationTimedOut | RequestTimedOut)
}

/// A message apart from its consumer.
pub(crate) fn owned(message: &impl Message) -> Record {
    let headers = message
        .headers()
        .map(|headers| headers.iter().map(|it| (it.key.to_owned(), it.value.map(<[u8]>::to_vec))).collect());
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

/// The values of a topic, as a consumer of an isolation level sees them.
pub(crate) fn values(servers: &str, topic: &str, isolation: &str) -> Vec<String> {
    let records = read_all(servers, topic, &[("isolation.level", isolation)]);
    records.iter().map(Record::text).collect()
}
