//! Records go in and come out unchanged: compressions, sizes, keys, headers, time stamps, order.

use kafka_protocol::records::Compression;
use rdkafka::consumer::{BaseConsumer, Consumer};
use telltale_testkit::wire::{ANYBODY, batch};

use crate::clients::{PATIENCE, Record, config, producer, read_all, send, send_all};
use crate::support::{kafka, now};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Bytes that hardly compress, the same for the same seed (xorshift).
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn every_size_comes_back_in_every_compression() {
    let kafka = kafka();
    for codec in CODECS {
        let topic = kafka.topic(codec, &[]);
        let producer = producer(&kafka.servers(), &[("compression.type", codec), ("linger.ms", "20")]);
        let mut sent = Vec::new();
        for (index, size) in
            [0, 1, 2, 15, 100, 1_000, 10_000, 65_535, 65_536, 900_000].into_iter().enumerate()
        {
            sent.push(Record::of(noise(size, index as u64)));
            sent.push(Record::of(vec![b'x'; size]));
        }
        send_all(&producer, &topic, &sent);
        let read = read_all(&kafka.servers(), &topic, &[]);
        assert_eq!(read.len(), sent.len(), "{codec}");
        for (index, (read, sent)) in read.iter().zip(&sent).enumerate() {
            assert_eq!(read.offset, index as i64, "{codec}");
            assert!(read.value == sent.value, "{codec}: record {index} has changed");
        }
    }
}

#[test]
fn many_small_records_in_one_batch_come_back_in_every_compression() {
    let kafka = kafka();
    for codec in CODECS {
        let topic = kafka.topic(codec, &[]);
        let settings = [("compression.type", codec), ("linger.ms", "50"), ("batch.num.messages", "10000")];
        let producer = producer(&kafka.servers(), &settings);
        let sent: Vec<_> = (0..20_000).map(|it| Record::of(format!("reading {it}"))).collect();
        send_all(&producer, &topic, &sent);
        let read = read_all(&kafka.servers(), &topic, &[]);
        assert_eq!(read.len(), sent.len(), "{codec}");
        assert!(read.iter().zip(&sent).all(|(read, sent)| read.value == sent.value), "{codec}");
    }
}

#[test]
fn a_batch_is_stored_as_it_was_sent() {
    use Compression::{Gzip, Lz4, None, Snappy, Zstd};
    let kafka = kafka();
    let topic = kafka.topic("stored", &[]);
    let mut client = kafka.connect();
    for (index, compression) in [None, Gzip, Snappy, Lz4, Zstd].into_iter().enumerate() {
        let sent = batch(ANYBODY, compression, &["a", "b"]);
        let base = 2 * index as i64;
        assert_eq!(client.produce(&topic, sent.clone()).base_offset, base);
        let stored = client.fetch(&topic, base, false, 0).records.unwrap();
        assert_eq!(
            stored[16..],
            sent[16..],
            "{compression:?}: only the offset and the leader epoch are the log's"
        );
    }
    assert_eq!(client.read(&topic, false).len(), 10);
}

#[test]
fn keys_values_and_headers_keep_what_is_null_empty_or_twice() {
    let kafka = kafka();
    let topic = kafka.topic("headers", &[]);
    let header = |key: &str, value: Option<&[u8]>| (key.to_owned(), value.map(<[u8]>::to_vec));
    let sent = [
        Record { key: None, ..Record::of("no key") },
        Record { key: Some(Vec::new()), ..Record::of("empty key") },
        Record { value: None, ..Record::of("") },
        Record { value: Some(Vec::new()), ..Record::of("") },
        Record { key: None, value: None, ..Record::of("") },
        Record { key: Some(vec![0, 0xff, 0xfe]), ..Record::of(vec![0xc3, 0x28]) },
        Record { headers: vec![header("src", Some(b"t-0-7"))], ..Record::of("one header") },
        Record {
            headers: vec![
                header("twice", Some(b"first")),
                header("other", None),
                header("twice", Some(b"")),
                header("", Some(&[0, 0xff])),
                header("twice", Some(b"last")),
            ],
            ..Record::of("in this order")
        },
        Record {
            headers: (0..200).map(|it| (format!("h{it}"), Some(vec![7; it]))).collect(),
            ..Record::of("many")
        },
    ];
    send_all(&producer(&kafka.servers(), &[]), &topic, &sent);
    let read = read_all(&kafka.servers(), &topic, &[]);
    for (index, (read, sent)) in read.iter().zip(&sent).enumerate() {
        assert_eq!(*read, Record { offset: index as i64, ..sent.clone() });
    }
    assert_eq!(read.len(), sent.len());
}

