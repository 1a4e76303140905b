//! Dead letters at work: which of them, where each goes back to, what becomes of it there.
//!
//! ```text
//! dead-letters ─▶ filter ─┬▶ list, show, export
//!                         └▶ replay ─▶ the topic it failed in, header src = its own place ─▶ outcomes: passed, failed again
//! ```

pub mod export;
pub mod filter;
pub mod outcomes;
pub mod replay;

use std::ops::ControlFlow;

use telltale_kafka::Reader;
use telltale_records::{Record, Source, source, topics};
use tokio_util::sync::CancellationToken;

use crate::commands::Error;
use filter::Filter;

/// Kafka topic that a message of the bridge did not get into.
pub const TARGET_HEADER: &str = "target";
/// Which part of a dead letter a record is, where it was larger than its topic takes.
pub const PART_HEADER: &str = "part";

/// Hands every dead letter that `filter` takes to `take`, until it breaks.
///
/// # Errors
///
/// Returns an error when Kafka cannot be read, or that of `take`.
pub fn each(
    reader: &mut Reader,
    filter: &Filter,
    stop: &CancellationToken,
    mut take: impl FnMut(Record<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    for partition in reader.partitions(topics::DEAD_LETTERS)? {
        let range = reader.watermarks(topics::DEAD_LETTERS, partition)?;
        let mut taken = Ok(());
        reader.read(topics::DEAD_LETTERS, partition, range, stop, |batch| {
            taken = batch.records().filter(|it| filter.takes(*it)).try_for_each(&mut take);
            if taken.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        taken?;
    }
    Ok(())
}

/// The record that a dead letter stands for, if its header says one.
#[must_use]
pub fn source_of(record: Record<'_>) -> Option<Source> {
    std::str::from_utf8(record.header(source::SOURCE_HEADER)?).ok()?.parse().ok()
}

/// A header as text, if it is there and is text.
#[must_use]
pub fn text<'a>(record: Record<'a>, name: &str) -> Option<&'a str> {
    record.header(name).and_then(|it| std::str::from_utf8(it).ok())
}
