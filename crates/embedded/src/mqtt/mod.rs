//! An MQTT broker for one machine: MQTT 3.1.1 and 5 on one port, everything in memory.
//!
//! ```text
//! listener ─▶ connection (a task each) ─▶ hub: sessions, subscriptions, retained messages
//!                  ▲                        │
//!                  └── wake, fill ◀─────────┘        one thread, no locks
//! ```
//!
//! It differs from a large broker in one point that matters here: it never drops a message of QoS 1 or 2 for
//! a subscriber that is slow. When a session's queue is full, the publishers to it wait with their
//! acknowledgements, so a stalled bridge slows its cars down instead of losing their readings. A session
//! whose client is away holds them up for a limited time only.
//!
//! What it drops all the same is counted on `$SYS/broker/publish/messages/dropped`, as mosquitto does it.
//!
//! Sessions and retained messages end with the process. It is for laptops and tests.

mod connection;
mod hub;
mod index;
mod packet;
mod reader;
mod session;
mod write;

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};
use tracing::{info, warn};

use crate::server::{Server, listen, loopback};
use hub::{Hub, Limits};

/// Stack of the broker's thread.
const STACK_BYTES: usize = 2 << 20;

/// How often the broker tells how many messages it has dropped, if that has changed.
const TELL: Duration = Duration::from_secs(1);

/// How the broker runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Port on the loopback interface, 0 for any free one.
    pub port: u16,
    /// Who may connect; `None` for anyone on this machine.
    pub credentials: Option<Credentials>,
    /// Largest packet to accept, in bytes.
    pub max_packet_bytes: usize,
    /// Bytes queued for one session before who publishes to it waits.
    pub queued_bytes: usize,
    /// How long publishers wait for a session whose client is away.
    pub patience: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: 0,
            credentials: None,
            max_packet_bytes: 32 << 20,
            // Six seconds of 10,000 readings a second.
            queued_bytes: 64 << 20,
            patience: Duration::from_secs(60),
        }
    }
}

/// A user and a password.
#[derive(Clone)]
pub struct Credentials {
    /// Name of the user.
    pub user: String,
    /// Password of the user.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).field("password", &"***").finish()
    }
}

/// Why the broker could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The port cannot be had.
    #[error("listening for MQTT on {address}")]
    Listen {
        /// Address that was asked for.
        address: SocketAddr,
        /// What the system reported.
        source: std::io::Error,
    },
    /// The thread or its runtime could not be made.
    #[error("starting the thread of the MQTT broker")]
    Thread(#[source] std::io::Error),
}

/// A running broker; dropping it closes every connection.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    _server: Server,
}

/// Starts a broker.
///
/// # Errors
///
/// Returns an error if the port is taken or the thread cannot be made.
pub fn start(config: Config) -> Result<Broker, Error> {
    let address = loopback(config.port);
    let (listener, address) = listen(address).map_err(|source| Error::Listen { address, source })?;
    let run = move |runtime: Runtime, stopped| {
        // Dropping the set drops the tasks, and with them the sockets.
        LocalSet::new().block_on(&runtime, accept(listener, config, stopped));
    };
    let server = Server::start("mqtt-broker", STACK_BYTES, run).map_err(Error::Thread)?;
    Ok(Broker { address, _server: server })
}

impl Broker {
    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, config: Config, mut stopped: oneshot::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(it) => it,
        Err(error) => return warn!(%error, "cannot listen for MQTT"),
    };
    let Config { queued_bytes, patience, .. } = config;
    let limits = Limits { queued_bytes, retained_bytes: 64 << 20, patience };
    let hub = Rc::new(RefCell::new(Hub::new(limits)));
    let config = Rc::new(config);
    let mut connections = JoinSet::new();
    let mut tell = tokio::time::interval(TELL);
    info!(address = ?listener.local_addr().ok(), "MQTT broker is listening");
    loop {
        // All are safe to cancel.
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn_local(connection::serve(stream, Rc::clone(&hub), Rc::clone(&config)));
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    // Out of file descriptors, as a rule: some connection must end first.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            _ = tell.tick() => hub.borrow_mut().tell_dropped(),
            Some(ended) = connections.join_next() => if let Err(error) = ended {
                warn!(%error, "a connection's task failed");
            },
            _ = &mut stopped => return,
        }
    }
}
