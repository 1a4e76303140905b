//! From a file to models: learnt, listed, rolled back, pinned and let go again, as the user does it.

mod support;

use support::{Running, count, fail, succeed};
use telltale_records::topics;
use telltale_testkit::{Engines, wait_until};

#[test]
fn a_rollback_holds_against_the_trainer_until_it_is_lifted() {
    let engines = Engines::fresh(2);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (signing, verifying) = (path("signing-key.pem"), path("verifying-key.pem"));
    let connection: Vec<String> = engines.kafka_flags().into_iter().chain(engines.registry_flags()).collect();
    let command = |flags: &[&str]| -> Vec<String> {
        flags.iter().map(|it| (*it).to_owned()).chain(connection.iter().cloned()).collect()
    };
    let run = |flags: &[&str]| succeed(&command(flags).iter().map(String::as_str).collect::<Vec<_>>());
    let refused = |flags: &[&str]| fail(&command(flags).iter().map(String::as_str).collect::<Vec<_>>(), 1);

    // A file of its own: Kafka knows files by their bytes, and real engines remember.
    let text = include_str!("../../../testdata/car-sensor-data.csv");
    let file = path("readings.csv");
    std::fs::write(&file, text.replace(",car-", &format!(",{}-", engines.name("car")))).unwrap();
    let load = ["load", &file, "--last-at", "now"].map(str::to_owned).into_iter();
    succeed(
        &load.chain(engines.kafka_flags()).collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let service = command(&["preprocessor", "--http", "off"]);
    let preprocessor = Running::start(&service.iter().map(String::as_str).collect::<Vec<_>>());
    wait_until("every row is a clean reading", || count(&engines, topics::CLEAN) == 10_000);
    preprocessor.interrupt();
    preprocessor.end();

    succeed(&["keys", "generate", "--out", folder.path().to_str().unwrap()]);
    let train = |seed: &'static str| {
        let quick = [
            "--once", "--hidden", "6", "--epochs", "3", "--visits", "20000", "--http", "off", "--seed", seed,
        ];
        [&["trainer", "--signing-key", &signing][..], &quick].concat()
    };
    run(&train("1"));
    run(&train("2"));
    let text = run(&["models", "list"]);
    assert!(text.contains("not checked") && text.trim_end().ends_with("in force"), "{text}");
    assert!(refused(&["models", "unpin", "--signing-key", &signing]).contains("is not pinned"));
    let text = run(&["models", "rollback", "1", "--signing-key", &signing]);
    assert!(text.contains("version 1 is published as generation 3") && text.contains("pinned"), "{text}");
    assert!(refused(&["models", "rollback", "1", "--signing-key", &signing]).contains("in force already"));
    let text = refused(&train("3"));
    assert!(
        text.contains("is pinned to version 1 by a rollback") && text.contains("telltale models unpin"),
        "{text}"
    );
    let text = run(&["models", "list", "--verifying-key", &verifying]);
    assert!(
        text.contains("holds") && text.contains("in force, pinned") && !text.contains("REFUSED"),
        "{text}"
    );
    run(&["models", "show", "--verifying-key", &verifying]);
    run(&["models", "unpin", "--signing-key", &signing]);
    run(&train("3"));
    let text = run(&["models", "list", "--verifying-key", &verifying]);
    let last = text.lines().last().unwrap();
    assert!(last.contains("in force") && !last.contains("pinned"), "{text}");
    assert_eq!(
        text.lines().count(),
        1 + 5,
        "two versions, a rollback, the pin lifted, one version more\n{text}"
    );
}
