//! The registry as its clients see it, over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use telltale_embedded::registry;

const CONTENT_TYPE: &str = "content-type: application/vnd.schemaregistry.v1+json";
const ONE: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
const TWO: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"b","type":"int","default":0}]}"#;
const OTHER: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string"}]}"#;

/// Sends a request as text; returns status, headers and body.
fn exchange(address: SocketAddr, request: &[u8]) -> (u16, String, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null))
}

fn call(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let (status, head, value) = exchange(address, request.as_bytes());
    assert!(head.contains(CONTENT_TYPE), "{method} {path}: {head}");
    (status, value)
}

fn schema(text: &str) -> String {
    json!({ "schema": text, "schemaType": "AVRO" }).to_string()
}

#[test]
fn every_call_answers_as_confluents_registry_does() {
    let registry = registry::start(0, None).unwrap();
    let (one, two, other) = (schema(ONE), schema(TWO), schema(OTHER));
    // The library panics over it.
    let unfit =
        schema(include_str!("../../../testdata/fuzz/avro_schema/default-unfit-for-odd-precision.json"));
    let versions = "/subjects/a%2Fb-value/versions";
    let whole = json!({ "subject": "a/b-value", "version": 1, "id": 1, "schema": ONE });
    let found = json!({ "schema": ONE });
    let subjects = json!(["a/b-value", "c"]);
    let error = |code: u32| json!({ "error_code": code });
    let cases = [
        ("GET", "/subjects", "", 200, json!([])),
        ("POST", versions, &*one, 200, json!({ "id": 1 })),
        ("POST", "/subjects/c/versions?normalize=False", &one, 200, json!({ "id": 1 })),
        ("GET", "/subjects", "", 200, subjects),
        ("GET", "/subjects?subjectPrefix=a%2F", "", 200, json!(["a/b-value"])),
        ("GET", "/subjects/a%2Fb-value/versions/latest?deleted=True", "", 200, whole.clone()),
        ("GET", "/subjects/a%2Fb-value/versions/-1", "", 200, whole.clone()),
        ("POST", "/subjects/a%2Fb-value?deleted=True", &one, 200, whole),
        ("POST", "/subjects/a%2Fb-value", &two, 404, error(40403)),
        ("POST", "/subjects/none", &one, 404, error(40401)),
        ("GET", "/schemas/ids/1", "", 200, found),
        (
            "GET",
            "/schemas/ids/1/versions",
            "",
            200,
            json!([{ "subject": "a/b-value", "version": 1 }, { "subject": "c", "version": 1 }]),
        ),
        ("GET", "/schemas/ids/1/subjects", "", 200, json!(["a/b-value", "c"])),
        ("GET", "/schemas/ids/7", "", 404, error(40403)),
        ("GET", "/schemas/types", "", 200, json!(["AVRO"])),
        ("GET", "/subjects/none/versions", "", 404, error(40401)),
        ("GET", "/subjects/c/versions/2", "", 404, error(40402)),
        ("GET", "/subjects/c/versions/0", "", 422, error(42202)),
        ("GET", "/subjects/c/versions/newest", "", 422, error(42202)),
        ("POST", versions, &other, 409, error(409)),
        ("POST", versions, "{\"schema\":\"{\"}", 422, error(42201)),
        ("POST", versions, &unfit, 422, error(42201)),
        ("POST", versions, "{}", 422, error(42201)),
        ("POST", versions, "{\"schema\":\"{}\",\"schemaType\":\"PROTOBUF\"}", 422, error(42201)),
        ("POST", versions, "{", 400, error(400)),
        ("POST", "/compatibility/subjects/c/versions/latest", &two, 200, json!({ "is_compatible": true })),
        ("POST", "/compatibility/subjects/c/versions", &other, 200, json!({ "is_compatible": false })),
        ("POST", "/compatibility/subjects/c/versions/9", &two, 404, error(40402)),
        ("GET", "/config", "", 200, json!({ "compatibilityLevel": "BACKWARD" })),
        ("GET", "/config/c", "", 404, error(40408)),
        ("GET", "/config/c?defaultToGlobal=true", "", 200, json!({ "compatibilityLevel": "BACKWARD" })),
        ("PUT", "/config/c", "{\"compatibility\":\"NONE\"}", 200, json!({ "compatibility": "NONE" })),
        ("PUT", "/config/c", "{\"compatibility\":\"SOME\"}", 422, error(42203)),
        ("POST", "/subjects/c/versions", &other, 200, json!({ "id": 2 })),
        ("DELETE", "/config/c", "", 200, json!({ "compatibilityLevel": "NONE" })),
        ("PUT", "/mode/c", "{\"mode\":\"READONLY\"}", 200, json!({ "mode": "READONLY" })),
        ("POST", "/subjects/c/versions", &two, 422, error(42205)),
        ("GET", "/mode/c", "", 200, json!({ "mode": "READONLY" })),
        ("GET", "/mode", "", 200, json!({ "mode": "READWRITE" })),
        ("GET", "/mode/d", "", 404, error(40409)),
        ("PUT", "/mode", "{\"mode\":\"SLOW\"}", 422, error(42204)),
        ("DELETE", "/subjects/c/versions/1?permanent=true", "", 404, error(40407)),
        ("DELETE", "/subjects/c/versions/1", "", 200, json!(1)),
        ("DELETE", "/subjects/c/versions/1", "", 404, error(40406)),
        ("DELETE", "/subjects/c/versions/1?permanent=True", "", 200, json!(1)),
        ("DELETE", "/subjects/c?permanent=true", "", 404, error(40405)),
        ("DELETE", "/subjects/c", "", 200, json!([2])),
        ("DELETE", "/subjects/c", "", 404, error(40404)),
        ("GET", "/subjects?deleted=true", "", 200, json!(["a/b-value", "c"])),
        ("GET", "/nothing/there", "", 404, error(404)),
        ("PATCH", "/subjects", "", 405, error(405)),
    ];
    for (method, path, body, status, expected) in cases {
        let (found, mut value) = call(registry.address(), method, path, body);
        if let (Some(fields), true) = (value.as_object_mut(), expected.get("error_code").is_some()) {
            assert!(fields.remove("message").is_some_and(|it| it.is_string()), "{method} {path}");
        }
        assert_eq!((found, &value), (status, &expected), "{method} {path} {body}");
    }
}

