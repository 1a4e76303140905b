//! Nothing but what was signed becomes a model, and the error says which check failed.

mod common;

use common::{release, signer, trained};
use telltale_model::artifact::sign;
use telltale_model::{LoadError, TrustedKeys, load};
use telltale_records::manifest::SignedManifest;

#[test]
fn what_was_signed_loads_and_scores_as_it_did() {
    let (trained, signer) = (trained(7), signer());
    let signed = trained.artifact.sign(&release(1, 1), &signer);
    let (manifest, model) = load(&signed, &trained.artifact.bytes, &signer.trusted()).unwrap();
    assert_eq!((manifest.version, manifest.sha256.as_str()), (1, model.sha256()));
    assert_eq!(manifest.threshold, model.threshold());
    assert_eq!(manifest.ranges, common::lineage().ranges);
    let rows = common::readings(10, 10).values;
    let (mut one, mut other) = (telltale_model::Scores::default(), telltale_model::Scores::default());
    trained.model.score(&rows, &mut one);
    model.score(&rows, &mut other);
    assert_eq!(one.scores, other.scores);
    assert_eq!(one.top, other.top);
}

#[test]
fn every_flipped_byte_of_an_artifact_is_refused() {
    let (artifact, signer) = (trained(7).artifact, signer());
    let signed = artifact.sign(&release(1, 1), &signer);
    let trusted = signer.trusted();
    let mut bytes = artifact.bytes;
    for index in 0..bytes.len() {
        bytes[index] ^= 1 << (index % 8);
        assert!(matches!(load(&signed, &bytes, &trusted), Err(LoadError::Hash { .. })), "byte {index}");
        bytes[index] ^= 1 << (index % 8);
    }
    assert!(load(&signed, &bytes, &trusted).is_ok());
}

#[test]
fn every_flipped_byte_of_a_manifest_is_refused() {
    let (artifact, signer) = (trained(7).artifact, signer());
    let signed = artifact.sign(&release(1, 1), &signer).to_bytes();
    let trusted = signer.trusted();
    for index in 0..signed.len() {
        let mut bytes = signed.clone();
        bytes[index] ^= 1 << (index % 7);
        let Ok(flipped) = SignedManifest::parse(&bytes) else { continue };
        let error = load(&flipped, &artifact.bytes, &trusted).unwrap_err();
        let expected = matches!(error, LoadError::Signature { .. } | LoadError::UntrustedKey { .. });
        assert!(expected, "byte {index}: {error}");
    }
}

/// The trainer itself may be wrong: a signature does not make nonsense a model, and nonsense never panics.
#[test]
fn corrupted_bytes_that_were_signed_are_refused_or_still_give_the_golden_scores() {
    let (artifact, signer) = (trained(7).artifact, signer());
    let trusted = signer.trusted();
    let (mut refused, mut kinds) = (0, std::collections::BTreeSet::new());
    for index in 0..artifact.bytes.len() {
        let mut corrupted = artifact.clone();
        corrupted.bytes[index] ^= 0x40;
        corrupted.sha256 = sha256(&corrupted.bytes);
        let signed = corrupted.sign(&release(1, 1), &signer);
        if let Err(error) = load(&signed, &corrupted.bytes, &trusted) {
            refused += 1;
            kinds.insert(format!("{error:?}").split([' ', '(']).next().unwrap().to_owned());
        }
    }
    // What is left changes nothing that a score depends on: the lineage, the reference, a weight in its last bits.
    assert!(refused * 2 > artifact.bytes.len(), "{refused} of {}", artifact.bytes.len());
    for kind in ["Format", "Tensor", "Golden"] {
        assert!(kinds.contains(kind), "{kind} is not among {kinds:?}");
    }
}

#[test]
fn each_check_has_its_error() {
    let (artifact, signer) = (trained(7).artifact, signer());
    let trusted = signer.trusted();
    let signed = artifact.sign(&release(1, 1), &signer);
    let text = |found: Result<_, LoadError>| found.map(|_| ()).unwrap_err().to_string();

    let large = vec![0; telltale_model::loader::SIZE_LIMIT + 1];
    assert_eq!(text(load(&signed, &large, &trusted)), "artifact of 4194305 bytes; at most 4194304 are read");

    let other = common::signer().trusted();
    assert!(text(load(&signed, &artifact.bytes, &other)).starts_with("manifest is signed by key"));
    assert!(text(load(&signed, &artifact.bytes, &TrustedKeys::default())).ends_with("trusted are []"));

    let mut changed = signed.clone();
    changed.manifest = changed.manifest.replace("\"version\":1", "\"version\":2");
    assert!(text(load(&changed, &artifact.bytes, &trusted)).ends_with("does not hold"));

    let short = &artifact.bytes[..artifact.bytes.len() - 1];
    let expected = format!("artifact has {} bytes, manifest says {}", short.len(), short.len() + 1);
    assert_eq!(text(load(&signed, short, &trusted)), expected);

    let mut manifest = artifact.manifest(&release(1, 1));
    manifest.threshold += 1.0;
    let found = text(load(&sign(&manifest, &signer), &artifact.bytes, &trusted));
    assert!(found.starts_with("threshold is ") && found.ends_with("in the manifest"), "{found}");

    let mut manifest = artifact.manifest(&release(1, 1));
    manifest.version = 0;
    let found = text(load(&sign(&manifest, &signer), &artifact.bytes, &trusted));
    assert_eq!(found, "manifest is signed, but not valid");

    let cases: [(&str, &[u8], &[u8], &str); 5] = [
        ("another name", b"whitening.bias", b"whitening.bass", "tensor whitening.bass: is not part of"),
        ("another kind", b"autoencoder\\\"", b"otherencode\\\"", "artifact cannot be read: format 1 of kind"),
        ("another dtype", b"\"F32\"", b"\"I32\"", "is I32 of shape"),
        ("another format", b"\\\"format\\\":1", b"\\\"format\\\":2", "artifact cannot be read: format 2"),
        ("no settings", b"\\\"epochs\\\":6", b"\\\"epochs\\\":0", "artifact says how it was trained"),
    ];
    for (name, from, to, expected) in cases {
        let mut changed = artifact.clone();
        let place = changed.bytes.windows(from.len()).position(|it| it == from).unwrap();
        changed.bytes[place..place + from.len()].copy_from_slice(to);
        changed.sha256 = sha256(&changed.bytes);
        let signed = changed.sign(&release(1, 1), &signer);
        let found = text(load(&signed, &changed.bytes, &trusted));
        assert!(found.contains(expected), "{name}: {found}");
    }

    // The last bytes are the last tensor in order of name: a whitening weight.
    for (name, value, expected) in
        [("NaN", f32::NAN, "holds a value that is not finite"), ("wrong", 1e3, "golden row 0 scores")]
    {
        let mut changed = artifact.clone();
        let last = changed.bytes.len() - 4;
        changed.bytes[last..].copy_from_slice(&value.to_le_bytes());
        changed.sha256 = sha256(&changed.bytes);
        let signed = changed.sign(&release(1, 1), &signer);
        let found = text(load(&signed, &changed.bytes, &trusted));
        assert!(found.contains(expected), "{name}: {found}");
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(bytes).iter().map(|it| format!("{it:02x}")).collect()
}
