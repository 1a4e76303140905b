//! The simulator against a real broker: what it says was published is what arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Parser;
use telltale_embedded::mqtt::{self, Broker};
use telltale_mqtt::device::{self, Event, Options};
use telltale_mqtt::{Endpoint, Version};
use telltale_service::{Address, Host, Service, chain};
use telltale_simulator::fleet::{Fleet, Settings, Truth};
use telltale_simulator::{Config, Error};

/// Long, since the machine that runs the tests may be busy.
const LIMIT: Duration = Duration::from_secs(60);

struct World {
    host: Host,
    broker: Broker,
    folder: tempfile::TempDir,
}

/// A message as a subscriber gets it.
type Message = (String, Vec<u8>);

impl World {
    fn new() -> Self {
        Self::with(mqtt::Config::default())
    }

    fn with(config: mqtt::Config) -> Self {
        let host = Host::start(Address::Off, "--http", LIMIT).unwrap();
        Self { host, broker: mqtt::start(config).unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(Path::new(&self.path(name))).unwrap()
    }

    fn config(&self, args: &str) -> Config {
        let address = self.broker.address().to_string();
        let flags = ["simulator", "--mqtt", &address, "--ramp-up", "0s"];
        Config::try_parse_from(flags.into_iter().chain(args.split_whitespace())).unwrap()
    }

    fn run(&self, args: &str) -> Result<(), Error> {
        let service = self.host.service("simulator");
        telltale_simulator::run(self.config(args), &service)?;
        service.join(LIMIT)?;
        Ok(())
    }

    /// Starts a subscriber and returns what it gets, once it is subscribed.
    fn subscribe(&self, filters: &[&str]) -> mpsc::Receiver<Message> {
        let endpoint = Endpoint::plain(self.broker.address().to_string().parse().unwrap(), Version::V5);
        let subscriptions = filters.iter().map(|it| (*it).to_owned()).collect();
        let options = Options { subscriptions, ..Options::new("subscriber") };
        let (publisher, mut session) = device::open(&endpoint, options);
        let (tx, rx) = mpsc::sync_channel(100_000);
        self.host.runtime().spawn(async move {
            while let Some(event) = session.next().await {
                if let Event::Received { topic, payload } = event {
                    let message = (String::from_utf8(topic.to_vec()).unwrap(), payload.to_vec());
                    if tx.send(message).is_err() {
                        break;
                    }
                }
            }
        });
        // A message to itself proves that the subscription stands: filters[0] must match this topic.
        let topic = filters[0].replace(['#', '+'], "marker").into();
        let deadline = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < deadline, "the subscriber gets nothing");
            let _ = publisher.publish(&topic, telltale_mqtt::Qos::AtLeastOnce, false, "marker".into());
            if rx.recv_timeout(Duration::from_millis(200)).is_ok() {
                return rx;
            }
        }
    }
}

/// Takes `count` messages besides markers.
fn take(messages: &mpsc::Receiver<Message>, count: usize) -> Vec<Message> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let message =
            messages.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("only {} messages", taken.len()));
        if message.1 != b"marker" {
            taken.push(message);
        }
    }
    taken
}

fn summary(world: &World) -> BTreeMap<String, serde_json::Value> {
    serde_json::from_str(&world.read("summary")).unwrap()
}

