//! One client's connection, from CONNECT to its end.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::hub::{Attached, Hub, Offer};
use super::packet::{Connect, Malformed, Packet, Publish, Version, Will, frame, malformed, parse};
use super::session::{Peer, WINDOW};
use super::write::{self, ConnAck, Message};
use super::{Config, Credentials};

/// Longest time from the first byte to a whole CONNECT.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time to write a last word to a client that is being disconnected.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes to read at once.
const READ_BYTES: usize = 8 * 1024;
/// A client whose publishes are held back may send so many bytes more; among them are its pings.
const HELD_BYTES: usize = 64 * 1024;
/// Answers that may wait to be written before the client's next packets are read.
const UNWRITTEN_BYTES: usize = 1 << 20;
/// Held publishes are offered again at least so often: sessions without a connection lose their claim by time.
const RETRY: Duration = Duration::from_millis(500);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client said farewell")]
    Farewell { with_will: bool },
    #[error("the client closed the connection")]
    Closed,
    #[error("the client was silent for longer than its keep-alive")]
    Silent,
    #[error("another connection took the session over")]
    TakenOver,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("reading or writing")]
    Io(#[from] std::io::Error),
}

struct Connection {
    hub: Rc<RefCell<Hub>>,
    session: Attached,
    peer: Peer,
    limit: usize,
    input: BytesMut,
    output: BytesMut,
    /// Whether a publish waits at the front of `input` for room in a queue.
    held: bool,
    /// While held: bytes of `input` that were searched for pings, and pings answered ahead of their turn.
    searched: usize,
    early_pongs: usize,
}

/// Serves a client; returns when its connection has ended and its session is settled.
pub(super) async fn serve(mut stream: TcpStream, hub: Rc<RefCell<Hub>>, config: Rc<Config>) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "connection ended before it began");
        return;
    }
    let mut input = BytesMut::with_capacity(1024);
    let limit = config.max_packet_bytes;
    let read = timeout(CONNECT_TIMEOUT, read_connect(&mut stream, &mut input, limit));
    let connect = match read.await {
        Ok(Ok(connect)) => connect,
        Ok(Err(end)) => {
            debug!(%end, "connection without a CONNECT");
            if let End::Malformed(Malformed { code: 0x84, .. }) = end {
                refuse(&mut stream, Version::V311, 0x84).await;
            }
            return;
        }
        Err(_) => return debug!("connection sent no CONNECT in time"),
    };
    let version = connect.version;
    if let Err(code) = admit(&connect, config.credentials.as_ref()) {
        debug!(client_id = connect.client_id, code, "client is refused");
        return refuse(&mut stream, version, code).await;
    }
    let (connection, will, keep_alive) = attach(hub, &config, input, *connect);
    connection.run(stream, will, keep_alive).await;
}

async fn read_connect(
    stream: &mut TcpStream,
    input: &mut BytesMut,
    limit: usize,
) -> Result<Box<Connect>, End> {
    // A CONNECT holds texts of up to 64 KiB each; nothing else may come first.
    let limit = limit.min(512 * 1024);
    loop {
        if let Some((body, end)) = frame(input, limit)? {
            let packet = parse(Version::V5, input[0], &input[body..end])?;
            let Packet::Connect(connect) = packet else {
                return Err(malformed("the first packet is not CONNECT").into());
            };
            input.advance(end);
            return Ok(connect);
        }
        if input.first().is_some_and(|&it| it != 0x10) {
            return Err(malformed("the first packet is not CONNECT").into());
        }
        if stream.read_buf(input).await? == 0 {
            return Err(End::Closed);
        }
    }
}

fn admit(connect: &Connect, credentials: Option<&Credentials>) -> Result<(), u8> {
    if connect.authentication {
        return Err(0x8c);
    }
    if connect.version == Version::V311 && connect.client_id.is_empty() && !connect.clean_start {
        return Err(0x85);
    }
    let Some(Credentials { user, password }) = credentials else { return Ok(()) };
    match (&connect.user, &connect.password) {
        (Some(given), Some(secret)) if given == user && secret == password.as_bytes() => Ok(()),
        _ => Err(0x86),
    }
}

async fn refuse(stream: &mut TcpStream, version: Version, code: u8) {
    let mut output = BytesMut::new();
    write::connack_refusal(&mut output, version, code);
    let _gone_anyway = timeout(FAREWELL_TIMEOUT, stream.write_all(&output)).await;
}

