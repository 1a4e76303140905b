//! The connections of the cars: one session each, followed by a task each.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use telltale_mqtt::device::{self, Event, Options, PublishError, Publisher, Session, Token};
use telltale_mqtt::{Endpoint, Qos};
use telltale_service::{Service, Stage, chain};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::debug;

use crate::Error;
use crate::counters::Counters;
use crate::fleet::car_id;
use crate::ledger::{Entry, Hash, Outcome, hash};

/// Opens sessions and follows them.
#[derive(Debug)]
pub(crate) struct Sessions {
    stage: Stage,
    arrivals: mpsc::Sender<Arrival>,
    context: Arc<Context>,
    endpoint: Endpoint,
    /// What client ids begin with.
    prefix: String,
    window: u16,
}

#[derive(Debug)]
struct Context {
    counters: Arc<Counters>,
    ledger: Option<mpsc::Sender<Entry>>,
    /// Address of the broker, for errors.
    broker: String,
}

struct Arrival {
    session: Session,
    connection: Connection,
}

/// Sessions that wait for their task; opening waits when there are more.
const ARRIVALS: usize = 256;

impl Sessions {
    pub(crate) fn start(
        service: &Service,
        endpoint: Endpoint,
        prefix: String,
        window: u16,
        counters: &Arc<Counters>,
        ledger: Option<mpsc::Sender<Entry>>,
    ) -> Self {
        let (arrivals, rx) = mpsc::channel(ARRIVALS);
        let broker = endpoint.address().to_string();
        let context = Arc::new(Context { counters: Arc::clone(counters), ledger, broker });
        let stage = service.spawn("sessions", follow_all(rx, Arc::clone(&context)));
        Self { stage, arrivals, context, endpoint, prefix, window }
    }

    /// Connects a car; must be called from a thread that may wait.
    pub(crate) fn connect(&self, car: u32) -> Connection {
        let options =
            Options { window: self.window, ..Options::new(format!("{}{}", self.prefix, car_id(car))) };
        let (publisher, session) = device::open(&self.endpoint, options);
        let context = Arc::clone(&self.context);
        let state = Arc::new(State { car, ..State::default() });
        let connection = Connection { publisher, state, context };
        let arrival = Arrival { session, connection: connection.clone() };
        if self.arrivals.blocking_send(arrival).is_err() {
            connection.state.ended.store(true, Ordering::Release); // the stage failed, which ends the service
        }
        connection
    }

    /// Whether the sessions have ended, which before the end means that one failed for good.
    pub(crate) fn is_ended(&self) -> bool {
        self.stage.is_ended()
    }

    /// Waits until all sessions have ended; they were told to before.
    pub(crate) fn end(self, limit: Duration) -> Result<(), Error> {
        drop(self.arrivals);
        Ok(self.stage.join(limit)?)
    }
}

/// The connection of one car.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    publisher: Publisher,
    state: Arc<State>,
    context: Arc<Context>,
}

#[derive(Debug, Default)]
struct State {
    car: u32,
    /// The connection stood once.
    arrived: AtomicBool,
    /// The session is to end when everything in flight is settled.
    leaving: AtomicBool,
    ended: AtomicBool,
    /// Publishes that wait for their acknowledgement, oldest first; no longer than the window.
    in_flight: Mutex<VecDeque<(Token, Sent)>>,
}

#[derive(Debug, Clone, Copy)]
enum Sent {
    Reading { event_time: i64, hash: Option<Hash> },
    Truth,
}

