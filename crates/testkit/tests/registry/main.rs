//! What our services and Confluent's clients ask of a schema registry, from one source for the embedded registry and for
//! Apicurio's Confluent API. The reference is Confluent's documented behaviour; where Apicurio differs, [`World::apicurio`] says
//! so by name, and docs/CONFORMANCE.md lists it.

mod clients;
mod compatibility;
mod deleting;
mod errors;
mod schemas;

use std::time::Duration;

use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Value, json};
use telltale_testkit::Engines;
use telltale_testkit::differences::known_difference;

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A registry, and a subject on it that no other test uses.
struct World {
    engines: Engines,
    http: Client,
    url: String,
    subject: String,
}

impl World {
    fn start() -> Self {
        let engines = Engines::start();
        let http = Client::builder().timeout(PATIENCE).build().unwrap();
        let (url, subject) = (engines.registry_url(), engines.name("subject"));
        Self { engines, http, url, subject }
    }

    /// Sends a request; returns status and body.
    fn call(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.send(method, path, body.map(Value::to_string))
    }

    fn send(&self, method: Method, path: &str, body: Option<String>) -> (u16, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.header("content-type", "application/vnd.schemaregistry.v1+json").body(body);
        }
        let answer = request.send().unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, None)
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call(Method::POST, path, Some(body))
    }

    fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call(Method::PUT, path, Some(body))
    }

    fn delete(&self, path: &str) -> (u16, Value) {
        self.call(Method::DELETE, path, None)
    }

    /// Registers a schema that the registry takes; returns its id.
    fn register(&self, subject: &str, schema: &str) -> u64 {
        let (status, answer) = self.post(&format!("/subjects/{subject}/versions"), &of(schema));
        assert_eq!(status, 200, "{answer}");
        answer["id"].as_u64().unwrap()
    }

    /// Checks that an answer is a refusal with this HTTP status and error code, and says something.
    fn assert_refused(&self, name: &str, (status, answer): (u16, Value), (http, code): (u16, u64)) {
        assert_eq!((status, answer["error_code"].as_u64()), (http, Some(code)), "{name}: {answer}");
        assert!(answer["message"].as_str().is_some_and(|it| !it.is_empty()), "{name}: {answer}");
    }

    /// The reference's answer, which is the embedded registry's, or Apicurio's where docs/CONFORMANCE.md has a row that says how
    /// it differs.
    fn apicurio<T>(&self, name: &str, reference: T, apicurio: T) -> T {
        if known_difference(self.engines.kind(), name) { reference } else { apicurio }
    }
}

/// Body of a request with a schema.
fn of(schema: &str) -> Value {
    json!({ "schema": schema })
}

/// A record with these fields, as JSON; its name makes schemas of different tests different.
fn record(name: &str, fields: &str) -> String {
    format!(r#"{{"type":"record","name":"{}","fields":[{fields}]}}"#, name.replace('-', "_"))
}

const A: &str = r#"{"name":"a","type":"int"}"#;
const B_WITH_DEFAULT: &str = r#"{"name":"b","type":"int","default":0}"#;
const B: &str = r#"{"name":"b","type":"int"}"#;
