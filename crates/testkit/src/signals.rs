//! An end that is asked for: Ctrl-C and SIGTERM.

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled when this process is asked to end, while `runtime` lives: a program that started others ends
/// them first.
#[must_use]
pub fn asked_to_end(runtime: &Runtime) -> CancellationToken {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    runtime.spawn(async move {
        if let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        stopped.cancel();
    });
    stop
}
