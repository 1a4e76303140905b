//! A TCP proxy whose every piece of bytes meets the fate that a test decides.
//!
//! ```text
//! client ══▶ piece ─▶ rule ─▶ fate ══▶ target      answers come back the same way
//! ```
//!
//! A piece is what one read brought or, of the Kafka protocol, one whole request or answer. The rule runs on the thread that
//! carries the piece and may take its time: a slow link is a rule that sleeps, a broken one a rule that waits. Brokers of
//! Kafka tell their clients where they are; the proxy puts its own address there, so that clients stay behind it.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kafka_protocol::messages::ApiKey;

/// Largest piece of the Kafka protocol; more is a mistake of the proxy.
const LARGEST: usize = 128 << 20;

/// How the bytes of a connection are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pieces {
    /// As they come.
    Any,
    /// Into requests and answers of the Kafka protocol, unencrypted.
    Kafka,
}

/// Where a piece goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the target.
    Up,
    /// From the target to the client.
    Down,
}

/// Some bytes on their way.
#[derive(Debug)]
pub struct Piece<'a> {
    /// Number of the connection, from 0.
    pub connection: u64,
    /// Where it goes.
    pub way: Way,
    /// The bytes; of the Kafka protocol with their length in front.
    pub bytes: &'a [u8],
    /// What is asked or answered; `None` where the bytes are not of the Kafka protocol.
    pub api: Option<ApiKey>,
}

/// What becomes of a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Pass,
    /// It goes on byte by byte.
    Sliced,
    /// It is lost; the connection stays.
    Swallow,
    /// It is lost, and these bytes come back in its place.
    Answer(Vec<u8>),
    /// It is lost, and the connection ends on both sides.
    Close,
    /// It goes on, and then the connection ends on both sides.
    PassAndClose,
    /// It is lost; nothing more goes this way, but the other way stays open.
    HalfClose,
    /// The connection of whoever sent it ends at once; the piece arrives after this time all the same.
    Hold(Duration),
}

type Rule = dyn Fn(&Piece<'_>) -> Fate + Send + Sync;

/// A running proxy; its connections end when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    address: SocketAddr,
    target: SocketAddr,
    pieces: Pieces,
    rule: Box<Rule>,
    stopping: AtomicBool,
    connections: AtomicU64,
    open: Mutex<HashMap<u64, [TcpStream; 2]>>,
}

impl Proxy {
    /// Listens on a free port and carries what comes to `target` and back.
    ///
    /// # Panics
    ///
    /// Panics when the system has no port or no thread.
    #[must_use]
    pub fn start(
        target: SocketAddr,
        pieces: Pieces,
        rule: impl Fn(&Piece<'_>) -> Fate + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            address,
            target,
            pieces,
            rule: Box::new(rule),
            stopping: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            open: Mutex::default(),
        });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for client in listener.incoming() {
                    if shared.stopping.load(Ordering::Relaxed) {
                        return;
                    }
                    // A client that has gone again, or a target that is not there: the client sees the end.
                    let _gone = client.and_then(|it| connect(&shared, it));
                }
            }
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections made so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Ends every connection; new ones are taken.
    pub fn cut(&self) {
        for (_, ends) in self.shared.open().drain() {
            ends.iter().for_each(end);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _gone = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            // A panic of it was printed.
            drop(accepting.join());
        }
        self.cut();
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let target = self.shared.target;
        f.debug_struct("Proxy")
            .field("address", &self.address)
            .field("target", &target)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, [TcpStream; 2]>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which request each correlation id of a connection belongs to.
type Asked = Arc<Mutex<HashMap<i32, ApiKey>>>;

/// One way of a connection.
struct Lane {
    connection: u64,
    way: Way,
    from: TcpStream,
    to: TcpStream,
    asked: Asked,
}

fn connect(shared: &Arc<Shared>, client: TcpStream) -> io::Result<()> {
    let target = TcpStream::connect(shared.target)?;
    client.set_nodelay(true)?;
    target.set_nodelay(true)?;
    let connection = shared.connections.fetch_add(1, Ordering::Relaxed);
    let asked = Asked::default();
    let up = (Way::Up, client.try_clone()?, target.try_clone()?);
    let down = (Way::Down, target.try_clone()?, client.try_clone()?);
    shared.open().insert(connection, [client, target]);
    let lanes =
        [up, down].map(|(way, from, to)| Lane { connection, way, from, to, asked: Arc::clone(&asked) });
    let mut carrying = Vec::new();
    for mut lane in lanes {
        let shared = Arc::clone(shared);
        // Ends with its connection.
        carrying.push(thread::spawn(move || _ = lane.carry(&shared)));
    }
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        carrying.into_iter().for_each(|it| drop(it.join()));
        shared.open().remove(&connection);
    });
    Ok(())
}

