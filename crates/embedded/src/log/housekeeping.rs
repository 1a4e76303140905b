//! What happens without a request: time-outs of groups and transactions, retention, compaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::error;

use super::broker::Broker;
use super::catalog::lock;
use super::{clock, compaction, retention};

/// The longest time between two looks at the clocks of transactions.
const TICK: Duration = Duration::from_secs(1);

/// Lets time pass for groups and transactions until told to stop.
pub(crate) async fn time_outs(broker: Arc<Broker>, stop: CancellationToken) {
    loop {
        let latest = Instant::now() + TICK;
        let next = broker.tick().map_or(latest, |it| it.min(latest));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(next.into()) => {}
            () = broker.deadlines.notified() => {}
        }
    }
}

/// Applies retention and compaction once per interval until told to stop.
pub(crate) async fn cleaning(broker: Arc<Broker>, stop: CancellationToken, interval: Duration) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        let cleaned = Arc::clone(&broker);
        let round = tokio::task::spawn_blocking(move || clean(&cleaned));
        if let Err(panicked) = round.await {
            error!(%panicked, "a round of retention and compaction failed");
        }
    }
}

/// One round over all partitions.
pub(crate) fn clean(broker: &Broker) {
    let topics: Vec<_> = broker.catalog().all().cloned().collect();
    for topic in topics {
        for partition in &topic.partitions {
            let now = clock::now();
            // Two statements: the first lock must be free again before the second one is taken.
            let retained = retention::apply(&mut lock(partition), &topic.config, now);
            let done = retained.and_then(|()| compaction::apply(partition, &topic.config, now));
            if let Err(source) = done {
                error!(topic = topic.name, %source, "retention or compaction failed");
            }
        }
    }
    if let Err(source) = broker.tidy_journal(false) {
        error!(%source, "the journal could not be rewritten");
    }
}