#[test]
fn time_stamps_are_the_producers_or_the_logs_as_the_topic_says() {
    let kafka = kafka();
    let sent: Vec<_> = [1, 1_700_000_000_000, 1_600_000_000_000, 0]
        .map(|timestamp| Record { timestamp, ..Record::of("v") })
        .into();
    let create = kafka.topic("create", &[]);
    send_all(&producer(&kafka.servers(), &[]), &create, &sent[..3]);
    let times: Vec<_> = read_all(&kafka.servers(), &create, &[]).iter().map(|it| it.timestamp).collect();
    assert_eq!(times, [1, 1_700_000_000_000, 1_600_000_000_000]);

    let append = kafka.topic("append", &[("message.timestamp.type", "LogAppendTime")]);
    let before = now();
    send_all(&producer(&kafka.servers(), &[]), &append, &sent);
    let after = now();
    for record in read_all(&kafka.servers(), &append, &[]) {
        assert!((before..=after).contains(&record.timestamp), "{} of {before}..={after}", record.timestamp);
    }
}

#[test]
fn each_partition_keeps_its_order_with_many_batches_in_flight() {
    let kafka = kafka();
    let topic = kafka.topic_of("order", 4, &[]);
    let settings = [
        ("enable.idempotence", "true"),
        ("max.in.flight.requests.per.connection", "5"),
        ("batch.num.messages", "7"),
        ("linger.ms", "0"),
    ];
    let producer = producer(&kafka.servers(), &settings);
    let sent: Vec<_> =
        (0..20_000).map(|it| Record { partition: it % 4, ..Record::of(format!("{it:06}")) }).collect();
    let deliveries = send(&producer, &topic, &sent);
    let mut next = [0; 4];
    for (delivery, sent) in deliveries.iter().zip(&sent) {
        let expected = &mut next[sent.partition as usize];
        assert_eq!(*delivery, Ok((sent.partition, *expected)), "the reports name partition and offset");
        *expected += 1;
    }
    let read = read_all(&kafka.servers(), &topic, &[]);
    for partition in 0..4 {
        let read: Vec<_> = read.iter().filter(|it| it.partition == partition).map(Record::text).collect();
        let sent: Vec<_> = sent.iter().filter(|it| it.partition == partition).map(Record::text).collect();
        assert!(read == sent, "partition {partition} is out of order");
    }
}

#[test]
fn equal_keys_go_to_one_partition_and_java_agrees_on_which() {
    let kafka = kafka();
    let topic = kafka.topic_of("keys", 6, &[]);
    let producer = producer(&kafka.servers(), &[("partitioner", "murmur2_random")]);
    // Partitions as org.apache.kafka.common.utils.Utils.murmur2 gives them: (hash & 0x7fffffff) % 6.
    let unset = -1;
    let keys = ["car-000001", "car-000002", "car-000003", "21", "foobar", "abc"];
    let sent: Vec<_> = keys
        .iter()
        .cycle()
        .take(60)
        .map(|key| Record { partition: unset, key: Some(key.as_bytes().to_vec()), ..Record::of("v") })
        .collect();
    let partitions: Vec<_> = send(&producer, &topic, &sent).into_iter().map(|it| it.unwrap().0).collect();
    let first = &partitions[..keys.len()];
    assert!(partitions.chunks(keys.len()).all(|it| it == first));
    // The test values of Kafka's own UtilsTest: murmur2("21") = -973932308, ("foobar") = -790332482, ("abc") = 479470107.
    let java = |hash: i32| (hash & 0x7fff_ffff) % 6;
    assert_eq!(first[3..], [java(-973_932_308), java(-790_332_482), java(479_470_107)]);
}

#[test]
fn watermarks_follow_what_is_written() {
    let kafka = kafka();
    let topic = kafka.topic("watermarks", &[]);
    let consumer: BaseConsumer = config(&kafka.servers(), &[]).create().unwrap();
    assert_eq!(consumer.fetch_watermarks(&topic, 0, PATIENCE).unwrap(), (0, 0));
    send_all(&producer(&kafka.servers(), &[]), &topic, &[Record::of("a"), Record::of("b")]);
    assert_eq!(consumer.fetch_watermarks(&topic, 0, PATIENCE).unwrap(), (0, 2));
}
