//! A gate between a program and Kafka that strikes at one step of their talk: the fault points of our programs.
//!
//! All that a program does to the world are the requests it sends, so a point is a request and a moment, and the programs
//! that are struck are those that users run: nothing is compiled into them for it.
//!
//! ```text
//!            Before        During        After
//! program ══▶ │ ══▶ Kafka ══▶ │ ══▶ program │ ══▶ its next request
//! ```

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf as _, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnResponse, AddPartitionsToTxnResponse, ApiKey, EndTxnResponse, InitProducerIdResponse,
    ProduceResponse, RequestKind, ResponseHeader, ResponseKind, TxnOffsetCommitResponse,
};
use kafka_protocol::protocol::{Encodable as _, decode_request_header_from_buffer};
use telltale_kafka::KafkaConfig;

use crate::proxy::{Fate, Piece, Pieces, Proxy, Way};
use crate::{Process, wait_until};

/// The requests of a transaction with offsets, in their order.
pub const TRANSACTION: [ApiKey; 6] = [
    ApiKey::InitProducerId,
    ApiKey::AddPartitionsToTxn,
    ApiKey::Produce,
    ApiKey::AddOffsetsToTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::EndTxn,
];

/// When a step is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The request does not reach Kafka.
    Before,
    /// Kafka has carried the request out, but its answer does not reach the program.
    During,
    /// The program has the answer, and nothing that it sends afterwards reaches Kafka.
    After,
}

/// A step of the talk and a moment in it.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// What is asked.
    pub api: ApiKey,
    /// When it is struck.
    pub moment: Moment,
}

impl Point {
    /// Every moment of each of these steps.
    pub fn all(steps: &[ApiKey]) -> impl Iterator<Item = Self> {
        let moments =
            |&api| [Moment::Before, Moment::During, Moment::After].map(|moment| Self { api, moment });
        steps.iter().flat_map(moments)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:?} {:?}", self.api, self.moment))
    }
}

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing passes any more on any connection: time for a SIGKILL.
    Freeze,
    /// Nothing passes any more on this connection, which stays open: the call times out.
    Silence,
    /// This connection ends.
    Cut,
    /// This connection ends, and so does every other one that brings or is answered anything: Kafka is away from now on.
    Away,
    /// Kafka seems to refuse the request with this error.
    Refuse(ResponseError),
}

/// A gate in front of Kafka.
#[derive(Debug)]
pub struct Gate {
    proxy: Proxy,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    armed: Option<Armed>,
    struck: bool,
    frozen: bool,
    away: bool,
    silent: HashSet<u64>,
}

#[derive(Debug)]
struct Armed {
    point: Point,
    fault: Fault,
    /// How often the point is passed before the strike.
    skip: usize,
    /// The answer has passed; the next request is struck.
    answered: bool,
}

impl Gate {
    /// A gate in front of the first server of `kafka`, open.
    ///
    /// # Panics
    ///
    /// Panics when Kafka is not on this machine.
    #[must_use]
    pub fn before(kafka: &KafkaConfig) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let rule = {
            let state = Arc::clone(&state);
            move |piece: &Piece<'_>| lock(&state).fate(piece)
        };
        let proxy = Proxy::start(address(kafka), Pieces::Kafka, rule);
        Self { proxy, state }
    }

    /// The settings that lead through the gate instead of to `kafka`.
    #[must_use]
    pub fn kafka(&self, kafka: &KafkaConfig) -> KafkaConfig {
        KafkaConfig { bootstrap: self.proxy.address().to_string(), ..kafka.clone() }
    }

    /// Strikes with `fault` once `point` has been passed `skip` times from now on.
    pub fn arm(&self, point: Point, skip: usize, fault: Fault) {
        let mut state = lock(&self.state);
        state.armed = Some(Armed { point, fault, skip, answered: false });
        state.struck = false;
    }

    /// Whether the fault has struck.
    #[must_use]
    pub fn has_struck(&self) -> bool {
        lock(&self.state).struck
    }
}

impl State {
    fn fate(&mut self, piece: &Piece<'_>) -> Fate {
        if self.frozen || self.silent.contains(&piece.connection) {
            return Fate::Swallow;
        }
        if self.away {
            return Fate::Close;
        }
        let Some(fault) = self.armed.as_mut().and_then(|it| it.strikes(piece).then_some(it.fault)) else {
            return Fate::Pass;
        };
        self.armed = None;
        self.struck = true;
        match fault {
            Fault::Freeze => {
                self.frozen = true;
                Fate::Swallow
            }
            Fault::Silence => {
                self.silent.insert(piece.connection);
                Fate::Swallow
            }
            Fault::Cut => Fate::Close,
            Fault::Away => {
                self.away = true;
                Fate::Close
            }
            Fault::Refuse(error) => Fate::Answer(refusal(piece.bytes, error)),
        }
    }
}

