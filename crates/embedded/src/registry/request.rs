//! What comes in and what goes out: bodies of requests, and refusals with Confluent's error codes.

use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Largest body of a request.
const BODY_BYTES: usize = 4 << 20;
/// As much of a body that is too large is read and dropped: a connection that is closed over unread bytes is
/// reset, and the client may never see why.
const DRAINED_BYTES: usize = 64 << 20;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.schemaregistry.v1+json");

/// Why a request is not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("Subject '{0}' not found.")]
    NoSubject(String),
    #[error("Version {0} not found.")]
    NoVersion(u32),
    #[error("Schema not found")]
    NoSchema,
    #[error("Subject '{0}' was soft deleted. Set permanent=true to delete permanently")]
    SubjectSoftDeleted(String),
    #[error("Subject '{0}' was not deleted first before being permanently deleted")]
    SubjectNotSoftDeleted(String),
    #[error("Version {0} was soft deleted. Set permanent=true to delete permanently")]
    VersionSoftDeleted(u32),
    #[error("Version {0} was not deleted first before being permanently deleted")]
    VersionNotSoftDeleted(u32),
    #[error("Subject '{0}' does not have subject-level compatibility configured")]
    NoLevel(String),
    #[error("Subject '{0}' does not have subject-level mode configured")]
    NoMode(String),
    #[error("Invalid schema: {0}")]
    InvalidSchema(String),
    #[error(
        "The specified version '{0}' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\""
    )]
    InvalidVersion(String),
    #[error(
        "Invalid compatibility level. Valid values are none, backward, backward_transitive, forward, forward_transitive, full, full_transitive"
    )]
    InvalidLevel,
    #[error("Invalid mode. Valid values are READWRITE, READONLY, IMPORT")]
    InvalidMode,
    #[error("Subject '{0}' is in read-only mode")]
    ReadOnly(String),
    #[error("Schema being registered is incompatible with an earlier schema: {}", .0.join("; "))]
    Incompatible(Vec<String>),
    #[error("The body of the request is not what is asked for: {0}")]
    BadRequest(String),
    #[error("The body of the request is larger than {BODY_BYTES} bytes")]
    TooLarge,
    #[error("HTTP 404 Not Found")]
    NoPath,
    #[error("HTTP 405 Method Not Allowed")]
    NoMethod,
    #[error("Error while writing to the registry's journal: {0}")]
    Store(String),
}

impl Refusal {
    fn code(&self) -> u32 {
        match self {
            Self::NoSubject(_) => 40401,
            Self::NoVersion(_) => 40402,
            Self::NoSchema => 40403,
            Self::SubjectSoftDeleted(_) => 40404,
            Self::SubjectNotSoftDeleted(_) => 40405,
            Self::VersionSoftDeleted(_) => 40406,
            Self::VersionNotSoftDeleted(_) => 40407,
            Self::NoLevel(_) => 40408,
            Self::NoMode(_) => 40409,
            Self::InvalidSchema(_) => 42201,
            Self::InvalidVersion(_) => 42202,
            Self::InvalidLevel => 42203,
            Self::InvalidMode => 42204,
            Self::ReadOnly(_) => 42205,
            Self::Incompatible(_) => 409,
            Self::BadRequest(_) => 400,
            Self::TooLarge => 413,
            Self::NoPath => 404,
            Self::NoMethod => 405,
            Self::Store(_) => 50001,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = self.code();
        let status = if code >= 1000 { code / 100 } else { code };
        let status = u16::try_from(status).ok().and_then(|it| StatusCode::from_u16(it).ok());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, answer(json!({ "error_code": code, "message": self.to_string() }))).into_response()
    }
}

/// A JSON answer with the registry's content type.
pub(super) fn answer(value: Value) -> Response {
    let mut response = Json(value).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

/// A body in JSON, whatever content type the client gave it.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let mut body = request.into_body();
        let (mut bytes, mut length) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|it| Refusal::BadRequest(it.to_string()))?;
            let Some(part) = frame.data_ref() else { continue };
            length += part.len();
            if length > DRAINED_BYTES {
                break;
            }
            if length <= BODY_BYTES {
                bytes.extend_from_slice(part);
            }
        }
        if length > BODY_BYTES {
            return Err(Refusal::TooLarge);
        }
        serde_json::from_slice(&bytes).map(Body).map_err(|it| Refusal::BadRequest(it.to_string()))
    }
}

/// Body of requests with a schema; fields for other versions of the API are ignored.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SchemaBody {
    schema: Option<String>,
    schema_type: Option<String>,
    #[serde(default)]
    references: Option<Vec<Value>>,
}

impl SchemaBody {
    /// The schema's text, if it is one that this registry keeps.
    pub(super) fn text(&self) -> Result<&str, Refusal> {
        if let Some(other) = self.schema_type.as_deref().filter(|it| *it != "AVRO") {
            let message = format!("this registry keeps schemas of type AVRO only, not {other}");
            return Err(Refusal::InvalidSchema(message));
        }
        if self.references.as_ref().is_some_and(|it| !it.is_empty()) {
            let message = "this registry keeps no references between schemas; write the types out";
            return Err(Refusal::InvalidSchema(message.to_owned()));
        }
        let text = self.schema.as_deref().filter(|it| !it.is_empty());
        text.ok_or_else(|| Refusal::InvalidSchema("it is empty".to_owned()))
    }
}
