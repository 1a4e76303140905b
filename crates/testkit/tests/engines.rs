//! The engines that tests run on, themselves.

use telltale_kafka::producer::NewRecord;
use telltale_kafka::topics::Topics;
use telltale_records::schema;
use telltale_records::topics::SENSOR_DATA;
use telltale_testkit::{Engine, Engines, Writer, extent, wait_until};

fn write(engines: &Engines, count: usize) {
    let writer = Writer::new(&engines.kafka());
    for _ in 0..count {
        writer.send(NewRecord { topic: SENSOR_DATA, value: Some(b"{}"), ..NewRecord::default() });
    }
    writer.flush();
}

#[test]
fn engines_keep_what_they_have_over_an_end_and_are_empty_for_the_next_test() {
    let mut engines = Engines::fresh(2);
    write(&engines, 10);
    engines.registry().register("sensor-data-value", schema::READINGS).unwrap();
    engines.restart_kafka();
    assert_eq!(extent(&engines.kafka(), SENSOR_DATA), 10);
    engines.kill_kafka();
    engines.start_again(Engine::Kafka);
    write(&engines, 5);
    wait_until("all are there", || extent(&engines.kafka(), SENSOR_DATA) == 15);
    engines.stop(Engine::Registry);
    engines.start_again(Engine::Registry);
    assert!(engines.registry().latest("sensor-data-value").is_ok());
    drop(engines);

    let engines = Engines::fresh(2);
    assert_eq!(extent(&engines.kafka(), SENSOR_DATA), 0);
    assert!(engines.registry().latest("sensor-data-value").is_err());
    assert!(Topics::open(&engines.kafka()).unwrap().list().unwrap().len() >= 9);
    assert_ne!(engines.name("a"), engines.name("a"));
}
