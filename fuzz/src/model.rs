//! Records of the topic `models`, and artifacts.

use std::sync::LazyLock;

use serde_json::Value;
use telltale_model::artifact::sign;
use telltale_model::delivery::{Assembler, Outcome};
use telltale_model::{Scores, Signer, TrustedKeys, load};
use telltale_records::{Manifest, SignedManifest};

/// A model of old, signed anew: its chunk, its manifest, and who signed it.
struct Golden {
    chunk: (Vec<u8>, Vec<u8>),
    manifest: Manifest,
    signer: Signer,
    trusted: TrustedKeys,
}

/// Bytes before the artifact in a chunk.
const CHUNK_HEADER: usize = 36;

static GOLDEN: LazyLock<Golden> = LazyLock::new(|| {
    const TEXT: &str = include_str!("../../testdata/golden/autoencoder-format1.json");
    let golden: Value = serde_json::from_str(TEXT).expect("JSON");
    let record = |index: usize| {
        let record = &golden["records"][index];
        let text = |name: &str| record[name].as_str().expect("a text").to_owned();
        let value = text("value").into_bytes();
        let digit = |it: u8| char::from(it).to_digit(16).expect("a hexadecimal digit") as u8;
        let value: Vec<u8> = value.as_chunks().0.iter().map(|[a, b]| digit(*a) << 4 | digit(*b)).collect();
        (text("key").into_bytes(), value)
    };
    let signed = SignedManifest::parse(&record(1).1).expect("a signed manifest");
    let manifest = Manifest::parse(&signed.manifest).expect("a manifest");
    let signer = Signer::generate().expect("the system has random numbers");
    let trusted = signer.trusted();
    Golden { chunk: record(0), manifest, signer, trusted }
});

/// The records of a golden model, as they are on the topic: key, a zero byte, and value.
pub fn golden_records() -> Vec<Vec<u8>> {
    let signed = sign(&GOLDEN.manifest, &GOLDEN.signer).to_bytes();
    let (key, chunk) = &GOLDEN.chunk;
    vec![[key, &[0][..], chunk].concat(), [GOLDEN.manifest.name.as_bytes(), &[0], &signed].concat()]
}

/// The artifact of a golden model.
pub fn golden_artifact() -> Vec<u8> {
    GOLDEN.chunk.1[CHUNK_HEADER..].to_vec()
}

/// Records are key, a zero byte, and value; a byte of ones stands between two. Whatever they hold, a good model behind them
/// comes through, unless one before it has its number or a higher one; and only what was signed becomes a model.
pub fn records(bytes: &[u8]) {
    let mut assembler = Assembler::new(GOLDEN.manifest.name.as_str(), GOLDEN.trusted.clone());
    for record in bytes.split(|it| *it == 0xff).take(64) {
        let (key, value) = match record.iter().position(|it| *it == 0) {
            Some(at) => (&record[..at], Some(&record[at + 1..])),
            None => (record, None),
        };
        if let Some(Outcome::Candidate(candidate)) = assembler.take(Some(key), value) {
            assert_eq!(candidate.manifest, GOLDEN.manifest, "nothing else was ever signed");
        }
    }
    let signed = sign(&GOLDEN.manifest, &GOLDEN.signer).to_bytes();
    let already = assembler.in_force().is_some();
    assembler.take(Some(&GOLDEN.chunk.0), Some(&GOLDEN.chunk.1));
    assembler.take(Some(GOLDEN.manifest.name.as_bytes()), Some(&signed));
    assert!(assembler.in_force().is_some(), "a good model came through (before: {already})");
}

/// An artifact that was signed, whatever it holds, is refused or gives scores.
pub fn artifact(bytes: &[u8]) {
    let mut manifest = GOLDEN.manifest.clone();
    manifest.size = bytes.len() as u64;
    manifest.sha256 = sha256(bytes);
    let signed = sign(&manifest, &GOLDEN.signer);
    let Ok((_, model)) = load(&signed, bytes, &GOLDEN.trusted) else { return };
    let columns = model.columns().len();
    let mut scores = Scores::default();
    for value in [0.0, 1e30, f32::NAN] {
        model.score(&vec![value; 3 * columns], &mut scores);
        assert_eq!(scores.scores.len(), 3);
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(bytes).iter().map(|it| format!("{it:02x}")).collect()
}