impl State {
    fn in_flight(&self) -> MutexGuard<'_, VecDeque<(Token, Sent)>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    pub(crate) fn has_arrived(&self) -> bool {
        self.state.arrived.load(Ordering::Acquire)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.state.ended.load(Ordering::Acquire)
    }

    /// Publishes a reading and counts it; an error leaves nothing behind.
    pub(crate) fn reading(
        &self,
        topic: &Arc<str>,
        qos: Qos,
        event_time: i64,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let hash = self.context.ledger.is_some().then(|| hash(&payload));
        let sent = Sent::Reading { event_time, hash };
        self.publish(topic, qos, payload, sent)?;
        self.context.counters.published.inc();
        if let (Qos::AtMostOnce, Some(ledger), Some(hash)) = (qos, &self.context.ledger, hash) {
            let entry = Entry { car: self.state.car, event_time, hash, outcome: Outcome::Sent };
            let _ = ledger.blocking_send(entry); // the writer failed, which ends the service
        }
        Ok(())
    }

    /// Publishes the truth about a failure.
    pub(crate) fn truth(&self, topic: &Arc<str>, payload: Bytes) -> Result<(), PublishError> {
        self.publish(topic, Qos::AtLeastOnce, payload, Sent::Truth)
    }

    fn publish(&self, topic: &Arc<str>, qos: Qos, payload: Bytes, sent: Sent) -> Result<(), PublishError> {
        // Held while publishing: the acknowledgement must find the entry.
        let mut in_flight = self.state.in_flight();
        if let Some(token) = self.publisher.publish(topic, qos, false, payload)? {
            in_flight.push_back((token, sent));
        }
        Ok(())
    }

    /// Ends the session as soon as everything in flight is settled.
    pub(crate) fn leave(&self) {
        self.state.leaving.store(true, Ordering::Release);
        self.close_when_settled();
    }

    /// Ends the session now, and returns how many readings are not acknowledged.
    pub(crate) fn abandon(&self) -> u64 {
        self.publisher.close();
        let mut readings = 0;
        for (_, sent) in self.state.in_flight().drain(..) {
            let Sent::Reading { event_time, hash } = sent else { continue };
            readings += 1;
            if let (Some(ledger), Some(hash)) = (&self.context.ledger, hash) {
                let entry = Entry { car: self.state.car, event_time, hash, outcome: Outcome::Unacknowledged };
                let _ = ledger.blocking_send(entry); // the writer failed, which ends the service
            }
        }
        self.context.counters.unsettled.inc_by(readings);
        readings
    }

    fn close_when_settled(&self) {
        if self.state.leaving.load(Ordering::Acquire) && self.state.in_flight().is_empty() {
            self.publisher.close();
        }
    }

    async fn settle(&self, token: Token, outcome: Outcome, waited: Duration) {
        let found = {
            let mut in_flight = self.state.in_flight();
            let index = in_flight.iter().position(|(it, _)| *it == token);
            index.and_then(|it| in_flight.remove(it))
        };
        let Some((_, sent)) = found else { return }; // given up before
        let counters = &self.context.counters;
        let Sent::Reading { event_time, hash } = sent else {
            if outcome == Outcome::Acknowledged {
                counters.truths.inc();
            }
            return;
        };
        if outcome == Outcome::Acknowledged {
            counters.acknowledge(waited);
        } else {
            counters.refused.inc();
        }
        if let (Some(ledger), Some(hash)) = (&self.context.ledger, hash) {
            let entry = Entry { car: self.state.car, event_time, hash, outcome };
            let _ = ledger.send(entry).await; // the writer failed, which ends the service
        }
    }
}

/// Follows sessions until no more can arrive and all have ended.
async fn follow_all(mut arrivals: mpsc::Receiver<Arrival>, context: Arc<Context>) -> Result<(), Error> {
    let mut sessions = JoinSet::new();
    let mut more = true;
    while more || !sessions.is_empty() {
        tokio::select! {
            arrival = arrivals.recv(), if more => match arrival {
                Some(arrival) => {
                    sessions.spawn(follow(arrival));
                }
                None => more = false,
            },
            Some(ended) = sessions.join_next(), if !sessions.is_empty() => match ended {
                Ok(ended) => ended?,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
        }
    }
    drop(context);
    Ok(())
}

/// Follows one session until it is closed.
async fn follow(arrival: Arrival) -> Result<(), Error> {
    let Arrival { mut session, connection } = arrival;
    let counters = Arc::clone(&connection.context.counters);
    let mut connected = false;
    while let Some(event) = session.next().await {
        match event {
            Event::Connected { .. } => {
                connected = true;
                counters.connected.inc();
                connection.state.arrived.store(true, Ordering::Release);
            }
            Event::Disconnected(fault) => {
                if std::mem::take(&mut connected) {
                    counters.connected.dec();
                }
                counters.disconnects.inc();
                let car = car_id(connection.state.car);
                if fault.is_permanent() {
                    let broker = connection.context.broker.clone();
                    return Err(Error::Refused { car, broker, source: fault });
                }
                let fault = chain(&fault);
                debug!(car, fault, "disconnected");
                counters.note_fault(fault);
            }
            Event::Acknowledged { token, waited } => {
                connection.settle(token, Outcome::Acknowledged, waited).await;
            }
            Event::Refused { token, reason } => {
                counters.note_fault(format!("the broker refused a publish: {reason}"));
                connection.settle(token, Outcome::Refused, Duration::ZERO).await;
            }
            _ => {}
        }
        connection.close_when_settled();
    }
    if connected {
        counters.connected.dec();
    }
    connection.state.ended.store(true, Ordering::Release);
    Ok(())
}
