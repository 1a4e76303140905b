//! The scorer is killed at every step of a transaction: each reading has one prediction, and in order.

#[allow(dead_code, reason = "each test file uses its own part of this module")]
mod support;

use std::collections::BTreeMap;

use support::{World, artifact};
use telltale_records::{Source, topics};
use telltale_testkit::Process;
use telltale_testkit::gate::{Point, TRANSACTION, kill_at};

#[test]
fn a_scorer_killed_at_any_step_of_a_transaction_loses_and_doubles_nothing() {
    let world = World::start();
    world.publish_model(&artifact(1), 1, 1);
    let mut second = 0;
    let mut send = || {
        world.send_readings(50, second..second + 6);
        second += 6;
        50 * second
    };
    for point in Point::all(&TRANSACTION) {
        send();
        // A producer begins once; the others are struck in the second transaction.
        let skip = usize::from(point.api != TRANSACTION[0]);
        kill_at(&world.kafka, point, skip, |through| {
            let own = ["--http", "off", "--log", "error", "--static-member", "--max-records", "100"];
            Process::start(env!("CARGO_BIN_EXE_telltale-scorer"), &world.flags_at(through, &own))
        });
    }
    let sent = send();
    let outcomes = world.beside_a_scorer(&["--static-member"], |_| world.outcomes());
    assert_eq!(outcomes.len(), sent);
    assert!(outcomes.values().all(|(topic, _)| *topic == topics::PREDICTIONS));
    let mut last = BTreeMap::new();
    for prediction in world.written(topics::PREDICTIONS) {
        let src: Source = prediction.src().parse().unwrap();
        assert!(
            last.insert(src.partition, src.offset) < Some(src.offset),
            "{} came too late",
            prediction.src()
        );
    }
}
