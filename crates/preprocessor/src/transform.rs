//! A batch of one partition to what becomes of each record, without I/O but for looking schemas up.
//!
//! ```text
//! batch ─▶ decode ─▶ SQL ─▶ finite? ─▶ checks ─▶ key, event time ─▶ encode ─┬▶ target topic
//!            │         │       │          │             │            │      └▶ windows ─▶ table topics
//!            └─────────┴───────┴──────────┴─────────────┴────────────┴───────▶ dead letters
//! ```
//!
//! Every record leaves by exactly one of the target topic and the dead letters, in the order of its
//! partition.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type};
use telltale_kafka::RegistryError;
use telltale_records::avro::{BoundEncoder, Encoder};
use telltale_records::schema::SchemaError;
use telltale_records::{Batch, Destination, Outgoing, Reason, Record, Rejection, framing, topics};

use crate::decode::{Decoders, Fate, Fault, Group, Lookup};
use crate::pipeline::Stream;
use crate::table_writer::TableWriter;
use crate::windows::{Update, Windows};

/// Latest event time, the end of the year 9999: what is later is a wrong unit.
const LATEST_MS: i64 = 253_402_300_799_999;

/// Longest key that is counted in windows, in bytes: keys are kept in memory.
const KEY_LIMIT: usize = 1024;

/// One worker's plans of a stream.
#[derive(Debug)]
pub struct Transform {
    stream: Arc<Stream>,
    service: &'static str,
    decoders: Decoders,
    encoder: Encoder,
    schema_id: u32,
    tables: Vec<TableWriter>,
    fates: Vec<Fate>,
    scratch: Vec<u8>,
}

/// What a batch came to, for the metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Dead letters, by reason.
    pub rejected: BTreeMap<Reason, u64>,
    /// Readings that came too late for their window, by table topic.
    pub late: BTreeMap<String, u64>,
}

/// Ids of a stream's schemas in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaIds {
    /// Of the target.
    pub target: u32,
    /// Of each window table, in order.
    pub windows: Vec<u32>,
}

/// The columns of a clean group that say where a row goes.
struct Clean<'a> {
    bound: BoundEncoder<'a>,
    keys: Option<&'a StringArray>,
    times: Option<&'a Int64Array>,
}

