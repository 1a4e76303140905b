//! Several sessions of one bridge, on the embedded engines and on the real ones: killed at any moment, they lose nothing.

mod fleet;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};

use fleet::{Fleet, Target};
use telltale_testkit::{Engines, wait_until};

/// A bridge as a process of its own, which can be killed.
struct Bridge(Child);

impl Bridge {
    fn start(engines: &Engines, target: &Target, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_telltale-bridge"));
        command.args(engines.kafka_flags()).args(engines.mqtt_flags()).args(target.flags()).args(more);
        command.args(["--http", "off", "--log", "warn"]).stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// As SIGKILL does: nothing is finished, nobody is told.
    fn kill(mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "the bridge has ended by itself");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // A test that fails must not leave its bridge behind.
        let _ended_already = self.0.kill();
        let _ended_already = self.0.wait();
    }
}

/// Kills a bridge again and again under a fleet that goes on sending; returns what each car sent and what arrived of it.
fn killed(shards: u32, map: &str, more: &[&str]) -> BTreeMap<String, (u32, Vec<u32>)> {
    let engines = Engines::start();
    let target = Target::create(&engines, map);
    // The first one makes the sessions at the broker; from then on it holds what is published.
    let bridge = Bridge::start(&engines, &target, more);
    target.wait_until_subscribed(&engines, shards);
    let fleet = Fleet::start(&engines, &target, shards, 3);
    let mut bridge = Some(bridge);
    for _ in 0..4 {
        let before = target.count();
        wait_until("the bridge moves messages", || target.count() >= before + 300);
        bridge.take().unwrap().kill();
        bridge = Some(Bridge::start(&engines, &target, more));
    }
    let sent = fleet.stop();
    let mut arrived = BTreeMap::new();
    wait_until("everything has arrived", || {
        arrived = target.arrived();
        // Sessions that share a filter pass each other: the last number is not the last to come.
        let different = |car| arrived.get(car).map_or(0, |it| it.iter().collect::<BTreeSet<_>>().len());
        sent.iter().all(|(car, count)| different(car) == *count as usize)
    });
    drop(bridge);
    arrived = target.arrived();
    sent.into_iter()
        .map(|(car, count)| (car.clone(), (count, arrived.remove(&car).unwrap_or_default())))
        .collect()
}

#[test]
fn sessions_of_disjoint_filters_lose_nothing_and_keep_the_order_of_each_car() {
    for (car, (count, numbers)) in killed(4, "{root}/{0..3}/+", &["--receive-maximum", "50"]) {
        let mut expected = 0;
        let mut replays = 0;
        for (index, number) in numbers.iter().enumerate() {
            let follows = index > 0 && *number == numbers[index - 1] + 1;
            if !follows && index > 0 {
                assert!(*number < expected, "{car}: {number} comes after {}", numbers[index - 1]);
                replays += 1;
            }
            assert!(*number <= expected, "{car}: {expected} is missing before {number}");
            expected = expected.max(number + 1);
        }
        assert_eq!(expected, count, "{car}");
        assert!(replays <= 4, "{car}: {replays} replays after 4 kills");
    }
}

#[test]
fn sessions_that_share_a_filter_lose_nothing() {
    let more = ["--share", "bridges", "--sessions", "4"];
    for (car, (count, mut numbers)) in killed(1, "{root}/0/+", &more) {
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "{car}");
    }
}

#[test]
fn a_message_that_the_broker_drops_is_seen() {
    let engines = Engines::start();
    let target = Target::create(&engines, "{root}/{0..0}/+");
    fleet::beside_a_bridge(&engines, &target, &["--max-packet-bytes", "1024"], |metric| {
        wait_until("the broker tells its count", || metric("broker_dropped_messages") >= 0);
        let before = metric("broker_dropped_messages");
        target.publish(&engines, 0, "too large", 2000);
        wait_until("the bridge has seen it", || metric("broker_dropped_messages") > before);
        assert_eq!(metric("messages_total"), 0);
    });
}