fn attach(
    hub: Rc<RefCell<Hub>>,
    config: &Config,
    input: BytesMut,
    mut connect: Connect,
) -> (Connection, Option<Will>, u16) {
    let mut locked = hub.borrow_mut();
    let mut assigned_client_id = None;
    if connect.client_id.is_empty() {
        let free = (0_u64..).map(|it| format!("anonymous-{it}")).find(|it| !locked.knows(it));
        connect.client_id = free.expect("there are more numbers than clients");
        assigned_client_id = Some(connect.client_id.clone());
    }
    let session = locked.attach(&connect.client_id, connect.clean_start, connect.session_expiry);
    let peer = Peer {
        version: connect.version,
        window: connect.receive_maximum.min(WINDOW),
        max_packet_bytes: connect.max_packet_bytes as usize,
    };
    let mut output = BytesMut::new();
    let max_packet_bytes = u32::try_from(config.max_packet_bytes).unwrap_or(u32::MAX);
    let answer = ConnAck { session_present: session.present, assigned_client_id, max_packet_bytes };
    write::connack(&mut output, peer.version, &answer);
    if let Some(resumed) = locked.session(session.key, session.connection) {
        resumed.resend(peer, &mut output);
    }
    drop(locked);
    let limit = config.max_packet_bytes;
    let (held, searched, early_pongs) = (false, 0, 0);
    let connection = Connection { hub, session, peer, limit, input, output, held, searched, early_pongs };
    (connection, connect.will, connect.keep_alive)
}

impl Connection {
    async fn run(mut self, mut stream: TcpStream, will: Option<Will>, keep_alive: u16) {
        // The standard gives a client one and a half times its keep-alive.
        let silence = (keep_alive > 0).then(|| Duration::from_millis(u64::from(keep_alive) * 1500));
        let end = self.exchange(&mut stream, silence).await;
        debug!(connection = self.session.connection, end = ?end, "connection ended");
        if let End::Io(_) = end {
            self.take_last(&stream);
        }
        let code = match &end {
            End::Malformed(it) => Some(it.code),
            End::Silent => Some(0x8d),
            End::TakenOver => Some(0x8e),
            _ => None,
        };
        if let Some(code) = code {
            write::disconnect(&mut self.output, self.peer.version, code);
            let _gone_anyway = timeout(FAREWELL_TIMEOUT, stream.write_all(&self.output)).await;
        }
        drop(stream);
        let will = will.filter(|_| !matches!(end, End::Farewell { with_will: false }));
        self.settle(will).await;
    }

