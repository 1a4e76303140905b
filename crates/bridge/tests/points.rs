//! The bridge is killed at every step between a message and its acknowledgement: nothing lost, and what comes again is a
//! contiguous replay of at most the window.

#[allow(dead_code, reason = "each test file uses its own part of this module")]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{World, by_key};
use telltale_mqtt::Version;
use telltale_records::topics::SENSOR_DATA;
use telltale_testkit::gate::{Moment, Point, TRANSACTION, kill_at};
use telltale_testkit::proxy::{Fate, Pieces, Proxy, Way};
use telltale_testkit::{Process, wait_until};

/// Messages of one session that may be unacknowledged.
const WINDOW: &str = "20";
const CARS: u32 = 5;
/// Messages of each car before each kill.
const EACH: u32 = 40;

/// A proxy through which nothing passes from the second PUBACK on; `including` says whether that one still does.
fn without_acks(broker: SocketAddr, including: bool) -> (Proxy, Arc<AtomicUsize>) {
    let acks = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&acks);
    let proxy = Proxy::start(broker, Pieces::Any, move |piece| {
        // PUBACKs are written by themselves: what else the bridge sends comes before them.
        let ack = piece.way == Way::Up && piece.bytes[0] == 0x40;
        let before = if ack { seen.fetch_add(1, Ordering::SeqCst) } else { seen.load(Ordering::SeqCst) };
        let last = if ack && including { 2 } else { 1 + usize::from(!ack) };
        if before < last { Fate::Pass } else { Fate::Swallow }
    });
    (proxy, acks)
}

#[test]
fn a_bridge_killed_at_any_step_loses_nothing_and_replays_at_most_its_window() {
    let mut world = World::start();
    let own = ["--receive-maximum", WINDOW];
    world.beside_a_bridge(world.config(&own), |_, _| ()); // from now on the broker holds its session
    let own = [&own[..], &["--http", "off", "--log", "error"]].concat();
    let program = env!("CARGO_BIN_EXE_telltale-bridge");
    let mut sent = 0;
    let mut send = |world: &World| {
        world.cars(CARS, sent..sent + EACH, Version::V5).join().unwrap();
        sent += EACH;
        sent
    };
    let (begins, produces) = (TRANSACTION[0], TRANSACTION[2]);
    for point in Point::all(&[begins, produces]) {
        send(&world);
        let skip = usize::from(point.api == produces);
        kill_at(&world.kafka, point, skip, |through| {
            Process::start(program, &world.flags(&world.engines.mqtt_flags(), through, &own))
        });
    }
    for moment in [Moment::Before, Moment::After] {
        send(&world);
        let (proxy, acks) = without_acks(world.engines.mqtt(), moment == Moment::After);
        let mqtt = ["--mqtt".to_owned(), proxy.address().to_string()];
        let running = Process::start(program, &world.flags(&mqtt, &world.kafka, &own));
        wait_until("it acknowledges", || acks.load(Ordering::SeqCst) >= 2);
        running.kill();
        println!("{:<28} SIGKILL", format!("Puback {moment:?}"));
    }
    let sent = send(&world);
    let config = world.config(&["--receive-maximum", WINDOW]);
    world.beside_a_bridge(config, |world, _| {
        wait_until("the last of each car has arrived", || {
            let found = by_key(&world.records(SENSOR_DATA));
            found.len() == CARS as usize && found.values().all(|it| it.last() == Some(&(sent - 1)))
        });
    });
    let window: u32 = WINDOW.parse().unwrap();
    for (car, numbers) in by_key(&world.records(SENSOR_DATA)) {
        let mut next = 0;
        for (place, number) in numbers.iter().copied().enumerate() {
            assert!(number <= next, "{car} lacks {next} at {place}: {numbers:?}");
            assert!(number + window >= next, "{car} goes back from {next} to {number}");
            next = number + 1;
        }
        println!("{car}: {sent} sent, {} arrived again", numbers.len() - sent as usize);
    }
}
