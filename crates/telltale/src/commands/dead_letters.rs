//! `telltale dead-letters`: what could not go on, and why.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use telltale_kafka::{Isolation, Reader, Registry};
use telltale_records::dead_letter::{DETAIL_HEADER, REASON_HEADER, SERVICE_HEADER};
use telltale_records::source::SOURCE_HEADER;
use telltale_records::{Record, topics};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::cli::{Connection, DeadLettersCommand};
use crate::show;
use crate::view::numbers::grouped;

/// Runs one of the commands.
///
/// # Errors
///
/// Returns why it could not be done.
pub fn run(command: DeadLettersCommand, stop: &CancellationToken) -> Result<(), Error> {
    match command {
        DeadLettersCommand::List { count, reason, connection } => {
            list(&connection, count, reason.as_deref(), stop)
        }
        DeadLettersCommand::Show { offset, partition, connection } => {
            show_one(&connection, partition, offset, stop)
        }
    }
}

fn list(
    connection: &Connection,
    count: usize,
    reason: Option<&str>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let mut reader = Reader::open(&connection.kafka, Isolation::Committed)?;
    let mut newest = VecDeque::new();
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for partition in reader.partitions(topics::DEAD_LETTERS)? {
        let range = reader.watermarks(topics::DEAD_LETTERS, partition)?;
        reader.read(topics::DEAD_LETTERS, partition, range, stop, |batch| {
            for record in batch.records() {
                let found = header(record, REASON_HEADER);
                let wanted = reason.is_none_or(|it| it == found);
                // A stranger may write any reason; the known ones are few.
                if reasons.len() < 100 || reasons.contains_key(&found) {
                    *reasons.entry(found).or_default() += 1;
                }
                if wanted && count > 0 {
                    if newest.len() == count {
                        newest.pop_front();
                    }
                    newest.push_back(line(record));
                }
            }
            ControlFlow::Continue(())
        })?;
    }
    if reasons.is_empty() {
        println!("no dead letters");
        return Ok(());
    }
    newest.iter().for_each(|it| println!("{it}"));
    println!("\n{:<20} {:>14}", "reason", "dead letters");
    for (reason, count) in &reasons {
        println!("{reason:<20} {:>14}", grouped(*count));
    }
    println!("\ntelltale dead-letters show OFFSET shows one whole");
    Ok(())
}

fn show_one(
    connection: &Connection,
    partition: i32,
    offset: i64,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let registry = Registry::new(&connection.registry)?;
    let mut reader = Reader::open(&connection.kafka, Isolation::Committed)?;
    let mut text = None;
    let there = reader.watermarks(topics::DEAD_LETTERS, partition)?;
    if there.contains(&offset) {
        reader.read(topics::DEAD_LETTERS, partition, offset..offset + 1, stop, |batch| {
            let schema = |id| registry.schema(id).map_err(|error| telltale_service::chain(&error));
            text = batch.records().find(|it| it.offset() == offset).map(|it| show::record(it, schema));
            ControlFlow::Break(())
        })?;
    }
    let (first, end) = (there.start, there.end);
    println!("{}", text.ok_or(Error::NoDeadLetter { partition, offset, first, end })?);
    Ok(())
}

/// Place, time, reason, service, source, key and detail in one line.
fn line(record: Record<'_>) -> String {
    let place = record.source();
    let time = record.timestamp_ms().map_or_else(|| "no time".to_owned(), show::time);
    let key = record.key().map_or_else(|| "no key".to_owned(), show::value::plain);
    let place = if place.partition == 0 {
        place.offset.to_string()
    } else {
        format!("{}-{}", place.partition, place.offset)
    };
    format!(
        "{place:>8}  {time}  {:<15} by {}, from {}, key {key}: {}",
        header(record, REASON_HEADER),
        header(record, SERVICE_HEADER),
        header(record, SOURCE_HEADER),
        header(record, DETAIL_HEADER),
    )
}

fn header(record: Record<'_>, name: &str) -> String {
    record.header(name).map_or_else(|| "?".to_owned(), show::value::plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_records::Batch;

    #[test]
    fn a_line_says_what_where_and_why() {
        let mut batch = Batch::new(topics::DEAD_LETTERS.into(), 0);
        let headers = [
            (SOURCE_HEADER, Some(&b"sensor-data-1-7"[..])),
            (REASON_HEADER, Some(&b"malformed"[..])),
            (DETAIL_HEADER, Some(&b"no JSON at byte 3"[..])),
            (SERVICE_HEADER, Some(&b"preprocessor"[..])),
        ];
        batch.push(12, Some(0), Some(b"car-1"), Some(b"x"), headers);
        batch.push(13, None, None, None, []);
        let expected = "      12  1970-01-01T00:00:00.000Z  malformed       by preprocessor, from sensor-data-1-7, \
            key car-1: no JSON at byte 3";
        assert_eq!(line(batch.record(0)), expected);
        assert_eq!(line(batch.record(1)), "      13  no time  ?               by ?, from ?, key no key: ?");
    }
}