#[test]
fn what_is_acknowledged_arrives_with_the_bytes_in_the_ledger() {
    for (version, qos) in [("5", 1), ("3.1.1", 1), ("5", 2), ("3.1.1", 2)] {
        let world = World::new();
        let messages = world.subscribe(&["vehicles/sensor/data/+"]);
        let (ledger, summary_path) = (world.path("ledger"), world.path("summary"));
        let args = format!(
            "--cars 20 --rate 50 --count 15 --qos {qos} --mqtt-version {version} --truth-topic off \
             --ledger {ledger} --summary {summary_path}"
        );
        world.run(&args).unwrap();
        let fleet = Fleet::new(7, Settings::default()).unwrap();
        let mut hashes = BTreeSet::new();
        for (topic, payload) in take(&messages, 300) {
            let reading: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            let car = reading["car"].as_str().unwrap();
            assert_eq!(topic, format!("vehicles/sensor/data/{car}"));
            let (number, time) = (car[4..].parse().unwrap(), reading["event_time"].as_i64().unwrap());
            let mut expected = Vec::new();
            fleet.reading(number, time).write_json(&mut expected);
            assert_eq!(payload, expected);
            hashes.insert(format!("{car},{time},{}", hex(&payload)));
        }
        let lines = world.read("ledger");
        let known: BTreeSet<String> =
            lines.lines().skip(1).map(|it| it.strip_suffix(",acknowledged").unwrap().to_owned()).collect();
        assert_eq!(known, hashes, "version {version}, quality of service {qos}");
        assert_eq!(hashes.len(), 300);
        let summary = summary(&world);
        assert_eq!((&summary["published"], &summary["acknowledged"]), (&300.into(), &300.into()));
        assert_eq!((&summary["failed"], &summary["skipped"]), (&0.into(), &0.into()));
        assert!(summary["puback_ms"]["p99"].as_f64().unwrap() > 0.0);
    }
}

fn hex(payload: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(payload).iter().map(|it| format!("{it:02x}")).collect()
}

#[test]
fn a_fleet_split_over_processes_is_the_same_fleet() {
    let fixed = "--rate 50 --count 5 --seed 3 --start 2026-05-04T10:00:00Z --truth-topic off";
    let whole = {
        let world = World::new();
        let messages = world.subscribe(&["vehicles/sensor/data/+"]);
        world.run(&format!("--cars 12 {fixed}")).unwrap();
        take(&messages, 60).into_iter().collect::<BTreeSet<Message>>()
    };
    let world = World::new();
    let messages = world.subscribe(&["vehicles/sensor/data/+"]);
    world.run(&format!("--cars 5 {fixed}")).unwrap();
    world.run(&format!("--cars 7 --first-car 6 {fixed}")).unwrap();
    let split = take(&messages, 60).into_iter().collect::<BTreeSet<Message>>();
    assert!(
        split == whole,
        "{} readings of {} are the same",
        split.intersection(&whole).count(),
        whole.len()
    );
    assert_eq!(whole.len(), 60);
}

#[test]
fn readings_outlive_a_restart_of_the_broker() {
    let mut world = World::new();
    let (ledger, summary_path) = (world.path("ledger"), world.path("summary"));
    let args = format!("--cars 10 --rate 20 --count 60 --ledger {ledger} --summary {summary_path}");
    let config = world.config(&args);
    let counters = std::sync::Arc::new(telltale_simulator::Counters::default());
    let shared = std::sync::Arc::clone(&counters);
    let simulate = move |config, service: &Service| telltale_simulator::run_counted(config, service, &shared);
    let running = world.host.launch("simulator", config, simulate);
    let deadline = Instant::now() + LIMIT;
    let wait = |text: &str, done: &dyn Fn() -> bool| {
        while !done() {
            assert!(Instant::now() < deadline, "{text} does not come: {counters:?}");
            std::thread::yield_now();
        }
    };
    wait("the middle of the run", &|| counters.acknowledged.get() > 100);
    let port = world.broker.address().port();
    drop(world.broker);
    wait("the loss of the connections", &|| counters.connected.get() == 0);
    world.broker = mqtt::start(mqtt::Config { port, ..mqtt::Config::default() }).unwrap();
    wait("the end", &|| running.is_ended());
    running.stop(LIMIT).unwrap();
    let summary = summary(&world);
    assert_eq!((&summary["published"], &summary["acknowledged"]), (&600.into(), &600.into()));
    assert!(summary["disconnects"].as_u64().unwrap() >= 10);
    let lines = world.read("ledger");
    assert_eq!(lines.lines().filter(|it| it.ends_with(",acknowledged")).count(), 600);
}