#[test]
fn hostile_bytes_end_their_connection_only() {
    let registry = registry::start(0, None).unwrap();
    let deep = "[".repeat(100_000);
    let nested =
        schema(&format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(5000), "}".repeat(5000)));
    for (body, status, code) in [(&*deep, 400, 400), (&nested, 422, 42201), (&"x".repeat(5 << 20), 413, 413)]
    {
        let (found, value) = call(registry.address(), "POST", "/subjects/s/versions", body);
        assert_eq!((found, &value["error_code"]), (status, &json!(code)), "{body:.20}");
    }
    for bytes in [&b"\x16\x03\x01\x02\x00"[..], b"GET /\xff\xfe HTTP/1.1\r\n\r\n", b"POST / HTTP/9\r\n\r\n"] {
        let mut stream = TcpStream::connect(registry.address()).unwrap();
        stream.write_all(bytes).unwrap();
    }
    assert_eq!(call(registry.address(), "GET", "/subjects", ""), (200, json!([])));
}

#[test]
fn schemas_are_found_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = registry::start(0, Some(folder.path())).unwrap();
    assert_eq!(call(first.address(), "POST", "/subjects/s/versions", &schema(TWO)).1, json!({ "id": 1 }));
    assert!(matches!(registry::start(0, Some(folder.path())), Err(registry::Error::Locked { .. })));
    drop(first);
    let second = registry::start(0, Some(folder.path())).unwrap();
    assert_eq!(call(second.address(), "GET", "/schemas/ids/1", "").1, json!({ "schema": TWO }));
}
