//! The records that violations name, for a person.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use telltale_kafka::{Isolation, KafkaConfig, Reader, Registry, RegistryConfig};
use telltale_records::{Source, topics};
use tokio_util::sync::CancellationToken;

use super::report::{Report, Violation};
use crate::show;

/// Records that are shown.
const SHOWN: usize = 10;

/// The records that the violations of `report` name, each on several lines; empty where none can be read.
///
/// # Errors
///
/// Returns an error when Kafka cannot be read.
pub fn records(
    report: &Report,
    kafka: &KafkaConfig,
    registry: &RegistryConfig,
    stop: &CancellationToken,
) -> Result<Vec<String>, telltale_kafka::Error> {
    let places: BTreeSet<Source> = report.violations.iter().flat_map(places).collect();
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let registry = Registry::new(registry).ok();
    let schema = |id| match &registry {
        Some(registry) => registry.schema(id).map_err(|error| telltale_service::chain(&error)),
        None => Err("no registry".to_owned()),
    };
    let mut reader = Reader::open(kafka, Isolation::Committed)?;
    let mut shown = Vec::new();
    for place in places.into_iter().take(SHOWN) {
        let there = reader.watermarks(&place.topic, place.partition)?;
        if there.contains(&place.offset) {
            let range = place.offset..place.offset + 1;
            reader.read(&place.topic, place.partition, range, stop, |batch| {
                shown.extend(batch.records().map(|it| show::record(it, schema)));
                ControlFlow::Break(())
            })?;
        }
    }
    Ok(shown)
}

/// Where the records lie that a violation names.
fn places(violation: &Violation) -> Vec<Source> {
    let texts = match violation {
        Violation::Lost { source, from, to } => vec![format!("{source}-{from}"), format!("{source}-{to}")],
        Violation::Duplicated { source, at }
        | Violation::OutOfOrder { source, at, .. }
        | Violation::Recomputed { source, at, .. } => {
            vec![source.clone(), at.clone()]
        }
        Violation::OfNothing { at, .. }
        | Violation::VersionFell { at, .. }
        | Violation::NoSource { at, .. }
        | Violation::Sequence { at, .. }
        | Violation::ByNoModel { at, .. }
        | Violation::Altered { at } => vec![at.clone()],
        Violation::NotCommitted { source, answered, .. } => vec![format!("{source}-{answered}")],
        Violation::Miscounted(it) => {
            let row = |offset| format!("{}-{}-{offset}", topics::EVENTS_PER_5MIN, it.partition);
            it.offset.map(row).into_iter().collect()
        }
        Violation::AcknowledgedMissing { .. } => Vec::new(),
    };
    texts.iter().filter_map(|it| it.parse().ok()).collect()
}
