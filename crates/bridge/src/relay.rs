//! All sessions at work on one producer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use telltale_kafka::producer::{Delivered, ProducerConfig, SendError};
use telltale_kafka::{KafkaConfig, Producer};
use telltale_mqtt::Fault;
use telltale_mqtt::subscriber::{Event, Session};
use telltale_service::{Service, chain};
use tracing::{info, warn};

use crate::lane::{Lane, lane_of};
use crate::{Error, component};

/// After so long nothing of the process that had the session before is on its way to Kafka any more, unless Kafka stands still: its
/// last records come before those that the broker sends again, not among them.
const LAST_OF_ANOTHER: Duration = Duration::from_secs(1);

/// Messages to take at once: Kafka's reports wait meanwhile.
const MOST_AT_ONCE: usize = 64;

/// The lanes, the producer they share, and why it can no longer be used.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) lanes: Vec<Arc<Lane>>,
    producer: OnceLock<Producer>,
    failure: Mutex<Option<SendError>>,
    taken_over: AtomicBool,
    delivery: Histogram,
}

impl Relay {
    /// Makes the producer, whose reports go to the lanes.
    pub(crate) fn start(
        lanes: Vec<Arc<Lane>>,
        kafka: &KafkaConfig,
        producer: &ProducerConfig,
        delivery: Histogram,
    ) -> Result<Arc<Self>, telltale_kafka::Error> {
        let (producer_cell, failure) = (OnceLock::new(), Mutex::new(None));
        let taken_over = AtomicBool::new(false);
        let relay = Arc::new(Self { lanes, producer: producer_cell, failure, taken_over, delivery });
        // The producer belongs to the relay: a strong reference back would keep both for ever.
        let weak: Weak<Self> = Arc::downgrade(&relay);
        let producer = Producer::new(kafka, producer, move |token, outcome| {
            if let Some(relay) = weak.upgrade() {
                relay.delivered(token, outcome);
            }
        })?;
        relay.producer.set(producer).expect("the producer is set once");
        Ok(relay)
    }

    fn producer(&self) -> &Producer {
        self.producer.get().expect("the relay is handed out with its producer")
    }

    /// Takes a report: the lane's own, and the room it made for the others.
    fn delivered(&self, token: u64, outcome: Result<Delivered, SendError>) {
        let (producer, reporter) = (self.producer(), lane_of(token));
        match self.lanes[reporter].delivered(producer, token, outcome) {
            Ok(Some(waited)) => self.delivery.observe(waited.as_secs_f64()),
            Ok(None) => {}
            Err(error) => return self.fail(error),
        }
        for (index, lane) in self.lanes.iter().enumerate() {
            if index != reporter
                && lane.is_held_up()
                && let Err(error) = lane.proceed(producer)
            {
                return self.fail(error);
            }
        }
    }

    fn fail(&self, error: SendError) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// Why nothing can be written to Kafka any more, if that is so.
    pub(crate) fn take_failure(&self) -> Option<SendError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether another process has a session now that was this one's.
    pub(crate) fn is_taken_over(&self) -> bool {
        self.taken_over.load(Ordering::Relaxed)
    }

    /// Messages taken and not yet safe, and for how long Kafka has reported nothing although some wait.
    pub(crate) fn waiting(&self) -> (usize, Duration) {
        let each = self.lanes.iter().map(|it| it.waiting());
        each.fold((0, Duration::ZERO), |(sum, longest), (count, silence)| (sum + count, longest.max(silence)))
    }

    /// Receives the messages of a lane until its session is closed.
    pub(crate) async fn receive(
        self: Arc<Self>,
        lane: Arc<Lane>,
        mut session: Session,
        service: Service,
        broker: String,
    ) -> Result<(), Error> {
        let name = lane.name.as_str();
        let component = component(name);
        let failed = |source| {
            if matches!(source, Fault::TakenOver) {
                self.taken_over.store(true, Ordering::Relaxed);
            }
            Error::Mqtt { broker: broker.clone(), source }
        };
        let mut was_here = false;
        while let Some(event) = session.next().await.map_err(failed)? {
            match event {
                Event::Message(first) => {
                    let rest = std::iter::from_fn(|| session.ready()).take(MOST_AT_ONCE - 1);
                    let messages = std::iter::once(first).chain(rest);
                    lane.accept(self.producer(), messages).map_err(Error::Send)?;
                }
                Event::Connected { session_present } => {
                    info!(session = name, session_present, "connected to the MQTT broker");
                    lane.connected();
                    if session_present && !was_here {
                        // What the broker sends now was another process's until a moment ago.
                        tokio::time::sleep(LAST_OF_ANOTHER).await;
                    }
                    was_here = true;
                    if session_present {
                        service.ready(&component);
                    }
                }
                Event::Subscribed => service.ready(&component),
                Event::Disconnected(fault) => {
                    lane.metrics.disconnects.inc();
                    let reason = chain(&fault);
                    warn!(session = name, reason, "no connection to the MQTT broker, trying again");
                    service.not_ready(&component, &reason);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
