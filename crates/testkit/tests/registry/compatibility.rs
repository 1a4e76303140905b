//! Which schemas may follow which: every level, asked beforehand and when registering.

use serde_json::json;

use crate::{A, B, B_WITH_DEFAULT, World, of, record};

const C_WITH_DEFAULT: &str = r#"{"name":"c","type":"int","default":0}"#;

const LEVELS: [&str; 7] =
    ["NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"];

#[test]
fn each_level_allows_what_its_name_says() {
    let world = World::start();
    let text = r#"{"name":"a","type":"string"}"#;
    let wide = r#"{"name":"a","type":"long"}"#;
    let with_default = format!("{A},{B_WITH_DEFAULT}");
    let without_default = format!("{A},{B}");
    let all: &[&str] = &LEVELS[1..];
    // name, fields of the versions before, fields of the next one, levels that refuse it
    let cases: [(&str, &[&str], &str, &[&str]); 7] = [
        ("a field with a default comes", &[A], &with_default, &[]),
        (
            "a field without a default comes",
            &[A],
            &without_default,
            &["BACKWARD", "BACKWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"],
        ),
        (
            "a field without a default goes",
            &[&without_default],
            A,
            &["FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"],
        ),
        ("another type", &[A], text, all),
        ("a wider type", &[A], wide, &["FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"]),
        (
            "readable for the last version, not for the first",
            &[A, &without_default],
            &format!("{without_default},{C_WITH_DEFAULT}"),
            &["BACKWARD_TRANSITIVE", "FULL_TRANSITIVE"],
        ),
        (
            "the first version cannot read it, the last can",
            &[&without_default, A],
            &format!("{A},{C_WITH_DEFAULT}"),
            &["FORWARD_TRANSITIVE", "FULL_TRANSITIVE"],
        ),
    ];
    for (number, (name, earlier, next, refused)) in cases.into_iter().enumerate() {
        for level in LEVELS {
            let subject = format!("{}-{number}-{}", world.subject, level.to_lowercase());
            let config = format!("/config/{subject}");
            assert_eq!(world.put(&config, &json!({ "compatibility": "NONE" })).0, 200);
            for fields in earlier {
                world.register(&subject, &record(&world.subject, fields));
            }
            let (status, set) = world.put(&config, &json!({ "compatibility": level }));
            assert_eq!((status, &set["compatibility"]), (200, &json!(level)));
            let next = record(&world.subject, next);
            let allowed = !refused.contains(&level);
            let path = format!("/compatibility/subjects/{subject}/versions");
            // The newest version alone is what the levels that are not transitive look at.
            let (status, answer) = world.post(&format!("{path}/latest"), &of(&next));
            let by_last = allowed || (earlier.len() > 1 && level.ends_with("_TRANSITIVE"));
            assert_eq!((status, &answer["is_compatible"]), (200, &json!(by_last)), "{name}, {level}");
            let (status, answer) = world.post(&path, &of(&next));
            assert_eq!(status, 200, "{name}, {level}: {answer}");
            // Apicurio compares with all versions here, whatever the level.
            if earlier.len() == 1 || world.apicurio("asking about all versions", true, false) {
                assert_eq!(answer["is_compatible"], json!(allowed), "{name}, {level}");
            }
            let (status, answer) = world.post(&format!("/subjects/{subject}/versions"), &of(&next));
            assert_eq!(status, if allowed { 200 } else { 409 }, "{name}, {level}: {answer}");
            if !allowed {
                assert_eq!(answer["error_code"], json!(409));
            }
        }
    }
}

#[test]
fn a_level_is_set_shown_and_removed() {
    let world = World::start();
    let config = format!("/config/{}", world.subject);
    assert_eq!(world.get("/config"), (200, json!({ "compatibilityLevel": "BACKWARD" })));
    world.register(&world.subject, &record(&world.subject, A));
    let own = world.get(&config);
    match world.apicurio("level of a subject without its own", 404, 200) {
        404 => world.assert_refused("no level of its own", own, (404, 40408)),
        // Apicurio answers NONE, although the global level is in force (the test of our client sees it refuse).
        _ => assert_eq!(own.1["compatibilityLevel"], json!("NONE")),
    }
    let effective = || world.get(&format!("{config}?defaultToGlobal=true")).1["compatibilityLevel"].clone();
    assert_eq!(effective(), json!("BACKWARD"));
    for level in LEVELS {
        assert_eq!(world.put(&config, &json!({ "compatibility": level })).0, 200);
        assert_eq!(world.get(&config).1["compatibilityLevel"], json!(level));
    }
    assert_eq!(world.delete(&config).0, 200);
    assert_eq!(effective(), json!("BACKWARD"));
    let wrong = world.put(&config, &json!({ "compatibility": "SIDEWAYS" }));
    world.assert_refused("no such level", wrong, (422, 42203));
}
