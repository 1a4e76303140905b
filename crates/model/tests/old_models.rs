//! A model of every format there was still loads and scores as it did: `testdata/golden/autoencoder-format1.json`.
//!
//! The file is also a test vector for readers in other languages (`examples/notebook/check_golden.py`): a bent model, so that
//! its layers count, with every transformation, scale and clip, and rows that lack values. `UPDATE_GOLDEN=1` writes the file
//! of a new format; those that are there stay as they are.

mod common;

use std::path::{Path, PathBuf};

use common::{lineage, readings, release};
use serde_json::{Value, json};
use telltale_features::Specification;
use telltale_model::delivery::{Assembler, Outcome, records};
use telltale_model::{Scores, Signer, Trainer, TrainingConfig, TrustedKeys};

/// How far a score may be off, relative to 1 + the score: machines differ in the last bits.
const TOLERANCE: f64 = 1e-4;

const FEATURES: &str = r#"
max_missing = 0.5
[[feature]]
column = "A"
transform = "log1p"
[[feature]]
column = "B"
transform = "sqrt"
[[feature]]
column = "C"
scale = "robust"
clip = 4
[[feature]]
column = "D"
scale = { from = -150.0, to = 150.0 }
clip = 2
"#;

/// Rows as a fleet has them, one that bends wrongly, and some that lack values or hold extreme ones.
fn rows() -> Vec<[f32; 4]> {
    let mut rows: Vec<_> = (0..8).map(|it| common::reading(it, 7)).collect();
    rows.push([rows[0][0], rows[0][1], rows[0][2] + 0.5, rows[0][3]]);
    rows.push([f32::NAN, rows[1][1], rows[1][2], rows[1][3]]);
    rows.push([rows[2][0], rows[2][1], f32::NAN, f32::NAN]);
    rows.push([-10.0, -50.0, 100.0, -1000.0]);
    rows
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden/autoencoder-format1.json")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let (pairs, _) = hex.as_str().unwrap().as_bytes().as_chunks::<2>();
    pairs.iter().map(|it| u8::from_str_radix(std::str::from_utf8(it).unwrap(), 16).unwrap()).collect()
}

fn write() {
    let config = TrainingConfig {
        hidden: vec![24, 12, 24],
        visits: 200_000,
        epochs: 100,
        batch: 64,
        noise: 0.1,
        ..TrainingConfig::default()
    };
    let specification = Specification::parse("golden.toml", FEATURES).unwrap();
    let mut trainer = Trainer::new(specification, config, 7).unwrap();
    trainer.feed(&readings(60, 60).rows()).unwrap();
    let trained = trainer.finish(lineage()).unwrap();
    let (signer, release) = (Signer::generate().unwrap(), release(11, 12));
    let (artifact, mut scores) = (&trained.artifact, Scores::default());
    trained.model.score(&rows().concat(), &mut scores);
    let records = records(artifact, &artifact.manifest(&release), &artifact.sign(&release, &signer));
    let records = records
        .iter()
        .map(|it| json!({"key": String::from_utf8_lossy(&it.key), "value": hex(&it.value)}))
        .collect::<Vec<_>>();
    let shares = scores.top.iter().map(|top| top.map(|it| json!([it.feature, it.share]))).collect::<Vec<_>>();
    let golden = json!({
        "verifying_key": signer.public_pem(),
        "name": release.name,
        "records": records,
        "rows": with_nulls(&rows()),
        "scores": scores.scores,
        "contributions": shares,
    });
    std::fs::write(file(), format!("{golden:#}\n")).unwrap();
}

/// `rows` as JSON, which has no NaN.
fn with_nulls(rows: &[[f32; 4]]) -> Value {
    let number = |it: f32| if it.is_nan() { Value::Null } else { json!(it) };
    rows.iter().map(|row| json!(row.map(number))).collect()
}

#[test]
fn a_model_of_format_1_scores_as_it_did() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !file().exists() {
        write();
    }
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(file()).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("verifying-key.pem");
    std::fs::write(&key, golden["verifying_key"].as_str().unwrap()).unwrap();
    let mut assembler = Assembler::new(golden["name"].as_str().unwrap(), TrustedKeys::load(&[key]).unwrap());
    let mut outcome = None;
    for record in golden["records"].as_array().unwrap() {
        let key = record["key"].as_str().unwrap().as_bytes();
        outcome = assembler.take(Some(key), Some(&bytes(&record["value"])));
    }
    let Some(Outcome::Candidate(candidate)) = outcome else { panic!("{outcome:?}") };

    let mut scores = Scores::default();
    candidate.model.score(&rows().concat(), &mut scores);
    let close = |found: f32, expected: &Value| {
        let (found, expected) = (f64::from(found), expected.as_f64().unwrap());
        assert!((found - expected).abs() <= TOLERANCE * (1.0 + expected), "{found} is not {expected}");
    };
    assert_eq!(golden["scores"].as_array().unwrap().len(), rows().len());
    for (row, expected) in golden["scores"].as_array().unwrap().iter().enumerate() {
        close(scores.scores[row], expected);
        for (place, share) in scores.top[row].iter().enumerate() {
            let expected = &golden["contributions"][row][place];
            assert_eq!(json!(share.feature), expected[0], "row {row}, place {place}");
            close(share.share, &expected[1]);
        }
    }
}
