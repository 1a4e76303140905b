//! Anomalies are told back to the cars by MQTT, once the prediction is committed.

#[expect(dead_code, reason = "shared with the other tests of the service")]
mod support;

use std::sync::mpsc::sync_channel;

use support::{World, artifact, prediction};
use telltale_mqtt::device::{Event, Options, open};
use telltale_records::prediction::Verdict;
use telltale_records::topics;
use telltale_testkit::{changed_readings, metric, wait_until};

#[test]
fn each_anomaly_becomes_an_alert_and_nothing_else_does() {
    let world = World::start();
    world.publish_model(&artifact(1), 1, 1);
    let options =
        Options { subscriptions: vec!["alerts/#".to_owned()], ..Options::new(world.engines.name("driver")) };
    let (driver, mut session) = open(&world.engines.endpoint(), options);
    let (sender, alerts) = sync_channel(1_000);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listening = runtime.handle().spawn(async move {
        while let Some(event) = session.next().await {
            if let Event::Received { topic, payload } = event {
                sender.send((topic, payload)).unwrap();
            }
        }
    });
    wait_until("the driver is connected", || driver.is_connected());

    let mqtt = world.engines.mqtt_flags();
    let flags: Vec<&str> = mqtt.iter().map(String::as_str).chain(["--alerts"]).collect();
    world.beside_a_scorer(&flags, |running| {
        let broken = |mut it: [f64; 18]| {
            it[3] += 1_000.0;
            it
        };
        for it in changed_readings(world.readings_id, 3, 0..2, broken) {
            world.send(Some(it.car.as_bytes()), Some(&it.value), it.time_ms);
        }
        world.send_readings(3, 2..12);
        world.outcomes();
        wait_until("the broker has the alerts", || {
            let told = metric(running.service(), "alerts_total{outcome=\"acknowledged\"}");
            told >= 6 && told == metric(running.service(), "anomalies_total")
        });
    });
    let written = world.written(topics::PREDICTIONS);
    let found: Vec<_> = written.iter().map(|it| prediction(it.value()).1).collect();
    let mut expected: Vec<(String, i64)> = found
        .iter()
        .filter(|it| it.verdict == Verdict::Anomaly)
        .map(|it| (format!("alerts/{}", it.car), it.event_time))
        .collect();
    assert!(expected.len() >= 6, "1,000 % of battery are an anomaly");
    let mut told = Vec::new();
    wait_until("the driver has heard of each", || {
        while let Ok((topic, payload)) = alerts.try_recv() {
            let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(payload["sensors"].as_array().unwrap().len(), 3);
            told.push((String::from_utf8(topic.to_vec()).unwrap(), payload["event_time"].as_i64().unwrap()));
        }
        told.len() >= expected.len()
    });
    expected.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, expected);
    driver.close();
    runtime.block_on(listening).unwrap();
}
