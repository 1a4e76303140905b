//! The manifest as it is written, and the bytes that it describes.

use std::collections::BTreeMap;

use serde::Deserialize;
use telltale_records::{Reason, framing, schema};

use super::{HEALTHY, HEALTHY_AVRO};

const TEXT: &str = include_str!("../../../../testdata/poison/manifest.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    schemas: BTreeMap<String, Schema>,
    #[serde(rename = "poison")]
    pub(super) poisons: Vec<Described>,
}

/// `[schemas.NAME]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Schema {
    subject: Option<String>,
    text: Option<String>,
    more: Option<String>,
}

/// `[[poison]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) class: String,
    reason: String,
    pub(super) value: Option<Vec<Piece>>,
    pub(super) cut: Option<[usize; 2]>,
    pub(super) way: Option<Way>,
    pub(super) key: Option<Vec<Piece>>,
    #[serde(default)]
    pub(super) no_key: bool,
    #[serde(default)]
    pub(super) headers: Vec<Header>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Way {
    Mqtt,
    Kafka,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    name: String,
    text: String,
    #[serde(default = "once")]
    times: usize,
}

/// Some bytes of a record.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Piece {
    text: Option<String>,
    hex: Option<String>,
    healthy: Option<String>,
    schema: Option<String>,
    id: Option<u32>,
    replace: Option<[String; 2]>,
    put: Option<(usize, String)>,
    keep: Option<usize>,
    #[serde(default = "once")]
    times: usize,
}

fn once() -> usize {
    1
}

impl Manifest {
    /// The manifest, and the ids of its schemas.
    pub(super) fn load(mut id_of: impl FnMut(Option<&str>, &str) -> u32) -> (Self, BTreeMap<String, u32>) {
        let manifest: Self = toml::from_str(TEXT).unwrap_or_else(|error| panic!("the manifest: {error}"));
        let schemas = manifest.schemas.iter();
        let ids = schemas.map(|(name, it)| (name.clone(), id_of(it.subject.as_deref(), &it.text())));
        let ids = ids.collect();
        (manifest, ids)
    }
}

impl Schema {
    fn text(&self) -> String {
        match (&self.text, &self.more) {
            (Some(text), _) => text.clone(),
            (None, None) => schema::CARDATA_V1.to_owned(),
            (None, Some(more)) => {
                let mut schema: serde_json::Value =
                    serde_json::from_str(schema::CARDATA_V1).expect("our schema is JSON");
                let fields = schema["fields"].as_array_mut().expect("a record has fields");
                fields.push(serde_json::from_str(more).expect("`more` is JSON"));
                schema.to_string()
            }
        }
    }
}

impl Described {
    pub(super) fn reason(&self) -> Reason {
        let found = Reason::ALL.into_iter().find(|it| it.as_str() == self.reason);
        found.unwrap_or_else(|| panic!("{}: {} is no reason", self.name, self.reason))
    }
}

impl Header {
    pub(super) fn parts(&self) -> (String, String) {
        (self.name.clone(), self.text.repeat(self.times))
    }
}

/// The bytes of `pieces`.
pub(super) fn bytes(pieces: &[Piece], ids: &BTreeMap<String, u32>) -> Vec<u8> {
    pieces.iter().flat_map(|it| it.bytes(ids)).collect()
}

impl Piece {
    fn bytes(&self, ids: &BTreeMap<String, u32>) -> Vec<u8> {
        let header = |id: u32| {
            let mut bytes = Vec::new();
            framing::write_header(id, &mut bytes);
            bytes
        };
        let mut bytes = match (&self.text, &self.hex, self.healthy.as_deref(), &self.schema, self.id) {
            (Some(text), None, None, None, None) => text.as_bytes().to_vec(),
            (None, Some(hex), None, None, None) => unhex(hex),
            (None, None, Some("json"), None, None) => HEALTHY.as_bytes().to_vec(),
            (None, None, Some("avro"), None, None) => HEALTHY_AVRO.to_vec(),
            (None, None, None, Some(name), None) => header(ids[name]),
            (None, None, None, None, Some(id)) => header(id),
            _ => panic!("a piece is one of text, hex, healthy, schema and id: {self:?}"),
        };
        if let Some([from, to]) = &self.replace {
            let text = String::from_utf8(bytes).expect("only text can be replaced");
            assert!(text.contains(from.as_str()), "there is no {from} to replace");
            bytes = text.replacen(from.as_str(), to, 1).into_bytes();
        }
        if let Some((at, hex)) = &self.put {
            let put = unhex(hex);
            bytes[*at..*at + put.len()].copy_from_slice(&put);
        }
        bytes.truncate(self.keep.unwrap_or(usize::MAX));
        bytes.repeat(self.times)
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = (0..text.len()).step_by(2).map(|at| text.get(at..at + 2));
    let byte = |digits: Option<&str>| u8::from_str_radix(digits.unwrap_or("?"), 16);
    digits.map(|it| byte(it).unwrap_or_else(|error| panic!("{text}: {error}"))).collect()
}
