//! The topic of models, in whatever order and state compaction, restarts and strangers leave it.

mod common;

use std::sync::OnceLock;

use common::{release, signer, trained};
use proptest::prelude::*;
use telltale_model::artifact::sign;
use telltale_model::delivery::{Assembler, CHUNK, KeyedRecord, Outcome, manifest_record, records, rollback};
use telltale_model::{Artifact, Signer};

/// Two models and who signs them, trained once for all tests.
fn models() -> &'static (Artifact, Artifact, Signer) {
    static MODELS: OnceLock<(Artifact, Artifact, Signer)> = OnceLock::new();
    MODELS.get_or_init(|| (trained(7).artifact, trained(8).artifact, signer()))
}

fn delivered(artifact: &Artifact, version: u64, generation: u64) -> Vec<KeyedRecord> {
    let signer = &models().2;
    let release = release(version, generation);
    records(artifact, &artifact.manifest(&release), &artifact.sign(&release, signer))
}

fn take(assembler: &mut Assembler, record: &KeyedRecord) -> String {
    said(assembler.take(Some(&record.key), Some(&record.value)))
}

/// Version and generation of a candidate, the whole chain of a rejection, or nothing.
fn said(outcome: Option<Outcome>) -> String {
    match outcome {
        None => String::new(),
        Some(Outcome::Candidate(it)) => {
            format!("version {} generation {}", it.manifest.version, it.manifest.generation)
        }
        Some(Outcome::Rejected(rejected)) => {
            let mut text = rejected.to_string();
            let mut source = std::error::Error::source(&rejected);
            while let Some(error) = source {
                text += &format!(": {error}");
                source = error.source();
            }
            text
        }
    }
}

fn assembler() -> Assembler {
    Assembler::new("fleet", models().2.trusted())
}

#[test]
fn a_model_arrives_is_replaced_and_rolled_back() {
    let (first, second, signer) = models();
    let mut assembler = assembler();
    let said: Vec<_> = delivered(first, 1, 1).iter().map(|it| take(&mut assembler, it)).collect();
    assert_eq!(said, ["", "version 1 generation 1"]);
    for record in delivered(first, 1, 1) {
        assert_eq!(take(&mut assembler, &record), "", "read again");
    }
    let said: Vec<_> = delivered(second, 2, 2).iter().map(|it| take(&mut assembler, it)).collect();
    assert_eq!(said, ["", "version 2 generation 2"]);
    let back = rollback(&first.manifest(&release(1, 1)), 3, 5, true);
    let record = manifest_record("fleet", &sign(&back, signer));
    assert_eq!(take(&mut assembler, &record), "version 1 generation 3");
    assert_eq!(assembler.in_force().map(|it| it.generation), Some(3));
}

#[test]
fn what_is_older_reused_or_foreign_is_refused_with_the_reason() {
    let (first, second, signer) = models();
    let mut assembler = assembler();
    delivered(second, 2, 5).iter().for_each(|it| drop(take(&mut assembler, it)));
    let manifest = |artifact: &Artifact, version, generation| {
        manifest_record("fleet", &artifact.sign(&release(version, generation), signer))
    };
    let stranger = common::signer();
    let mut other_name = release(3, 6);
    other_name.name = "lorries".into();
    let mut chunks = first.manifest(&release(3, 6));
    chunks.chunks = 9;
    let mut unreadable = manifest(first, 3, 6);
    unreadable.value.truncate(20);
    let cases = [
        ("older", manifest(first, 3, 4), "generation 4 is not above 5, which is in force"),
        ("as old", manifest(first, 3, 5), "generation 5 is not above 5, which is in force"),
        ("reused", manifest(first, 2, 6), "version 2 was another model before, SHA-256"),
        (
            "stranger",
            manifest_record("fleet", &first.sign(&release(3, 6), &stranger)),
            "manifest is signed by key",
        ),
        ("name", manifest_record("fleet", &first.sign(&other_name, signer)), "is of model \"lorries\""),
        ("chunks", manifest_record("fleet", &sign(&chunks, signer)), "the manifest says 9 chunks"),
        ("unreadable", unreadable, "the record is no signed manifest"),
    ];
    for (name, record, expected) in cases {
        let found = take(&mut assembler, &record);
        // Only a manifest with a trusted signature is believed when it says which version it is of.
        let who = match name {
            "older" => "model \"fleet\" version 3 generation 4 is refused: ",
            "stranger" | "unreadable" => "model \"fleet\" is refused: ",
            _ => "model \"fleet\" version ",
        };
        assert!(found.starts_with(who) && found.contains(expected), "{name}: {found}");
        assert_eq!(assembler.in_force().map(|it| it.generation), Some(5), "{name}: what is in force stays");
    }
}

