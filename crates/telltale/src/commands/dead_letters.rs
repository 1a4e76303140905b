//! `telltale dead-letters`: what could not go on, and why, and the way back.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use telltale_kafka::{Isolation, KafkaConfig, Reader, Registry};
use telltale_records::dead_letter::{DETAIL_HEADER, REASON_HEADER, SERVICE_HEADER};
use telltale_records::source::SOURCE_HEADER;
use telltale_records::{Record, topics};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::cli::{Connection, DeadLettersCommand, ReplayArgs};
use crate::dead_letters::filter::Filter;
use crate::dead_letters::outcomes::{Outcomes, Watch};
use crate::dead_letters::replay::{Counts, Replay};
use crate::dead_letters::{each, export};
use crate::output::Output;
use crate::show;
use crate::view::numbers::grouped;

/// Reasons that are counted apart; a stranger may write any, the known ones are few.
const REASONS: usize = 100;

/// Runs one of the commands.
///
/// # Errors
///
/// Returns why it could not be done.
pub fn run(command: DeadLettersCommand, out: &mut Output, stop: &CancellationToken) -> Result<(), Error> {
    match command {
        DeadLettersCommand::List { count, filter, connection } => {
            list(&connection.kafka, count, &filter, out, stop)
        }
        DeadLettersCommand::Show { offset, partition, connection } => {
            show_one(&connection, partition, offset, out, stop)
        }
        DeadLettersCommand::Replay(args) => replay(&args, out, stop),
        DeadLettersCommand::Export { out: path, files, filter, kafka } => {
            export_all(&kafka, &filter, path, files.as_deref(), out, stop)
        }
    }
}

fn list(
    kafka: &KafkaConfig,
    count: usize,
    filter: &Filter,
    out: &mut Output,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let mut reader = Reader::open(kafka, Isolation::Committed)?;
    let mut newest = VecDeque::new();
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    each(&mut reader, filter, stop, |record| {
        let found = header(record, REASON_HEADER);
        if reasons.len() < REASONS || reasons.contains_key(&found) {
            *reasons.entry(found).or_default() += 1;
        }
        if count > 0 {
            if newest.len() == count {
                newest.pop_front();
            }
            newest.push_back(line(record));
        }
        Ok(())
    })?;
    if reasons.is_empty() {
        return out.line(if filter.is_open() { "no dead letters" } else { "no such dead letters" });
    }
    for it in &newest {
        out.line(it)?;
    }
    out.line(format_args!("\n{:<20} {:>14}", "reason", "dead letters"))?;
    for (reason, count) in &reasons {
        out.line(format_args!("{reason:<20} {:>14}", grouped(*count)))?;
    }
    out.line("\ntelltale dead-letters show OFFSET shows one whole, replay puts them back")
}

fn replay(args: &ReplayArgs, out: &mut Output, stop: &CancellationToken) -> Result<(), Error> {
    if args.filter.is_open() && !args.all {
        return Err(Error::Which);
    }
    super::stop_on_signal(stop)?;
    let mut replay = Replay::open(&args.kafka, &args.filter, stop)?;
    let watch = Watch::open(&args.kafka, replay.topics())?;
    let counts = replay.run(args.rate, args.dry_run)?;
    out.line(sentence(&counts, args.dry_run))?;
    if args.dry_run || counts.sent == 0 {
        return Ok(());
    }
    out.flush()?;
    let outcomes = watch.wait(*args.wait, stop)?;
    out.line(became(&outcomes, &args.wait))
}

/// What went back.
fn sentence(counts: &Counts, dry: bool) -> String {
    let mut text = format!(
        "{} dead letters {} to where they failed",
        grouped(counts.sent),
        if dry { "would go back" } else { "went back" }
    );
    for (count, what) in [
        (counts.before, "went back before"),
        (counts.too_old, "are older than their topic keeps"),
        (counts.homeless, "do not say where they failed, or are parts of one (export them)"),
    ] {
        if count > 0 {
            text.push_str(&format!("; {} {what}", grouped(count)));
        }
    }
    text
}

/// What became of it.
fn became(outcomes: &Outcomes, waited: &humantime::Duration) -> String {
    let mut text = format!("{} pass now", grouped(outcomes.passed));
    for (reason, count) in &outcomes.failed {
        text.push_str(&format!("; {} failed again: {reason}", grouped(*count)));
    }
    if outcomes.open > 0 {
        let open = grouped(outcomes.open);
        text.push_str(&format!("; {open} have no outcome after {waited}: is the service running?"));
    }
    text
}

fn export_all(
    kafka: &KafkaConfig,
    filter: &Filter,
    path: Option<PathBuf>,
    files: Option<&Path>,
    out: &mut Output,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let failed = |flag, path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { flag, path, source }
    };
    if let Some(folder) = files {
        fs::create_dir_all(folder).map_err(failed("--files", folder))?;
    }
    let mut file = match &path {
        Some(path) => Some(BufWriter::new(File::create(path).map_err(failed("--out", path))?)),
        None => None,
    };
    let mut reader = Reader::open(kafka, Isolation::Committed)?;
    let mut count = 0;
    each(&mut reader, filter, stop, |record| {
        let mut line = export::line(record);
        if let Some(folder) = files {
            line["file"] = export::file(folder, record)?.into();
        }
        count += 1;
        match (&mut file, &path) {
            (Some(file), Some(path)) => writeln!(file, "{line}").map_err(failed("--out", path)),
            _ => out.line(line),
        }
    })?;
    if let (Some(mut file), Some(path)) = (file, &path) {
        file.flush().map_err(failed("--out", path))?;
        out.line(format_args!("{} dead letters are in {}", grouped(count), path.display()))?;
    }
    out.flush()
}

fn show_one(
    connection: &Connection,
    partition: i32,
    offset: i64,
    out: &mut Output,
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
    out.line(text.ok_or(Error::NoDeadLetter { partition, offset, first, end })?)?;
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