    /// Reads and writes until the connection has to end.
    async fn exchange(&mut self, stream: &mut TcpStream, silence: Option<Duration>) -> End {
        let relieved = Rc::clone(&self.hub.borrow().relieved);
        let wake = Rc::clone(&self.session.wake);
        let mut heard = Instant::now();
        // When the client last took something, or nothing waited for it.
        let mut took = Instant::now();
        let deadline = sleep(silence.unwrap_or(Duration::from_secs(u32::MAX.into())));
        tokio::pin!(deadline);
        let (mut reader, mut writer) = stream.split();
        loop {
            let room = relieved.notified(); // before the packets are offered: no wake-up is missed
            if let Err(end) = self.take_packets() {
                return end;
            }
            if self.hub.borrow_mut().session(self.session.key, self.session.connection).is_none() {
                return End::TakenOver;
            }
            if self.output.is_empty() {
                took = Instant::now();
            }
            self.hub.borrow_mut().fill(self.session.key, self.peer, &mut self.output);
            let unread = self.output.len() > UNWRITTEN_BYTES;
            let full = unread || (self.held && self.input.len() > HELD_BYTES);
            if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
                self.input.reserve(READ_BYTES);
            }
            // Writing first, so that a read and its answers cost two system calls. All are safe to cancel.
            tokio::select! {
                biased;
                written = writer.write_buf(&mut self.output), if !self.output.is_empty() => match written {
                    Ok(0) => return End::Closed,
                    Ok(_) => took = Instant::now(),
                    Err(error) => return End::Io(error),
                },
                read = reader.read_buf(&mut self.input), if !full => match read {
                    Ok(0) => return End::Closed,
                    Ok(_) => heard = Instant::now(),
                    Err(error) => return End::Io(error),
                },
                () = wake.notified() => {}
                () = room, if self.held => {}
                () = sleep(RETRY), if self.held => {}
                () = &mut deadline, if silence.is_some() => {
                    let silence = silence.unwrap_or_default();
                    let due = heard + silence;
                    // One that is not listened to is not silent, unless it takes nothing either.
                    let gone = !full || (unread && took + silence <= Instant::now());
                    if due <= Instant::now() && gone {
                        return End::Silent;
                    }
                    deadline.as_mut().reset(due.max(Instant::now() + RETRY));
                }
            }
        }
    }

    /// Takes what a client had sent before its connection broke: among it are acknowledgements.
    fn take_last(&mut self, stream: &TcpStream) {
        while self.input.len() <= HELD_BYTES
            && stream.try_read_buf(&mut self.input).is_ok_and(|count| count > 0)
            && self.take_packets().is_ok()
        {}
    }

    /// Handles the whole packets in `input`, up to one that must wait.
    fn take_packets(&mut self) -> Result<(), End> {
        self.held = false;
        let mut input = std::mem::take(&mut self.input);
        let taken = self.take_from(&mut input);
        if self.held && taken.is_ok() {
            self.answer_pings(&input);
        }
        self.input = input;
        taken
    }

    fn take_from(&mut self, input: &mut BytesMut) -> Result<(), End> {
        while self.output.len() <= UNWRITTEN_BYTES
            && let Some((body, end)) = frame(input, self.limit)?
        {
            let packet = parse(self.peer.version, input[0], &input[body..end])?;
            if !self.handle(packet)? {
                self.held = true;
                return Ok(());
            }
            input.advance(end);
            self.searched = self.searched.saturating_sub(end);
        }
        Ok(())
    }

    /// Answers the pings behind a held publish: its client must not take the broker for dead.
    fn answer_pings(&mut self, input: &BytesMut) {
        while let Ok(Some((_, length))) = frame(&input[self.searched..], self.limit) {
            if input[self.searched] == 0xc0 {
                write::ping_response(&mut self.output);
                self.early_pongs += 1;
            }
            self.searched += length;
        }
    }

    /// Handles one packet; `false` if it must wait.
    fn handle(&mut self, packet: Packet<'_>) -> Result<bool, End> {
        let version = self.peer.version;
        let (key, connection) = (self.session.key, self.session.connection);
        let mut hub = self.hub.borrow_mut();
        let Some(session) = hub.session(key, connection) else { return Err(End::TakenOver) };
        match packet {
            Packet::Publish(publish) => {
                drop(hub);
                return Ok(self.publish(&publish));
            }
            Packet::PubAck(packet_id) | Packet::PubRec(packet_id, true) | Packet::PubComp(packet_id) => {
                session.settled(packet_id);
            }
            Packet::PubRec(packet_id, false) => {
                let code = if session.received(packet_id) { 0 } else { 0x92 };
                write::acknowledgement(&mut self.output, version, 0x62, packet_id, code);
            }
            Packet::PubRel(packet_id) => {
                let code = if session.unreleased.remove(&packet_id) { 0 } else { 0x92 };
                write::acknowledgement(&mut self.output, version, 0x70, packet_id, code);
            }
            Packet::Subscribe(request) => {
                let mut codes = hub.subscribe(key, &request);
                if version == Version::V311 {
                    codes.iter_mut().filter(|it| **it > 2).for_each(|it| *it = 0x80);
                }
                write::subscription_answer(&mut self.output, version, 0x90, request.packet_id, &codes);
            }
            Packet::Unsubscribe { packet_id, filters } => {
                let codes = hub.unsubscribe(key, &filters);
                write::subscription_answer(&mut self.output, version, 0xb0, packet_id, &codes);
            }
            Packet::PingReq => match self.early_pongs.checked_sub(1) {
                Some(left) => self.early_pongs = left,
                None => write::ping_response(&mut self.output),
            },
            Packet::Disconnect { with_will, session_expiry } => {
                if let Some(seconds) = session_expiry {
                    session.expiry_seconds = seconds;
                }
                return Err(End::Farewell { with_will });
            }
            Packet::Connect(_) => return Err(Malformed { what: "a second CONNECT", code: 0x82 }.into()),
        }
        Ok(true)
    }

    /// Takes a publish and answers it; `false` if it must wait.
    fn publish(&mut self, publish: &Publish<'_>) -> bool {
        let (key, connection) = (self.session.key, self.session.connection);
        let mut hub = self.hub.borrow_mut();
        let known = |hub: &mut Hub| {
            hub.session(key, connection).is_some_and(|it| it.unreleased.contains(&publish.packet_id))
        };
        let mut receivers = 1;
        if publish.qos < 2 || !known(&mut hub) {
            match hub.offer(Some(key), &Message::from_publish(publish)) {
                Offer::Held => return false,
                Offer::Taken(count) => receivers = count,
            }
        }
        if publish.qos == 0 {
            return true;
        }
        if publish.qos == 2
            && let Some(session) = hub.session(key, connection)
        {
            session.unreleased.insert(publish.packet_id);
        }
        let code = if receivers == 0 { 0x10 } else { 0 };
        let first = if publish.qos == 1 { 0x40 } else { 0x50 };
        write::acknowledgement(&mut self.output, self.peer.version, first, publish.packet_id, code);
        true
    }

    /// Lets go of the session, publishes the will, and waits for the session's end.
    async fn settle(mut self, will: Option<Will>) {
        (self.input, self.output) = (BytesMut::new(), BytesMut::new());
        let (key, connection) = (self.session.key, self.session.connection);
        let lives_on = self.hub.borrow_mut().detach(key, connection);
        let mut waited = 0;
        if let Some(will) = will {
            waited = will.delay_seconds.min(lives_on.unwrap_or(0));
            sleep(Duration::from_secs(waited.into())).await;
            // A client that is back in time takes its will back.
            if waited == 0 || self.hub.borrow_mut().is_absent(key, connection) {
                self.publish_will(&will).await;
            }
        }
        if let Some(seconds) = lives_on.filter(|&it| it != u32::MAX) {
            sleep(Duration::from_secs(seconds.saturating_sub(waited).into())).await;
            self.hub.borrow_mut().expire(key, connection);
        }
    }

    async fn publish_will(&self, will: &Will) {
        let message = Message::from_will(will);
        while self.hub.borrow_mut().offer(None, &message) == Offer::Held {
            sleep(RETRY).await;
        }
    }
}
