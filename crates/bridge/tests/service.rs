//! The bridge between embedded and between real engines: nothing lost, order kept, memory bounded, whatever happens.

mod support;

use std::collections::BTreeMap;

use support::{Door, World, assert_whole, config_of, is_ready, metric, text};
use telltale_mqtt::Version;
use telltale_records::topics::{DEAD_LETTERS, SENSOR_DATA, TRUTH};
use telltale_service::chain;
use telltale_testkit::{ByHand, Engine, Kind, PATIENCE, Written, host, wait_until};

#[test]
fn every_message_becomes_one_record_in_the_order_of_its_car() {
    for (version, flag) in [(Version::V311, "3.1.1"), (Version::V5, "5")] {
        let mut world = World::start();
        let config = world.config(&["--mqtt-version", flag]);
        world.beside_a_bridge(config, |world, running| {
            world.cars(20, 0..200, version).join().unwrap();
            wait_until("all is acknowledged", || metric(running, "acknowledged_total") == 4000);
            assert_eq!(metric(running, "records_delivered_total"), 4000);
            assert_eq!(metric(running, "waiting_messages"), 0);
        });
        assert_whole(&world.records(SENSOR_DATA), 20, 0..200);
        assert_eq!(world.count(DEAD_LETTERS), 0);
    }
}

#[test]
fn a_bridge_that_is_stopped_finishes_what_it_took_and_the_next_one_goes_on() {
    let mut world = World::start();
    let config = world.config(&[]);
    world.beside_a_bridge(config, |_, _| ()); // from now on the broker holds its session
    let cars = world.cars(10, 0..1500, Version::V5);
    for _ in 0..4 {
        let config = world.config(&[]);
        let before = world.count(SENSOR_DATA);
        world.beside_a_bridge(config, |_, running| {
            wait_until("some are delivered", || metric(running, "records_delivered_total") > 500);
        });
        assert!(world.count(SENSOR_DATA) > before);
    }
    let config = world.config(&[]);
    world.beside_a_bridge(config, |world, _| {
        cars.join().unwrap();
        wait_until("all have arrived", || world.count(SENSOR_DATA) >= 15_000);
    });
    // Not one is doubled: each bridge acknowledged all that it had written.
    assert_whole(&world.records(SENSOR_DATA), 10, 0..1500);
}

#[test]
fn when_kafka_goes_away_nothing_is_acknowledged_until_it_is_back() {
    let mut world = World::start();
    let config = world.config(&["--receive-maximum", "40"]);
    world.beside_a_bridge(config, |world, running| {
        world.cars(10, 0..100, Version::V5).join().unwrap();
        wait_until("the first are acknowledged", || metric(running, "acknowledged_total") == 1000);
        world.engines.stop(Engine::Kafka);
        let cars = world.cars(10, 100..1000, Version::V5);
        wait_until("the bridge says that Kafka is silent", || !is_ready(running));
        cars.join().unwrap(); // the broker holds what the bridge does not take
        assert_eq!(metric(running, "acknowledged_total"), 1000);
        world.engines.start_again(Engine::Kafka);
        wait_until("all is acknowledged", || metric(running, "acknowledged_total") == 10_000);
        wait_until("the bridge is ready again", || is_ready(running));
    });
    assert_whole(&world.records(SENSOR_DATA), 10, 0..1000);
}

#[test]
fn while_kafka_takes_nothing_the_broker_keeps_the_messages_and_memory_stays_bounded() {
    let mut world = World::start();
    // Below HiveMQ's own limit of a session.
    let more = ["--receive-maximum", "40"];
    let cars = |world: &World| world.cars(10, 0..1000, Version::V5);
    world.beside_a_bridge_behind_a_door(&more, cars, |door, running| {
        wait_until("the window is full", || metric(running, "waiting_messages") == 40);
        door.open();
        wait_until("all is acknowledged", || metric(running, "acknowledged_total") == 10_000);
        assert_eq!(metric(running, "passed_over_total"), 0);
    });
    assert_whole(&world.records(SENSOR_DATA), 10, 0..1000);
}

#[test]
fn what_finds_no_room_is_left_to_the_broker_and_comes_again() {
    let mut world = World::start();
    // Less room than for the 50 messages that HiveMQ has on their way to a session.
    let more = ["--max-buffered-bytes", "1048576"];
    let cars = |world: &World| world.large_cars(10, 0..50, Version::V5, 40_000);
    world.beside_a_bridge_behind_a_door(&more, cars, |door, running| {
        wait_until("messages are passed over", || metric(running, "passed_over_total") > 0);
        assert!(metric(running, "waiting_messages") < 30, "1 MiB does not hold 30 messages of 40,000 bytes");
        door.open();
        wait_until("all is acknowledged", || metric(running, "acknowledged_total") >= 500);
    });
    assert_whole(&world.records(SENSOR_DATA), 10, 0..50);
}

