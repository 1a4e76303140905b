//! A link between two processes that can be given trouble: a TCP proxy of which each connection is two pumps.
//!
//! ```text
//! service ──▶ listener ──▶ pump to engine ──▶ engine
//!                    ◀── pump to service ◀──
//!                              ▲ trouble, seen by every pump at once
//! ```
//!
//! Kafka's clients follow the addresses that brokers advertise. A link to Kafka therefore listens once for each broker, reads its
//! answers frame by frame, and puts its own ports where the brokers' stand: `127.0.0.1` and the port follow each other in every
//! answer that has an address, so what is exchanged is as long as what was there.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::random::Random;
use super::trouble::Trouble;

/// Bytes of each piece that a link passes on one by one when it is sliced: enough for every header, and affordable.
const SLICED: usize = 256;
/// Pieces a second that a narrow link passes on.
const PIECES: u32 = 20;
/// Time for an engine to handle what was released before its connection ends.
const RELEASED: Duration = Duration::from_secs(1);
/// Longest frame of Kafka that is believed.
const FRAME_LIMIT: usize = 128 << 20;

/// What goes over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Bytes that are passed on as they are.
    Plain,
    /// Kafka's protocol, whose answers have addresses in them.
    Kafka,
}

/// Trouble, and the how-manieth it is.
type State = (u64, Trouble);

/// A link to an engine, with trouble that all its connections share. Dropping it does not end them; the runtime's end does.
#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<SocketAddr>,
    state: watch::Sender<State>,
}

impl Proxy {
    /// Listens on a free port of this machine for each target: one, or the brokers of one Kafka.
    ///
    /// # Errors
    ///
    /// Returns why it cannot listen.
    pub fn open(runtime: &Runtime, targets: &[SocketAddr], protocol: Protocol) -> io::Result<Self> {
        let listen = |_| runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listeners = targets.iter().map(listen).collect::<io::Result<Vec<_>>>()?;
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let (state, seen) = watch::channel((0, Trouble::Clear));
        let ports = || targets.iter().zip(&addresses).map(|(target, ours)| (target.port(), ours.port()));
        let rewrite = (protocol == Protocol::Kafka).then(|| Rewrite::new(ports()));
        for (listener, &target) in listeners.into_iter().zip(targets) {
            runtime.spawn(accept(listener, target, rewrite.clone(), seen.clone()));
        }
        Ok(Self { addresses, state })
    }

    /// Where it listens, as a client is told: `HOST:PORT`, for several brokers with commas between.
    #[must_use]
    pub fn address(&self) -> String {
        list(&self.addresses)
    }

    /// Gives it trouble, or takes it away.
    pub fn set(&self, trouble: Trouble) {
        self.state.send_modify(|state| *state = (state.0 + 1, trouble));
    }
}

