//! Reads ranges of the log, several partitions at once, straight into rows of numbers.
//!
//! ```text
//! partitions ─▶ reader threads: fetch, decode ─▶ bounded channel ─▶ caller (learns while the rest is read)
//! ```
//!
//! No consumer group: nothing is committed, so the same ranges can be read any number of times.

use std::collections::{HashMap, VecDeque};
use std::mem::swap;
use std::ops::{ControlFlow, Range};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use telltale_features::Specification;
use telltale_kafka::{Isolation, KafkaConfig, Reader, Registry, RegistryError};
use telltale_model::{Rows, device_hash};
use telltale_records::avro::{Capture, Matrix, MatrixDecoder};
use telltale_records::{Batch, framing};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::error::Error;
use crate::ranges::Ranges;

/// Decoded batches that may wait for the caller, for each reader: enough to keep it busy, and a bound on memory.
const BATCHES_WAITING: usize = 2;
/// Pauses between attempts to reach the registry.
const PAUSE: Duration = Duration::from_millis(500);
/// Most schemas remembered; a fleet has a handful.
const MOST_SCHEMAS: usize = 64;

/// What is read, and how.
pub(crate) struct Source<'a> {
    pub(crate) kafka: &'a KafkaConfig,
    pub(crate) registry: &'a Registry,
    pub(crate) topic: &'a str,
    pub(crate) specification: &'a Specification,
    pub(crate) readers: usize,
}

/// What was found in the ranges.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Records read.
    pub(crate) records: u64,
    /// Records that are no readings.
    pub(crate) rejected: u64,
    /// What was wrong with the first of them that came.
    pub(crate) detail: Option<String>,
    /// Schema ids of the readings, ascending.
    pub(crate) schema_ids: Vec<u32>,
}

/// Decoded readings on their way to the caller.
#[derive(Debug, Default)]
struct Decoded {
    values: Vec<f32>,
    devices: Vec<u64>,
    times_ms: Vec<i64>,
    failing: Vec<bool>,
    records: u64,
    rejected: u64,
    detail: Option<String>,
    schema_ids: Vec<u32>,
}

