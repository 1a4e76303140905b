//! What the tests of sessions share: brokers, a cable that can be cut, and waiting for events.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod stub;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use telltale_embedded::mqtt::{self as embedded, Broker};
use telltale_mqtt::{Endpoint, Version, device, subscriber};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

pub fn broker() -> Broker {
    embedded::start(embedded::Config::default()).unwrap()
}

pub fn endpoint(address: SocketAddr, version: Version) -> Endpoint {
    Endpoint::plain(address.to_string().parse().unwrap(), version)
}

/// The endpoint that a program with these arguments connects to.
pub fn settings(arguments: &[&str]) -> Endpoint {
    #[derive(clap::Parser)]
    struct Settings {
        #[command(flatten)]
        mqtt: telltale_mqtt::MqttConfig,
    }
    <Settings as clap::Parser>::try_parse_from(arguments).unwrap().mqtt.endpoint().unwrap()
}

pub fn subscriber_options(filter: &str) -> subscriber::Options {
    subscriber::Options {
        client_id: "bridge".into(),
        filters: vec![filter.into()],
        session_expiry: Duration::from_secs(3600),
        receive_maximum: 100,
        max_packet_bytes: 20 << 20,
    }
}

/// Runs a task that the test waits for, or that ends with it.
#[expect(clippy::disallowed_methods, reason = "a test has no service, and waits for its tasks itself")]
pub fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn(task)
}

/// A wire between clients and a broker that can be cut and joined again.
pub struct Cable {
    pub address: SocketAddr,
    cut: watch::Sender<u64>,
    joined: watch::Sender<bool>,
}

impl Cable {
    pub async fn to(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, cuts) = watch::channel(0);
        let (joined, joins) = watch::channel(true);
        spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                if !*joins.borrow() {
                    continue;
                }
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                spawn(async move {
                    let Ok(mut far) = TcpStream::connect(broker).await else { return };
                    near.set_nodelay(true).unwrap();
                    far.set_nodelay(true).unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { address, cut, joined }
    }

    /// Cuts every connection; new ones may come at once.
    pub fn cut(&self) {
        self.cut.send_modify(|it| *it += 1);
    }

    /// Cuts every connection and lets no new one through until [`Cable::join`].
    pub fn part(&self) {
        self.joined.send_replace(false);
        self.cut();
    }

    pub fn join(&self) {
        self.joined.send_replace(true);
    }
}

pub async fn device_event(session: &mut device::Session) -> device::Event {
    timeout(PATIENCE, session.next()).await.expect("an event comes").expect("the session is open")
}

pub async fn wait_connected(session: &mut device::Session) {
    while !matches!(device_event(session).await, device::Event::Connected { .. }) {}
}

pub async fn subscriber_event(session: &mut subscriber::Session) -> subscriber::Event {
    let event = timeout(PATIENCE, session.next()).await.expect("an event comes");
    event.expect("no fault for good").expect("the session is open")
}

pub async fn wait_subscribed(session: &mut subscriber::Session) {
    while !matches!(subscriber_event(session).await, subscriber::Event::Subscribed) {}
}

pub async fn message(session: &mut subscriber::Session) -> subscriber::Message {
    loop {
        if let subscriber::Event::Message(message) = subscriber_event(session).await {
            return *message;
        }
    }
}

/// Ends a subscriber as a service does: acknowledgements that were given go out first.
pub async fn close(acks: &subscriber::Acks, session: &mut subscriber::Session) {
    acks.close();
    while let Some(_event) = timeout(PATIENCE, session.next()).await.expect("it ends").expect("no fault") {}
}

/// Publishes `count` numbers with QoS 1 and waits until all are acknowledged.
pub async fn publish_numbers(address: SocketAddr, topic: &str, numbers: std::ops::Range<u32>) {
    let options = device::Options { window: 50, ..device::Options::new(format!("device-{}", numbers.start)) };
    let (publisher, mut session) = device::open(&endpoint(address, Version::V5), options);
    let topic: Arc<str> = topic.into();
    let mut open = numbers.len();
    let mut numbers = numbers.peekable();
    while open > 0 {
        while let Some(number) = numbers.peek() {
            let payload = number.to_string().into();
            if publisher.publish(&topic, telltale_mqtt::Qos::AtLeastOnce, false, payload).is_err() {
                break;
            }
            numbers.next();
        }
        if let device::Event::Acknowledged { .. } = device_event(&mut session).await {
            open -= 1;
        }
    }
    publisher.close();
    while timeout(PATIENCE, session.next()).await.unwrap().is_some() {}
}
