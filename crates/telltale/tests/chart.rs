//! The chart (`helm/telltale`) and the programs agree: every environment that a profile of the chart renders is one that
//! the program can use, and `values.schema.json` knows exactly the settings that `--help` lists.
//!
//! `deploy/check/golden/telltale/environments.json` has what each container is started with; `make check-deploy` holds it equal
//! to what Helm renders. So this test needs no Helm, and neither side can change alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

/// A container as the chart starts it.
#[derive(Debug, Clone, Deserialize)]
struct Container {
    profile: String,
    program: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    files: BTreeMap<String, Mounted>,
}

/// What is in a mounted file.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Mounted {
    Text { text: String },
    Secret { key: String },
}

impl Container {
    /// The service it runs; `None` for a job. The verifier is a command of the command line.
    fn service(&self) -> Option<&str> {
        match self.program.as_str() {
            "telltale" => self.args.first().map(String::as_str).filter(|it| *it == "verifier"),
            program => Some(program),
        }
    }
}

/// Where the chart mounts files.
const MOUNTED: &str = "/etc/telltale";

/// What the chart sets by itself, of other values or of the pod, and what makes no sense in a pod: files to write
/// to, offsets of one run. Everything else is in `settings`.
const NOT_SETTINGS: &[&str] = &[
    "DRAIN_TIMEOUT",
    "FEATURES",
    "FIRST_CAR",
    "HTTP_ADDRESS",
    "IDENTITY",
    "LEDGER",
    "LOG",
    "LOG_FORMAT",
    "MAPPINGS",
    "MODEL",
    "ONCE",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "PIPELINE",
    "READ_FROM",
    "READ_TO",
    "SCENARIO",
    "SHARD",
    "SIGNING_KEY",
    "SUMMARY",
    "TRACE_SHARE",
    "TRUSTED_KEY",
    "TRUTH_FILE",
];

#[test]
fn every_rendered_environment_is_one_that_the_program_can_use() {
    let containers: Vec<Container> = json("deploy/check/golden/telltale/environments.json");
    let mut started = BTreeSet::new();
    for container in &containers {
        let Some(service) = container.service() else { continue };
        let whole = telltale::command();
        let known = settings(whole.find_subcommand(service).expect("each service is a command"));
        let unknown: Vec<_> = container.env.keys().filter(|it| !known.contains(*it)).collect();
        assert!(unknown.is_empty(), "{service} does not know {unknown:?}");
        let folder = tempfile::tempdir().unwrap();
        let output = start(container, folder.path());
        let said = String::from_utf8_lossy(&output.stderr);
        let what = format!("{service} of profile {}", container.profile);
        assert!(output.status.success(), "{what}: {said}");
        let expected = format!("telltale-{service}: the settings can be used\n");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{what}: {said}");
        started.insert(service);
    }
    assert_eq!(
        Vec::from_iter(started),
        ["bridge", "preprocessor", "scorer", "simulator", "trainer", "verifier"]
    );
}

#[test]
fn a_wrong_environment_is_refused_with_the_setting_and_nothing_is_connected_to() {
    let containers: Vec<Container> = json("deploy/check/golden/telltale/environments.json");
    let cases = [
        ("scorer", "LINGER", "11s", "--linger 11s is longer than 10s"),
        ("trainer", "GROWTH", "1", "--growth is 1, but must be at least 1.1"),
        ("bridge", "LINGER", "2s", "--linger 2s is longer than 1s"),
        ("preprocessor", "PIPELINE", "/nowhere/pipeline.toml", "/nowhere/pipeline.toml"),
        ("simulator", "FAILURE_SHARE", "0.9", "0.9 is not from 0 to 0.3"),
        ("scorer", "TRUSTED_KEY", "/nowhere/key.pem", "/nowhere/key.pem"),
        ("bridge", "KAFKA_PASSWORD_FILE", "/nowhere/password", "/nowhere/password"),
        ("verifier", "RECOMPUTE", "1/0", "1/0 is not all, none, or 1/N"),
        ("verifier", "TRUSTED_KEY", "/nowhere/key.pem", "/nowhere/key.pem"),
    ];
    for (program, name, value, expected) in cases {
        let mut container = containers
            .iter()
            .rfind(|it| it.service() == Some(program))
            .expect("the profile is there")
            .clone();
        container.env.insert(name.to_owned(), value.to_owned());
        let folder = tempfile::tempdir().unwrap();
        let output = start(&container, folder.path());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{program} {name}={value}: {said}");
    }
}

