//! The connection of a session: packets are read in bulk, and what is to be sent is written in runs.
//!
//! ```text
//! broker ══ one read ══▶ incoming ─▶ packet, packet, packet …
//!    ▲
//!    └═════ one write ═══ writing ◀─ Outbox: what was published or acknowledged since the last write
//! ```
//!
//! The client library's own loop takes one request at a time and writes it by itself: a system call for each
//! acknowledgement was more than half of the bridge's CPU time, and it keeps tens of kilobytes for each car. So
//! the library lends its codec only. Every wait here is safe to cancel: what was read and what is to be written
//! stay in the connection.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::TlsError;
use rumqttc::tokio_native_tls::TlsConnector;
use rumqttc::v5::{ConnectionError, StateError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::codec::{self, Connect, Packet, Welcome};
use crate::config::{Endpoint, Version};
use crate::fault::{self, Fault};

/// Longest time for the network, TLS and the broker's answer together at the first attempt, and for a farewell.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often that time doubles from attempt to attempt: a broker that is behind answers what was given up, too, and
/// gets ever further behind.
const MOST_DOUBLINGS: u32 = 2;
/// Bytes to read at once.
const CHUNK: usize = 64 * 1024;
/// Room that is worth a read; with less, a new buffer is begun. Messages are slices of the buffers.
const LEAST_ROOM: usize = 4 * 1024;
/// Bytes that may wait to be written: two packets for each message that a broker may leave unacknowledged. With
/// more it sends and does not read.
pub(crate) const MOST_WAITING: usize = 2 * 4 * 65_536;

thread_local! {
    /// What connections without buffers of their own read into; never more than one at a time.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where a connection keeps what it reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Buffers {
    /// In large buffers of its own, of which messages are slices: for few connections that receive much.
    Own,
    /// In memory of the thread, and only what is not whole or not written yet in its own: for the many connections
    /// of a fleet, which are at rest most of the time.
    Shared,
}

/// What is to be written on a connection.
pub(crate) trait Outbox {
    /// Moves everything that waits into `writing`, which is empty. Where nothing waits, `waker` is woken once
    /// something does.
    fn take(&self, writing: &mut BytesMut, waker: &Waker);
}

/// A stream of bytes to and from the broker.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A connection that stands.
pub(crate) struct Connection {
    socket: Box<dyn Socket>,
    version: Version,
    buffers: Buffers,
    most_packet_bytes: u32,
    /// What was read and not taken yet.
    incoming: BytesMut,
    /// What is being written.
    writing: BytesMut,
    /// How much of it answers the broker.
    answering: usize,
    keep_alive: Duration,
    /// When to send the next ping.
    ping: Pin<Box<Sleep>>,
    /// Whether nothing has come since the last ping.
    silent: bool,
}

/// Connects and waits for the broker's answer, the longer the more attempts have failed in a row.
///
/// Safe to cancel: the attempt ends then.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    ask: &Connect<'_>,
    failures: u32,
    buffers: Buffers,
    outbox: &impl Outbox,
) -> Result<(Connection, Welcome), Fault> {
    let patience = PATIENCE * (1 << failures.min(MOST_DOUBLINGS));
    let attempt = async {
        let socket = open(endpoint).await.map_err(fault::of_v5)?;
        Connection::begin(socket, endpoint, ask, buffers, outbox).await
    };
    match timeout(patience, attempt).await.unwrap_or(Err(Fault::Silent { patience })) {
        Err(Fault::Connection(source)) if endpoint.tls.is_none() && fault::is_closed(&*source) => {
            Err(Fault::NoAnswer)
        }
        outcome => outcome,
    }
}

async fn open(endpoint: &Endpoint) -> Result<Box<dyn Socket>, ConnectionError> {
    let stream = TcpStream::connect(endpoint.address.to_string()).await?;
    // With Nagle's algorithm on, a window of acknowledgements waits 40 ms for a delayed ACK of TCP.
    stream.set_nodelay(true)?;
    let Some(connector) = &endpoint.tls else { return Ok(Box::new(stream)) };
    let connector = TlsConnector::from(connector.clone());
    let stream = connector.connect(&endpoint.address.host, stream).await.map_err(TlsError::NativeTls)?;
    Ok(Box::new(stream))
}

impl Connection {
    async fn begin(
        socket: Box<dyn Socket>,
        endpoint: &Endpoint,
        ask: &Connect<'_>,
        buffers: Buffers,
        outbox: &impl Outbox,
    ) -> Result<(Self, Welcome), Fault> {
        let mut connection = Self {
            socket,
            version: endpoint.version,
            buffers,
            most_packet_bytes: ask.max_packet_bytes,
            incoming: BytesMut::new(),
            writing: BytesMut::new(),
            answering: 0,
            keep_alive: endpoint.keep_alive,
            ping: Box::pin(sleep(endpoint.keep_alive)),
            silent: false,
        };
        codec::put_connect(endpoint, ask, &mut connection.writing);
        let Packet::Connected(welcome) = connection.next(outbox).await? else {
            return Err(codec::out_of_place());
        };
        // None at all, 0, is no reason not to look whether the broker is there.
        if let Some(wanted) = welcome.keep_alive.filter(|it| !it.is_zero()) {
            connection.keep_alive = connection.keep_alive.min(wanted);
            connection.ping.as_mut().reset(Instant::now() + connection.keep_alive);
        }
        Ok((connection, welcome))
    }

