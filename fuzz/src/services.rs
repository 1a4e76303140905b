//! Settings, the bridge's mappings, MQTT topics to cars, and a registry's answers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{LazyLock, Mutex, PoisonError};

use clap::Parser;
use telltale_bridge::Mapping;
use telltale_kafka::{Registry, RegistryConfig};
use telltale_mqtt::topic::{check_filter, check_topic, overlap};

/// Lines are arguments of the bridge; it takes them or says what is wrong.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let arguments = std::iter::once("bridge").chain(text.lines().filter(|it| !it.contains("--mappings")));
    match telltale_bridge::Config::try_parse_from(arguments) {
        Ok(config) => _ = config.kafka.check(),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The first line is a mapping, the others are MQTT topics. A topic that the mapping's filter takes in has a key that is a part
/// of it, or a reason why not.
pub fn mqtt_topic(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let first = lines.next().unwrap_or_default();
    let mapping = first.parse::<Mapping>().unwrap_or_else(|_| Mapping::defaults().remove(0));
    for topic in lines {
        match mapping.key_of(topic) {
            Ok(Some(key)) => assert!(!key.is_empty() && topic.contains(key)),
            Ok(None) => {}
            Err(problem) => assert!(!problem.is_empty()),
        }
        if check_topic(topic).is_ok() {
            check_filter(topic).expect("a topic is a filter that takes in itself");
            assert!(overlap(topic, topic) && overlap(topic, "#") == overlap("#", topic));
        }
    }
}

/// What the registry of [`registry`] answers next.
static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("there is a port");
    let address = listener.local_addr().expect("it has an address");
    std::thread::spawn(move || listener.incoming().for_each(|it| _ = it.and_then(answer)));
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        registry: RegistryConfig,
    }
    let flags = Flags::parse_from(["fuzz", "--registry", &format!("http://{address}")]);
    Registry::new(&flags.registry).expect("a URL")
});

/// Answers one request with the bytes of the day: the first says which status, the rest is the body.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while lines.next().is_some_and(|it| it.is_ok_and(|it| !it.is_empty())) {}
    let bytes = ANSWER.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (first, body) = bytes.split_first().unwrap_or((&0, &[]));
    let status = [200, 404, 409, 422, 500, 503, 401, 429][usize::from(*first) % 8];
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

/// Whatever a registry answers is a schema, its id, its versions, or an error that says what was asked.
pub fn registry(bytes: &[u8]) {
    *ANSWER.lock().unwrap_or_else(PoisonError::into_inner) = bytes.to_vec();
    let registry = &*REGISTRY;
    if let Err(error) = registry.latest("subject") {
        assert!(!error.to_string().is_empty());
    }
    let mut versions = std::collections::BTreeSet::new();
    if let Err(error) = registry.versions("subject", &mut versions) {
        assert!(error.to_string().contains("subject"), "{error}");
    }
}
