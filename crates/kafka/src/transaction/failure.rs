//! What the errors of transactional calls mean.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Why a transaction was not committed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It must be aborted; the same records may be tried again.
    Abort(KafkaError),
    /// Nobody here knows whether it was committed.
    Doubt(KafkaError),
    /// The producer, and with it the process, is at its end.
    Fatal(KafkaError),
}

impl Failure {
    /// What librdkafka reported.
    pub(crate) fn source(&self) -> &KafkaError {
        let (Self::Abort(error) | Self::Doubt(error) | Self::Fatal(error)) = self;
        error
    }
}

/// Whether the same call may be made again at once: it is retriable, and its outcome is known.
pub(super) fn repeatable(error: &rdkafka::error::RDKafkaError) -> bool {
    error.is_retriable() && !error.is_fatal() && !error.txn_requires_abort() && !unanswered(error.code())
}

/// Whether a request may have been carried out although its answer is missing.
fn unanswered(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::MessageTimedOut
            | Code::TimedOutQueue
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::InProgress
    )
}

/// What an error of a transactional call means.
pub(super) fn classify(error: KafkaError) -> Failure {
    match &error {
        KafkaError::Transaction(it) if it.is_fatal() => Failure::Fatal(error),
        KafkaError::Transaction(it) if it.txn_requires_abort() => Failure::Abort(error),
        _ => match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced) => Failure::Fatal(error),
            _ => Failure::Doubt(error),
        },
    }
}

/// Whether an error says that Kafka takes nothing from this producer any more, since there is a newer epoch of its id.
pub(crate) fn is_fenced(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
    )
}

/// Whether a code says that this record, and not the way to Kafka, is the trouble.
pub(super) fn refused(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord | Code::InvalidTimestamp
    )
}

/// Whether a code says that a topic does not exist.
pub(crate) fn is_missing(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)
}
