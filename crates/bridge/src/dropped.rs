//! Watches for messages that the MQTT broker dropped: they are gone before the bridge could see them.
//!
//! A broker whose queue for a session is full drops even messages of QoS 1 that it has acknowledged to their
//! sender. mosquitto, the embedded broker and HiveMQ as `make up` starts it tell their count on a topic.

use telltale_mqtt::device::{self, Event, Options};
use telltale_mqtt::{Endpoint, Fault};
use telltale_service::{Service, chain};
use tracing::{debug, info, warn};

use crate::Error;
use crate::metrics::BrokerDropped;

/// Follows the broker's count until shutdown; the bridge works without it.
pub(crate) async fn watch(
    endpoint: Endpoint,
    topic: String,
    client_id: String,
    metric: BrokerDropped,
    service: Service,
) -> Result<(), Error> {
    let options = Options { subscriptions: vec![topic.clone()], ..Options::new(client_id) };
    let (publisher, mut session) = device::open(&endpoint, options);
    let closer = publisher.clone();
    let shutdown = service.shutdown().clone();
    let close = async move {
        shutdown.requested().await;
        closer.close();
        std::future::pending::<()>().await;
    };
    let follow = async move {
        while let Some(event) = session.next().await {
            match event {
                Event::Received { payload, .. } => match number(&payload) {
                    Some(count) => told(count, &metric),
                    None => debug!(topic, "the broker's count of dropped messages is not a number"),
                },
                Event::Disconnected(fault) if fault.is_permanent() => {
                    let reason = chain(&fault);
                    info!(topic, reason, "cannot see whether the broker drops messages");
                    if !matches!(fault, Fault::Subscription { .. }) {
                        return;
                    }
                    publisher.close();
                }
                Event::Disconnected(_) => {} // the sessions of the mappings say so
                _ => {}
            }
        }
    };
    // The first branch never ends; dropping the second with the bridge is safe, nothing is in hand.
    tokio::select! {
        () = close => {}
        () = follow => {}
    }
    Ok(())
}

fn number(payload: &[u8]) -> Option<i64> {
    std::str::from_utf8(payload).ok()?.trim().parse().ok()
}

fn told(count: i64, metric: &BrokerDropped) {
    let before = metric.set(count);
    if count > before.max(0) {
        let more = count - before.max(0);
        warn!(more, count, "the MQTT broker has dropped messages: some that it acknowledged may be lost");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_a_number_and_anything_else_is_none() {
        assert_eq!(
            (number(b"17"), number(b" 0\n"), number(b"many"), number(b"\xff")),
            (Some(17), Some(0), None, None)
        );
    }
}
