//! Connections: frames in, one request at a time, frames out.
//!
//! A connection holds at most one request and one response. Whatever it sends wrong closes it and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, RequestKind, ResponseHeader, ResponseKind};
use kafka_protocol::protocol::{Decodable, Encodable};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::DRAIN;
use super::api::{self, Context};
use super::broker::Broker;
use super::shape;

/// The largest request with records, `socket.request.max.bytes` of Kafka.
const MAX_PRODUCE_BYTES: usize = 100 << 20;
/// The largest request without records.
const MAX_OTHER_BYTES: usize = 8 << 20;
/// What is made room for before more of a request has arrived.
const READ_BYTES: usize = 64 << 10;
/// Pause after the system refuses a connection, for want of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until told to stop, then waits for them to end.
pub(crate) async fn accept(listener: TcpListener, broker: Arc<Broker>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let serving = serve(stream, peer, Arc::clone(&broker));
                let stop = stop.clone();
                connections.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        ended = serving => match ended {
                            Ok(()) => {}
                            Err(Closed::Io(why)) => debug!(%peer, %why, "a connection to the log broke"),
                            Err(why) => warn!(%peer, %why, "closed a connection to the log"),
                        }
                    }
                });
            }
            Err(source) => {
                warn!(%source, "a connection to the log could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        warn!("connections to the log did not end in time");
    }
}

/// Why a connection is closed by the log.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("a request of {size} bytes, where {least} to {most} are possible")]
    Size { size: i32, least: usize, most: usize },
    #[error("request type {key} version {version} is not served here")]
    Unsupported { key: i16, version: i16 },
    #[error("a request of type {key:?} version {version} that cannot be read: {why}")]
    Unreadable { key: ApiKey, version: i16, why: String },
    #[error("the answer to {key:?} version {version} cannot be written: {why}")]
    Unwritable { key: ApiKey, version: i16, why: String },
}

async fn serve(stream: TcpStream, peer: SocketAddr, broker: Arc<Broker>) -> Result<(), Closed> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(READ_BYTES, reader);
    let waiter = Arc::new(Notify::new());
    while let Some(frame) = read_frame(&mut reader).await? {
        let context =
            Context { version: 0, client_id: String::new(), local, peer, waiter: Arc::clone(&waiter) };
        if let Some(answer) = answer(&broker, frame, context).await? {
            writer.write_all(&answer).await?;
        }
    }
    debug!(%peer, "a client left");
    Ok(())
}

/// The next request without its length; `None` when the client has ended the connection between two.
async fn read_frame(reader: &mut (impl AsyncReadExt + Unpin)) -> Result<Option<Bytes>, Closed> {
    /// Request type, version and correlation id.
    const LEAST: usize = 8;
    let mut start = [0; 4 + LEAST];
    if reader.read(&mut start[..1]).await? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut start[1..4]).await?;
    let size = i32::from_be_bytes([start[0], start[1], start[2], start[3]]);
    if usize::try_from(size).is_ok_and(|it| it >= LEAST) {
        reader.read_exact(&mut start[4..]).await?;
    }
    let most = match i16::from_be_bytes([start[4], start[5]]) {
        key if key == ApiKey::Produce as i16 => MAX_PRODUCE_BYTES,
        _ => MAX_OTHER_BYTES,
    };
    let length = usize::try_from(size).ok().filter(|it| (LEAST..=most).contains(it));
    let length = length.ok_or(Closed::Size { size, least: LEAST, most })?;
    let mut frame = BytesMut::with_capacity(length.min(READ_BYTES));
    frame.extend_from_slice(&start[4..]);
    while frame.len() < length {
        // Room grows with what has arrived, never with what is announced.
        let missing = length - frame.len();
        frame.reserve(missing.min(frame.len().max(READ_BYTES)));
        let mut limited = (&mut *reader).take(missing as u64);
        if limited.read_buf(&mut frame).await? == 0 {
            return Err(Closed::Io(std::io::ErrorKind::UnexpectedEof.into()));
        }
    }
    Ok(Some(frame.freeze()))
}

/// Reads a request, has it served, and writes the answer with its length; `None` if it wants none.
async fn answer(broker: &Broker, mut frame: Bytes, mut context: Context) -> Result<Option<BytesMut>, Closed> {
    let key_number = i16::from_be_bytes([frame[0], frame[1]]);
    let version = i16::from_be_bytes([frame[2], frame[3]]);
    let correlation_id = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
    let unsupported = Closed::Unsupported { key: key_number, version };
    let Ok(key) = ApiKey::try_from(key_number) else {
        return Err(unsupported);
    };
    if !api::is_served(key, version) {
        if key != ApiKey::ApiVersions {
            return Err(unsupported);
        }
        // The one request whose version a client may guess: the answer is in the oldest form.
        let versions = ResponseKind::ApiVersions(api::unsupported_version());
        return write(&versions, key, 0, correlation_id).map(Some);
    }
    let unreadable = |why: String| Closed::Unreadable { key, version, why };
    let header = RequestHeader::decode(&mut frame, key.request_header_version(version));
    let header = header.map_err(|it| unreadable(it.to_string()))?;
    shape::walk(key, version, &frame).map_err(|it| unreadable(it.to_string()))?;
    let request = RequestKind::decode(key, &mut frame, version).map_err(|it| unreadable(it.to_string()))?;
    context.version = version;
    context.client_id = header.client_id.map_or_else(String::new, |it| it.to_string());
    match api::serve(broker, request, &context).await {
        Some(response) => write(&response, key, version, correlation_id).map(Some),
        None => Ok(None),
    }
}

fn write(
    response: &ResponseKind,
    key: ApiKey,
    version: i16,
    correlation_id: i32,
) -> Result<BytesMut, Closed> {
    let mut bytes = BytesMut::zeroed(4);
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    let written = header
        .encode(&mut bytes, key.response_header_version(version))
        .and_then(|()| response.encode(&mut bytes, version));
    written.map_err(|it| Closed::Unwritable { key, version, why: it.to_string() })?;
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}
