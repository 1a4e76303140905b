//! The registry client against the embedded registry, and against one that misbehaves.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use telltale_kafka::{Registry, RegistryConfig, RegistryError};
use telltale_records::schema;

/// A registry that gives these answers, each to one call, and the last one for ever; `None` closes the connection.
fn scripted(answers: Vec<Option<(u16, &'static str)>>) -> (RegistryConfig, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = RegistryConfig::at(format!("http://{}", listener.local_addr().unwrap()));
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    // Ends with the test process: nobody connects any more.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|it| it.is_ok_and(|it| !it.is_empty())) {}
            let call = counted.fetch_add(1, Ordering::SeqCst);
            let Some((status, body)) = answers[call.min(answers.len() - 1)] else { continue };
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    (config, calls)
}

const SCHEMA: &str =
    r#"{"schema": "{\"type\":\"record\",\"name\":\"A\",\"fields\":[{\"name\":\"a\",\"type\":\"int\"}]}"}"#;

#[test]
fn a_schema_is_registered_found_and_kept() {
    let engine = telltale_embedded::registry::start(0, None).unwrap();
    let registry = Registry::new(&RegistryConfig::at(engine.url())).unwrap();
    let id = registry.register("clean-value", schema::CLEAN).unwrap();
    assert_eq!(registry.register("clean-value", schema::CLEAN).unwrap(), id);
    let (latest, found) = registry.latest("clean-value").unwrap();
    assert_eq!(latest, id);
    drop(engine);
    let kept = registry.schema(id).unwrap();
    assert!(Arc::ptr_eq(&kept, &found), "the registry is gone, the schema is kept");
}

#[test]
fn what_is_not_there_is_said_to_be_so() {
    let engine = telltale_embedded::registry::start(0, None).unwrap();
    let registry = Registry::new(&RegistryConfig::at(engine.url())).unwrap();
    let error = registry.schema(4711).unwrap_err();
    assert!(matches!(error, RegistryError::UnknownId { id: 4711 }) && !error.is_passing(), "{error}");
    let error = registry.latest("nothing").unwrap_err();
    assert!(matches!(error, RegistryError::UnknownSubject { .. }), "{error}");
    registry
        .register("s-value", r#"{"type":"record","name":"A","fields":[{"name":"a","type":"int"}]}"#)
        .unwrap();
    let other = r#"{"type":"record","name":"A","fields":[{"name":"b","type":"string"}]}"#;
    let error = registry.register("s-value", other).unwrap_err();
    assert!(matches!(error, RegistryError::Incompatible { .. }) && !error.is_passing(), "{error}");
}

#[test]
fn failures_of_the_registry_pass_and_are_never_kept() {
    let answers = vec![
        None,
        Some((500, r#"{"error_code": 50001, "message": "storage"}"#)),
        Some((504, "no JSON")),
        Some((429, r#"{"error_code": 42901, "message": "slow down"}"#)),
        Some((401, r#"{"error_code": 40101, "message": "who are you"}"#)),
        Some((200, SCHEMA)),
    ];
    let (config, calls) = scripted(answers);
    let registry = Registry::new(&config).unwrap();
    for call in 1..=5 {
        let error = registry.schema(7).unwrap_err();
        assert!(error.is_passing(), "call {call}: {error}");
        assert_eq!(error.is_denial(), call == 5, "call {call}: {error:?}");
    }
    registry.schema(7).unwrap();
    registry.schema(7).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 6);
}

#[test]
fn an_unknown_id_is_asked_for_once_in_a_while_only() {
    let (config, calls) =
        scripted(vec![Some((404, r#"{"error_code": 40403, "message": "Schema not found"}"#))]);
    let registry = Registry::new(&config).unwrap();
    for _ in 0..100 {
        assert!(matches!(registry.schema(9), Err(RegistryError::UnknownId { id: 9 })));
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn a_schema_that_cannot_be_used_is_a_bad_record_not_a_failure() {
    let answers = vec![
        Some((200, r#"{"schemaType": "PROTOBUF", "schema": "syntax = \"proto3\";"}"#)),
        Some((200, r#"{"schema": "{\"type\":\"nonsense\"}"}"#)),
    ];
    let registry = Registry::new(&scripted(answers).0).unwrap();
    let error = registry.schema(1).unwrap_err();
    assert!(matches!(error, RegistryError::NotAvro { id: 1, .. }) && !error.is_passing(), "{error}");
    let error = registry.schema(2).unwrap_err();
    assert!(matches!(error, RegistryError::Unusable { id: 2, .. }) && !error.is_passing(), "{error}");
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let registry = Registry::new(&RegistryConfig::at("http://127.0.0.1:1")).unwrap();
    let error = registry.schema(1).unwrap_err();
    assert!(error.is_passing());
    let expected =
        "asking for schema 1 failed (is the registry reachable at http://127.0.0.1:1? `--registry` names it)";
    assert_eq!(error.to_string(), expected);
    for wrong in ["", "localhost:8081", "ftp://x"] {
        assert!(
            matches!(Registry::new(&RegistryConfig::at(wrong)), Err(RegistryError::Settings { .. })),
            "{wrong:?}"
        );
    }
}
