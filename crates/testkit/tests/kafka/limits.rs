//! What a broker refuses to store, how much it hands out at once, and the error for each.

use bytes::Bytes;
use kafka_protocol::ResponseError::{
    CorruptMessage, InvalidRecord, InvalidRequiredAcks, InvalidTimestamp, OffsetOutOfRange,
    UnknownTopicOrPartition, UnsupportedForMessageFormat,
};
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use kafka_protocol::records::Compression;
use rdkafka::error::RDKafkaErrorCode;
use telltale_testkit::wire::{
    ANYBODY, encoded, fetch_request, plain, produce_request, record, refused, values,
};

use crate::clients::{Record, producer, read_all, send};
use crate::support::kafka;

#[test]
fn a_message_larger_than_the_topic_takes_is_refused_by_its_size() {
    let kafka = kafka();
    let small = kafka.topic("small", &[("max.message.bytes", "1000")]);
    let usual = kafka.topic("usual", &[]);
    let large = kafka.topic("large", &[("max.message.bytes", "20000000")]);
    let producer = producer(&kafka.servers(), &[("message.max.bytes", "20000000"), ("linger.ms", "0")]);
    let one = |size| [Record::of(vec![b'x'; size])];
    let too_large = Err(RDKafkaErrorCode::MessageSizeTooLarge);
    assert_eq!(send(&producer, &small, &one(900)), [Ok((0, 0))]);
    assert_eq!(send(&producer, &small, &one(1_000)), [too_large]);
    assert_eq!(send(&producer, &usual, &one(1_048_000)), [Ok((0, 0))]);
    assert_eq!(
        send(&producer, &usual, &one(1_048_588)),
        [too_large],
        "1 MiB and 12 bytes is the usual limit"
    );
    assert_eq!(send(&producer, &large, &one(8_000_000)), [Ok((0, 0))]);
    assert_eq!(send(&producer, &small, &one(900)), [Ok((0, 1))], "a refusal leaves no gap");
    // A consumer that asks for less than one record still gets it.
    let read = read_all(&kafka.servers(), &large, &[("fetch.message.max.bytes", "1000")]);
    assert_eq!(read[0].value.as_ref().map(Vec::len), Some(8_000_000));
}

#[test]
fn damaged_batches_are_refused_with_the_reason() {
    let kafka = kafka();
    let topic = kafka.topic("damaged", &[]);
    let mut client = kafka.connect();
    let mut produce = |records: Vec<u8>| refused(&client.produce(&topic, Bytes::from(records)));
    let good = plain(&["a"]).to_vec();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(produce(flipped), Some(CorruptMessage), "a flipped bit");
    let mut longer = good.clone();
    longer[11] += 1;
    assert_eq!(produce(longer), Some(InvalidRecord), "a length beyond the end");
    assert_eq!(produce(good[..40].to_vec()), Some(InvalidRecord), "half a header");
    assert_eq!(produce(Vec::new()), Some(InvalidRecord), "nothing");
    let mut negative = good.clone();
    negative[8] = 0xff;
    assert_eq!(produce(negative), Some(CorruptMessage), "an impossible length");
    assert_eq!(produce([good.clone(), good.clone()].concat()), Some(InvalidRecord), "two batches");
    assert_eq!(produce(good), None);
    assert_eq!(client.read(&topic, false), [(0, "a".to_owned())]);
}

#[test]
fn an_old_message_format_is_refused() {
    let kafka = kafka();
    let topic = kafka.topic("magic", &[]);
    let mut client = kafka.connect();
    let mut old = plain(&["a"]).to_vec();
    old[16] = 1;
    let error = refused(&client.produce(&topic, Bytes::from(old)));
    assert!(matches!(error, Some(UnsupportedForMessageFormat | CorruptMessage | InvalidRecord)), "{error:?}");
}

#[test]
fn a_compacted_topic_wants_keys() {
    let kafka = kafka();
    let topic = kafka.topic("compacted", &[("cleanup.policy", "compact")]);
    let keyless = record(ANYBODY, 0, 1_000, None, Some(Bytes::from_static(b"v")));
    let mut client = kafka.connect();
    let answer = client.produce(&topic, encoded(&[keyless], Compression::None));
    assert_eq!(refused(&answer), Some(InvalidRecord));
    let deliveries =
        send(&producer(&kafka.servers(), &[]), &topic, &[Record { key: None, ..Record::of("v") }]);
    assert_eq!(deliveries, [Err(RDKafkaErrorCode::InvalidRecord)]);
}

#[test]
fn time_stamps_far_from_the_brokers_clock_are_refused_where_the_topic_says_so() {
    let kafka = kafka();
    let mut client = kafka.connect();
    let at = |timestamp| {
        let record =
            record(ANYBODY, 0, timestamp, Some(Bytes::from_static(b"k")), Some(Bytes::from_static(b"v")));
        encoded(&[record], Compression::None)
    };
    let year_3000 = 32_503_680_000_000;
    let usual = kafka.topic("usual", &[]);
    assert_eq!(refused(&client.produce(&usual, at(1_000))), None, "the past is open");
    assert_eq!(
        refused(&client.produce(&usual, at(year_3000))),
        Some(InvalidTimestamp),
        "an hour ahead is the limit"
    );
    let wide = kafka.topic("wide", &[("message.timestamp.after.max.ms", "9223372036854775807")]);
    assert_eq!(refused(&client.produce(&wide, at(year_3000))), None);
    let strict = kafka.topic("strict", &[("message.timestamp.before.max.ms", "3600000")]);
    assert_eq!(refused(&client.produce(&strict, at(1_000))), Some(InvalidTimestamp));
    let log_append = kafka.topic(
        "log-append",
        &[("message.timestamp.type", "LogAppendTime"), ("message.timestamp.before.max.ms", "3600000")],
    );
    assert_eq!(refused(&client.produce(&log_append, at(1_000))), None, "the log's own time is never far");
}