impl Transform {
    /// Compiles the plans for `stream`, whose schemas have these ids.
    ///
    /// # Errors
    ///
    /// Returns an error when a schema cannot be read from, or written to, what the stream says.
    pub fn new(stream: Arc<Stream>, ids: &SchemaIds, service: &'static str) -> Result<Self, SchemaError> {
        let decoders = Decoders::new(&stream)?;
        let encoder = Encoder::compile(&stream.target_schema, stream.projection.schema())?;
        let tables = stream.windows.iter().zip(&ids.windows);
        let tables = tables.map(|(table, id)| TableWriter::new(table, *id)).collect::<Result<_, _>>()?;
        let schema_id = ids.target;
        Ok(Self {
            stream,
            service,
            decoders,
            encoder,
            schema_id,
            tables,
            fates: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// No windows yet, for one partition.
    #[must_use]
    pub fn windows(&self) -> Vec<Windows> {
        self.stream.windows.iter().map(|it| Windows::new(it.size, it.grace)).collect()
    }

    /// Appends to `out` what becomes of each record of `batch`, and counts in `windows`, those of its
    /// partition.
    ///
    /// # Errors
    ///
    /// Returns an error when the registry cannot be asked for now; `out` is then unfinished.
    pub fn apply(
        &mut self,
        batch: &Batch,
        windows: &mut [Windows],
        lookup: &mut Lookup<'_>,
        out: &mut Outgoing,
    ) -> Result<Tally, RegistryError> {
        let mut fates = std::mem::take(&mut self.fates);
        let groups = self.decoders.decode(&self.stream, batch, lookup, &mut fates)?;
        let cleaned: Vec<RecordBatch> = groups
            .iter()
            .enumerate()
            .map(|(number, it)| clean(&self.stream, number, it, &mut fates))
            .collect();
        let mut tally = Tally::default();
        self.emit(batch, &cleaned, &fates, windows, out, &mut tally);
        self.fates = fates;
        Ok(tally)
    }

    fn emit(
        &mut self,
        batch: &Batch,
        cleaned: &[RecordBatch],
        fates: &[Fate],
        windows: &mut [Windows],
        out: &mut Outgoing,
        tally: &mut Tally,
    ) {
        let target = out.topic(&self.stream.target);
        let dead_letters = out.topic(topics::DEAD_LETTERS);
        let groups: Vec<Clean<'_>> =
            cleaned.iter().map(|it| Clean::of(&self.stream, &self.encoder, it)).collect();
        let mut counted: Vec<(&str, i64, usize)> = Vec::with_capacity(fates.len());
        for (index, (record, fate)) in batch.records().zip(fates).enumerate() {
            let outcome = match fate {
                Fate::Rejected(reason, detail) => Err((*reason, detail.clone())),
                Fate::Row { group, row } => {
                    self.scratch.clear();
                    framing::write_header(self.schema_id, &mut self.scratch);
                    groups[*group].row(&self.stream, record, *row, &mut self.scratch)
                }
            };
            match outcome {
                Ok((key, time_ms)) => {
                    let to = Destination { topic: target, partition: None, timestamp_ms: Some(time_ms) };
                    out.push(to, key, Some(&self.scratch), Some(&record.source()), &[]);
                    if !windows.is_empty() {
                        let text = key.and_then(|it| std::str::from_utf8(it).ok());
                        counted.push((
                            text.expect("`row` demands a text key where there are windows"),
                            time_ms,
                            index,
                        ));
                    }
                }
                Err((reason, detail)) => {
                    *tally.rejected.entry(reason).or_default() += 1;
                    let rejection = Rejection { reason, detail, service: self.service };
                    out.dead_letter(dead_letters, record, &rejection);
                }
            }
        }
        let mut updates: Vec<Update<'_>> = Vec::new();
        for ((table, writer), windows) in self.stream.windows.iter().zip(&self.tables).zip(windows) {
            let late = windows.count(counted.iter().map(|(key, time_ms, _)| (*key, *time_ms)), &mut updates);
            if late > 0 {
                *tally.late.entry(table.target.clone()).or_default() += late;
            }
            let reading = |number: usize| (batch.record(counted[number].2).source(), counted[number].1);
            writer.write(windows, &updates, batch.partition(), reading, out);
        }
    }
}

impl Tally {
    /// Adds `other`.
    pub fn add(&mut self, other: Self) {
        for (reason, count) in other.rejected {
            *self.rejected.entry(reason).or_default() += count;
        }
        for (table, count) in other.late {
            *self.late.entry(table).or_default() += count;
        }
    }
}

impl<'a> Clean<'a> {
    fn of(stream: &Stream, encoder: &'a Encoder, columns: &'a RecordBatch) -> Self {
        let column = |name: &Option<String>| -> Option<&'a ArrayRef> {
            name.as_ref()
                .map(|it| columns.column_by_name(it).expect("the pipeline was checked to have this column"))
        };
        Self {
            bound: encoder.bind(columns).expect("the encoder was compiled for the projection's columns"),
            keys: column(&stream.key).map(|it| it.as_string::<i32>()),
            times: column(&stream.event_time).map(|it| it.as_primitive::<Int64Type>()),
        }
    }

    /// Encodes row `row`, which came from `record`; returns its key and event time.
    fn row<'r>(
        &self,
        stream: &Stream,
        record: Record<'r>,
        row: usize,
        value: &mut Vec<u8>,
    ) -> Result<(Option<&'r [u8]>, i64), Fault>
    where
        'a: 'r,
    {
        let key = self.key(stream, record, row)?;
        let time_ms = self.time(stream, record, row)?;
        match self.bound.encode_row(row, value) {
            Ok(()) => Ok((key, time_ms)),
            Err(error) => Err((error.reason, error.to_string())),
        }
    }

    fn key<'r>(&self, stream: &Stream, record: Record<'r>, row: usize) -> Result<Option<&'r [u8]>, Fault>
    where
        'a: 'r,
    {
        let key = match self.keys {
            None => record.key(),
            Some(keys) if keys.is_null(row) || keys.value(row).is_empty() => {
                let detail = format!("{} is missing", stream.key.as_deref().unwrap_or_default());
                return Err((Reason::BadKey, detail));
            }
            Some(keys) => Some(keys.value(row).as_bytes()),
        };
        if stream.windows.is_empty() {
            return Ok(key);
        }
        match key {
            Some(key) if key.len() > KEY_LIMIT => {
                Err((Reason::BadKey, format!("a key of {} bytes is longer than {KEY_LIMIT}", key.len())))
            }
            Some(key) if std::str::from_utf8(key).is_ok() => Ok(Some(key)),
            _ => Err((Reason::BadKey, "the key is missing or no text, so it cannot be counted".to_owned())),
        }
    }

    fn time(&self, stream: &Stream, record: Record<'_>, row: usize) -> Result<i64, Fault> {
        let time = match self.times {
            Some(times) => times.is_valid(row).then(|| times.value(row)),
            None => record.timestamp_ms(),
        };
        let bad = |detail: String| Err((Reason::BadTime, detail));
        let Some(time_ms) = time else {
            return bad("the event time is missing".to_owned());
        };
        if !(0..=LATEST_MS).contains(&time_ms) {
            return bad(format!("event time {time_ms} is not in milliseconds since 1970"));
        }
        // Without a time stamp there is nothing to hold the device's clock against.
        let Some(written_ms) = record.timestamp_ms() else { return Ok(time_ms) };
        if distance(written_ms, time_ms) > Some(stream.max_ahead) {
            return bad(format!(
                "event time {time_ms} is more than {:?} after the record's {written_ms}",
                stream.max_ahead
            ));
        }
        if let Some(limit) = stream.max_behind.filter(|it| distance(time_ms, written_ms) > Some(*it)) {
            return bad(format!(
                "event time {time_ms} is more than {limit:?} before the record's {written_ms}"
            ));
        }
        Ok(time_ms)
    }
}

/// How much later `to` is than `from`, `None` where it is not.
fn distance(from_ms: i64, to_ms: i64) -> Option<Duration> {
    u64::try_from(to_ms.saturating_sub(from_ms)).ok().map(Duration::from_millis)
}

/// The target's columns of a group; rows that are not clean are rejected in `fates`.
fn clean(stream: &Stream, number: usize, group: &Group, fates: &mut [Fate]) -> RecordBatch {
    let evaluated = stream.projection.evaluate(&group.table);
    let mut reject = |record: u32, reason, detail| fates[record as usize] = Fate::Rejected(reason, detail);
    for (row, message) in evaluated.failed.iter().cloned() {
        reject(
            group.records[row as usize],
            Reason::SchemaMismatch,
            format!("the SQL cannot be computed: {message}"),
        );
    }
    let whole = evaluated.failed.is_empty();
    let columns = evaluated.columns;
    let record = |row: usize| group.records[evaluated.rows[row] as usize];
    let table = if whole { group.table.clone() } else { take(&group.table, &evaluated.rows) };
    let first_failed = stream.checks.first_failed(&columns, &table);
    for (row, failed) in first_failed.iter().enumerate() {
        if let Some(check) = failed {
            let rule = &stream.rules[*check];
            reject(record(row), rule.reason, format!("not fulfilled: {}", rule.name));
        }
    }
    // Checked last, for it is the better reason: no range holds what is not a number.
    for (row, column) in not_finite(&columns) {
        let name = columns.schema_ref().field(column).name().clone();
        reject(record(row), Reason::OutOfRange, format!("{name} is not a finite number"));
    }
    if !whole {
        // The rows moved up.
        for row in 0..columns.num_rows() {
            if let fate @ Fate::Row { .. } = &mut fates[record(row) as usize] {
                *fate = Fate::Row { group: number, row };
            }
        }
    }
    columns
}

/// Rows and columns of values that are not finite numbers.
fn not_finite(columns: &RecordBatch) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (index, column) in columns.columns().iter().enumerate() {
        match column.data_type() {
            DataType::Float64 => {
                let values = column.as_primitive::<Float64Type>().values();
                find(column, index, values.iter().map(|it| it.is_finite()), &mut found);
            }
            DataType::Float32 => {
                let values = column.as_primitive::<Float32Type>().values();
                find(column, index, values.iter().map(|it| it.is_finite()), &mut found);
            }
            _ => {}
        }
    }
    found
}

fn find(
    column: &ArrayRef,
    index: usize,
    finite: impl Iterator<Item = bool> + Clone,
    found: &mut Vec<(usize, usize)>,
) {
    // Without a branch for each value: nearly always all are finite.
    if finite.clone().fold(true, |all, it| all & it) {
        return;
    }
    found.extend(
        finite.enumerate().filter(|(row, it)| !it && column.is_valid(*row)).map(|(row, _)| (row, index)),
    );
}

fn take(table: &RecordBatch, rows: &[u32]) -> RecordBatch {
    let rows = arrow::array::UInt32Array::from(rows.to_vec());
    arrow::compute::take_record_batch(table, &rows).expect("the rows are of this table")
}

#[cfg(test)]
mod tests;
