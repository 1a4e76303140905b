//! Records go in once and come out unchanged, also after a restart.

use std::fs;
use std::path::{Path, PathBuf};

use crate::client::{
    ANYBODY, Client, Writer, batch, config, fetch_request, log, plain, produce_request, refused, topic_name,
};
use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::{DeleteRecordsRequest, FetchRequest, InitProducerIdRequest};
use kafka_protocol::records::Compression;
use telltale_embedded::log::{Error, Log, LogConfig};

fn on_disk(folder: &Path) -> LogConfig {
    let mut config = config();
    config.data = Some(folder.to_owned());
    config
}

fn values(read: &[(i64, String)]) -> Vec<&str> {
    read.iter().map(|it| it.1.as_str()).collect()
}

/// The segment files of the only topic.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let topic = fs::read_dir(folder.join("topics")).unwrap().next().unwrap().unwrap().path();
    let mut files: Vec<_> = fs::read_dir(topic.join("0")).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_compression_comes_back_as_it_was_sent() {
    use Compression::{Gzip, Lz4, None, Snappy, Zstd};
    let log = log();
    let mut client = Client::connect(log.addr());
    client.create_topic("t", 1, &[]);
    for (index, compression) in [None, Gzip, Snappy, Lz4, Zstd].into_iter().enumerate() {
        let sent = batch(ANYBODY, compression, &["a", "b"]);
        let base = 2 * index as i64;
        assert_eq!(client.produce("t", sent.clone()).base_offset, base);
        let stored = client.fetch("t", base, false, 0).records.unwrap();
        assert_eq!(stored[16..], sent[16..], "only the offset and the leader epoch are the log's");
        assert_eq!(client.offset_at("t", 1001), (1001, 1), "{compression:?}");
    }
    assert_eq!(client.read("t", false).len(), 10);
}

#[test]
fn a_producer_is_never_stored_twice_and_never_with_a_gap() {
    let log = log();
    let mut client = Client::connect(log.addr());
    client.create_topic("t", 1, &[]);
    let producer_id =
        client.call(1, &InitProducerIdRequest::default().with_transactional_id(None)).producer_id.0;
    let send = |client: &mut Client, sequence, epoch| {
        let writer = Writer { producer_id, epoch, sequence, transactional: false };
        let answer = client.produce("t", batch(writer, Compression::None, &["a", "b"]));
        refused(&answer).map_or(Ok(answer.base_offset), Err)
    };
    assert_eq!(send(&mut client, 0, 0), Ok(0));
    assert_eq!(send(&mut client, 2, 0), Ok(2));
    assert_eq!(send(&mut client, 0, 0), Ok(0), "a retry is answered as the first time");
    assert_eq!(send(&mut client, 6, 0), Err(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(send(&mut client, 4, 0), Ok(4));
    assert_eq!(client.read("t", false).len(), 6);
}

#[test]
fn batches_that_are_too_large_or_damaged_are_refused() {
    let log = log();
    let mut client = Client::connect(log.addr());
    client.create_topic("t", 1, &[("max.message.bytes", "1000")]);
    client.create_topic("large", 1, &[("max.message.bytes", "20000000")]);
    let large = "x".repeat(8_000_000);
    assert_eq!(refused(&client.produce("t", plain(&[&large]))), Some(ResponseError::MessageTooLarge));
    assert_eq!(client.produce("large", plain(&[&large])).error_code, 0);
    assert_eq!(client.read("large", false)[0].1.len(), large.len(), "larger than a fetch asks for");
    let mut damaged = plain(&["a"]).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&client.produce("t", Bytes::from(damaged))), Some(ResponseError::CorruptMessage));
    assert_eq!(refused(&client.produce("t", Bytes::new())), Some(ResponseError::CorruptMessage));
    assert_eq!(
        refused(&client.produce("unknown", plain(&["a"]))),
        Some(ResponseError::UnknownTopicOrPartition)
    );
    let two = [plain(&["a"]), plain(&["b"])].concat();
    assert_eq!(refused(&client.produce("t", Bytes::from(two))), Some(ResponseError::InvalidRecord));
    assert_eq!(client.read("t", false), []);
}