#[test]
fn a_bridge_whose_session_is_taken_over_leaves_what_it_holds_to_the_other() {
    let mut world = World::start();
    let more = ["--receive-maximum", "40"];
    world.beside_a_bridge(world.config(&more), |_, _| ()); // from now on the broker holds its session
    world.cars(10, 0..100, Version::V5).join().unwrap();
    let door = Door::closed(&world.kafka);
    let flags = world.flags(&world.engines.mqtt_flags(), &door.kafka(&world.kafka), &more);
    let host = host();
    let first = host.launch("bridge", config_of(flags), telltale_bridge::run);
    wait_until("its window is full", || metric(&first, "waiting_messages") == 40);
    world.beside_a_bridge(world.config(&more), |_, second| {
        wait_until("all is acknowledged", || metric(second, "acknowledged_total") == 1000);
        door.open();
        wait_until("the first has ended", || first.is_ended());
    });
    let error = chain(&first.stop(PATIENCE).unwrap_err());
    assert!(error.contains("another client with the same client id took the session over"), "{error}");
    assert_whole(&world.records(SENSOR_DATA), 10, 0..100);
}

#[test]
fn hostile_messages_arrive_or_become_dead_letters_and_stop_nothing() {
    let mut world = World::start();
    let long = "x".repeat(60_000);
    let config = world.config(&[]);
    world.beside_a_bridge(config, |world, running| {
        let mut device = ByHand::connect(world.engines.mqtt());
        // HiveMQ closes the connection of who sends more than 65,535 bytes of user properties; each of these is too large for us.
        let (count, bytes) = match world.engines.kind() {
            Kind::Embedded => (100, long.len()),
            Kind::Real => (15, 4_200),
        };
        let many: Vec<_> = (0..count).map(|_| ("name", &long[..bytes])).collect();
        device.publish("vehicles/sensor/data/", b"no car", &[]);
        device.publish("vehicles/sensor/data/empty", b"", &[]);
        device.publish(
            "vehicles/sensor/data/ключ 🚗",
            b"\xff\x00not text",
            &[("unit", "°C"), ("src", "forged-0-0")],
        );
        device.publish("vehicles/sensor/data/many", b"properties", &many);
        device.publish(&format!("vehicles/sensor/data/{long}"), b"long", &[]);
        device.publish("vehicles/sensor/data/big", &vec![b'b'; 10_000_000], &[("made-by", "hand")]);
        device.publish("vehicles/truth/car-1", b"truth", &[]);
        device.publish("vehicles/sensor/data/last", b"last", &[]);
        wait_until("all is acknowledged", || metric(running, "acknowledged_total") == 8);
        assert_eq!(metric(running, "properties_dropped_total"), count + 1);
    });
    let records = world.records(SENSOR_DATA);
    let of = |key: &str| records.iter().find(|it| it.key.as_deref() == Some(key.as_bytes())).unwrap();
    assert_eq!(of("empty").value.as_deref(), Some(&b""[..]));
    let foreign = of("ключ 🚗");
    assert_eq!(foreign.value.as_deref(), Some(&b"\xff\x00not text"[..]));
    assert_eq!(foreign.headers, BTreeMap::from([("unit".to_owned(), "°C".to_owned())]));
    assert_eq!((text(of("many")), text(of(&long)), text(of("last"))), ("properties", "long", "last"));
    assert_eq!(records.len(), 5);
    assert_eq!(text(&world.records(TRUTH)[0]), "truth");

    let dead = world.records(DEAD_LETTERS);
    let (keyless, parts): (Vec<_>, Vec<_>) = dead.iter().partition(|it| it.header("reason") == "bad-key");
    assert_eq!((keyless.len(), text(keyless[0]), &keyless[0].key), (1, "no car", &None));
    assert_eq!(keyless[0].header("mqtt-topic"), "vehicles/sensor/data/");
    assert_eq!(keyless[0].header("target"), SENSOR_DATA);
    let bytes: Vec<u8> = parts.iter().flat_map(|it| it.value.clone().unwrap()).collect();
    assert_eq!(bytes, vec![b'b'; 10_000_000]);
    let whole = |it: &&Written| it.header("reason") == "too-large" && it.header("made-by") == "hand";
    assert!(parts.iter().all(whole), "{:?}", parts[0].headers);
    let places: Vec<_> = parts.iter().map(|it| it.header("part").to_owned()).collect();
    assert_eq!(places, (1..=12).map(|it| format!("{it} of 12")).collect::<Vec<_>>());
}

#[test]
fn a_missing_topic_ends_the_bridge_at_once_with_what_to_do() {
    let world = World::start();
    let host = host();
    let config = world.config(&["--map", "a/+=not-there"]);
    let running = host.launch("bridge", config, telltale_bridge::run);
    wait_until("it has ended", || running.is_ended());
    let error = running.stop(PATIENCE).unwrap_err();
    let message = telltale_service::chain(&error);
    assert!(message.contains("topic not-there does not exist"), "{message}");
}

#[test]
fn a_bridge_that_the_broker_refuses_ends_with_the_reason() {
    let world = World::start();
    let credentials = telltale_embedded::mqtt::Credentials { user: "u".into(), password: "p".into() };
    let config = telltale_embedded::mqtt::Config { credentials: Some(credentials), ..Default::default() };
    let closed = telltale_embedded::mqtt::start(config).unwrap();
    let mqtt = ["--mqtt".to_owned(), closed.address().to_string()];
    let host = host();
    let running = host.launch("bridge", world.config_at(&mqtt, &[]), telltale_bridge::run);
    wait_until("it has ended", || running.is_ended());
    let message = telltale_service::chain(&running.stop(PATIENCE).unwrap_err());
    assert!(
        message.contains("the broker refused the connection: BadUserNamePassword: check --mqtt-user"),
        "{message}"
    );
}
