//! The whole pipeline as the user runs it: the built program, its sockets, its files.

mod support;

use serde_json::Value;
use support::{FREE_PORTS, Running, after, fail, succeed, summary, telltale};
use telltale_testkit::{Engines, Kind};

/// A fleet that is quick to learn from.
const FLEET: [&str; 4] = ["--cars", "60", "--rate", "4"];

fn demo<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    [&["demo"][..], &FREE_PORTS, &FLEET, flags].concat()
}

/// The flags with which a demo runs on these engines; embedded ones it starts by itself.
fn on(engines: &Engines) -> Vec<String> {
    match engines.kind() {
        Kind::Embedded => FREE_PORTS.map(str::to_owned).to_vec(),
        Kind::Real => {
            let own = ["--engines", "real", "--http-port", "0"].map(str::to_owned);
            [&own[..], &engines.kafka_flags(), &engines.registry_flags(), &engines.mqtt_flags()].concat()
        }
    }
}

/// The flags with which other commands reach the Kafka and the registry of a demo that has printed `addresses`.
fn reach(engines: &Engines, addresses: &str) -> Vec<String> {
    match engines.kind() {
        Kind::Embedded => {
            let (kafka, registry) = (after(addresses, "Kafka"), after(addresses, "registry"));
            ["--kafka", kafka, "--registry", registry].map(str::to_owned).to_vec()
        }
        Kind::Real => [engines.kafka_flags(), engines.registry_flags()].concat(),
    }
}

fn words(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

fn count(summary: &Value, key: &str) -> u64 {
    summary[key].as_u64().unwrap_or_else(|| panic!("{key} in {summary}"))
}

#[test]
fn a_demo_loses_and_doubles_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.json");
    let engines = Engines::fresh(4);
    let flags = on(&engines);
    let summarised = ["--summary", path.to_str().unwrap()];
    let mut running = Running::start(&[&["demo"][..], &words(&flags), &FLEET, &summarised].concat());
    let addresses = running.wait_for("MQTT ");
    let connection = reach(&engines, &addresses);
    let connection = words(&connection);
    running.wait_for("model 1 in force");

    // While it runs, everything can be looked into from outside.
    let broker = match engines.kind() {
        Kind::Embedded => vec!["--mqtt".to_owned(), after(&addresses, "MQTT").to_owned()],
        Kind::Real => engines.mqtt_flags(),
    };
    let probe = [&["probe"][..], &words(&broker), &connection].concat();
    let text = succeed(&probe);
    assert!(
        text.contains("acknowledged by the MQTT broker") && text.contains("by model cars version"),
        "{text}"
    );
    let text = succeed(&[&["topics", "tail", "model-predictions", "-n", "1"][..], &connection].concat());
    assert!(text.contains("src: SENSOR_DATA_S_AVRO-") && text.contains("\"verdict\":"), "{text}");
    let text = succeed(&[&["models", "list"][..], &connection].concat());
    assert!(text.contains("◀ in force"), "{text}");
    let keys = folder.path().to_str().unwrap();
    succeed(&["keys", "generate", "--out", keys]);
    let stranger = folder.path().join("signing-key.pem");
    let rollback = ["models", "rollback", "1", "--signing-key", stranger.to_str().unwrap()];
    assert!(fail(&[&rollback[..], &connection].concat(), 1).contains("scorers would refuse it"));
    let text = succeed(&[&["verify"][..], &connection].concat());
    assert!(text.contains("each record has exactly one outcome"), "{text}");

    // As Ctrl-C does.
    running.interrupt();
    let (status, text) = running.end();
    assert!(status.success(), "{text}");
    let summary = summary(&path);
    assert_eq!((count(&summary, "lost"), count(&summary, "duplicated")), (0, 0), "{text}");
    assert_eq!(
        (count(&summary, "cars"), count(&summary, "seed"), summary["rate"].as_f64()),
        (60, 7, Some(4.0))
    );
    let published = count(&summary, "published");
    assert!(published >= 200, "a model was learnt from {published} readings");
    assert_eq!(count(&summary, "acknowledged"), published);
    // The probe's reading is one more than the cars'.
    assert_eq!(count(&summary, "raw"), published + 1);
    assert_eq!(count(&summary, "clean") + count(&summary, "dead_letters"), published + 1);
    assert_eq!(count(&summary, "predictions"), count(&summary, "clean"));
    assert!(count(&summary, "windows") >= 60);
    let models = summary["models"].as_array().unwrap();
    assert_eq!(models[0]["version"], 1);
    assert_eq!(models[0]["sha256"].as_str().unwrap().len(), 64);
    assert!(models[0]["rows"].as_u64().unwrap() >= 200);
    assert!(summary["first_prediction_seconds"].as_f64().unwrap() > 0.0);
    assert!(summary["latency_ms"]["p50"].as_u64() <= summary["latency_ms"]["p99"].as_u64());
    assert!(text.contains("lost                                  0 ✔"), "{text}");
}

