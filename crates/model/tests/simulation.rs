//! A long simulation of the store of models: records in any order, compaction, strangers, restarts, against a simple model of it.
//!
//! `PROPTEST_RNG_SEED` gives a run again, `PROPTEST_CASES` makes it longer.

mod common;

use std::collections::BTreeMap;

use common::{release, signer, trained};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use telltale_model::Signer;
use telltale_model::delivery::{Assembler, KeyedRecord, Outcome, SLOTS, records};

/// Steps of a case; 256 cases unless the environment says otherwise.
const STEPS: usize = 400;
const VERSIONS: u64 = 11;
const GENERATIONS: u64 = 40;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The chunk of a version of one of two models.
    Chunk { version: u64, model: usize },
    /// Its manifest.
    Manifest(Manifest),
    /// A manifest that a key nobody trusts has signed.
    Stranger(Manifest),
    /// The chunk in a slot is deleted.
    Delete(u64),
    /// Whoever reads begins again, with what compaction has left.
    Restart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Manifest {
    generation: u64,
    version: u64,
    model: usize,
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let numbers = (1..=GENERATIONS, 1..=VERSIONS, 0..2_usize);
    numbers.prop_map(|(generation, version, model)| Manifest { generation, version, model })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (1..=VERSIONS, 0..2_usize).prop_map(|(version, model)| Step::Chunk { version, model }),
        20 => manifest().prop_map(Step::Manifest),
        2 => manifest().prop_map(Step::Stranger),
        2 => (0..SLOTS).prop_map(Step::Delete),
        2 => Just(Step::Restart),
    ]
}

/// What the store must hold.
#[derive(Debug, Default)]
struct Reference {
    /// Model of the chunk in each slot.
    chunks: BTreeMap<u64, usize>,
    pending: Option<Manifest>,
    in_force: Option<Manifest>,
    /// Model of each version that was in force.
    versions: BTreeMap<u64, usize>,
}

impl Reference {
    /// Returns what is put in force.
    fn take(&mut self, step: Step) -> Option<Manifest> {
        match step {
            Step::Chunk { version, model } => _ = self.chunks.insert(version % SLOTS, model),
            Step::Delete(slot) => _ = self.chunks.remove(&slot),
            Step::Manifest(it) => {
                let newest = self.pending.or(self.in_force);
                let other = self.versions.get(&it.version).is_some_and(|before| *before != it.model);
                if newest.is_none_or(|newest| it.generation > newest.generation) && !other {
                    self.pending = Some(it);
                }
            }
            Step::Stranger(_) | Step::Restart => {}
        }
        let whole = |it: &mut Manifest| self.chunks.get(&(it.version % SLOTS)) == Some(&it.model);
        // A deletion completes nothing.
        let found = self.pending.take_if(whole)?;
        self.versions.insert(found.version, found.model);
        self.in_force = Some(found);
        Some(found)
    }
}

/// Every record there can be, made once: signing takes time.
struct Records {
    chunks: BTreeMap<(u64, usize), KeyedRecord>,
    /// Of ours, then of a stranger.
    manifests: [BTreeMap<(u64, u64, usize), KeyedRecord>; 2],
}

impl Records {
    fn make(ours: &Signer) -> Self {
        let models = [trained(7).artifact, trained(8).artifact];
        let (stranger, mut chunks) = (signer(), BTreeMap::new());
        let manifests = [ours, &stranger].map(|signer| {
            let mut manifests = BTreeMap::new();
            for (model, artifact) in models.iter().enumerate() {
                for (version, generation) in
                    (1..=VERSIONS).flat_map(|it| (1..=GENERATIONS).map(move |other| (it, other)))
                {
                    let release = release(version, generation);
                    let signed = artifact.sign(&release, signer);
                    let [chunk, manifest] =
                        records(artifact, &artifact.manifest(&release), &signed).try_into().unwrap();
                    chunks.insert((version, model), chunk);
                    manifests.insert((generation, version, model), manifest);
                }
            }
            manifests
        });
        Self { chunks, manifests }
    }

    fn of(&self, step: Step) -> KeyedRecord {
        let manifest =
            |from: usize, it: Manifest| self.manifests[from][&(it.generation, it.version, it.model)].clone();
        match step {
            Step::Chunk { version, model } => self.chunks[&(version, model)].clone(),
            Step::Manifest(it) => manifest(0, it),
            Step::Stranger(it) => manifest(1, it),
            Step::Delete(_) | Step::Restart => unreachable!("they are no records"),
        }
    }
}

/// What an assembler puts in force by a step.
fn take(assembler: &mut Assembler, records: &Records, step: Step) -> Option<(u64, u64)> {
    let outcome = match step {
        Step::Delete(slot) => assembler.take(Some(format!("fleet/{slot}/0").as_bytes()), None),
        step => {
            let record = records.of(step);
            assembler.take(Some(&record.key), Some(&record.value))
        }
    };
    match outcome {
        Some(Outcome::Candidate(it)) => Some((it.manifest.generation, it.manifest.version)),
        _ => None,
    }
}

#[test]
fn the_newest_whole_model_is_in_force_whatever_comes_in_whatever_order() {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(1);
    }
    println!("store of models: {} cases of {STEPS} steps, {:?}", config.cases, config.rng_seed);
    let ours = signer();
    let records = Records::make(&ours);
    let steps = prop::collection::vec(step(), STEPS);
    let result = TestRunner::new(config).run(&steps, |steps| {
        let (mut assembler, mut reference) = (Assembler::new("fleet", ours.trusted()), Reference::default());
        // What compaction leaves: the last record of each key, in the order of writing.
        let mut topic: Vec<(Vec<u8>, Step)> = Vec::new();
        for step in steps {
            if matches!(step, Step::Restart) {
                (assembler, reference) = (Assembler::new("fleet", ours.trusted()), Reference::default());
                for (_, step) in &topic {
                    let found = take(&mut assembler, &records, *step);
                    assert_eq!(found, reference.take(*step).map(|it| (it.generation, it.version)));
                }
            } else {
                let before = reference.in_force.map_or(0, |it| it.generation);
                let found = take(&mut assembler, &records, step);
                assert_eq!(found, reference.take(step).map(|it| (it.generation, it.version)), "{step:?}");
                assert!(found.is_none_or(|it| it.0 > before), "a generation fell");
                let key = match step {
                    Step::Delete(slot) => format!("fleet/{slot}/0").into_bytes(),
                    step => records.of(step).key,
                };
                topic.retain(|it| it.0 != key);
                topic.push((key, step));
            }
            let in_force = assembler.in_force().map(|it| (it.generation, it.version));
            assert_eq!(in_force, reference.in_force.map(|it| (it.generation, it.version)));
        }
        Ok(())
    });
    result.unwrap();
}
