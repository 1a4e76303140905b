//! A commit that arrives late, in the next transaction (KAFKA-17754): what a plain loop makes of it, and what ours does.
//!
//! ```text
//! client  EndTxn(1) ─┐ cut   EndTxn(1) again ─▶ ok   Produce(2) ─▶ ok      AddOffsets(2) ─▶ refused: abort, or start again
//! Kafka              └───────────── held back ───────────────────▶ commits half of 2
//! ```
//!
//! The bytes of the first commit are held back when their connection is cut and delivered, unchanged, once Kafka has records
//! of the next transaction; no step depends on time.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use telltale_kafka::KafkaConfig;
use telltale_testkit::gate::{address, refusal};
use telltale_testkit::proxy::{Fate, Piece, Pieces, Proxy, Way};
use telltale_testkit::{Engines, PATIENCE};
use tokio_util::sync::CancellationToken;

use crate::copying::{Case, TRANSACTION};

/// How far the disturbance is.
#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    /// The first commit is held back.
    #[default]
    First,
    /// Its connection is cut; librdkafka makes it again.
    Held(Vec<u8>),
    /// That one was answered: the next transaction comes.
    Committed(Vec<u8>),
    /// The late one was delivered; what Kafka answered.
    Late(i16),
    /// The transaction it fell into was ended by an error.
    Refused(i16),
}

/// A proxy that delivers the first commit within the second transaction.
fn disturbed(kafka: &KafkaConfig) -> (Proxy, Arc<Mutex<Stage>>) {
    let (stage, target) = (Arc::new(Mutex::new(Stage::First)), address(kafka));
    let rule = {
        let stage = Arc::clone(&stage);
        move |piece: &Piece<'_>| {
            let mut stage = stage.lock().unwrap();
            match (&mut *stage, piece.way, piece.api) {
                (Stage::First, Way::Up, Some(ApiKey::EndTxn)) => {
                    *stage = Stage::Held(piece.bytes.to_vec());
                    return Fate::Close;
                }
                (Stage::Held(held), Way::Down, Some(ApiKey::EndTxn)) => {
                    *stage = Stage::Committed(std::mem::take(held));
                }
                (Stage::Committed(held), Way::Down, Some(ApiKey::Produce)) => {
                    *stage = Stage::Late(deliver(target, held));
                }
                (Stage::Committed(_), Way::Up, Some(ApiKey::AddOffsetsToTxn)) => {
                    // Not before its records: librdkafka asks again.
                    return Fate::Answer(refusal(piece.bytes, ResponseError::CoordinatorLoadInProgress));
                }
                (Stage::Late(code), Way::Up, Some(ApiKey::AddOffsetsToTxn)) => {
                    *stage = Stage::Refused(*code);
                    return Fate::Answer(refusal(piece.bytes, ResponseError::UnknownServerError));
                }
                _ => {}
            }
            Fate::Pass
        }
    };
    (Proxy::start(target, Pieces::Kafka, rule), stage)
}

/// Delivers a late EndTxn of version 0 or 1 and returns the error code of its answer: behind length, correlation id, throttle time.
fn deliver(kafka: std::net::SocketAddr, request: &[u8]) -> i16 {
    assert!(request[6] == 0 && request[7] <= 1, "librdkafka ends transactions in version 1 at most");
    let mut late = TcpStream::connect(kafka).unwrap();
    late.set_read_timeout(Some(PATIENCE)).unwrap();
    late.write_all(request).unwrap();
    let mut answer = [0; 14];
    late.read_exact(&mut answer).unwrap();
    i16::from_be_bytes([answer[12], answer[13]])
}

/// The loop of librdkafka's examples: consume, transform, produce, by the book; made anew after a fatal error.
fn plain(case: &Case, kafka: &KafkaConfig, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = try_plain(case, kafka, stop) {
            eprintln!("the plain loop starts again after: {error}");
        }
    }
}