#[test]
fn after_a_kill_the_log_adds_up_and_the_next_run_goes_on_with_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let (data, path) = (folder.path().join("data"), folder.path().join("s.json"));
    let (data, path_text) = (data.to_str().unwrap(), path.to_str().unwrap());
    let mut running = Running::start(&demo(&["--data", data]));
    let first = running.wait_for("model 1 in force");
    running.wait_for("scoring");
    running.kill();
    let text = succeed(&["verify", "--data", data]);
    assert!(text.contains("acknowledged in runs that were killed"), "{text}");

    let running = Running::start(&demo(&["--data", data, "--for", "10s", "--summary", path_text]));
    let (status, text) = running.end();
    assert!(status.success(), "{text}");
    let summary = summary(&path);
    assert_eq!((count(&summary, "lost"), count(&summary, "duplicated")), (0, 0), "{text}");
    // It goes on with the model it had, unless the trainer finds the next version due at once and is quicker than the scorer:
    // had the model been lost, another one would be version 1.
    let model = &summary["models"][0];
    match model["version"].as_u64() {
        Some(1) => assert!(first.contains(model["sha256"].as_str().unwrap()), "{first}\n{text}"),
        version => assert_eq!(version, Some(2), "{text}"),
    }
    let text = succeed(&["verify", "--data", data, "--drained"]);
    assert!(text.contains("0 on their way, 0 lost, 0 outcomes too many"), "{text}");
}

#[test]
fn engines_alone_serve_the_commands() {
    let mut running = Running::start(&[&["engines"][..], &FREE_PORTS[..6]].concat());
    let kafka = running.wait_for("Kafka log").split_whitespace().last().unwrap().to_owned();
    let registry = running.wait_for("schema registry").split_whitespace().last().unwrap().to_owned();
    let connection = ["--kafka", kafka.as_str()];
    let text = succeed(&[&["topics", "create", "--partitions", "3"][..], &connection].concat());
    assert!(text.contains("sensor-data: created"), "{text}");
    let text = succeed(&[&["topics", "create", "--partitions", "3"][..], &connection].concat());
    assert!(text.contains("sensor-data: is there"), "{text}");
    let text = fail(&[&["topics", "create", "--partitions", "5"][..], &connection].concat(), 1);
    assert!(text.contains("topics differ"), "{text}");
    let text = succeed(&[&["topics", "list"][..], &connection].concat());
    assert!(text.contains("model-predictions"), "{text}");
    assert!(succeed(&[&["models", "list"][..], &connection].concat()).contains("no model yet"));
    assert!(succeed(&[&["dead-letters", "list"][..], &connection].concat()).contains("no dead letters"));
    let show = [&["dead-letters", "show", "3", "--registry", &registry][..], &connection].concat();
    assert!(fail(&show, 1).contains("there is no dead letter at offset 3"));
    assert!(succeed(&[&["verify"][..], &connection].concat()).contains("exactly one outcome"));
    let tail = [&["topics", "tail", "no-such-topic", "--no-follow"][..], &connection].concat();
    assert!(fail(&tail, 1).contains("no-such-topic"));
    let tail = [&["topics", "tail", "sensor-data", "--partition", "3"][..], &connection].concat();
    assert!(fail(&tail, 1).contains("topic sensor-data has no partition 3: it has 3"));
    running.interrupt();
    assert!(running.end().0.success());
}

#[test]
fn bad_input_is_answered_by_what_where_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (below, broken) = (file.join("data"), folder.path().join("pipeline.toml"));
    std::fs::write(&broken, "[[stream]\nsource = 3").unwrap();
    let (below, broken) = (below.to_str().unwrap(), broken.to_str().unwrap());
    let in_use = format!("port {port} for the Kafka log is in use");
    let cases: [(Vec<&str>, i32, &[&str]); 8] = [
        (vec!["demo", "--carrs", "5"], 2, &["--carrs", "--cars"]),
        (vec!["demo", "--rate", "0"], 2, &["--rate", "above 0"]),
        (demo(&["--data", below]), 1, &["file/data", "--data"]),
        (demo(&["--summary", "/nowhere/s.json"]), 1, &["/nowhere/s.json", "--summary"]),
        (
            vec![
                "demo",
                "--kafka-port",
                &port,
                "--mqtt-port",
                "0",
                "--registry-port",
                "0",
                "--http-port",
                "0",
            ],
            1,
            &[&in_use, "--kafka-port"],
        ),
        (
            vec!["engines", "--kafka-port", &port, "--mqtt-port", "0", "--registry-port", "0"],
            1,
            &[&in_use, "--kafka-port"],
        ),
        (vec!["verify", "--data", folder.path().to_str().unwrap()], 1, &["is not the data folder of a demo"]),
        (vec!["preprocessor", "--http", "off", "--pipeline", broken], 1, &["pipeline.toml", "1"]),
    ];
    for (arguments, code, parts) in cases {
        let text = fail(&arguments, code);
        assert!(parts.iter().all(|it| text.contains(it)), "{arguments:?}: {text}");
    }
}

#[test]
fn help_and_completions_are_whole() {
    for command in ["demo", "engines", "topics", "models", "verify", "probe", "simulator", "scorer"] {
        let text = succeed(&[command, "--help"]);
        assert!(text.contains("Usage:"), "{text}");
    }
    let text = succeed(&["completions", "bash"]);
    assert!(text.contains("--registry-port") && text.contains("dead-letters"));
    assert_eq!(telltale(&[]).status.code(), Some(2), "without a command it says what there is");
}
