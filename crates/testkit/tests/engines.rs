//! The engines that tests run on, themselves.

use telltale_kafka::producer::{NewRecord, ProducerConfig};
use telltale_kafka::topics::Topics;
use telltale_kafka::{Isolation, Producer, Reader};
use telltale_records::schema;
use telltale_records::topics::SENSOR_DATA;
use telltale_testkit::{Engine, Engines, PATIENCE, wait_until};

/// How many records there are.
fn there(engines: &Engines) -> i64 {
    let reader = Reader::open(&engines.kafka(), Isolation::Committed).unwrap();
    (0..2).map(|it| reader.watermarks(SENSOR_DATA, it).unwrap()).map(|it| it.end - it.start).sum()
}

fn write(engines: &Engines, count: u64) {
    let settings = ProducerConfig::default();
    let producer = Producer::new(&engines.kafka(), &settings, |_, outcome| _ = outcome.unwrap()).unwrap();
    for number in 0..count {
        let record = NewRecord { topic: SENSOR_DATA, value: Some(b"{}"), ..NewRecord::default() };
        producer.send(record, number).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

#[test]
fn engines_keep_what_they_have_over_an_end_and_are_empty_for_the_next_test() {
    let mut engines = Engines::fresh(2);
    write(&engines, 10);
    engines.registry().register("sensor-data-value", schema::READINGS).unwrap();
    engines.restart_kafka();
    assert_eq!(there(&engines), 10);
    engines.kill_kafka();
    engines.start_again(Engine::Kafka);
    write(&engines, 5);
    wait_until("all are there", || there(&engines) == 15);
    engines.stop(Engine::Registry);
    engines.start_again(Engine::Registry);
    assert!(engines.registry().latest("sensor-data-value").is_ok());
    drop(engines);

    let engines = Engines::fresh(2);
    assert_eq!(there(&engines), 0);
    assert!(engines.registry().latest("sensor-data-value").is_err());
    assert!(Topics::open(&engines.kafka()).unwrap().list().unwrap().len() >= 9);
    assert_ne!(engines.name("a"), engines.name("a"));
}