    /// Waits for the next packet that is not for the connection itself, and writes meanwhile.
    pub(crate) async fn next(&mut self, outbox: &impl Outbox) -> Result<Packet, Fault> {
        loop {
            if let Some(packet) = self.at_hand()? {
                return Ok(packet);
            }
            poll_fn(|context| self.poll(context, outbox)).await.map_err(fault::of_v5)?;
        }
    }

    /// The next packet that was read already.
    pub(crate) fn at_hand(&mut self) -> Result<Option<Packet>, Fault> {
        while let Some(packet) = codec::take(self.version, &mut self.incoming, self.most_packet_bytes)? {
            match packet {
                Packet::Pong => {}
                // Of a message that this process does not know, too: the broker has nothing else to end it by.
                Packet::Release(packet_id) => self.answer(&codec::completion(packet_id))?,
                other => return Ok(Some(other)),
            }
        }
        if self.buffers == Buffers::Shared && self.incoming.len() < LEAST_ROOM {
            // Lets go of the packets before.
            self.incoming = BytesMut::from(&self.incoming[..]);
        }
        Ok(None)
    }

    /// Writes something with the next write.
    pub(crate) fn answer(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.answering >= MOST_WAITING {
            let error = io::Error::other("the broker does not read what it is sent");
            return Err(fault::of_v5(error.into()));
        }
        self.answering += bytes.len();
        self.writing.extend_from_slice(bytes);
        Ok(())
    }

    /// Whether a message is what [`Connection::at_hand`] would look at next.
    pub(crate) fn is_message_next(&self) -> bool {
        self.incoming.first().is_some_and(|it| it >> 4 == 3)
    }

    /// Writes everything, a farewell most likely, or gives up.
    pub(crate) async fn flush(&mut self, outbox: &impl Outbox) -> io::Result<()> {
        let write = async {
            poll_fn(|context| self.poll_write(context, outbox)).await?;
            self.socket.flush().await
        };
        timeout(PATIENCE, write).await?
    }

    /// Writes what there is to write and waits until something was read.
    fn poll(&mut self, context: &mut Context<'_>, outbox: &impl Outbox) -> Poll<Result<(), ConnectionError>> {
        let overdue = self.poll_ping(context);
        let written = self.poll_write(context, outbox);
        // Before a failure to write: the broker may have said why it closed the connection.
        match self.poll_read(context) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(StateError::ConnectionAborted.into())),
            Poll::Ready(Ok(_)) => {
                self.silent = false;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending if overdue => Poll::Ready(Err(StateError::AwaitPingResp.into())),
            Poll::Pending => match written {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                _ => Poll::Pending,
            },
        }
    }

    /// Sends a ping where it is time for one; returns whether nothing has come since the last one.
    fn poll_ping(&mut self, context: &mut Context<'_>) -> bool {
        let mut overdue = false;
        while self.ping.as_mut().poll(context).is_ready() {
            overdue = self.silent;
            self.silent = true;
            self.writing.extend_from_slice(&codec::PING);
            self.ping.as_mut().reset(Instant::now() + self.keep_alive);
        }
        overdue
    }

    /// Writes until there is nothing left to write, or no room for it.
    fn poll_write(&mut self, context: &mut Context<'_>, outbox: &impl Outbox) -> Poll<io::Result<()>> {
        loop {
            if self.writing.is_empty() {
                self.answering = 0;
                if self.buffers == Buffers::Shared {
                    self.writing = BytesMut::new();
                }
                outbox.take(&mut self.writing, context.waker());
            }
            if self.writing.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if ready!(pin!(self.socket.write_buf(&mut self.writing)).poll(context))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.buffers {
            Buffers::Own => {
                if self.incoming.capacity() - self.incoming.len() < LEAST_ROOM {
                    // Grows with what has come of a large packet, not with what its head promises.
                    self.incoming.reserve(CHUNK);
                }
                pin!(self.socket.read_buf(&mut self.incoming)).poll(context)
            }
            Buffers::Shared => SCRATCH.with_borrow_mut(|scratch| {
                scratch.resize(CHUNK, 0);
                let mut read = ReadBuf::new(scratch);
                ready!(Pin::new(&mut self.socket).poll_read(context, &mut read))?;
                self.incoming.extend_from_slice(read.filled());
                Poll::Ready(Ok(read.filled().len()))
            }),
        }
    }
}
