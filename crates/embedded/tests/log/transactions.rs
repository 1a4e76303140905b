//! Transactions: all of it or nothing, whoever dies in between.

use std::path::Path;

use crate::client::{
    ANYBODY, Client, Writer, batch, config, group_id, log, refused, topic_name, transactional_id,
};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest,
    OffsetFetchRequest, ProducerId, TxnOffsetCommitRequest,
};
use kafka_protocol::records::Compression;
use telltale_embedded::log::Log;

/// A transactional producer, request by request.
struct Producer {
    client: Client,
    id: ProducerId,
    epoch: i16,
    sequence: i32,
}

impl Producer {
    /// Begins, or takes over from an earlier producer.
    fn begin(log: &Log, timeout_ms: i32) -> Self {
        let mut client = Client::connect(log.addr());
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id("tx")))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let begun = client.call(4, &request);
        assert_eq!(begun.error_code, 0);
        Self { client, id: begun.producer_id, epoch: begun.producer_epoch, sequence: 0 }
    }

    fn add_partition(&mut self) -> i16 {
        let topic = AddPartitionsToTxnTopic::default().with_name(topic_name("t")).with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id("tx"))
            .with_v3_and_below_producer_id(self.id)
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let answer = self.client.call(3, &request);
        answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    }

    fn write(&mut self, value: &str) -> Option<ResponseError> {
        let writer = Writer {
            producer_id: self.id.0,
            epoch: self.epoch,
            sequence: self.sequence,
            transactional: true,
        };
        let answer = self.client.produce("t", batch(writer, Compression::None, &[value]));
        self.sequence += i32::from(answer.error_code == 0);
        refused(&answer)
    }

    fn stage(&mut self, offset: i64) -> i16 {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(transactional_id("tx"))
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_group_id(group_id("g"));
        assert_eq!(self.client.call(3, &request).error_code, 0);
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional_id("tx"))
            .with_group_id(group_id("g"))
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic]);
        self.client.call(3, &request).topics[0].partitions[0].error_code
    }

    fn end(&mut self, committed: bool) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id("tx"))
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_committed(committed);
        self.client.call(3, &request).error_code
    }
}

fn values(log: &Log, committed: bool) -> Vec<String> {
    Client::connect(log.addr()).read("t", committed).into_iter().map(|it| it.1).collect()
}

/// The committed offset of the group, or the error while a transaction will decide.
fn offset(log: &Log) -> Result<i64, i16> {
    let topic =
        OffsetFetchRequestTopics::default().with_name(topic_name("t")).with_partition_indexes(vec![0]);
    let group =
        OffsetFetchRequestGroup::default().with_group_id(group_id("g")).with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true);
    let answer = Client::connect(log.addr()).call(8, &request);
    let found = &answer.groups[0].topics[0].partitions[0];
    if found.error_code == 0 { Ok(found.committed_offset) } else { Err(found.error_code) }
}

fn started() -> Log {
    let log = log();
    Client::connect(log.addr()).create_topic("t", 1, &[]);
    log
}

fn restarted(folder: &Path) -> Log {
    let mut config = config();
    config.data = Some(folder.to_owned());
    Log::start(config).unwrap()
}

#[test]
fn records_and_offsets_count_from_the_commit_on_and_never_after_an_abort() {
    let log = started();
    let mut producer = Producer::begin(&log, 60_000);
    assert_eq!(producer.write("too early"), Some(ResponseError::InvalidTxnState));
    for (value, committed) in [("a", true), ("b", false), ("c", true)] {
        let before = (values(&log, true), offset(&log));
        assert_eq!(producer.add_partition(), 0);
        assert_eq!(producer.write(value), None);
        assert_eq!(producer.stage(producer.sequence.into()), 0);
        assert_eq!((values(&log, true), offset(&log)), (before.0, Err(88)), "{value} is not decided");
        assert_eq!(producer.end(committed), 0);
        assert_eq!(producer.end(committed), 0, "a retry");
    }
    assert_eq!(values(&log, true), ["a", "c"]);
    assert_eq!(values(&log, false), ["a", "b", "c"]);
    assert_eq!(offset(&log), Ok(3));
    assert_eq!(producer.end(false), 48, "the last one was committed");
}

#[test]
fn an_open_transaction_hides_what_others_write_behind_it() {
    let log = started();
    let mut producer = Producer::begin(&log, 60_000);
    let mut other = Client::connect(log.addr());
    producer.add_partition();
    producer.write("open");
    other.produce("t", batch(ANYBODY, Compression::None, &["other"]));
    assert_eq!(values(&log, true), Vec::<String>::new());
    assert_eq!(other.fetch("t", 0, true, 0).last_stable_offset, 0);
    assert_eq!(producer.end(false), 0);
    assert_eq!(values(&log, true), ["other"]);
}

#[test]
fn a_newer_producer_fences_the_older_one_and_aborts_what_it_left_open() {
    let log = started();
    let mut old = Producer::begin(&log, 60_000);
    old.add_partition();
    old.write("left open");
    let mut new = Producer::begin(&log, 60_000);
    assert_eq!(old.write("too late"), Some(ResponseError::InvalidProducerEpoch));
    assert_eq!([old.add_partition(), old.end(true)], [90, 90], "fenced");
    new.add_partition();
    assert_eq!(new.write("new"), None);
    assert_eq!(new.end(true), 0);
    assert_eq!(values(&log, true), ["new"]);
}

#[test]
fn a_transaction_whose_time_is_over_is_aborted() {
    let log = started();
    let mut producer = Producer::begin(&log, 100);
    producer.add_partition();
    producer.write("too slow");
    let mut client = Client::connect(log.addr());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while client.fetch("t", 0, true, 100).last_stable_offset == 0 {
        assert!(std::time::Instant::now() < deadline, "it stays open");
    }
    assert_eq!(values(&log, true), Vec::<String>::new());
    assert_eq!(producer.end(true), 90, "its producer is fenced");
}

#[test]
fn a_restart_keeps_open_transactions_open_and_ended_ones_ended() {
    let folder = tempfile::tempdir().unwrap();
    let log = restarted(folder.path());
    Client::connect(log.addr()).create_topic("t", 1, &[]);
    let mut producer = Producer::begin(&log, 60_000);
    producer.add_partition();
    producer.write("aborted");
    producer.end(false);
    producer.add_partition();
    producer.write("open");
    producer.stage(7);
    drop(log);
    let log = restarted(folder.path());
    assert_eq!((values(&log, true), offset(&log)), (vec![], Err(88)));
    producer.client = Client::connect(log.addr());
    assert_eq!(producer.write("still open"), None);
    assert_eq!(producer.end(true), 0);
    drop(log);
    let log = restarted(folder.path());
    assert_eq!(values(&log, true), ["open", "still open"]);
    assert_eq!(offset(&log), Ok(7));
    let next = Producer::begin(&log, 60_000);
    assert_eq!((next.id, next.epoch > producer.epoch), (producer.id, true), "epochs go on");
}
