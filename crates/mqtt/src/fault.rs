//! Why a connection to the broker ended or did not come about, in words that say what to do.

use std::error::Error as StdError;
use std::time::Duration;

use rumqttc::v5::mqttbytes as five;

/// What OpenSSL calls a certificate that it does not take; in parentheses behind it follows why.
const UNTRUSTED: &str = "certificate verify failed";
/// What to do when the broker knows user or password otherwise.
const CHECK_LOGIN: &str = ": check --mqtt-user and --mqtt-password-file";

/// Why a connection ended or did not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The broker answered the connection with a refusal.
    #[error("the broker refused the connection: {code}{hint}")]
    Refused {
        /// The refusal in the protocol's words.
        code: String,
        /// What to do about it, where that is known.
        hint: &'static str,
        /// Whether trying again with the same settings is pointless.
        permanent: bool,
    },
    /// The broker's certificate is not trusted; trying again with the same settings is pointless.
    #[error(
        "the broker does not show a certificate that is trusted{complaint}: check --mqtt-ca, and that the \
         certificate is for the host in --mqtt and has not expired"
    )]
    Untrusted {
        /// What is wrong with it, in parentheses, or nothing.
        complaint: String,
    },
    /// Another client with the same id connected; trying again would start a tug of war.
    #[error("another client with the same client id took the session over")]
    TakenOver,
    /// The broker ended the connection in favour of an earlier attempt to connect, which had been given up.
    #[error(
        "the broker gave the session to an earlier attempt to connect, which it had not answered in time"
    )]
    LateAnswer,
    /// The broker ended the connection and said why.
    #[error("the broker ended the connection: {reason}")]
    Ended {
        /// The protocol's word for the reason.
        reason: String,
    },
    /// The broker did not grant a subscription.
    #[error("the broker refused the subscription to {filter}")]
    Subscription {
        /// The filter.
        filter: String,
    },
    /// Nothing came back, be it that the network or that the broker took too long.
    #[error("the broker did not answer within {patience:?}")]
    Silent {
        /// How long was waited.
        patience: Duration,
    },
    /// The broker took the connection and closed it before it said anything.
    #[error("the broker closed the connection without an answer: does it want TLS (--mqtt-tls)?")]
    NoAnswer,
    /// The network, TLS or the protocol failed.
    #[error("connecting or talking to the broker")]
    Connection(#[source] Box<dyn StdError + Send + Sync>),
}

impl Fault {
    /// Whether trying again with the same settings is pointless.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(
            self,
            Self::TakenOver
                | Self::Subscription { .. }
                | Self::Untrusted { .. }
                | Self::Refused { permanent: true, .. }
        )
    }
}

pub(crate) fn of_v311(error: rumqttc::ConnectionError) -> Fault {
    use rumqttc::{ConnectReturnCode as Code, ConnectionError};
    match error {
        ConnectionError::ConnectionRefused(code) => {
            let login = matches!(code, Code::BadUserNamePassword | Code::NotAuthorized);
            Fault::Refused {
                permanent: code != Code::ServiceUnavailable,
                hint: if login { CHECK_LOGIN } else { "" },
                code: format!("{code:?}"),
            }
        }
        other => connection(other),
    }
}

pub(crate) fn of_v5(error: rumqttc::v5::ConnectionError) -> Fault {
    use five::v5::{ConnectReturnCode as Code, DisconnectReasonCode};
    use rumqttc::v5::{ConnectionError, StateError};
    match error {
        ConnectionError::ConnectionRefused(code)
        | ConnectionError::MqttState(StateError::ConnFail { reason: code }) => {
            let passing = [
                Code::ServiceUnavailable,
                Code::ServerUnavailable,
                Code::ServerBusy,
                Code::UnspecifiedError,
                Code::QuotaExceeded,
                Code::ConnectionRateExceeded,
            ];
            let login = matches!(code, Code::BadUserNamePassword | Code::NotAuthorized);
            Fault::Refused {
                permanent: !passing.contains(&code),
                hint: if login { CHECK_LOGIN } else { "" },
                code: format!("{code:?}"),
            }
        }
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            if reason_code == DisconnectReasonCode::SessionTakenOver {
                return Fault::TakenOver;
            }
            let reason = match reason_string {
                Some(text) => format!("{reason_code:?}, {text}"),
                None => format!("{reason_code:?}"),
            };
            Fault::Ended { reason }
        }
        other => connection(other),
    }
}

/// Whether an error says that the other side closed the connection.
pub(crate) fn is_closed(error: &(dyn StdError + 'static)) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let closed = |it: &std::io::Error| {
        matches!(it.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
    };
    let mut cause = Some(error);
    while let Some(it) = cause {
        // Some of the client's errors show their cause in their text only.
        let text = it.to_string();
        if it.downcast_ref().is_some_and(closed)
            || text.contains("closed by peer")
            || text.contains("reset by peer")
        {
            return true;
        }
        cause = it.source();
    }
    false
}

/// Tells a certificate that is not trusted from what may pass.
fn connection(error: impl StdError + Send + Sync + 'static) -> Fault {
    let mut found = None;
    let mut cause: Option<&dyn StdError> = Some(&error);
    while let Some(it) = cause {
        let text = it.to_string();
        if let Some((_, behind)) = text.rsplit_once(UNTRUSTED) {
            let why = behind.rsplit_once(" (").and_then(|(_, why)| why.split_once(')'));
            let complaint = why.map_or_else(String::new, |(why, _)| format!(" ({why})"));
            found = found.filter(|it: &String| !it.is_empty()).or(Some(complaint));
        }
        cause = it.source();
    }
    match found {
        Some(complaint) => Fault::Untrusted { complaint },
        None => Fault::Connection(Box::new(error)),
    }
}