/// Addresses as a client is told of them.
pub(super) fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    rewrite: Option<Rewrite>,
    state: watch::Receiver<State>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => drop(connections.spawn(carry(client, target, rewrite.clone(), state.clone()))),
                Err(_) => sleep(Duration::from_millis(50)).await, // out of descriptors: not for long
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(
    mut client: TcpStream,
    target: SocketAddr,
    rewrite: Option<Rewrite>,
    state: watch::Receiver<State>,
) {
    let (born, trouble) = *state.borrow();
    if let Some(answer) = trouble.answer() {
        let mut request = [0; 4096];
        // What is asked does not matter, nor whether the answer arrives.
        let _ = client.read(&mut request).await;
        let _ = client.write_all(answer).await;
        return;
    }
    let server = match trouble {
        Trouble::Reset => None,
        _ => TcpStream::connect(target).await.ok(),
    };
    let Some(server) = server else {
        let _ = client.set_zero_linger(); // it is told as if the engine's machine had said so
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let gone = CancellationToken::new();
    let seed = u64::from(target.port());
    let pump = |from, to, towards, rewrite| {
        let (state, gone, random) = (state.clone(), gone.clone(), Random::new(seed));
        Pump { from, to, towards, rewrite, state, born, gone, random, bytes: BytesMut::new() }
    };
    let there = pump(from_client, to_server, Towards::Engine, None);
    let back = pump(from_server, to_client, Towards::Service, rewrite);
    tokio::join!(there.run(), back.run());
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Towards {
    Engine,
    Service,
}

/// One direction of a connection.
struct Pump {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    towards: Towards,
    rewrite: Option<Rewrite>,
    state: watch::Receiver<State>,
    /// Number of the trouble there was when the connection began.
    born: u64,
    /// The service's side was closed by the link.
    gone: CancellationToken,
    random: Random,
    bytes: BytesMut,
}

impl Pump {
    /// The trouble of this connection: some are made for those that were there before. Does not count as seen, so that
    /// [`Pump::run`] learns of it, too.
    fn trouble(&self) -> Trouble {
        match *self.state.borrow() {
            (number, Trouble::Hold { .. } | Trouble::HalfClose) if number == self.born => Trouble::Clear,
            (_, trouble) => trouble,
        }
    }

    /// Waits until the trouble is another; whether there will be one.
    async fn changed(&mut self) -> bool {
        self.state.changed().await.is_ok()
    }

    async fn run(mut self) {
        loop {
            self.state.mark_unchanged();
            match (self.trouble(), self.towards) {
                (Trouble::Reset, _) => return self.reset(),
                (Trouble::Error500 | Trouble::Garbage | Trouble::NotJson, _) => return self.reset(),
                (Trouble::Hold { cut_after }, Towards::Engine) => return self.hold(cut_after).await,
                (Trouble::HalfClose, Towards::Engine) => {
                    let _ = self.to.shutdown().await;
                    self.changed().await;
                    return;
                }
                _ => {}
            }
            // What was read is passed on only now: the trouble may have come with it.
            let whole = match &self.rewrite {
                Some(rewrite) => match rewrite.whole_frames(&mut self.bytes) {
                    Some(whole) => whole,
                    None => return self.reset(),
                },
                None => self.bytes.split(),
            };
            if !self.pass(whole).await {
                return self.reset();
            }
            tokio::select! {
                changed = self.state.changed() => if changed.is_err() { return },
                () = self.gone.cancelled(), if self.towards == Towards::Service => return self.discard().await,
                read = self.from.read_buf(&mut self.bytes) => if !matches!(read, Ok(1..)) {
                    return self.end().await;
                },
            }
        }
    }

    /// Passes bytes on as the trouble has it; whether the connection is to live on.
    async fn pass(&mut self, mut bytes: BytesMut) -> bool {
        while !bytes.is_empty() {
            let piece = match self.trouble() {
                Trouble::Reset | Trouble::Error500 | Trouble::Garbage | Trouble::NotJson => return false,
                Trouble::Blackhole => {
                    if !self.changed().await {
                        return false;
                    }
                    continue;
                }
                Trouble::Late { delay } => {
                    let longest = delay.as_millis() as u64;
                    let jitter = self.random.duration((0, longest));
                    sleep(delay + jitter).await;
                    bytes.len()
                }
                Trouble::Narrow { bytes_a_second } => {
                    sleep(Duration::from_secs(1) / PIECES).await;
                    (bytes_a_second / PIECES) as usize
                }
                Trouble::Sliced => {
                    for _ in 0..SLICED.min(bytes.len()) {
                        if self.to.write_all(&bytes.split_to(1)).await.is_err() {
                            return false;
                        }
                    }
                    bytes.len()
                }
                Trouble::Clear | Trouble::HalfClose | Trouble::Hold { .. } => bytes.len(),
            };
            let piece = bytes.split_to(piece.min(bytes.len()));
            if self.to.write_all(&piece).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The sender has ended its side: so does the link, unless it would not let that through now.
    async fn end(&mut self) {
        while matches!(self.trouble(), Trouble::Blackhole | Trouble::HalfClose) && self.changed().await {}
        let _ = self.to.shutdown().await;
    }

    fn reset(self) {
        let _ = self.from.as_ref().set_zero_linger();
        let _ = self.to.as_ref().set_zero_linger();
        self.to.forget(); // else it would say goodbye first
    }

    /// Keeps what the service sends, closes its connection, and delivers what it kept once the trouble is over.
    async fn hold(mut self, cut_after: Duration) {
        let cut = sleep(cut_after);
        tokio::pin!(cut);
        loop {
            tokio::select! {
                () = &mut cut => break,
                read = self.from.read_buf(&mut self.bytes) => if !matches!(read, Ok(1..)) { break },
            }
        }
        drop(self.from);
        self.gone.cancel();
        while matches!(self.state.borrow_and_update().1, Trouble::Hold { .. }) {
            if self.state.changed().await.is_err() {
                return;
            }
        }
        if self.to.write_all(&self.bytes).await.is_ok() {
            sleep(RELEASED).await;
            let _ = self.to.shutdown().await;
        }
    }

    /// Closes the service's side and reads on, so that the engine does not notice.
    async fn discard(mut self) {
        drop(self.to);
        loop {
            self.bytes.clear();
            if !matches!(self.from.read_buf(&mut self.bytes).await, Ok(1..)) {
                return;
            }
        }
    }
}

/// Puts our ports where the brokers' stand in Kafka's answers.
#[derive(Debug, Clone)]
struct Rewrite(Arc<[(Pattern, Pattern)]>);

/// An address as it stands in an answer.
type Pattern = [u8; ADDRESS.len() + 4];

/// The host that brokers on this machine advertise.
const ADDRESS: &[u8; 9] = b"127.0.0.1";

impl Rewrite {
    /// Of pairs: the port that a broker advertises, and ours.
    fn new(ports: impl Iterator<Item = (u16, u16)>) -> Self {
        let pattern = |port: u16| {
            let mut pattern = [0; ADDRESS.len() + 4];
            pattern[..ADDRESS.len()].copy_from_slice(ADDRESS);
            pattern[ADDRESS.len()..].copy_from_slice(&i32::from(port).to_be_bytes());
            pattern
        };
        Self(ports.map(|(advertised, ours)| (pattern(advertised), pattern(ours))).collect())
    }

    /// What is to stand where these bytes are, if they are the address of a broker.
    fn ours(&self, bytes: &[u8]) -> Option<&Pattern> {
        self.0.iter().find_map(|(advertised, ours)| (advertised == bytes).then_some(ours))
    }

    /// Takes the whole frames out of what was read, with our address in them; `None` if these are no frames.
    fn whole_frames(&self, read: &mut BytesMut) -> Option<BytesMut> {
        let mut end = 0;
        while let Some(mut size) = read.get(end..end + 4) {
            let size = usize::try_from(size.get_i32()).ok().filter(|it| *it <= FRAME_LIMIT)?;
            if read.len() < end + 4 + size {
                break;
            }
            end += 4 + size;
        }
        let mut whole = read.split_to(end);
        let mut at = 0;
        while let Some(bytes) = whole.get_mut(at..at + size_of::<Pattern>()) {
            match self.ours(bytes) {
                Some(ours) => {
                    bytes.copy_from_slice(ours);
                    at += bytes.len();
                }
                None => at += 1,
            }
        }
        Some(whole)
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