#[test]
fn the_truth_goes_to_its_own_topic_and_file() {
    let world = World::new();
    let messages = world.subscribe(&["vehicles/truth/+"]);
    let truth_file = world.path("truth");
    let args = format!("--cars 40 --rate 10 --count 20 --failure-share 0.3 --truth-file {truth_file}");
    world.run(&args).unwrap();
    let told: BTreeSet<String> = world.read("truth").lines().map(str::to_owned).collect();
    assert!(told.len() >= 3, "{told:?}");
    let settings = Settings { failure_share: 0.3, ..Settings::default() };
    let fleet = Fleet::new(7, settings).unwrap();
    for (topic, payload) in take(&messages, told.len()) {
        let truth: Truth = serde_json::from_slice(&payload).unwrap();
        assert!(told.contains(std::str::from_utf8(&payload).unwrap()), "{truth:?} is not in the file");
        assert_eq!(topic, format!("vehicles/truth/{}", truth.car));
        let number = truth.car[4..].parse().unwrap();
        assert_eq!(fleet.truth(number, truth.start_ms).unwrap().truth(), truth);
    }
}

#[test]
fn a_scenario_changes_the_fleet_from_stage_to_stage() {
    let world = World::new();
    let messages = world.subscribe(&["vehicles/sensor/data/+"]);
    let (scenario, summary_path) = (world.path("scenario.toml"), world.path("summary"));
    let text = "[[stage]]\ncars = 3\ncount = 4\n[[stage]]\ncars = 8\ncount = 2\nqos = 0\n[[stage]]\ncars = 1\ncount = 5\n";
    std::fs::write(&scenario, text).unwrap();
    world
        .run(&format!("--rate 50 --truth-topic off --scenario {scenario} --summary {summary_path}"))
        .unwrap();
    let mut by_car = BTreeMap::<String, usize>::new();
    for (topic, _) in take(&messages, 3 * 4 + 8 * 2 + 5) {
        *by_car.entry(topic.rsplit('/').next().unwrap().to_owned()).or_default() += 1;
    }
    let counts: Vec<usize> = by_car.into_values().collect();
    assert_eq!(counts, [11, 6, 6, 2, 2, 2, 2, 2]);
    let summary = summary(&world);
    assert_eq!((&summary["published"], &summary["acknowledged"]), (&33.into(), &17.into()));
    assert_eq!(summary["failed"], 0);
}

#[test]
fn a_fleet_that_is_stopped_waits_for_its_acknowledgements() {
    let world = World::new();
    let summary_path = world.path("summary");
    let config = world.config(&format!("--cars 30 --rate 20 --summary {summary_path}"));
    let counters = std::sync::Arc::new(telltale_simulator::Counters::default());
    let shared = std::sync::Arc::clone(&counters);
    let simulate = move |config, service: &Service| telltale_simulator::run_counted(config, service, &shared);
    let running = world.host.launch("simulator", config, simulate);
    let deadline = Instant::now() + LIMIT;
    while counters.acknowledged.get() < 200 {
        assert!(Instant::now() < deadline && !running.is_ended(), "{counters:?}");
        std::thread::yield_now();
    }
    running.stop(LIMIT).unwrap();
    let summary = summary(&world);
    assert_eq!(summary["published"], summary["acknowledged"]);
    assert_eq!(counters.connected.get(), 0);
}

#[test]
fn wrong_settings_end_the_run_with_their_reason() {
    let credentials = mqtt::Credentials { user: "fleet".to_owned(), password: "right".to_owned() };
    let world = World::with(mqtt::Config { credentials: Some(credentials), ..mqtt::Config::default() });
    let password = world.path("password");
    std::fs::write(&password, "wrong").unwrap();
    let error =
        world.run(&format!("--cars 3 --mqtt-user fleet --mqtt-password-file {password}")).unwrap_err();
    let text = chain(&error);
    assert!(
        text.contains(": the broker refused the connection: BadUserNamePassword: check --mqtt-user"),
        "{text}"
    );
    for flag in ["--ledger", "--truth-file", "--summary"] {
        let error = world.run(&format!("--cars 3 {flag} /no-such-folder/file")).unwrap_err();
        let text = chain(&error);
        assert!(text.starts_with(&format!("writing \"/no-such-folder/file\" ({flag})")), "{text}");
    }
    let error = world.run("--cars 4000000").unwrap_err().to_string();
    assert!(error.contains("4000000 cars need 4000064 open files"), "{error}");
}