#[test]
fn hostile_chunks_are_refused_and_do_no_harm() {
    let (first, second, _) = models();
    let mut assembler = assembler();
    delivered(first, 1, 1).iter().for_each(|it| drop(take(&mut assembler, it)));
    let chunk = |key: &str, value: Vec<u8>| KeyedRecord { key: key.into(), value };
    let cases = [
        ("slot", chunk("fleet/8/0", b"TTC1".to_vec()), "slot below 8"),
        ("index", chunk("fleet/0/8", b"TTC1".to_vec()), "index below 8"),
        ("not canonical", chunk("fleet/01/0", b"TTC1".to_vec()), "key must end in"),
        ("words", chunk("fleet/a/b/c", b"TTC1".to_vec()), "key must end in"),
        ("large", chunk("fleet/1/0", vec![0; CHUNK + 100]), "a chunk has at most"),
        ("format", chunk("fleet/1/0", b"XXXX".to_vec()), "does not begin with the format"),
        ("short", chunk("fleet/1/0", b"TTC1abc".to_vec()), "ends before the hash does"),
        ("empty", chunk("fleet/1/0", Vec::new()), "does not begin with the format"),
    ];
    for (name, record, expected) in cases {
        let found = take(&mut assembler, &record);
        assert!(found.contains(expected), "{name}: {found}");
    }
    assert_eq!(said(assembler.take(None, Some(b"x"))), "");
    assert_eq!(said(assembler.take(Some(b"\xff"), Some(b"x"))), "");
    assert_eq!(said(assembler.take(Some(b"fleet-b"), Some(b"x"))), "", "another model's record");
    assert_eq!(said(assembler.take(Some(b"fleet"), None)), "", "a tombstone takes nothing out of force");
    // A chunk that claims to be of the artifact and is not: the hash decides.
    let mut records = delivered(second, 2, 2);
    records[0].value[100] ^= 1;
    let said: Vec<_> = records.iter().map(|it| take(&mut assembler, it)).collect();
    assert!(said[1].contains("it did not pass its checks: artifact has SHA-256"), "{said:?}");
    assert_eq!(assembler.in_force().map(|it| it.version), Some(1));
    // The same again, unharmed, is taken.
    let said: Vec<_> = delivered(second, 2, 3).iter().map(|it| take(&mut assembler, it)).collect();
    assert_eq!(said, ["", "version 2 generation 3"]);
}

#[test]
fn chunks_that_are_gone_are_said_at_the_end_of_the_topic() {
    let mut assembler = assembler();
    let records = delivered(&models().0, 1, 1);
    assert_eq!(take(&mut assembler, &records[1]), "");
    assert!(said(assembler.caught_up()).ends_with("1 of 1 chunks are not in the topic (any more)"));
    assert_eq!(take(&mut assembler, &records[0]), "version 1 generation 1", "better late than never");
    assert_eq!(said(assembler.caught_up()), "");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever compaction left and in whatever order a reader sees it: in the end the newest decision is in force.
    #[test]
    fn the_newest_decision_is_in_force_in_any_order(
        order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(),
        lost in prop::sample::subsequence(vec![0, 1, 2, 3], 0..4),
    ) {
        let (first, second, signer) = models();
        let back = rollback(&first.manifest(&release(1, 1)), 4, 5, false);
        // Chunk and manifest of versions 1 and 2, then the decision for version 1 again.
        let mut all = delivered(first, 1, 1);
        all.extend(delivered(second, 2, 2));
        all.push(manifest_record("fleet", &sign(&back, signer)));
        all.push(KeyedRecord { key: b"other".to_vec(), value: b"{}".to_vec() });
        let mut assembler = assembler();
        for index in order {
            // The manifest under one key may be compacted away but for the newest; chunk 0 must stay.
            let compacted = index != 0 && index != 4 && lost.contains(&index);
            if !compacted {
                take(&mut assembler, &all[index]);
            }
        }
        prop_assert_eq!(assembler.in_force().map(|it| (it.version, it.generation)), Some((1, 4)));
    }
}