#[test]
fn the_jobs_of_the_chart_are_commands_with_their_own_settings() {
    let containers: Vec<Container> = json("deploy/check/golden/telltale/environments.json");
    for container in containers.iter().filter(|it| it.service().is_none()) {
        let arguments = ["telltale".to_owned()].into_iter().chain(container.args.iter().cloned());
        telltale::command().try_get_matches_from(arguments).unwrap();
        let whole = telltale::command();
        let mut command = &whole;
        for name in container.args.iter().take_while(|it| !it.starts_with('-')) {
            command = command.find_subcommand(name).expect("the arguments were understood");
        }
        let known = settings(command);
        let unknown: Vec<_> = container.env.keys().filter(|it| !known.contains(*it)).collect();
        assert!(unknown.is_empty(), "{:?} does not know {unknown:?}", container.args);
    }
}

#[test]
fn the_charts_schema_knows_the_settings_that_help_lists() {
    let schema: Value = json("helm/telltale/values.schema.json");
    let whole = telltale::command();
    for name in ["simulator", "bridge", "preprocessor", "trainer", "scorer", "verifier"] {
        let command = whole.find_subcommand(name).expect("each service is a command");
        let connections = ["KAFKA", "REGISTRY", "MQTT"];
        let expected: BTreeSet<_> = settings(command)
            .into_iter()
            .filter(|it| it == "MQTT_KEEP_ALIVE" || !connections.iter().any(|prefix| it.starts_with(prefix)))
            .filter(|it| !NOT_SETTINGS.contains(&it.as_str()))
            .collect();
        let path = format!("/properties/components/properties/{name}/properties/settings/properties");
        let found = schema.pointer(&path).and_then(Value::as_object).expect("the schema has each service");
        let found: BTreeSet<_> = found.keys().cloned().collect();
        assert_eq!(found, expected, "values.schema.json, components.{name}.settings");
    }
}

/// The environment variables of a command.
fn settings(command: &clap::Command) -> BTreeSet<String> {
    let named = command.get_arguments().filter_map(clap::Arg::get_env);
    named.map(|it| it.to_str().unwrap().to_owned()).collect()
}

/// Starts the program of `container` with `--check-config`, with exactly its environment, and its files in `folder`.
fn start(container: &Container, folder: &Path) -> std::process::Output {
    let program = env!("CARGO_BIN_EXE_telltale");
    let keys = folder.join("keys");
    assert!(
        Command::new(program)
            .args(["keys", "generate", "--out"])
            .arg(&keys)
            .output()
            .unwrap()
            .status
            .success()
    );
    for (path, mounted) in &container.files {
        let path = folder.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = match mounted {
            Mounted::Text { text } => text.clone().into_bytes(),
            Mounted::Secret { key } => secret(key, &keys),
        };
        fs::write(path, bytes).unwrap();
    }
    let here = folder.join(MOUNTED.trim_start_matches('/'));
    let env =
        container.env.iter().map(|(name, value)| (name, value.replace(MOUNTED, here.to_str().unwrap())));
    let mut command = Command::new(program);
    if container.program != "telltale" {
        command.arg(&container.program);
    }
    command.args(&container.args).arg("--check-config").env_clear().envs(env);
    command.output().unwrap()
}

/// A secret as it must be for its key.
fn secret(key: &str, keys: &Path) -> Vec<u8> {
    match key {
        "password" | "token" => b"a secret\n".to_vec(),
        "ca.crt" | "tls.crt" => fs::read(root().join("testdata/tls/localhost.pem")).unwrap(),
        "tls.key" => fs::read(root().join("testdata/tls/localhost.key.pem")).unwrap(),
        "signing-key.pem" => fs::read(keys.join(key)).unwrap(),
        _ if key.ends_with("-key.pem") => fs::read(keys.join("verifying-key.pem")).unwrap(),
        _ => panic!("the chart mounts {key}, which this test does not know"),
    }
}

fn json<T: serde::de::DeserializeOwned>(path: &str) -> T {
    serde_json::from_slice(&fs::read(root().join(path)).unwrap()).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
