//! The poison corpus within a load, all the way from the devices: every one is a dead letter once, with its bytes and its
//! reason, and every healthy reading goes through.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use telltale_kafka::producer::NewRecord;
use telltale_mqtt::Qos;
use telltale_mqtt::device::{self, Event, Options};
use telltale_records::{framing, topics};
use telltale_testkit::poison::{Corpus, DeadLetter, HEALTHY, HEALTHY_AVRO, Poison, Way};
use telltale_testkit::{ByHand, Engines, Writer, beside, extent, metrics, wait_until, written};

/// Healthy readings for each poison: it is 1 % of the load.
const HEALTHY_EACH: usize = 99;
const CARS: usize = 20;

/// Healthy reading number `number`: its car and its value, every other one in Avro.
fn healthy(corpus: &Corpus, number: usize) -> (String, Vec<u8>) {
    let mut value = Vec::new();
    if number.is_multiple_of(2) {
        value.extend_from_slice(HEALTHY.as_bytes());
    } else {
        framing::write_header(corpus.healthy_id, &mut value);
        value.extend_from_slice(HEALTHY_AVRO);
    }
    (format!("car-{:06}", number % CARS), value)
}

fn config<C: Parser>(engines: &Engines, more: &[&str]) -> C {
    let reach: Vec<String> = match more {
        ["bridge", ..] => [engines.mqtt_flags(), engines.kafka_flags()].concat(),
        _ => [engines.kafka_flags(), engines.registry_flags()].concat(),
    };
    C::try_parse_from(more.iter().map(|&it| it.to_owned()).chain(reach)).unwrap()
}

/// Runs a preprocessor beside `send`, waits for the outcomes of what it sends, and checks them.
fn each_ends_where_it_must(engines: &Engines, corpus: &Corpus, way: Way, send: impl FnOnce()) {
    let kafka = engines.kafka();
    let mut expected: BTreeMap<DeadLetter, usize> = BTreeMap::new();
    for (number, poison) in corpus.by(way).enumerate() {
        *expected.entry(poison.dead_letter(number)).or_default() += 1;
    }
    let poisons: usize = expected.values().sum();
    let healthy = poisons * HEALTHY_EACH;
    beside("preprocessor", config(engines, &["preprocessor"]), telltale_preprocessor::run, |_| {
        send();
        wait_until("the healthy ones are through", || extent(&kafka, topics::CLEAN) as usize >= healthy);
        wait_until("everything has an outcome", || {
            let dead: usize = DeadLetter::all(&kafka).values().sum();
            dead >= poisons && written(&kafka, topics::CLEAN).len() >= healthy
        });
    });

    let found = DeadLetter::all(&kafka);
    let shown = |it: (&DeadLetter, &usize)| {
        let start = |bytes: &Option<Vec<u8>>| {
            let text = bytes.as_ref().map(|it| String::from_utf8_lossy(&it[..it.len().min(60)]).into_owned());
            format!("{text:?} of {:?} bytes", bytes.as_ref().map(Vec::len))
        };
        format!("{} times {}: key {}, value {}", it.1, it.0.reason, start(&it.0.key), start(&it.0.value))
    };
    let without = |these: &BTreeMap<DeadLetter, usize>, those: &BTreeMap<DeadLetter, usize>| -> Vec<String> {
        these.iter().filter(|(it, count)| those.get(it) != Some(count)).map(shown).collect()
    };
    let (missing, wrong) = (without(&expected, &found), without(&found, &expected));
    assert!(missing.is_empty() && wrong.is_empty(), "missing: {missing:#?}\nfound: {wrong:#?}");
    let clean = written(&kafka, topics::CLEAN);
    let sources: BTreeSet<&str> = clean.iter().map(|it| it.src()).collect();
    assert_eq!((clean.len(), sources.len()), (healthy, healthy));
    let mut by_car: BTreeMap<&[u8], usize> = BTreeMap::new();
    clean.iter().for_each(|it| *by_car.entry(it.key.as_deref().unwrap()).or_default() += 1);
    assert_eq!(by_car.len(), CARS);
    assert!(by_car.values().all(|it| it.abs_diff(healthy / CARS) <= 1), "{by_car:?}");
}

#[test]
fn what_comes_by_mqtt_ends_as_it_must() {
    let engines = Engines::fresh(4);
    let corpus = Corpus::register(&engines);
    let id = engines.name("bridge");
    let bridge: telltale_bridge::Config = config(&engines, &["bridge", "--mqtt-client-id", &id]);
    beside("bridge", bridge, telltale_bridge::run, |running| {
        wait_until("the bridge is ready", || {
            // Before it has metrics it has not said yet what it is not ready for.
            metrics(running.service()).contains("messages") && running.service().unready().is_empty()
        });
        each_ends_where_it_must(&engines, &corpus, Way::Mqtt, || {
            let poisons: Vec<&Poison> = corpus.by(Way::Mqtt).collect();
            let sent = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                scope.spawn(|| publish_healthy(&engines, &corpus, poisons.len() * HEALTHY_EACH, &sent));
                let mut hand = ByHand::connect(engines.mqtt());
                for (number, poison) in poisons.iter().enumerate() {
                    wait_until("it is its turn", || sent.load(Ordering::Relaxed) >= number * HEALTHY_EACH);
                    let value = poison.value.as_deref().unwrap();
                    hand.publish(&poison.mqtt_topic(number), value, &poison.headers());
                }
            });
        });
    });
}

/// Publishes healthy readings and counts those that the broker has.
fn publish_healthy(engines: &Engines, corpus: &Corpus, count: usize, acknowledged: &AtomicUsize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = Options { window: 100, ..Options::new(engines.name("fleet")) };
        let (publisher, mut session) = device::open(&engines.endpoint(), options);
        let mut sent = 0;
        while acknowledged.load(Ordering::Relaxed) < count {
            while sent < count {
                let (car, value) = healthy(corpus, sent);
                let topic: Arc<str> = format!("vehicles/sensor/data/{car}").into();
                if publisher.publish(&topic, Qos::AtLeastOnce, false, value.into()).is_err() {
                    break; // the window is full
                }
                sent += 1;
            }
            match session.next().await.unwrap() {
                Event::Acknowledged { .. } => _ = acknowledged.fetch_add(1, Ordering::Relaxed),
                Event::Refused { reason, .. } => panic!("{reason}"),
                _ => {}
            }
        }
        publisher.close();
        while session.next().await.is_some() {}
    });
}

#[test]
fn what_is_written_to_kafka_ends_as_it_must() {
    let engines = Engines::fresh(4);
    let corpus = Corpus::register(&engines);
    each_ends_where_it_must(&engines, &corpus, Way::Kafka, || {
        let writer = Writer::new(&engines.kafka());
        let send = |key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, &[u8])]| {
            writer.send(NewRecord {
                topic: topics::SENSOR_DATA,
                key,
                value,
                headers,
                ..NewRecord::default()
            });
        };
        for (number, poison) in corpus.by(Way::Kafka).enumerate() {
            let headers = poison.headers();
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
            send(poison.key(number).as_deref(), poison.value.as_deref(), &headers);
            for reading in number * HEALTHY_EACH..(number + 1) * HEALTHY_EACH {
                let (car, value) = healthy(&corpus, reading);
                send(Some(car.as_bytes()), Some(&value), &[]);
            }
        }
        writer.flush();
    });
}
