//! The profiles of `deploy/profiles` on engines that ask for the same protocols.

use std::path::Path;

use crate::pipeline::runs;
use crate::programs::{Secured, Settings, read_settings};

fn profile(name: &str) -> Settings {
    read_settings(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/profiles").join(name))
}

/// The profiles, with hosts, names of keys, and secrets of the local engines; what they are named and everything else is as
/// the files say. The system's authorities are the test authority.
#[test]
fn the_pipeline_runs_with_the_profiles_of_the_clouds() {
    let secured = Secured::fresh();
    let settings = |user: &str| {
        let local = secured.settings(user);
        let mut settings: Settings = match user {
            "simulator" => profile("hivemq-cloud.env"),
            "bridge" | "scorer" => {
                profile("confluent-cloud.env").into_iter().chain(profile("hivemq-cloud.env")).collect()
            }
            _ => profile("confluent-cloud.env"),
        };
        assert!(
            !settings.keys().any(|it| it.contains("_CA")),
            "the clouds are vouched for by public authorities"
        );
        for (name, value) in &mut settings {
            let own = matches!(name.as_str(), "KAFKA" | "MQTT" | "REGISTRY")
                || name.ends_with("_USER")
                || name.ends_with("_FILE");
            if let Some(swapped) = local.get(name).filter(|_| own) {
                value.clone_from(swapped);
            }
        }
        // A user has no login where its program does not go.
        settings.retain(|name, _| user != "bridge" || !name.starts_with("REGISTRY"));
        let authority = secured.authority_file().to_str().unwrap().to_owned();
        settings.insert("SSL_CERT_FILE".to_owned(), authority);
        settings
    };
    runs(&secured, settings);
}

#[test]
fn every_setting_of_a_profile_is_one_that_help_names() {
    let secured = Secured::fresh();
    let programs: [(&str, &[&str]); 2] = [
        ("confluent-cloud.env", &["preprocessor", "trainer", "scorer"]),
        ("hivemq-cloud.env", &["simulator", "bridge", "scorer"]),
    ];
    for (file, users) in programs {
        for program in users {
            let (_, help) = secured.run(&format!("telltale-{program}"), &Settings::new(), &["--help"]);
            for name in profile(file).keys() {
                assert!(
                    help.contains(&format!("{name}=")),
                    "{program} --help does not name {name} of {file}"
                );
            }
        }
    }
}
