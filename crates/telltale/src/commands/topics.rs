//! `telltale topics`: creates, lists and prints.

use std::ops::ControlFlow;

use telltale_kafka::reader::{Followed, Start};
use telltale_kafka::topics::{AS_BROKERS_ARE_SET, Created, Topics};
use telltale_kafka::{Isolation, Reader, Registry};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::cli::{Connection, From, TailArgs, TopicsCommand};
use crate::output::Output;
use crate::show;
use crate::view::numbers::grouped;

/// Offsets before the end of each partition where `--from last` begins.
const LAST: u64 = 10;

/// Runs one of the commands.
///
/// # Errors
///
/// Returns why it could not be done.
pub fn run(command: TopicsCommand, out: &mut Output, stop: &CancellationToken) -> Result<(), Error> {
    match command {
        TopicsCommand::Create { partitions, replication, connection } => {
            create(&connection, partitions, replication.unwrap_or(AS_BROKERS_ARE_SET), out)
        }
        TopicsCommand::List { connection } => list(&connection, out),
        TopicsCommand::Tail(args) => tail(&args, out, stop),
    }
}

fn create(connection: &Connection, partitions: i32, replication: i32, out: &mut Output) -> Result<(), Error> {
    let topics = Topics::open(&connection.kafka)?;
    let mut differing = 0;
    for (name, created) in topics.create_all(partitions, replication)? {
        match created {
            Created::New => out.line(format_args!("{name}: created"))?,
            Created::Same => out.line(format_args!("{name}: is there"))?,
            Created::Differs(differences) => {
                differing += 1;
                out.line(format_args!("{name}: is there and was left as it is, but differs:"))?;
                for it in differences {
                    out.line(format_args!("    {} is {}, should be {}", it.setting, it.found, it.wanted))?;
                }
            }
        }
    }
    if differing > 0 { Err(Error::TopicsDiffer { count: differing }) } else { Ok(()) }
}

fn list(connection: &Connection, out: &mut Output) -> Result<(), Error> {
    let topics = Topics::open(&connection.kafka)?.list()?;
    let reader = Reader::open(&connection.kafka, Isolation::Committed)?;
    out.line(format_args!(
        "{:<34} {:>10} {:>8} {:>16} {:>16}",
        "topic", "partitions", "copies", "first offsets", "offsets"
    ))?;
    for topic in topics {
        let (mut gone, mut there) = (0, 0);
        for partition in reader.partitions(&topic.name)? {
            let range = reader.watermarks(&topic.name, partition)?;
            gone += range.start.max(0);
            there += (range.end - range.start).max(0);
        }
        let (gone, there) = (grouped(gone.unsigned_abs()), grouped(there.unsigned_abs()));
        out.line(format_args!(
            "{:<34} {:>10} {:>8} {gone:>16} {there:>16}",
            topic.name, topic.partitions, topic.replication
        ))?;
    }
    out.line(
        "\noffsets count the records there are and, where transactions wrote them, one more for each commit",
    )?;
    Ok(())
}

fn tail(args: &TailArgs, out: &mut Output, stop: &CancellationToken) -> Result<(), Error> {
    let registry = Registry::new(&args.connection.registry)?;
    let isolation = if args.uncommitted { Isolation::Uncommitted } else { Isolation::Committed };
    let mut reader = Reader::open(&args.connection.kafka, isolation)?;
    let start = match args.from {
        From::Beginning => Start::Beginning,
        From::Last => Start::Last(LAST),
        From::End => Start::End,
    };
    if let Some(partition) = args.partition {
        let there = reader.partitions(&args.topic)?;
        if !there.contains(&partition) {
            return Err(Error::NoPartition { topic: args.topic.clone(), partition, count: there.len() });
        }
    }
    let mut left = args.count.map(u64::from);
    let mut written = Ok(());
    reader.follow(&args.topic, start, stop, |followed| {
        let record = match followed {
            Followed::CaughtUp if args.no_follow => return ControlFlow::Break(()),
            Followed::CaughtUp => {
                // Whoever reads a pipe sees each record as it comes.
                written = out.flush();
                return if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
            }
            Followed::Record(record) => record,
        };
        let wanted = args.partition.is_none_or(|it| it == record.source().partition)
            && args.key.as_ref().is_none_or(|it| record.key() == Some(it.as_bytes()));
        if !wanted {
            return ControlFlow::Continue(());
        }
        let text =
            show::record(record, |id| registry.schema(id).map_err(|error| telltale_service::chain(&error)));
        written = out.line(text);
        left = left.map(|it| it - 1);
        if written.is_err() || left == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    written.and_then(|()| out.flush())
}