#[test]
fn unknown_partitions_and_acks_are_refused() {
    let kafka = kafka();
    let topic = kafka.topic("acks", &[]);
    let unknown = kafka.name("unknown");
    let mut client = kafka.connect();
    assert_eq!(refused(&client.produce(&unknown, plain(&["a"]))), Some(UnknownTopicOrPartition));
    let mut elsewhere = produce_request(&topic, plain(&["a"]), -1);
    elsewhere.topic_data[0].partition_data[0].index = 5;
    let answer = client.call::<ProduceRequest>(9, &elsewhere);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, UnknownTopicOrPartition.code());
    let answer = client.call::<ProduceRequest>(9, &produce_request(&topic, plain(&["a"]), 2));
    assert_eq!(answer.responses[0].partition_responses[0].error_code, InvalidRequiredAcks.code());
    // Without acknowledgements there is no answer, only the next request's.
    client.send::<ProduceRequest>(9, &produce_request(&topic, plain(&["b"]), 0));
    let answer = client.call::<ProduceRequest>(9, &produce_request(&topic, plain(&["c"]), 1));
    assert_eq!(answer.responses[0].partition_responses[0].base_offset, 1);
    assert_eq!(client.fetch(&unknown, 0, false, 0).error_code, UnknownTopicOrPartition.code());
}

#[test]
fn librdkafka_reports_an_unknown_topic_and_partition() {
    let kafka = kafka();
    let topic = kafka.topic("known", &[]);
    let unknown = kafka.name("unknown");
    let settings = [("topic.metadata.propagation.max.ms", "1000"), ("message.timeout.ms", "60000")];
    let producer = producer(&kafka.servers(), &settings);
    let deliveries = send(&producer, &unknown, &[Record::of("a")]);
    assert!(
        matches!(
            deliveries[0],
            Err(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition)
        ),
        "{deliveries:?}"
    );
    send(&producer, &topic, &[Record::of("a")]);
    let deliveries = send(&producer, &topic, &[Record { partition: 7, ..Record::of("a") }]);
    assert_eq!(deliveries, [Err(RDKafkaErrorCode::UnknownPartition)]);
}

#[test]
fn offsets_outside_the_log_are_out_of_range() {
    let kafka = kafka();
    let topic = kafka.topic("range", &[]);
    let mut client = kafka.connect();
    client.produce(&topic, plain(&["a", "b"]));
    for (offset, error) in [(-1, OffsetOutOfRange.code()), (0, 0), (2, 0), (3, OffsetOutOfRange.code())] {
        // An error does not wait for records.
        let wait_ms = if error == 0 { 0 } else { 300_000 };
        assert_eq!(client.fetch(&topic, offset, false, wait_ms).error_code, error, "offset {offset}");
    }
}

#[test]
fn a_fetch_waits_for_records_and_is_woken_by_them() {
    let kafka = kafka();
    let topic = kafka.topic("waiting", &[]);
    let mut waiting = kafka.connect();
    // Longer than the test waits for an answer: only the record can end it.
    waiting.send::<FetchRequest>(11, &fetch_request(&topic, 0, false, 300_000));
    kafka.connect().produce(&topic, plain(&["wakes"]));
    let answer = waiting.answer::<FetchRequest>(11);
    let (seen, next) = values(&answer.responses[0].partitions[0], false);
    assert_eq!((seen, next), (vec![(0, "wakes".to_owned())], Some(1)));
}

#[test]
fn a_fetch_gives_no_more_than_it_may_but_always_one_batch() {
    let kafka = kafka();
    let topic = kafka.topic_of("bytes", 2, &[]);
    let mut client = kafka.connect();
    let large = "x".repeat(1_000);
    for index in [0, 1] {
        for _ in 0..10 {
            let mut request = produce_request(&topic, plain(&[&large]), -1);
            request.topic_data[0].partition_data[0].index = index;
            let answer = client.call::<ProduceRequest>(9, &request);
            assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
        }
    }
    let mut fetch = |partition_bytes: i32, bytes: i32| {
        let mut request = fetch_request(&topic, 0, false, 0).with_max_bytes(bytes);
        let both = [0, 1]
            .map(|it| FetchPartition::default().with_partition(it).with_partition_max_bytes(partition_bytes));
        request.topics[0].partitions = both.into();
        let answer = client.call::<FetchRequest>(11, &request);
        let mut batches: Vec<_> = answer.responses[0].partitions.clone();
        batches.sort_by_key(|it| it.partition_index);
        batches.iter().map(|it| values(it, false).0.len()).collect::<Vec<_>>()
    };
    assert_eq!(fetch(1 << 20, 1 << 20), [10, 10]);
    let limited = fetch(3_500, 1 << 20);
    assert!(limited[0] >= 1 && limited[0] <= 3 && limited[1] <= 3, "{limited:?}");
    let one = fetch(10, 10);
    assert_eq!(one.iter().sum::<usize>(), 1, "one batch, so that the consumer gets on: {one:?}");
}