impl Lane {
    fn carry(&mut self, shared: &Shared) -> io::Result<()> {
        let mut bytes = Vec::new();
        loop {
            let whole = match shared.pieces {
                Pieces::Any => some(&mut self.from, &mut bytes),
                Pieces::Kafka => framed(&mut self.from, &mut bytes),
            };
            if !matches!(whole, Ok(true)) {
                // The other way may go on: a connection can be half closed.
                return self.to.shutdown(Shutdown::Write);
            }
            let api = (shared.pieces == Pieces::Kafka).then(|| self.api(&bytes)).flatten();
            if self.way == Way::Down && api.is_some_and(tells_addresses) {
                move_here(&mut bytes, shared.target, shared.address);
            }
            let piece = Piece { connection: self.connection, way: self.way, bytes: &bytes, api };
            match (shared.rule)(&piece) {
                Fate::Pass => self.pass(&bytes),
                Fate::Sliced => bytes.chunks(1).for_each(|it| self.pass(it)),
                Fate::Swallow => {}
                Fate::Answer(answer) => self.from.write_all(&answer)?,
                fate @ (Fate::Close | Fate::PassAndClose) => {
                    if fate == Fate::PassAndClose {
                        self.pass(&bytes);
                    }
                    end(&self.from);
                    end(&self.to);
                    return Ok(());
                }
                Fate::HalfClose => {
                    self.to.shutdown(Shutdown::Write)?;
                    return self.from.shutdown(Shutdown::Read);
                }
                Fate::Hold(time) => {
                    end(&self.from);
                    thread::sleep(time);
                    // The receiver's side stays as it is: nobody there learns that the sender has gone.
                    return self.to.write_all(&bytes);
                }
            }
        }
    }

    /// Hands bytes on; a receiver that has gone is seen by its own lane.
    fn pass(&mut self, bytes: &[u8]) {
        let _gone = self.to.write_all(bytes);
    }

    fn api(&self, frame: &[u8]) -> Option<ApiKey> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        match self.way {
            Way::Up => {
                let api = ApiKey::try_from(i16::from_be_bytes(frame.get(4..6)?.try_into().ok()?)).ok()?;
                asked.insert(correlation(frame.get(8..12)?), api);
                Some(api)
            }
            Way::Down => asked.remove(&correlation(frame.get(4..8)?)),
        }
    }
}

fn correlation(bytes: &[u8]) -> i32 {
    i32::from_be_bytes(bytes.try_into().expect("4 bytes were cut"))
}

/// Reads what there is; `false` at the end.
fn some(from: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    bytes.resize(64 << 10, 0);
    let read = loop {
        match from.read(bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    bytes.truncate(read);
    Ok(read > 0)
}

/// Reads a length and as many bytes as it says; `false` at the end.
fn framed(from: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut length = [0; 4];
    if let Err(error) = from.read_exact(&mut length) {
        return if error.kind() == ErrorKind::UnexpectedEof { Ok(false) } else { Err(error) };
    }
    let size = u32::from_be_bytes(length) as usize;
    assert!(size <= LARGEST, "{size} bytes are no piece of the Kafka protocol; is the connection encrypted?");
    bytes.resize(4 + size, 0);
    bytes[..4].copy_from_slice(&length);
    from.read_exact(&mut bytes[4..])?;
    Ok(true)
}

fn tells_addresses(api: ApiKey) -> bool {
    matches!(api, ApiKey::Metadata | ApiKey::FindCoordinator | ApiKey::DescribeCluster)
}

/// Replaces the address of `target` in an answer: the text of the host is followed by the port in 4 bytes.
fn move_here(answer: &mut [u8], target: SocketAddr, here: SocketAddr) {
    let with_port =
        |it: SocketAddr| [target.ip().to_string().as_bytes(), &u32::from(it.port()).to_be_bytes()].concat();
    let (theirs, ours) = (with_port(target), with_port(here));
    let mut at = 0;
    while let Some(place) = answer.get_mut(at..at + theirs.len()) {
        if *place == *theirs {
            place.copy_from_slice(&ours);
        }
        at += 1;
    }
}

fn end(stream: &TcpStream) {
    // It may have ended already.
    let _gone = stream.shutdown(Shutdown::Both);
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
