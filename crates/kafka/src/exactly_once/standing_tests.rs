//! A long simulation of the loop: a worker that does what its standing says, and a Kafka that fails in every way.
//!
//! `PROPTEST_RNG_SEED` gives a run again, `PROPTEST_CASES` makes it longer.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::*;

/// Steps of a case; 256 cases unless the environment says otherwise.
const STEPS: usize = 1000;
const PARTITIONS: i32 = 4;

/// What happens next, as far as it happens.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// The group gives us a partition; its offsets can be read, or not.
    Assign(i32, bool),
    /// The group takes a partition away.
    Revoke(i32),
    /// Another worker processes some records of a partition that is not ours.
    Other(i32),
    /// A record is fetched.
    Fetch(i32),
    /// The worker puts one thing right, or fails to.
    PutRight(bool),
    /// What is held is processed and committed, and ends so.
    Transact(Ending),
    /// The producer's connection has ended.
    CutOff,
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Committed,
    Aborted,
    /// The worker is not told whether it was committed before the next producer settles it.
    Doubt(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let partition = || 0..PARTITIONS;
    let ending = prop_oneof![
        6 => Just(Ending::Committed),
        1 => Just(Ending::Aborted),
        1 => any::<bool>().prop_map(Ending::Doubt),
    ];
    prop_oneof![
        2 => (partition(), any::<bool>()).prop_map(|(it, positioned)| Event::Assign(it, positioned)),
        1 => partition().prop_map(Event::Revoke),
        1 => partition().prop_map(Event::Other),
        20 => partition().prop_map(Event::Fetch),
        10 => any::<bool>().prop_map(Event::PutRight),
        8 => ending.prop_map(Event::Transact),
        1 => Just(Event::CutOff),
    ]
}

/// Kafka and a worker; of each partition only how far something is.
struct World {
    /// Offset of the group.
    committed: BTreeMap<i32, i64>,
    /// Outcomes that readers see: each record's number, in the order of writing.
    outcomes: BTreeMap<i32, Vec<i64>>,
    /// A transaction whose end nobody knows: what it holds, and whether it will turn out to be committed.
    open: Option<(BTreeMap<i32, Vec<i64>>, bool)>,
    /// Where the consumer stands.
    consumer: BTreeMap<i32, i64>,
    held: BTreeMap<i32, Vec<i64>>,
    /// The step's state: records that it knows of.
    state: BTreeMap<i32, i64>,
    standing: Standing,
}

impl World {
    fn new() -> Self {
        let zero: BTreeMap<i32, i64> = (0..PARTITIONS).map(|it| (it, 0)).collect();
        Self {
            committed: zero.clone(),
            outcomes: (0..PARTITIONS).map(|it| (it, Vec::new())).collect(),
            open: None,
            consumer: zero,
            held: BTreeMap::new(),
            state: BTreeMap::new(),
            standing: Standing::new(),
        }
    }

    fn happens(&mut self, event: Event) {
        let ours: BTreeSet<i32> = self.standing.partitions().iter().map(|it| it.partition).collect();
        match event {
            Event::Assign(it, readable) if !ours.contains(&it) => {
                // Offsets that a transaction is about to change are not told.
                let readable =
                    readable && !self.open.as_ref().is_some_and(|(open, _)| open.contains_key(&it));
                self.consumer.insert(it, if readable { self.committed[&it] } else { 0 });
                self.standing.assigned(vec![named(it)], readable);
            }
            Event::Revoke(it) if ours.contains(&it) => {
                self.held.remove(&it);
                self.state.remove(&it);
                self.standing.revoked(&[named(it)]);
            }
            // It waits where a transaction of ours is open.
            Event::Other(it) if !ours.contains(&it) && self.open.is_none() => {
                let next = self.committed[&it];
                self.write(BTreeMap::from([(it, vec![next, next + 1])]));
            }
            // Nothing is taken of a consumer that does not stand where it should.
            Event::Fetch(it) if ours.contains(&it) && self.standing.is_positioned() => {
                let next = self.consumer.get_mut(&it).unwrap();
                self.held.entry(it).or_default().push(*next);
                *next += 1;
            }
            Event::PutRight(succeeds) => self.put_right(succeeds),
            Event::Transact(ending) if self.standing.need().is_none() && !self.held.is_empty() => {
                self.transact(ending);
            }
            Event::CutOff => self.standing.without_producer(),
            _ => {}
        }
    }

    /// What the worker does before it processes, one thing at a time.
    fn put_right(&mut self, succeeds: bool) {
        match self.standing.need() {
            Some(Need::Producer) if succeeds => {
                if let Some((open, true)) = self.open.take() {
                    self.write(open);
                }
                self.standing.settled();
            }
            Some(Need::Positions) if succeeds && self.open.is_none() => {
                for it in self.standing.partitions() {
                    self.consumer.insert(it.partition, self.committed[&it.partition]);
                }
                self.held.clear();
                self.standing.positioned();
            }
            Some(Need::State) if succeeds => {
                for it in self.standing.unprepared() {
                    self.state.insert(it.partition, self.committed[&it.partition]);
                }
                self.standing.prepared();
            }
            _ => {}
        }
    }

    fn transact(&mut self, ending: Ending) {
        for (partition, records) in &self.held {
            let state = self
                .state
                .get_mut(partition)
                .expect("a partition is prepared before its records are processed");
            for record in records {
                assert_eq!(record, state, "partition {partition} is processed out of order");
                *state += 1;
            }
        }
        match ending {
            Ending::Committed => {
                let held = std::mem::take(&mut self.held);
                self.write(held);
            }
            Ending::Aborted => self.standing.aborted(),
            Ending::Doubt(committed) => {
                self.open = Some((self.held.clone(), committed));
                self.standing.in_doubt();
            }
        }
    }

    fn write(&mut self, records: BTreeMap<i32, Vec<i64>>) {
        for (partition, records) in records {
            *self.committed.get_mut(&partition).unwrap() = records.last().unwrap() + 1;
            self.outcomes.get_mut(&partition).unwrap().extend(records);
        }
    }
}

fn named(partition: i32) -> TopicPartition {
    TopicPartition { topic: "readings".into(), partition }
}

#[test]
fn each_record_has_one_outcome_in_order_whatever_fails() {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(1);
    }
    println!("transaction loop: {} cases of {STEPS} events, {:?}", config.cases, config.rng_seed);
    let result = TestRunner::new(config).run(&prop::collection::vec(event(), STEPS), |events| {
        let mut world = World::new();
        events.into_iter().for_each(|it| world.happens(it));
        // Once nothing fails any more it goes on, and from everywhere.
        for partition in 0..PARTITIONS {
            world.happens(Event::Assign(partition, true));
        }
        for _ in 0..3 {
            world.happens(Event::PutRight(true));
        }
        assert_eq!(world.standing.need(), None, "it never goes on");
        let before = world.committed.clone();
        (0..PARTITIONS).for_each(|it| world.happens(Event::Fetch(it)));
        world.happens(Event::Transact(Ending::Committed));
        for (partition, outcomes) in &world.outcomes {
            assert!(world.committed[partition] > before[partition], "partition {partition} stands still");
            assert_eq!(
                *outcomes,
                (0..world.committed[partition]).collect::<Vec<_>>(),
                "partition {partition}"
            );
        }
        Ok(())
    });
    result.unwrap();
}
