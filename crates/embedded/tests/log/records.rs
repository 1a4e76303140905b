//! Records go in once and come out unchanged, also after a restart.

use std::fs;
use std::path::{Path, PathBuf};

use crate::client::config;
use kafka_protocol::messages::DeleteRecordsRequest;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::records::Compression;
use telltale_embedded::log::{Error, Log, LogConfig};
use telltale_testkit::wire::{Client, Writer, batch, plain, topic_name};

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
fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut sent = Vec::new();
    for round in 0..3 {
        let log = Log::start(on_disk(folder.path())).unwrap();
        let mut client = Client::connect(log.addr());
        if round == 0 {
            client.create_topic("t", 1, &[("internal.segment.bytes", "300")]);
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
    client.create_topic("short", 1, &[("internal.segment.bytes", "200"), ("retention.bytes", "500")]);
    // The records are from 1970, so all have expired as soon as they are written.
    client.create_topic("old", 1, &[("retention.ms", "1000")]);
    client.create_topic("latest", 1, &[("internal.segment.bytes", "200"), ("cleanup.policy", "compact")]);
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
