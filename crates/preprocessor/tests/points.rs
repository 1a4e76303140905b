//! The preprocessor is killed at every step of a transaction: each reading has one outcome, in order, and windows count right.

#[allow(dead_code, reason = "each test file uses its own part of this module")]
mod support;

use std::collections::BTreeMap;

use support::World;
use telltale_records::{Source, topics};
use telltale_testkit::Process;
use telltale_testkit::gate::{Point, TRANSACTION, kill_at};

#[test]
fn a_preprocessor_killed_at_any_step_of_a_transaction_loses_and_doubles_nothing() {
    let world = World::start();
    let mut sent = 0;
    let mut send = || {
        world.send_fleet(sent..sent + 300);
        sent += 300;
        sent
    };
    for point in Point::all(&TRANSACTION) {
        send();
        // A producer begins once; the others are struck in the second transaction.
        let skip = usize::from(point.api != TRANSACTION[0]);
        kill_at(&world.kafka, point, skip, |through| {
            let own = ["--http", "off", "--log", "error", "--static-member", "--max-records", "100"];
            let program = env!("CARGO_BIN_EXE_telltale-preprocessor");
            Process::start(program, &world.flags_at(through, &own))
        });
    }
    let sent = send();
    let outcomes = world.beside(&["--static-member"], |_| world.outcomes());
    assert_eq!(outcomes.len() as i64, sent);
    assert_eq!(world.table(), world.recount());
    let mut last = BTreeMap::new();
    for clean in world.written(topics::CLEAN) {
        let src: Source = clean.src().parse().unwrap();
        assert!(last.insert(src.partition, src.offset) < Some(src.offset), "{} came too late", clean.src());
    }
}
