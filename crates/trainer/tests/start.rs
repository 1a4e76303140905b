//! The trainer starts while Kafka is away: it waits and says so, unless one version is all that is wanted.

use std::time::Duration;

use clap::Parser as _;
use telltale_model::Signer;
use telltale_service::{Address, Host};
use telltale_testkit::{Engine, Engines, wait_until};
use telltale_trainer::Config;

#[test]
fn a_trainer_that_goes_on_waits_for_kafka_and_one_that_does_not_says_that_it_is_away() {
    let mut engines = Engines::fresh(2);
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    Signer::generate().unwrap().save(&key).unwrap();
    let config = |more: &[&str]| {
        let flags = ["trainer", "--signing-key", key.to_str().unwrap()].map(str::to_owned).into_iter();
        let flags = flags.chain(engines.kafka_flags()).chain(engines.registry_flags());
        Config::try_parse_from(flags.chain(more.iter().map(|it| (*it).to_owned()))).unwrap()
    };
    let (once, going_on) = (config(&["--once"]), config(&[]));
    engines.stop(Engine::Kafka);
    let host = Host::start(Address::Off, "--http", Duration::from_secs(20)).unwrap();
    let error = telltale_trainer::run(once, &host.service("once")).unwrap_err().to_string();
    assert!(error.contains("is Kafka reachable at"), "{error}");

    let running = host.launch("trainer", going_on, telltale_trainer::run);
    wait_until("it says that it waits for Kafka", || {
        running
            .service()
            .unready()
            .iter()
            .any(|it| it.starts_with("kafka: ") && it.contains("is Kafka reachable"))
    });
    assert!(!running.is_ended());
    engines.start_again(Engine::Kafka);
    wait_until("it is ready", || running.service().unready().is_empty());
    running.stop(Duration::from_secs(60)).unwrap();
}
