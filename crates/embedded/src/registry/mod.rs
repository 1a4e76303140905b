//! A schema registry for one machine, with Confluent's REST API, for Avro.
//!
//! ```text
//! HTTP ─▶ routes: paths, bodies, error codes ─▶ store: subjects, versions, ids ─▶ journal: one JSON line a change
//!                                                 └─▶ compatibility: apache-avro's resolution
//! ```
//!
//! In memory, or in a folder where it survives a restart. It is for laptops and tests.

mod compatibility;
mod journal;
mod request;
mod routes;
mod store;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::server::{Server, listen, loopback};
use store::Store;

/// Stack of the thread: schemas nest, and the Avro library walks them by recursion.
const STACK_BYTES: usize = 16 << 20;

/// Why the registry could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The port cannot be had.
    #[error("listening for the schema registry on {address}")]
    Listen {
        /// Address that was asked for.
        address: SocketAddr,
        /// What the system reported.
        source: std::io::Error,
    },
    /// The thread or its runtime could not be made.
    #[error("starting the thread of the schema registry")]
    Thread(#[source] std::io::Error),
    /// The journal could not be opened, read or written.
    #[error("opening the registry's journal {path:?}")]
    Journal {
        /// The file.
        path: PathBuf,
        /// What the system reported.
        source: std::io::Error,
    },
    /// Another process writes the journal.
    #[error("the registry's journal {path:?} is in use by another process")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A line in the middle of the journal is not what the registry wrote.
    #[error(
        "line {line} of the registry's journal {path:?} is damaged; mend it, or remove the file to start anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What the parser reported.
        source: serde_json::Error,
    },
}

/// A running registry; dropping it closes every connection.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    _server: Server,
}

/// Starts a registry on `port` of the loopback interface, 0 for any free one; `data` is the folder that it
/// keeps its journal in.
///
/// # Errors
///
/// Returns an error if the port is taken or the journal cannot be used.
pub fn start(port: u16, data: Option<&Path>) -> Result<Registry, Error> {
    let store = match data {
        Some(folder) => Store::open(folder)?,
        None => Store::in_memory(),
    };
    let address = loopback(port);
    let (listener, address) = listen(address).map_err(|source| Error::Listen { address, source })?;
    let run = move |runtime: Runtime, stopped: oneshot::Receiver<()>| {
        runtime.block_on(async {
            // Both are safe to cancel.
            tokio::select! {
                () = serve(listener, store) => {}
                _ = stopped => {}
            }
        });
    };
    let server = Server::start("schema-registry", STACK_BYTES, run).map_err(Error::Thread)?;
    Ok(Registry { address, _server: server })
}

async fn serve(listener: TcpListener, store: Store) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(it) => it,
        Err(error) => return warn!(%error, "cannot listen for the schema registry"),
    };
    info!(address = ?listener.local_addr().ok(), "schema registry is listening");
    if let Err(error) = axum::serve(listener, routes::router(store)).await {
        warn!(%error, "schema registry ended");
    }
}

impl Registry {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