#[test]
fn a_producer_that_wants_no_answer_gets_none() {
    let log = log();
    let mut client = Client::connect(log.addr());
    client.create_topic("t", 1, &[]);
    client.send(9, &produce_request("t", plain(&["a"]), 0));
    assert_eq!(values(&client.read("t", false)), ["a"], "the next answer is that of the next request");
}

#[test]
fn a_waiting_fetch_is_woken_by_the_next_record() {
    let log = log();
    let mut consumer = Client::connect(log.addr());
    consumer.create_topic("t", 1, &[]);
    let address = log.addr();
    let producer = std::thread::spawn(move || {
        let mut producer = Client::connect(address);
        assert_eq!(producer.produce("t", plain(&["a"])).error_code, 0);
    });
    // It may wait for an hour; the test's connection gives up after a minute.
    let data = consumer.fetch("t", 0, false, 3_600_000);
    assert_eq!(values(&crate::client::values(&data, false).0), ["a"]);
    producer.join().unwrap();
    let out_of_range: FetchRequest = fetch_request("t", 5, false, 3_600_000);
    assert_eq!(
        consumer.call(11, &out_of_range).responses[0].partitions[0].error_code,
        1,
        "an error does not wait"
    );
}

#[test]
fn offsets_are_found_by_time() {
    let log = log();
    let mut client = Client::connect(log.addr());
    client.create_topic("t", 1, &[]);
    assert_eq!(client.offset_at("t", 0), (-1, -1), "nothing there");
    for _ in 0..3 {
        client.produce("t", plain(&["1000", "1001", "1002"]));
    }
    assert_eq!([-2, -1].map(|it| client.offset_at("t", it).1), [0, 9]);
    assert_eq!(client.offset_at("t", -3), (1002, 2), "the newest record");
    assert_eq!(client.offset_at("t", 1001), (1001, 1));
    assert_eq!(client.offset_at("t", 1003), (-1, -1));
}

#[test]
fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut sent = Vec::new();
    for round in 0..3 {
        let log = Log::start(on_disk(folder.path())).unwrap();
        let mut client = Client::connect(log.addr());
        if round == 0 {
            client.create_topic("t", 1, &[("segment.bytes", "300")]);
        }
        for index in 0..20 {
            let writer =
                Writer { producer_id: 5, epoch: 0, sequence: sent.len() as i32, transactional: false };
            sent.push(format!("{round}-{index}"));
            let answer = client.produce("t", batch(writer, Compression::Lz4, &[&sent[sent.len() - 1]]));
            assert_eq!((answer.error_code, answer.base_offset), (0, sent.len() as i64 - 1));
            let again = client.produce("t", batch(writer, Compression::Lz4, &[&sent[sent.len() - 1]]));
            assert_eq!((again.error_code, again.base_offset), (0, sent.len() as i64 - 1), "recognised");
        }
        assert_eq!(values(&client.read("t", true)), sent);
    }
    assert!(segments(folder.path()).len() > 5);
}

#[test]
fn a_damaged_tail_is_cut_and_what_is_before_it_stays() {
    let half = &plain(&["half-written"])[..40];
    let mut wrong = plain(&["wrong"]).to_vec();
    wrong[7] = 2; // the right offset
    *wrong.last_mut().unwrap() ^= 1;
    let cases: [(&str, &[u8]); 4] =
        [("nothing", &[]), ("half a header", half), ("a wrong CRC", &wrong), ("zeros", &[0; 5000])];
    for (name, tail) in cases {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::start(on_disk(folder.path())).unwrap();
        let mut client = Client::connect(log.addr());
        client.create_topic("t", 1, &[]);
        client.produce("t", plain(&["a", "b"]));
        drop(log);
        let file = segments(folder.path()).pop().unwrap();
        let mut bytes = fs::read(&file).unwrap();
        bytes.extend_from_slice(tail);
        fs::write(&file, bytes).unwrap();
        let mut journal = fs::read(folder.path().join("journal")).unwrap();
        journal.extend_from_slice(tail);
        fs::write(folder.path().join("journal"), journal).unwrap();
        let log = Log::start(on_disk(folder.path())).unwrap();
        let mut client = Client::connect(log.addr());
        assert_eq!(client.produce("t", plain(&["c"])).base_offset, 2, "{name}");
        assert_eq!(values(&client.read("t", true)), ["a", "b", "c"], "{name}");
    }
}

