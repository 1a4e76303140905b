//! Measures how many records a second the bridge moves with so many sessions: what `--help` means by "what one session moves".
//!
//! `TELLTALE_TEST_ENGINES=target/engines cargo run --release -p telltale-bridge --example throughput -- 1 2 4 [FLAG...]`
//!
//! The broker holds all messages before the bridge starts, so that only the bridge and the engines work while it is measured.
//! Flags after the numbers go to the bridge. Without `TELLTALE_TEST_ENGINES` it runs on embedded engines.

#[path = "../tests/fleet/mod.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod fleet;

use std::time::{Duration, Instant};

use fleet::Target;
use telltale_testkit::Engines;

const MESSAGES: u32 = 60_000;

fn main() {
    let (numbers, flags): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|it| it.parse::<u32>().is_ok());
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let engines = Engines::start();
    for sessions in numbers.iter().filter_map(|it| it.parse::<u32>().ok()) {
        for shared in [false, true] {
            if shared && sessions == 1 {
                continue;
            }
            let (shards, number) = (if shared { 1 } else { sessions }, sessions.to_string());
            let target = Target::create(&engines, &format!("{{root}}/{{0..{}}}/+", shards - 1));
            let mut flags = flags.clone();
            if shared {
                flags.extend(["--share", "throughput", "--sessions", &number]);
            }
            fleet::beside_a_bridge(&engines, &target, &flags, |_| ()); // from now on the broker holds its sessions
            target.fill(&engines, shards, MESSAGES / shards);
            let (mut first, mut last) = (None, Instant::now());
            fleet::beside_a_bridge(&engines, &target, &flags, |metric| {
                let wanted = i64::from(MESSAGES / shards * shards);
                loop {
                    let delivered = metric("records_delivered_total");
                    if delivered > 0 {
                        first.get_or_insert((Instant::now(), delivered));
                    }
                    if delivered >= wanted {
                        break last = Instant::now();
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let (began, before) = first.expect("records were delivered");
            let rate = (f64::from(MESSAGES) - before as f64) / (last - began).as_secs_f64();
            let way = if shared { "that share a filter" } else { "with filters of their own" };
            println!("{sessions} sessions {way}: {rate:.0} records/s");
        }
    }
}
