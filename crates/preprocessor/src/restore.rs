//! Reads the windows of a partition back from their table, the only place where they are kept.

use std::ops::{ControlFlow, Range};

use telltale_kafka::Reader;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::decode::Lookup;
use crate::pipeline::WindowTable;
use crate::table_writer::TableReader;
use crate::windows::Windows;

/// Offsets before the end among which a row is looked for, to learn how far back open windows can lie.
const TAIL: i64 = 2_000;

/// Fills `windows` with the open windows of `partition` of `table`; returns how many records were no rows of
/// it.
///
/// Rows carry the event time of a reading in their window as time stamp. So every row of a window that can be
/// open lies behind the first row with the time stamp of the earliest such window, however long the table is.
pub(crate) fn restore(
    reader: &mut Reader,
    table: &WindowTable,
    partition: i32,
    windows: &mut Windows,
    lookup: &mut Lookup<'_>,
    stop: &CancellationToken,
) -> Result<u64, Error> {
    let there = reader.watermarks(&table.target, partition)?;
    let mut back = ReadBack { reader, table, partition, lookup, stop };
    let mut newest: Option<i64> = None;
    back.read((there.end - TAIL).max(there.start)..there.end, |_, start_ms, _, _| {
        newest = newest.max(Some(start_ms))
    })?;
    let mut from = there.start;
    if let Some(newest_ms) = newest {
        let earliest_ms = windows.earliest_open(newest_ms).max(0);
        from = back.reader.offset_at(&table.target, partition, earliest_ms)?.unwrap_or(from).max(from);
    }
    back.read(from.min(there.end)..there.end, |key, start_ms, end_ms, events| {
        // Rows from when the windows had another size are none of these.
        if windows.end_of(start_ms) == end_ms {
            windows.restore(key, start_ms, events);
        }
    })
}

struct ReadBack<'a> {
    reader: &'a mut Reader,
    table: &'a WindowTable,
    partition: i32,
    lookup: &'a mut Lookup<'a>,
    stop: &'a CancellationToken,
}

impl ReadBack<'_> {
    /// Hands the rows in `range` to `take`; returns how many records were no rows of the table.
    fn read(&mut self, range: Range<i64>, mut take: impl FnMut(&str, i64, i64, i64)) -> Result<u64, Error> {
        let mut rows = TableReader::new(self.table);
        let mut failed = None;
        let end = range.end;
        let reached = self.reader.read(&self.table.target, self.partition, range, self.stop, |batch| {
            failed = rows.read(batch, self.lookup, &mut take).err();
            if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        match failed {
            Some(error) => Err(error.into()),
            None if reached < end => {
                Err(Error::Stopped { topic: self.table.target.clone(), partition: self.partition })
            }
            None => Ok(rows.skipped),
        }
    }
}