#[test]
fn records_of_a_topic_that_a_damaged_journal_forgot_are_not_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::start(on_disk(folder.path())).unwrap();
    let mut client = Client::connect(log.addr());
    client.create_topic("t", 1, &[]);
    client.produce("t", plain(&["a"]));
    drop(log);
    let journal = folder.path().join("journal");
    let mut bytes = fs::read(&journal).unwrap();
    bytes[10] ^= 1;
    fs::write(&journal, bytes).unwrap();
    let files = segments(folder.path());
    drop(Log::start(on_disk(folder.path())).unwrap());
    assert_eq!(segments(folder.path()), files);
}

#[test]
fn a_data_folder_belongs_to_one_log_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = Log::start(on_disk(folder.path())).unwrap();
    let second = Log::start(on_disk(folder.path()));
    assert!(matches!(&second, Err(Error::InUse { path }) if path == folder.path()), "{second:?}");
    drop(first);
    Log::start(on_disk(folder.path())).unwrap();
    let file = folder.path().join("lock");
    let in_a_file = Log::start(on_disk(&file));
    assert!(matches!(in_a_file, Err(Error::Folder { .. })), "{in_a_file:?}");
    let taken = Log::start(config()).unwrap();
    let mut same_port = config();
    same_port.listen = taken.addr();
    assert!(matches!(Log::start(same_port), Err(Error::Listen { .. })));
}

#[test]
fn deleted_records_stay_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::start(on_disk(folder.path())).unwrap();
    let mut client = Client::connect(log.addr());
    client.create_topic("t", 1, &[]);
    client.produce("t", plain(&["a", "b", "c"]));
    let delete = |client: &mut Client, offset| {
        let partition = DeleteRecordsPartition::default().with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
        let response = client.call(2, &DeleteRecordsRequest::default().with_topics(vec![topic]));
        let done = &response.topics[0].partitions[0];
        (done.error_code, done.low_watermark)
    };
    assert_eq!(delete(&mut client, 2), (0, 2));
    assert_eq!(delete(&mut client, 9), (1, -1), "beyond the end");
    drop(log);
    let log = Log::start(on_disk(folder.path())).unwrap();
    let mut client = Client::connect(log.addr());
    assert_eq!(client.offset_at("t", -2).1, 2);
    assert_eq!(values(&client.read("t", false)), ["c"]);
    assert_eq!(delete(&mut client, -1), (0, 3), "up to the end");
}

#[test]
fn retention_and_compaction_run_while_the_log_serves() {
    let mut often = config();
    often.cleanup_interval = std::time::Duration::from_millis(10);
    let log = Log::start(often).unwrap();
    let mut client = Client::connect(log.addr());
    client.create_topic("short", 1, &[("segment.bytes", "200"), ("retention.bytes", "500")]);
    // The records are from 1970, so all have expired as soon as they are written.
    client.create_topic("old", 1, &[("retention.ms", "1000")]);
    client.create_topic("latest", 1, &[("segment.bytes", "200"), ("cleanup.policy", "compact")]);
    for round in 0.. {
        client.produce("short", plain(&["a"]));
        client.produce("old", plain(&["a"]));
        client.produce("latest", plain(&["same key"]));
        let compacted = round > 20 && client.read("latest", false).len() < 10;
        if compacted && client.offset_at("short", -2).1 > 10 && client.offset_at("old", -2).1 > 10 {
            break;
        }
        assert!(round < 5000, "nothing is cleaned");
    }
    assert_eq!(client.offset_at("latest", -2).1, 0, "compaction moves no offset");
}
