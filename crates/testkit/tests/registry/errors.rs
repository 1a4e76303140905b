//! Every refusal has Confluent's code: clients act upon it.

use reqwest::Method;
use serde_json::json;

use crate::{A, World, of, record};

#[test]
fn what_is_not_there_has_its_code() {
    let world = World::start();
    let (known, unknown) = (&world.subject, world.engines.name("unknown"));
    let schema = record(known, A);
    world.register(known, &schema);
    let other = record(&unknown, A);
    let refused = |name: &str, answer, code| world.assert_refused(name, answer, (404, code));
    refused("subject", world.get(&format!("/subjects/{unknown}/versions")), 40401);
    refused("subject", world.get(&format!("/subjects/{unknown}/versions/1")), 40401);
    refused("subject", world.get(&format!("/subjects/{unknown}/versions/latest")), 40401);
    refused("subject", world.post(&format!("/subjects/{unknown}"), &of(&schema)), 40401);
    refused("subject", world.delete(&format!("/subjects/{unknown}")), 40401);
    refused("version", world.get(&format!("/subjects/{known}/versions/7")), 40402);
    refused("version", world.delete(&format!("/subjects/{known}/versions/7")), 40402);
    refused("schema", world.post(&format!("/subjects/{known}"), &of(&other)), 40403);
    refused("schema", world.get("/schemas/ids/2147483000"), 40403);
    let check = format!("/compatibility/subjects/{known}/versions/7");
    refused("version", world.post(&check, &of(&schema)), 40402);
}

#[test]
fn what_makes_no_sense_has_its_code() {
    let world = World::start();
    let path = format!("/subjects/{}/versions", world.subject);
    world.register(&world.subject, &record(&world.subject, A));
    let broken = ["{", r#"{"type":"record"}"#, r#"{"type":"nonsense"}"#, r#"{"type":"enum","name":"E"}"#];
    for schema in broken {
        world.assert_refused(schema, world.post(&path, &of(schema)), (422, 42201));
    }
    for version in ["0", "-2", "newest", "99999999999"] {
        let answer = world.get(&format!("{path}/{version}"));
        let code = world.apicurio("versions that cannot be", (422, 42202), (404, 40402));
        if version == "0" || world.apicurio("other words for a version", true, false) {
            world.assert_refused(version, answer, code);
        } else {
            assert!(matches!(answer.0, 404 | 422), "{version}: {answer:?}");
        }
    }
    let strange = json!({ "schema": "{}", "schemaType": "COBOL" });
    let answer = world.post(&path, &strange);
    match world.apicurio("unknown type of schema", 422, 500) {
        422 => world.assert_refused("type", answer, (422, 42201)),
        // Newer versions may have mended it; what matters is that it is refused.
        _ => assert!(answer.0 >= 400, "{answer:?}"),
    }
    for body in ["{", ""] {
        let (status, answer) = world.send(Method::POST, &path, Some(body.to_owned()));
        assert!(status >= 400, "{body}: {answer}");
    }
    // Nothing of this has left a trace.
    assert_eq!(world.get(&path), (200, json!([1])));
}

#[test]
fn paths_and_methods_that_do_not_exist_are_refused() {
    let world = World::start();
    let (status, _) = world.get("/nothing/there");
    assert_eq!(status, 404);
    let (status, _) = world.call(Method::PATCH, "/subjects", None);
    assert_eq!(status, 405);
}

#[test]
fn a_registry_that_is_read_only_takes_no_schema() {
    let world = World::start();
    let mode = format!("/mode/{}", world.subject);
    let path = format!("/subjects/{}/versions", world.subject);
    let set = world.put(&mode, &json!({ "mode": "READONLY" }));
    if world.apicurio("modes of subjects", true, false) {
        assert_eq!(set, (200, json!({ "mode": "READONLY" })));
        world.assert_refused("read only", world.post(&path, &of(&record(&world.subject, A))), (422, 42205));
        assert_eq!(world.delete(&mode).0, 200);
    }
    let (status, global) = world.get("/mode");
    assert_eq!((status, &global["mode"]), (200, &json!("READWRITE")), "{global}");
    world.register(&world.subject, &record(&world.subject, A));
}
