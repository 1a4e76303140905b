//! Why Kafka and this client do not let each other in, in words that say what to do.
//!
//! librdkafka goes on trying for ever, and tells only clients that are polled why: a request ends as "timed out". So after
//! a request that got no answer a client of its own looks at the way there.

use std::error::Error as StdError;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use crate::config::{KafkaConfig, Security};
use crate::error::{Error, code};

/// What OpenSSL calls a certificate that it does not take.
const UNTRUSTED: &str = "certificate verify failed";
/// What to think of a server that closes a plain connection before it has said a word.
const WANTS_TLS: &str = "; does it want TLS (--kafka-security)?";
/// Longest look at the way to Kafka.
const LOOK: Duration = Duration::from_secs(8);
/// How long a better reason is waited for once the log has given one.
const BETTER: Duration = Duration::from_secs(2);
/// How long one attempt to connect for the sake of its certificate may take.
const CONNECT: Duration = Duration::from_secs(3);

/// The error of a request to Kafka that failed: with the way there looked at if there was no answer.
pub(crate) fn explain(kafka: &KafkaConfig, attempt: String, source: KafkaError) -> Error {
    let code = code(&source);
    if code.is_some_and(is_denial) {
        return denied(kafka, attempt, source);
    }
    let heard = if code.is_some_and(is_silence) { look(kafka) } else { None };
    match heard {
        Some((error, _)) if error.rdkafka_error_code().is_some_and(is_denial) => {
            denied(kafka, attempt, error)
        }
        // librdkafka may meet it while it reads, and then calls it a fault of the network.
        Some((_, reason)) if reason.contains(UNTRUSTED) => {
            denied(kafka, attempt, KafkaError::Global(RDKafkaErrorCode::SSL))
        }
        heard => {
            let seen = heard.map_or_else(String::new, |(_, reason)| {
                let tls = if wants_tls(kafka, &reason) { WANTS_TLS } else { "" };
                format!("; the connection says: {reason}{tls}")
            });
            Error::Request { attempt, bootstrap: kafka.bootstrap.clone(), seen, source }
        }
    }
}

fn wants_tls(kafka: &KafkaConfig, reason: &str) -> bool {
    let plain = matches!(kafka.security, Security::Plaintext | Security::SaslPlaintext);
    plain && reason.contains("Disconnected") && reason.contains("APIVERSION_QUERY")
}

/// Whether a code says that one of the two does not let the other in.
pub(crate) fn is_denial(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SSL
    )
}

/// The error for a code of [`is_denial`].
pub(crate) fn denied(kafka: &KafkaConfig, attempt: String, source: KafkaError) -> Error {
    use RDKafkaErrorCode as Code;
    let user = kafka.user.as_deref().unwrap_or("of nobody");
    let (problem, hint) = match code(&source) {
        Some(Code::SSL) => (
            format!("does not show a certificate that is trusted{}", complaint(kafka)),
            "check --kafka-ca, and that the certificate is for the host in --kafka and has not expired",
        ),
        Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism) => (
            format!("does not let user {user} in"),
            "check --kafka-user, --kafka-password-file and --kafka-sasl",
        ),
        _ => (
            format!("does not allow it to user {user}"),
            "an administrator gives the right, with kafka-acls or as the provider of Kafka says",
        ),
    };
    Error::Denied { attempt, bootstrap: kafka.bootstrap.clone(), problem, hint, source }
}

/// Whether a code says no more than that there was no answer.
fn is_silence(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::TimedOutQueue
            | Code::Resolve
    )
}

/// What a new client hears of its first connection; `None` when all is well, or nothing is heard.
fn look(kafka: &KafkaConfig) -> Option<(KafkaError, String)> {
    let mut client = kafka.client().ok()?;
    client.set("log.connection.close", "true").set_log_level(RDKafkaLogLevel::Info);
    let producer: BaseProducer<Ears> = client.create_with_context(Ears::default()).ok()?;
    let mut deadline = Instant::now() + LOOK;
    let mut reason = None;
    while Instant::now() < deadline {
        if producer.client().fetch_metadata(None, Duration::from_millis(200)).is_ok() {
            return None;
        }
        producer.poll(Duration::from_millis(50));
        let heard = producer.context().heard.lock().unwrap_or_else(PoisonError::into_inner).take();
        if heard.is_some() {
            return heard;
        }
        let logged = producer.context().logged.lock().unwrap_or_else(PoisonError::into_inner).take();
        if reason.is_none() && logged.is_some() {
            reason = logged;
            deadline = deadline.min(Instant::now() + BETTER);
        }
    }
    reason.map(|it| (KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), it))
}

/// Keeps the first thing that is said about a connection.
#[derive(Default)]
struct Ears {
    heard: Mutex<Option<(KafkaError, String)>>,
    /// Why a connection ended: of some ends only the log says it.
    logged: Mutex<Option<String>>,
}

impl ClientContext for Ears {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            let text = message.split_once("]: ").map_or(message, |(_thread, text)| text);
            let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
            logged.get_or_insert_with(|| text.to_owned());
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // That no server is left says less than why one went.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.get_or_insert_with(|| (error, reason.to_owned()));
        }
    }
}

impl ProducerContext for Ears {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &DeliveryResult<'_>, (): ()) {}
}

/// What is wrong with the certificate, in parentheses; librdkafka tells only that something is.
fn complaint(kafka: &KafkaConfig) -> String {
    if !matches!(kafka.security, Security::Tls | Security::SaslTls) {
        return String::new();
    }
    let complaint = kafka.bootstrap.split(',').find_map(|it| handshake(kafka, it.trim()).err());
    complaint.and_then(|it| untrusted(&it)).unwrap_or_default()
}

/// Why OpenSSL does not take a certificate, in parentheses as it says it behind [`UNTRUSTED`]; `None` if that is not the trouble.
pub(crate) fn untrusted(error: &dyn StdError) -> Option<String> {
    let mut found = None;
    let mut cause = Some(error);
    while let Some(it) = cause {
        let text = it.to_string();
        if let Some((_, behind)) = text.rsplit_once(UNTRUSTED) {
            let why = behind.rsplit_once(" (").and_then(|(_, why)| why.split_once(')'));
            match why {
                Some((why, _)) => return Some(format!(" ({why})")),
                None => found = Some(String::new()),
            }
        }
        cause = it.source();
    }
    found
}

/// Shakes hands with one server; passes what stands in the way of that besides its certificate.
fn handshake(kafka: &KafkaConfig, server: &str) -> Result<(), native_tls::Error> {
    let mut builder = native_tls::TlsConnector::builder();
    if let Some(pem) = kafka.ca.as_ref().and_then(|it| std::fs::read(it).ok()) {
        for certificate in native_tls::Certificate::stack_from_pem(&pem)? {
            builder.add_root_certificate(certificate);
        }
        builder.disable_built_in_roots(true);
    }
    let connector = builder.build()?;
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let address = server.to_socket_addrs().ok().and_then(|mut it| it.next());
    let stream = address.and_then(|it| TcpStream::connect_timeout(&it, CONNECT).ok());
    let Some(stream) = stream.filter(|it| it.set_read_timeout(Some(CONNECT)).is_ok()) else { return Ok(()) };
    match connector.connect(host, stream) {
        Err(native_tls::HandshakeError::Failure(error)) => Err(error),
        Ok(_) | Err(native_tls::HandshakeError::WouldBlock(_)) => Ok(()),
    }
}
