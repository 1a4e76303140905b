//! Header names that are not text: a stranger's record must not stop a service.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use telltale_embedded::log::{Log, LogConfig};
use telltale_kafka::producer::{NewRecord, ProducerConfig};
use telltale_kafka::topics::Topics;
use telltale_kafka::{Isolation, KafkaConfig, Producer, Reader};
use telltale_records::topics::TopicSpec;
use tokio_util::sync::CancellationToken;

const NAME: &str = "stranger";
const BYTES: &[u8] = b"\xff\xfe\x80aaaa\xc0";

fn log(folder: &Path) -> (Log, KafkaConfig) {
    let mut config = LogConfig::default();
    config.data = Some(folder.to_owned());
    let log = Log::start(config).unwrap();
    let kafka = KafkaConfig::at(log.addr().to_string());
    (log, kafka)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    entries.flat_map(|it| if it.is_dir() { files(&it) } else { vec![it] }).collect()
}

/// Puts bytes that are no text into the place of a header's name, and mends the checksum of each record batch.
fn spoil(log: &mut [u8]) -> usize {
    let mut spoilt = 0;
    let mut start = 0;
    while start + 61 <= log.len() {
        // Offset (8 bytes), length of what follows (4), leader epoch (4), magic (1), checksum (4) of what follows.
        let length = u32::from_be_bytes(log[start + 8..start + 12].try_into().unwrap()) as usize;
        let end = start + 12 + length;
        let batch = &mut log[start..end];
        while let Some(place) = batch.windows(NAME.len()).position(|it| it == NAME.as_bytes()) {
            batch[place..place + NAME.len()].copy_from_slice(BYTES);
            spoilt += 1;
        }
        let checksum = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&checksum.to_be_bytes());
        start = end;
    }
    spoilt
}

#[test]
fn a_record_with_header_names_that_are_not_text_goes_on_without_its_headers() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, kafka) = log(folder.path());
    let spec = TopicSpec { name: "strange", partitioned: true, config: &[] };
    Topics::open(&kafka).unwrap().create(&spec, 1, 1).unwrap();
    let (done, reports) = mpsc::sync_channel(3);
    let config = ProducerConfig {
        delivery_timeout: None,
        most_bytes: 1 << 20,
        most_records: 100,
        linger: std::time::Duration::ZERO,
    };
    let producer = Producer::new(&kafka, &config, move |_, outcome| done.send(outcome).unwrap()).unwrap();
    for (token, name) in ["known", NAME, "known"].into_iter().enumerate() {
        let headers = [(name, &b"value"[..])];
        let record = NewRecord {
            topic: "strange",
            key: Some(b"key"),
            value: Some(b"value"),
            headers: &headers,
            ..NewRecord::default()
        };
        producer.send(record, token as u64).unwrap();
        reports.recv().unwrap().unwrap();
    }
    drop((producer, engine));
    let spoilt: usize = files(folder.path())
        .into_iter()
        .filter(|it| it.extension().is_some_and(|it| it == "log"))
        .map(|path| {
            let mut bytes = fs::read(&path).unwrap();
            let count = spoil(&mut bytes);
            fs::write(&path, bytes).unwrap();
            count
        })
        .sum();
    assert_eq!(spoilt, 1);

    let (_engine, kafka) = log(folder.path());
    let mut reader = Reader::open(&kafka, Isolation::Committed).unwrap();
    let mut found = Vec::new();
    let mut take = |batch: &telltale_records::Batch| {
        for record in batch.records() {
            assert_eq!((record.key(), record.value()), (Some(&b"key"[..]), Some(&b"value"[..])));
            found.push(record.headers().map(|(name, _)| name.to_owned()).collect::<Vec<_>>());
        }
        ControlFlow::Continue(())
    };
    reader.read("strange", 0, 0..3, &CancellationToken::new(), &mut take).unwrap();
    assert_eq!(found, [vec!["known".to_owned()], vec![], vec!["known".to_owned()]]);
}
