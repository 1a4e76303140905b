//! The chart `helm/platform` makes the topics and registers the schemas that the services use: one source of truth, here.
//!
//! A chart cannot read files outside its folder, so it has copies; `UPDATE_GOLDEN=1` writes them again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use telltale_records::{schema, topics};

/// A topic as the chart's templates read it.
#[derive(Serialize)]
struct ChartTopic {
    name: &'static str,
    partitioned: bool,
    config: BTreeMap<&'static str, &'static str>,
}

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../helm/platform/files")
}

/// Compares a file of the chart with what it should be, or writes it.
fn golden(path: &Path, wanted: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, wanted).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(found, wanted, "{} is not what the code says; UPDATE_GOLDEN=1 writes it", path.display());
}

#[test]
fn the_chart_makes_the_topics_of_the_design() {
    let topics = topics::ALL.iter().map(|it| ChartTopic {
        name: it.name,
        partitioned: it.partitioned,
        config: it.config.iter().copied().collect(),
    });
    let lines: Vec<String> = topics.map(|it| format!("  {}", serde_json::to_string(&it).unwrap())).collect();
    golden(&chart().join("topics.json"), &format!("[\n{}\n]\n", lines.join(",\n")));
}

#[test]
fn the_chart_registers_the_schemas_of_the_design() {
    let schemas = [
        (topics::SENSOR_DATA, schema::CARDATA_V1),
        (topics::CLEAN, schema::CLEAN),
        (topics::EVENTS_PER_5MIN, schema::EVENTS_PER_5MIN),
        (topics::PREDICTIONS, schema::PREDICTIONS),
    ];
    let folder = chart().join("schemas");
    for (topic, text) in schemas {
        golden(&folder.join(format!("{topic}-value.avsc")), text);
    }
    let files = fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, schemas.len(), "{} has a schema that no topic has", folder.display());
}
