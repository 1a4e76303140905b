//! Deleting is in two steps: first out of sight, then for good.

use serde_json::{Value, json};

use crate::{A, B_WITH_DEFAULT, World, of, record};

fn two_versions(world: &World) -> (String, String, u64) {
    let (one, two) = (record(&world.subject, A), record(&world.subject, &format!("{A},{B_WITH_DEFAULT}")));
    let id = world.register(&world.subject, &one);
    world.register(&world.subject, &two);
    (one, two, id)
}

fn listed(world: &World, query: &str) -> bool {
    world.get(&format!("/subjects{query}")).1.as_array().unwrap().contains(&json!(world.subject))
}

#[test]
fn a_version_goes_out_of_sight_and_then_for_good() {
    let world = World::start();
    let path = format!("/subjects/{}/versions", world.subject);
    let (one, two, first) = two_versions(&world);
    let too_early = world.delete(&format!("{path}/1?permanent=true"));
    let code = world.apicurio("permanent delete before a soft one", (404, 40407), (409, 40907));
    if code.0 == 404 {
        world.assert_refused("too early", too_early, code);
    } else {
        assert_eq!(too_early.0, code.0, "{}", too_early.1);
    }
    assert_eq!(world.delete(&format!("{path}/1")), (200, json!(1)));
    assert_eq!(world.get(&path), (200, json!([2])));
    assert_eq!(world.get(&format!("{path}?deleted=true")), (200, json!([1, 2])));
    world.assert_refused("out of sight", world.get(&format!("{path}/1")), (404, 40402));
    assert_eq!(world.get(&format!("{path}/1?deleted=true")).0, 200);
    // What was written with it is still readable.
    assert_eq!(world.get(&format!("/schemas/ids/{first}")).0, 200);
    assert_eq!(world.delete(&format!("{path}/1?permanent=true")), (200, json!(1)));
    assert_eq!(world.get(&format!("{path}?deleted=true")), (200, json!([2])));
    // Numbers are not used again.
    world.register(&world.subject, &two);
    assert_eq!(world.get(&path), (200, json!([2])));
    world.put(&format!("/config/{}", world.subject), &json!({ "compatibility": "NONE" }));
    world.register(&world.subject, &one);
    assert_eq!(world.get(&path), (200, json!([2, 3])));
}

#[test]
fn a_subject_goes_out_of_sight_and_then_for_good() {
    let world = World::start();
    let path = format!("/subjects/{}", world.subject);
    let (one, _, first) = two_versions(&world);
    let too_early = world.delete(&format!("{path}?permanent=true"));
    let code = world.apicurio("permanent delete before a soft one", (404, 40405), (409, 40905));
    if code.0 == 404 {
        world.assert_refused("too early", too_early, code);
    } else {
        assert_eq!(too_early.0, code.0, "{}", too_early.1);
    }
    assert_eq!(world.delete(&path), (200, json!([1, 2])));
    assert!(!listed(&world, "") && listed(&world, "?deleted=true"));
    world.assert_refused("out of sight", world.get(&format!("{path}/versions")), (404, 40401));
    let code = world.apicurio("look-up in a subject out of sight", 40401, 40403);
    world.assert_refused("out of sight", world.post(&path, &of(&one)), (404, code));
    assert_eq!(world.get(&format!("/schemas/ids/{first}")).0, 200);
    let again = world.delete(&path);
    assert_eq!(again.0, 404, "{}", again.1);
    assert_eq!(world.delete(&format!("{path}?permanent=true")).0, 200);
    assert!(!listed(&world, "?deleted=true"));
    world.assert_refused("gone", world.delete(&path), (404, 40401));
}

#[test]
fn a_subject_out_of_sight_comes_back_with_the_next_schema() {
    let world = World::start();
    let path = format!("/subjects/{}", world.subject);
    let (_, two, _) = two_versions(&world);
    world.delete(&path);
    world.register(&world.subject, &two);
    let (status, versions) = world.get(&format!("{path}/versions"));
    assert_eq!((status, versions.as_array().map(Vec::len)), (200, Some(1)), "{versions}");
    let newest = versions[0].as_u64().unwrap();
    assert!(newest > 2 || newest == 2 && world.apicurio("number after a return", false, true), "{versions}");
    assert_ne!(world.get(&format!("{path}/versions/latest")).1, Value::Null);
}
