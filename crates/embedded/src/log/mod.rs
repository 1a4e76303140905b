//! A single-node development log that speaks Kafka's protocol.
//!
//! ```text
//! clients ─TCP─▶ connection ─▶ api ─┬▶ partition ─▶ segments (files, or memory)
//!                (one request      ├▶ groups: state machine per group, committed offsets ─┐
//!                 at a time)       └▶ transactions: state machine, markers ───────────────┴▶ journal
//!                     ▲
//! housekeeping: group and transaction time-outs, retention, compaction
//! ```
//!
//! It exists so that a laptop needs no JVM; whatever is beyond one machine is real Kafka. `acks=all` means
//! written to the operating system: a killed process loses nothing, a power cut may lose the last moments.
//!
//! A data folder holds `lock` (one process at a time), `journal` (topics, offsets, producers, transactions) and
//! `topics/<name>.<id>/<partition>/<first offset>.log` (record batches as a fetch sends them). What a start finds
//! half-written or damaged at the end of a file is cut, and a warning says where.
//!
//! Not served: replication, the group protocol of KIP-848, share groups, transactions of KIP-890, incremental fetch
//! sessions, quotas, ACLs, TLS and SASL. Clients see that in the versions that `ApiVersions` announces, and do without;
//! docs/CONFORMANCE.md lists every known difference from Apache Kafka.

mod api;
mod batch;
mod broker;
mod catalog;
mod clock;
mod codec;
mod committed;
mod compaction;
mod connection;
mod group;
mod group_member;
mod group_rebalance;
mod groups;
mod housekeeping;
mod journal;
mod partition;
mod producers;
mod raw;
mod recovery;
mod retention;
mod segment;
mod shape;
mod start;
mod topic_config;
mod transaction;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use broker::Broker;

/// Threads that serve connections.
const WORKERS: usize = 2;
/// Longest time for connections to end when the log stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Where and how the log runs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LogConfig {
    /// The address to listen on; port 0 is any free one. Clients are told the address they connected to.
    pub listen: SocketAddr,
    /// The folder that keeps everything; without one it is kept in memory and gone with the process.
    pub data: Option<PathBuf>,
    /// Partitions of a topic whose creator leaves the number to the broker.
    pub default_partitions: i32,
    /// Whether a client that asks for an unknown topic creates it.
    pub auto_create_topics: bool,
    /// How long a new group waits for more members after each that joins (`group.initial.rebalance.delay.ms`).
    pub rebalance_delay: Duration,
    /// Time between two rounds of retention and compaction.
    pub cleanup_interval: Duration,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data: None,
            default_partitions: 1,
            auto_create_topics: false,
            rebalance_delay: Duration::from_millis(250),
            cleanup_interval: Duration::from_secs(10),
        }
    }
}

/// Why the log does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is taken, or not one of this machine.
    #[error("listening on {address} for Kafka clients")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The data folder cannot be read or written.
    #[error("using {} as the data folder of the log", path.display())]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has the data folder.
    #[error("the data folder {} is in use by another log; stop that one or choose another folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Threads could not be started.
    #[error("starting the threads of the log")]
    Threads {
        /// What the system says.
        source: io::Error,
    },
}

/// A running log. Dropping it stops it in order: connections end, files are closed, the folder is free again.
#[derive(Debug)]
pub struct Log {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Starts the log; when this returns, clients can connect.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the address or the data folder.
    pub fn start(config: LogConfig) -> Result<Self, Error> {
        let folder_lock = config.data.as_deref().map(start::lock_folder).transpose()?;
        let broker = Arc::new(match &config.data {
            Some(folder) => start::on_disk(&config, folder)?,
            None => start::in_memory(&config),
        });
        let listening = |source| Error::Listen { address: config.listen, source };
        let listener = std::net::TcpListener::bind(config.listen).map_err(listening)?;
        listener.set_nonblocking(true).map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        let threads = |source| Error::Threads { source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("kafka-log")
            .enable_all()
            .build()
            .map_err(threads)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let cleanup_interval = config.cleanup_interval;
        let run = move || {
            runtime.block_on(serve(listener, broker, stopped, cleanup_interval));
            runtime.shutdown_timeout(DRAIN);
            drop(folder_lock);
        };
        let thread = std::thread::Builder::new().name("kafka-log".to_owned()).spawn(run).map_err(threads)?;
        let storage = config.data.as_ref().map_or_else(|| "memory".to_owned(), |it| it.display().to_string());
        info!(%address, storage, "this is a single-node development log that speaks Kafka's protocol, not Apache Kafka");
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// The address that clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.stop.cancel();
        if self.thread.take().is_some_and(|it| it.join().is_err()) {
            error!("the thread of the log panicked");
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    broker: Arc<Broker>,
    stop: CancellationToken,
    cleanup_interval: Duration,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(source) => return error!(%source, "the listener of the log is unusable"),
    };
    let time_outs = housekeeping::time_outs(Arc::clone(&broker), stop.clone());
    let cleaning = housekeeping::cleaning(Arc::clone(&broker), stop.clone(), cleanup_interval);
    tokio::join!(connection::accept(listener, broker, stop), time_outs, cleaning);
}

/// Random bytes from the system.
fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}

/// A random name of 22 characters, like those Kafka makes.
fn random_id() -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    random_bytes::<22>().iter().map(|it| char::from(LETTERS[usize::from(it & 63)])).collect()
}
