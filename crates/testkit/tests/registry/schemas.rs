//! Registering and finding schemas.

use serde_json::{Value, json};

use crate::{A, B_WITH_DEFAULT, World, of, record};

#[test]
fn a_schema_is_registered_and_found_in_every_way() {
    let world = World::start();
    let subject = &world.subject;
    let (one, two) = (record(subject, A), record(subject, &format!("{A},{B_WITH_DEFAULT}")));
    let first = world.register(subject, &one);
    assert_eq!(world.register(subject, &one), first, "known already");
    let second = world.register(subject, &two);
    assert!(second > first);
    assert_eq!(world.get(&format!("/subjects/{subject}/versions")), (200, json!([1, 2])));
    for (which, version, id, text) in
        [("1", 1, first, &one), ("2", 2, second, &two), ("latest", 2, second, &two), ("-1", 2, second, &two)]
    {
        let (status, found) = world.get(&format!("/subjects/{subject}/versions/{which}"));
        assert_eq!((status, &found["subject"]), (200, &json!(subject)), "{which}");
        assert_eq!((&found["version"], &found["id"]), (&json!(version), &json!(id)), "{which}");
        assert_eq!(parsed(&found["schema"]), parsed(&json!(text)));
        let (status, raw) = world.get(&format!("/subjects/{subject}/versions/{which}/schema"));
        assert_eq!((status, raw), (200, serde_json::from_str(text).unwrap()));
    }
    for (id, text) in [(first, &one), (second, &two)] {
        let (status, found) = world.get(&format!("/schemas/ids/{id}"));
        assert_eq!((status, parsed(&found["schema"])), (200, parsed(&json!(text))));
        assert!(found.get("schemaType").is_none_or(|it| it == "AVRO"), "{found}");
    }
    let (status, found) = world.post(&format!("/subjects/{subject}"), &of(&one));
    assert_eq!((status, &found["id"], &found["version"]), (200, &json!(first), &json!(1)));
}

fn parsed(text: &Value) -> Value {
    serde_json::from_str(text.as_str().unwrap()).unwrap()
}

#[test]
fn the_same_schema_has_one_id_in_all_subjects() {
    let world = World::start();
    let (one, other) = (world.engines.name("one"), world.engines.name("other"));
    let schema = record(&world.subject, A);
    let id = world.register(&one, &schema);
    assert_eq!(world.register(&other, &schema), id);
    let (_, uses) = world.get(&format!("/schemas/ids/{id}/versions"));
    for subject in [&one, &other] {
        let using = json!({ "subject": subject, "version": 1 });
        assert!(uses.as_array().unwrap().contains(&using), "{uses}");
    }
}

#[test]
fn white_space_makes_no_other_schema() {
    let world = World::start();
    let subject = &world.subject;
    let schema = record(subject, A);
    let id = world.register(subject, &schema);
    let spaced = schema.replace(',', " ,\n\t").replace(':', " : ");
    let found = world.post(&format!("/subjects/{subject}"), &of(&spaced)).1;
    assert_eq!((&found["id"], &found["version"]), (&json!(id), &json!(1)), "{found}");
    assert_eq!(world.register(subject, &spaced), id);
    assert_eq!(world.get(&format!("/subjects/{subject}/versions")), (200, json!([1])));
}

#[test]
fn subjects_may_have_slashes_and_any_letters() {
    let world = World::start();
    for tail in ["a%2Fb-value", "%C3%BC-key", "a.b_c"] {
        let subject = format!("{}-{tail}", world.subject);
        let schema = record(&world.subject, A);
        let id = world.register(&subject, &schema);
        let found = world.get(&format!("/subjects/{subject}/versions/latest"));
        let plain = subject.replace("%2F", "/").replace("%C3%BC", "ü");
        assert_eq!((found.0, &found.1["subject"], &found.1["id"]), (200, &json!(plain), &json!(id)));
        let subjects = world.get("/subjects").1;
        assert!(subjects.as_array().unwrap().contains(&json!(plain)), "{subjects}");
    }
}

#[test]
fn every_shape_of_avro_is_kept_as_it_is() {
    let world = World::start();
    let fields = r#"{"name":"u","type":["null","string"],"default":null,"doc":"why"},
        {"name":"e","type":{"type":"enum","name":"E","symbols":["X","Y"]}},
        {"name":"l","type":{"type":"array","items":{"type":"map","values":"double"}}},
        {"name":"t","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"f","type":{"type":"fixed","name":"F","size":4},"unit":"bar"}"#;
    let schema = record(&world.subject, fields);
    let id = world.register(&world.subject, &schema);
    let found = world.get(&format!("/schemas/ids/{id}")).1;
    assert_eq!(parsed(&found["schema"]), parsed(&json!(schema)));
    for (index, primitive) in ["\"string\"", "{\"type\":\"long\"}"].into_iter().enumerate() {
        world.register(&format!("{}-{index}", world.subject), primitive);
    }
}

#[test]
fn the_types_of_schemas_include_avro() {
    let world = World::start();
    let (status, types) = world.get("/schemas/types");
    assert_eq!(status, 200);
    assert!(types.as_array().unwrap().contains(&json!("AVRO")), "{types}");
}