impl Armed {
    fn strikes(&mut self, piece: &Piece<'_>) -> bool {
        if self.answered {
            return piece.way == Way::Up;
        }
        let way = if self.point.moment == Moment::Before { Way::Up } else { Way::Down };
        if piece.way != way || piece.api != Some(self.point.api) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.answered = self.point.moment == Moment::After;
        !self.answered
    }
}

/// Starts a program that reaches Kafka by the settings it is given, and kills it with SIGKILL once it has passed `point`
/// `skip` times and reaches it again.
///
/// # Panics
///
/// Panics when the program ends before.
pub fn kill_at(kafka: &KafkaConfig, point: Point, skip: usize, start: impl FnOnce(&KafkaConfig) -> Process) {
    let gate = Gate::before(kafka);
    gate.arm(point, skip, Fault::Freeze);
    let mut running = start(&gate.kafka(kafka));
    wait_until(&format!("{point} is reached"), || {
        assert!(running.is_running(), "it has ended before {point}: {}", running.log());
        gate.has_struck()
    });
    running.kill();
    println!("{point:<28} SIGKILL");
}

/// Where the first server of `kafka` listens.
///
/// # Panics
///
/// Panics when that is no address of this machine.
#[must_use]
pub fn address(kafka: &KafkaConfig) -> SocketAddr {
    let first = kafka.bootstrap.split(',').next().unwrap_or_default();
    first.parse().expect("Kafka is at an address of this machine")
}

/// The answer of a Kafka that refuses a transactional `request` with `error`.
///
/// # Panics
///
/// Panics when the request is none of a transaction.
#[must_use]
pub fn refusal(request: &[u8], error: ResponseError) -> Vec<u8> {
    let code = error.code();
    let mut body = bytes::Bytes::copy_from_slice(request);
    body.advance(4);
    let header = decode_request_header_from_buffer(&mut body).expect("a request has a header");
    let (api, version) = (ApiKey::try_from(header.request_api_key), header.request_api_version);
    let api = api.expect("a known request");
    let response = match RequestKind::decode(api, &mut body, version).expect("a whole request") {
        RequestKind::InitProducerId(_) => {
            ResponseKind::InitProducerId(InitProducerIdResponse::default().with_error_code(code))
        }
        RequestKind::AddOffsetsToTxn(_) => {
            ResponseKind::AddOffsetsToTxn(AddOffsetsToTxnResponse::default().with_error_code(code))
        }
        RequestKind::EndTxn(_) => ResponseKind::EndTxn(EndTxnResponse::default().with_error_code(code)),
        RequestKind::AddPartitionsToTxn(it) => {
            let partition = |index: i32| {
                AddPartitionsToTxnPartitionResult::default()
                    .with_partition_index(index)
                    .with_partition_error_code(code)
            };
            let topics = it.v3_and_below_topics.into_iter().map(|it| {
                AddPartitionsToTxnTopicResult::default()
                    .with_name(it.name)
                    .with_results_by_partition(it.partitions.into_iter().map(partition).collect())
            });
            let topics = topics.collect();
            let response = AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics);
            ResponseKind::AddPartitionsToTxn(response)
        }
        RequestKind::TxnOffsetCommit(it) => {
            let topics = it.topics.into_iter().map(|it| {
                let partitions = it.partitions.into_iter().map(|it| {
                    TxnOffsetCommitResponsePartition::default()
                        .with_partition_index(it.partition_index)
                        .with_error_code(code)
                });
                TxnOffsetCommitResponseTopic::default()
                    .with_name(it.name)
                    .with_partitions(partitions.collect())
            });
            let response = TxnOffsetCommitResponse::default().with_topics(topics.collect());
            ResponseKind::TxnOffsetCommit(response)
        }
        RequestKind::Produce(it) => {
            let topics = it.topic_data.into_iter().map(|it| {
                let partitions = it
                    .partition_data
                    .into_iter()
                    .map(|it| PartitionProduceResponse::default().with_index(it.index).with_error_code(code));
                TopicProduceResponse::default()
                    .with_name(it.name)
                    .with_partition_responses(partitions.collect())
            });
            ResponseKind::Produce(ProduceResponse::default().with_responses(topics.collect()))
        }
        other => panic!("{other:?} is no request of a transaction"),
    };
    let mut bytes = BytesMut::from(&[0; 4][..]);
    let header = ResponseHeader::default().with_correlation_id(header.correlation_id);
    header.encode(&mut bytes, api.response_header_version(version)).expect("a header");
    response.encode(&mut bytes, version).expect("an answer of the version that was asked in");
    let length = u32::try_from(bytes.len() - 4).expect("an answer is small");
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes.to_vec()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
