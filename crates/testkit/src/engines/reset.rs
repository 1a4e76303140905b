//! The state that a test of whole services begins with: the topics of the design, empty.

use reqwest::blocking::{Client, RequestBuilder};
use telltale_kafka::topics::{Created, Topics};
use telltale_kafka::{Group, KafkaConfig, RegistryConfig};
use telltale_records::topics::{ALL, TopicSpec};

use super::{Engines, wait_until};

/// Groups of the services that commit offsets.
const GROUPS: [&str; 2] = ["telltale-preprocessor", "telltale-scorer"];

/// Deletes all topics, and with them what groups have committed of them, and all subjects.
pub(crate) fn empty(kafka: &KafkaConfig, registry: &RegistryConfig) {
    let topics = Topics::open(kafka).expect("the settings of Kafka can be used");
    for topic in topics.list().expect("Kafka lists its topics") {
        topics.delete(&topic.name).expect("a topic can be deleted");
    }
    wait_until("the topics are gone", || topics.list().is_ok_and(|it| it.is_empty()));
    delete_subjects(registry);
}

/// Makes the topics of the design, and waits until nothing is known of earlier ones of these names.
pub(super) fn create_topics(engines: &Engines, partitions: i32) {
    let kafka = engines.kafka();
    let topics = Topics::open(&kafka).expect("the settings of Kafka can be used");
    for spec in ALL {
        // Made-up readings are years old: retention would delete them under a test.
        let kept = |(key, value)| (key, if key == "retention.ms" { "-1" } else { value });
        let config: Vec<_> = spec.config.iter().copied().map(kept).collect();
        let spec = TopicSpec { config: config.leak(), ..*spec };
        let created =
            topics.create(&spec, partitions, engines.replication()).expect("a topic can be created");
        assert_eq!(created, Created::New, "{}", spec.name);
    }
    for name in GROUPS {
        let group = Group::open(&kafka, name).expect("the settings of Kafka can be used");
        let is_new = |topic: &str| group.committed(topic).is_ok_and(|it| it.is_empty());
        wait_until("the offsets of earlier topics are gone", || ALL.iter().all(|it| is_new(it.name)));
    }
}

/// A client that trusts the registry's authority.
fn client(registry: &RegistryConfig) -> Client {
    let mut client = Client::builder();
    if let Some(path) = &registry.registry_ca {
        let pem = std::fs::read(path).expect("the authority's certificate can be read");
        client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).expect("it is PEM"));
    }
    client.build().expect("a client can be made")
}

/// A subject is deleted twice: first so that it can be brought back, then for good.
fn delete_subjects(registry: &RegistryConfig) {
    let url = &registry.url;
    let client = client(registry);
    let call = |request: RequestBuilder| {
        let password = registry
            .registry_password_file
            .as_ref()
            .map(|it| std::fs::read_to_string(it).expect("a password"));
        match (&registry.registry_user, password) {
            (Some(user), Some(password)) => request.basic_auth(user, password.lines().next()).send(),
            _ => request.send(),
        }
    };
    let subjects = call(client.get(format!("{url}/subjects"))).and_then(|it| it.json::<Vec<String>>());
    for subject in subjects.expect("the registry lists its subjects") {
        let subject = subject.replace('/', "%2F");
        for permanent in ["false", "true"] {
            let url = format!("{url}/subjects/{subject}?permanent={permanent}");
            let answer = call(client.delete(url)).and_then(reqwest::blocking::Response::error_for_status);
            answer.expect("a subject can be deleted");
        }
    }
}