fn try_plain(case: &Case, kafka: &KafkaConfig, stop: &CancellationToken) -> KafkaResult<()> {
    let client = |settings: &[(&str, &str)]| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &kafka.bootstrap);
        settings.iter().for_each(|(name, value)| _ = config.set(*name, *value));
        config
    };
    let producer: BaseProducer =
        client(&[("transactional.id", &case.group), ("linger.ms", "1"), ("reconnect.backoff.ms", "50")])
            .create()?;
    // Settles what the loop before left open, so that the position is final.
    producer.init_transactions(PATIENCE)?;
    let settings =
        [("group.id", &*case.group), ("enable.auto.commit", "false"), ("isolation.level", "read_committed")];
    let consumer: BaseConsumer = client(&settings).create()?;
    loop {
        let mut positions = TopicPartitionList::new();
        positions.add_partition_offset(&case.source, 0, Offset::Invalid)?;
        let committed = consumer.committed_offsets(positions, PATIENCE)?;
        let from = committed.elements()[0].offset();
        let from = if matches!(from, Offset::Offset(_)) { from } else { Offset::Beginning };
        let mut positions = TopicPartitionList::new();
        positions.add_partition_offset(&case.source, 0, from)?;
        consumer.assign(&positions)?;
        while !stop.is_cancelled() {
            let mut messages = Vec::new();
            while messages.len() < TRANSACTION && !stop.is_cancelled() {
                if let Some(message) = consumer.poll(Duration::from_millis(50)) {
                    messages.push(message?);
                }
            }
            let Some(last) = messages.last() else { break };
            producer.begin_transaction()?;
            for message in &messages {
                let src = format!("{}-0-{}", case.source, message.offset());
                let headers = OwnedHeaders::new().insert(Header { key: "src", value: Some(&src) });
                let record = BaseRecord::<[u8], [u8]>::to(case.target).partition(0).headers(headers);
                let sent = producer.send(record.payload(message.payload().unwrap_or_default()));
                sent.map_err(|(error, _)| error)?;
            }
            producer.flush(PATIENCE)?;
            let mut offsets = TopicPartitionList::new();
            offsets.add_partition_offset(&case.source, 0, Offset::Offset(last.offset() + 1))?;
            let group = consumer.group_metadata().expect("it has a group");
            let ended = producer
                .send_offsets_to_transaction(&offsets, &group, PATIENCE)
                .and_then(|()| producer.commit_transaction(PATIENCE));
            if let Err(error) = ended {
                eprintln!("the plain loop aborts after: {error}");
                producer.abort_transaction(PATIENCE)?;
                break;
            }
        }
        if stop.is_cancelled() {
            return Ok(());
        }
    }
}

#[test]
fn a_late_commit_tears_a_plain_loop_and_not_ours() {
    let engines = Engines::with_data();
    let kafka = engines.kafka();

    let case = Case::new(&engines);
    let (proxy, stage) = disturbed(&kafka);
    let through = KafkaConfig { bootstrap: proxy.address().to_string(), ..kafka.clone() };
    let stop = CancellationToken::new();
    thread::scope(|scope| {
        let _stop = stop.clone().drop_guard();
        scope.spawn(|| plain(&case, &through, &stop));
        case.wait_until_copied();
        stop.cancel();
    });
    let (plain, wanted) = (case.copied(), case.wanted());
    let of_plain = (plain.len(), stage.lock().unwrap().code());

    let case = Case::new(&engines);
    let (proxy, stage) = disturbed(&kafka);
    let through = KafkaConfig { bootstrap: proxy.address().to_string(), ..kafka };
    let restarts = case.beside_our_loop(&through, || case.wait_until_copied());
    let ours = case.copied();
    let of_ours = (ours.len(), stage.lock().unwrap().code());

    println!("{} records; what Kafka answered to the late commit; records in the target:", wanted.len());
    println!("  plain loop  {:<35} {}", name(of_plain.1), of_plain.0);
    println!("  ours        {:<35} {} ({restarts} restarts)", name(of_ours.1), of_ours.0);
    assert_eq!(ours, case.wanted(), "ours: each once, in order");
    assert_eq!(
        (of_plain.1, plain.len()),
        (0, wanted.len() + TRANSACTION),
        "the plain loop has doubled a transaction"
    );
}

impl Stage {
    /// What Kafka answered to the late commit.
    fn code(&self) -> i16 {
        match self {
            Self::Refused(code) => *code,
            other => panic!("the disturbance ended at {other:?}"),
        }
    }
}

fn name(code: i16) -> String {
    ResponseError::try_from_code(code).map_or_else(|| "committed".to_owned(), |it| format!("{it:?}"))
}
