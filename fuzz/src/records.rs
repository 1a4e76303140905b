//! Wire header, Avro, schemas, JSON, `src` headers, manifests, predictions and `features.toml`.

use std::sync::LazyLock;

use telltale_features::Specification;
use telltale_records::avro::{Decoder, Encoder};
use telltale_records::prediction::Prediction;
use telltale_records::{Manifest, Schema, SignedManifest, Source, framing, json, schema};

/// A schema and its plans, both ways.
struct Plans {
    decoder: Decoder,
    encoder: Encoder,
}

static PLANS: LazyLock<Vec<Plans>> = LazyLock::new(|| {
    const EVERYTHING: &str = r#"{"type":"record","name":"E","fields":[
        {"name":"a","type":"boolean"},{"name":"b","type":["null","long"]},{"name":"c","type":["bytes","null"]},
        {"name":"d","type":{"type":"enum","name":"D","symbols":["X","Y"]}},
        {"name":"e","type":{"type":"fixed","name":"F","size":3}},{"name":"f","type":{"type":"int","logicalType":"date"}},
        {"name":"g","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"h","type":"string"}]}"#;
    let texts = [schema::READINGS, schema::CARDATA_V1, schema::CLEAN, schema::EVENTS_PER_5MIN, EVERYTHING];
    let plans = |text: &str| {
        let schema = Schema::parse(text).expect("our schema can be parsed");
        let decoder = Decoder::compile(&schema).expect("our schema can be decoded");
        let encoder = Encoder::compile(&schema, &decoder.schema()).expect("our schema can be encoded");
        Plans { decoder, encoder }
    };
    texts.into_iter().map(plans).collect()
});

static NESTED: LazyLock<Decoder> = LazyLock::new(|| {
    const NESTED: &str = r#"{"type":"record","name":"N","fields":[
        {"name":"a","type":{"type":"array","items":"null"}},{"name":"b","type":{"type":"map","values":"long"}},
        {"name":"c","type":{"type":"array","items":{"type":"array","items":["null","string","double"]}}},
        {"name":"d","type":"int"}]}"#;
    Decoder::compile(&Schema::parse(NESTED).expect("a schema")).expect("every schema can be decoded")
});

/// What is split is what was joined.
pub fn wire_header(bytes: &[u8]) {
    let Some((id, payload)) = framing::split(bytes) else {
        assert!(bytes.len() < framing::HEADER_LENGTH || bytes[0] != 0, "a header was overlooked");
        return;
    };
    let mut joined = Vec::new();
    framing::write_header(id, &mut joined);
    joined.extend_from_slice(payload);
    assert_eq!(joined, bytes);
}

/// The first byte chooses the schema. What is accepted is written again as the same bytes, whatever is beside it.
pub fn avro(bytes: &[u8]) {
    let Some((first, payload)) = bytes.split_first() else { return };
    let Some(plans) = PLANS.get(usize::from(*first) % (PLANS.len() + 1)) else {
        let decoded = NESTED.decode([payload]);
        assert_eq!(decoded.rows.len() + decoded.rejected.len(), 1);
        return;
    };
    let decoded = plans.decoder.decode([payload, &[], payload]);
    assert_eq!(decoded.rows.len() + decoded.rejected.len(), 3);
    let bound = plans.encoder.bind(&decoded.columns).expect("the columns are those of the schema");
    for row in 0..decoded.rows.len() {
        let mut again = Vec::new();
        bound.encode_row(row, &mut again).expect("what was read can be written");
        assert_eq!(again, payload);
    }
}

/// A schema that is accepted can be decoded with, and is the same schema when it is read again.
pub fn avro_schema(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(schema) = Schema::parse(text) else { return };
    let again = Schema::parse(schema.json()).expect("it was accepted before");
    assert_eq!(again.avro(), schema.avro());
    let decoder = Decoder::compile(&schema).expect("every schema that is accepted can be decoded");
    for payload in [&[][..], &[0; 64], &[0xff; 64], &[2; 64]] {
        let decoded = decoder.decode([payload]);
        assert_eq!(decoded.rows.len() + decoded.rejected.len(), 1);
    }
}

/// What becomes of a payload does not depend on the payloads before it, by which the decoder predicts its keys.
pub fn json(bytes: &[u8]) {
    let schema = Schema::parse(schema::READINGS).expect("our schema can be parsed");
    let fresh = json::Decoder::compile(&schema).expect("our schema can be read as JSON");
    let alone = fresh.clone().decode([bytes]);
    let among = fresh.clone().decode([HEALTHY, bytes, bytes, HEALTHY]);
    assert_eq!(among.rejected.len(), 2 * alone.rejected.len());
    for (_, reason, detail) in &among.rejected {
        assert_eq!((reason, detail), (&alone.rejected[0].1, &alone.rejected[0].2));
    }
    if alone.rejected.is_empty() {
        assert_eq!(alone.columns.slice(0, 1), among.columns.slice(1, 1));
        assert_eq!(alone.columns.slice(0, 1), among.columns.slice(2, 1));
    }
}

const HEALTHY: &[u8] = include_bytes!("../../testdata/poison/healthy.json");

/// A source is written as it was read, by both ways of writing.
pub fn source(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(source) = text.parse::<Source>() else { return };
    let mut written = Vec::new();
    source.write(&mut written);
    assert_eq!((source.to_string().as_bytes(), written.as_slice()), (bytes, bytes));
}

/// A manifest that is accepted is accepted again, and about the same model.
pub fn manifest(bytes: &[u8]) {
    if let Ok(signed) = SignedManifest::parse(bytes) {
        assert_eq!(SignedManifest::parse(&signed.to_bytes()).expect("it was accepted before"), signed);
        manifest(signed.manifest.as_bytes());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(manifest) = Manifest::parse(text) else { return };
    let again = Manifest::parse(&manifest.to_json()).expect("it was accepted before");
    assert_eq!((again.name, again.version, again.sha256), (manifest.name, manifest.version, manifest.sha256));
}

/// A prediction that is accepted is written in one way, which is read as the same. Other encoders may write its list in blocks.
pub fn prediction(bytes: &[u8]) {
    let Ok(prediction) = Prediction::read(bytes) else { return };
    let (mut one, mut other) = (Vec::new(), Vec::new());
    prediction.write(&mut one);
    Prediction::read(&one).expect("it was accepted before").write(&mut other);
    assert_eq!(one, other);
}

/// A specification that is accepted passes its own checks, and says how much a row may lack.
pub fn features(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(specification) = Specification::parse("features.toml", text) else { return };
    specification.check().expect("it was accepted");
    assert!(!specification.columns().is_empty());
    assert!(!specification.lacks_too_much(0));
}
