//! A long simulation of the acknowledgement sequence: broker, bridge and Kafka, in any order of what can happen.
//!
//! `PROPTEST_RNG_SEED` gives a run again, `PROPTEST_CASES` makes it longer.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use telltale_mqtt::ledger::Ledger;

/// Steps of a case; 256 cases unless the environment says otherwise.
const STEPS: usize = 2000;
/// Messages that may be unacknowledged.
const WINDOW: usize = 12;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The broker sends the next message, if its window has room.
    Send,
    /// Kafka confirms one of the records under way.
    Confirm(usize),
    /// The connection ends and another one begins.
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => Just(Step::Send),
        20 => any::<usize>().prop_map(Step::Confirm),
        1 => Just(Step::Reconnect),
    ]
}

/// What a receipt says, and for the check the message it is of.
#[derive(Debug, Clone, Copy)]
struct Receipt {
    epoch: u32,
    packet_id: usize,
    message: u64,
}

#[derive(Debug, Default)]
struct World {
    /// Message the broker sends next.
    next: u64,
    /// Messages it has ever sent.
    published: u64,
    /// Messages sent and not acknowledged, oldest first, with their packet ids.
    unacknowledged: VecDeque<(usize, u64)>,
    acknowledged: u64,
    epoch: u32,
    ledger: Ledger<Receipt>,
    /// Numbers in the ledger of records on their way to Kafka, with their messages.
    under_way: Vec<(u64, u64)>,
    stored: BTreeSet<u64>,
}

impl World {
    fn step(&mut self, step: Step) {
        match step {
            Step::Send if self.unacknowledged.len() < WINDOW => {
                // The lowest free id, as HiveMQ does: the worst for a late acknowledgement.
                let free = |id: &usize| self.unacknowledged.iter().all(|(taken, _)| taken != id);
                let packet_id = (1..).find(free).unwrap();
                let message = self.next;
                self.next += 1;
                self.published = self.published.max(self.next);
                self.unacknowledged.push_back((packet_id, message));
                let number = self.ledger.enter(Receipt { epoch: self.epoch, packet_id, message });
                self.under_way.push((number, message));
            }
            Step::Confirm(choice) if !self.under_way.is_empty() => {
                let (number, message) = self.under_way.swap_remove(choice % self.under_way.len());
                self.stored.insert(message);
                let mut released = Vec::new();
                self.ledger.complete(number, |it| released.push(it));
                released.into_iter().for_each(|it| self.acknowledge(it));
            }
            Step::Reconnect => {
                self.epoch += 1;
                self.next = self.acknowledged;
                self.unacknowledged.clear();
            }
            Step::Send | Step::Confirm(_) => {}
        }
    }

    /// The rule of the edge, and what the broker makes of an acknowledgement.
    fn acknowledge(&mut self, receipt: Receipt) {
        if receipt.epoch != self.epoch {
            return;
        }
        let (packet_id, message) = self.unacknowledged.pop_front().expect("an acknowledgement of nothing");
        assert_eq!(
            (packet_id, message),
            (receipt.packet_id, receipt.message),
            "in order, and of this message"
        );
        assert!(self.stored.contains(&message), "{message} is acknowledged and nowhere");
        assert_eq!(message, self.acknowledged);
        self.acknowledged += 1;
    }
}

#[test]
fn what_is_acknowledged_is_stored_and_in_order_whatever_happens() {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(1);
    }
    println!("acknowledgements: {} cases of {STEPS} steps, {:?}", config.cases, config.rng_seed);
    let steps = prop::collection::vec(step(), STEPS);
    let result = TestRunner::new(config).run(&steps, |steps| {
        let mut world = World::default();
        steps.into_iter().for_each(|it| world.step(it));
        // Once nothing fails any more, everything is acknowledged.
        while world.acknowledged < world.published || !world.under_way.is_empty() {
            world.step(if world.next < world.published { Step::Send } else { Step::Confirm(0) });
            world.step(Step::Confirm(0));
        }
        assert!(world.ledger.is_empty() && world.unacknowledged.is_empty(), "something stays for ever");
        assert_eq!(world.stored, (0..world.published).collect());
        Ok(())
    });
    result.unwrap();
}