impl Source<'_> {
    /// Hands every reading of `ranges` to `take`, in no particular order of partitions.
    ///
    /// Ends early, and without an error, when `stop` comes.
    pub(crate) fn read(
        &self,
        ranges: &Ranges,
        stop: &CancellationToken,
        mut take: impl FnMut(&Rows<'_>) -> Result<(), Error>,
    ) -> Result<Found, Error> {
        let mut found = Found::default();
        let work: Mutex<VecDeque<_>> =
            Mutex::new(ranges.iter().filter(|(_, range)| !range.is_empty()).cloned().collect());
        // Ends the readers when the caller fails, and the others when one fails.
        let stop = stop.child_token();
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel(BATCHES_WAITING * self.readers);
            let mut threads = Vec::new();
            for number in 0..self.readers.min(ranges.len()) {
                let (sender, work, stop) = (sender.clone(), &work, stop.clone());
                let read = move || self.read_partitions(work, &sender, &stop).inspect_err(|_| stop.cancel());
                let thread = thread::Builder::new().name(format!("read-{number}")).spawn_scoped(scope, read);
                threads.push(thread.map_err(|source| Error::Thread { number, source: Some(source) }));
            }
            drop(sender);
            let mut result = Ok(());
            for decoded in receiver {
                if result.is_ok() {
                    result = found.add(&decoded, &mut take);
                }
                if result.is_err() {
                    stop.cancel();
                }
            }
            for (number, thread) in threads.into_iter().enumerate() {
                let outcome =
                    thread.and_then(|it| it.join().unwrap_or(Err(Error::Thread { number, source: None })));
                result = result.and(outcome);
            }
            result
        })?;
        found.schema_ids.sort_unstable();
        found.schema_ids.dedup();
        Ok(found)
    }

    fn read_partitions(
        &self,
        work: &Mutex<VecDeque<(i32, Range<i64>)>>,
        sender: &SyncSender<Decoded>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let mut reader = Reader::open(self.kafka, Isolation::Committed)?.without_headers();
        let mut decoder = Decoder { source: self, decoders: HashMap::new(), matrix: Matrix::default() };
        loop {
            let next = work.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((partition, range)) = next else { return Ok(()) };
            let mut failed = None;
            reader.read(self.topic, partition, range, stop, |batch| match decoder.decode(batch, stop) {
                Ok(decoded) => match sender.send(decoded) {
                    Ok(()) => ControlFlow::Continue(()),
                    // The caller is gone only after it has asked to stop.
                    Err(_) => ControlFlow::Break(()),
                },
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }
}

impl Found {
    fn add(
        &mut self,
        decoded: &Decoded,
        take: impl FnOnce(&Rows<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.records += decoded.records;
        self.rejected += decoded.rejected;
        if self.detail.is_none() {
            self.detail.clone_from(&decoded.detail);
        }
        self.schema_ids.extend(&decoded.schema_ids);
        take(&Rows {
            values: &decoded.values,
            devices: &decoded.devices,
            times_ms: &decoded.times_ms,
            failing: &decoded.failing,
        })
    }
}

/// Decodes the batches of one reader.
struct Decoder<'a> {
    source: &'a Source<'a>,
    decoders: HashMap<u32, Result<MatrixDecoder, String>>,
    matrix: Matrix,
}

impl Decoder<'_> {
    fn decode(&mut self, batch: &Batch, stop: &CancellationToken) -> Result<Decoded, Error> {
        let mut decoded = Decoded { records: batch.len() as u64, ..Decoded::default() };
        let mut payloads: Vec<(usize, &[u8])> = Vec::with_capacity(batch.len());
        let mut run = None;
        for (index, record) in batch.records().enumerate() {
            let framed = record.value().and_then(framing::split);
            let Some((id, payload)) =
                framed.filter(|_| record.key().is_some() && record.timestamp_ms().is_some())
            else {
                let source = record.source();
                decoded
                    .reject(|| format!("{source} has no key, no time stamp, or no value with a schema id"));
                continue;
            };
            if run.is_some_and(|it| it != id) {
                self.decode_run(run, batch, &mut payloads, &mut decoded, stop)?;
            }
            run = Some(id);
            payloads.push((index, payload));
        }
        self.decode_run(run, batch, &mut payloads, &mut decoded, stop)?;
        Ok(decoded)
    }

    /// Decodes `payloads`, which one schema wrote, and empties them.
    fn decode_run(
        &mut self,
        schema_id: Option<u32>,
        batch: &Batch,
        payloads: &mut Vec<(usize, &[u8])>,
        decoded: &mut Decoded,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let Some(id) = schema_id.filter(|_| !payloads.is_empty()) else { return Ok(()) };
        self.prepare(id, stop)?;
        match self.decoders.get(&id) {
            Some(Ok(decoder)) => {
                decoder.decode_into(payloads.iter().map(|(_, payload)| *payload), &mut self.matrix);
                decoded.schema_ids.push(id);
                decoded.append(&mut self.matrix, batch, payloads, self.source.specification);
            }
            Some(Err(detail)) => payloads.iter().for_each(|_| decoded.reject(|| detail.clone())),
            // Told to stop while the registry was away.
            None => {}
        }
        payloads.clear();
        Ok(())
    }

    /// Sees to it that there is a decoder for `id`, or the reason why there is none.
    fn prepare(&mut self, id: u32, stop: &CancellationToken) -> Result<(), Error> {
        if self.decoders.contains_key(&id) {
            return Ok(());
        }
        let specification = self.source.specification;
        let schema = loop {
            match self.source.registry.schema(id) {
                Err(error) if error.is_passing() => {
                    warn!(id, error = telltale_service::chain(&error), "asking for a schema, will try again");
                    if stop.is_cancelled() {
                        return Ok(());
                    }
                    thread::sleep(PAUSE);
                }
                other => break other,
            }
        };
        let decoder =
            schema.map_err(|error: RegistryError| telltale_service::chain(&error)).and_then(|schema| {
                let label = specification.label.as_ref().filter(|_| specification.exclude_failing);
                let captures: Vec<&str> = label.iter().map(|it| it.column.as_str()).collect();
                MatrixDecoder::compile(&schema, &specification.training_columns(), &captures).map_err(
                    |error| {
                        format!("schema {id} does not fit the features: {}", telltale_service::chain(&error))
                    },
                )
            });
        if self.decoders.len() >= MOST_SCHEMAS {
            self.decoders.clear();
        }
        self.decoders.insert(id, decoder);
        Ok(())
    }
}

impl Decoded {
    fn reject(&mut self, detail: impl FnOnce() -> String) {
        self.rejected += 1;
        self.detail.get_or_insert_with(detail);
    }

    fn append(
        &mut self,
        matrix: &mut Matrix,
        batch: &Batch,
        payloads: &[(usize, &[u8])],
        specification: &Specification,
    ) {
        if self.values.is_empty() {
            // Nearly always one schema wrote the whole batch.
            swap(&mut self.values, &mut matrix.values);
        } else {
            self.values.extend_from_slice(&matrix.values);
        }
        self.devices.reserve(matrix.len());
        self.times_ms.reserve(matrix.len());
        for (row, &payload) in matrix.rows.iter().enumerate() {
            let record = batch.record(payloads[payload as usize].0);
            self.devices.push(device_hash(record.key().expect("records without a key were set aside")));
            self.times_ms.push(record.timestamp_ms().expect("records without a time stamp were set aside"));
            if let (Some(label), Some(column)) = (&specification.label, matrix.captures.first()) {
                self.failing.push(is_failing(column, row, &label.failing));
            }
        }
        for (payload, reason, detail) in &matrix.rejected {
            let source = batch.record(payloads[*payload as usize].0).source();
            self.reject(|| format!("{source}: {reason}: {detail}"));
        }
    }
}

/// Whether the label says that the device was failing.
fn is_failing(column: &Capture, row: usize, failing: &str) -> bool {
    match (column.text(row), column.long(row)) {
        (Some(text), _) => text == failing,
        (None, Some(number)) => number.to_string() == failing || (number == 1 && failing == "true"),
        (None, None) => false,
    }
}
