//! `telltale probe`: one reading on the whole way, from MQTT to its prediction.
//!
//! ```text
//! publish ─▶ PUBACK ─▶ sensor-data ─▶ SENSOR_DATA_S_AVRO ─▶ model-predictions
//!                      by key and time    by src                by src
//! ```

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use telltale_kafka::{Isolation, Reader};
use telltale_mqtt::{Endpoint, Qos, device};
use telltale_records::dead_letter::{DETAIL_HEADER, REASON_HEADER};
use telltale_records::prediction::Prediction;
use telltale_records::source::SOURCE_HEADER;
use telltale_records::{Record, Source, framing, topics};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::cli::ProbeArgs;
use crate::output::Output;
use crate::show::value::plain;
use crate::view::numbers::{figure, percent};

/// A reading of a healthy car, as good as any to see whether the way is free.
const READING: &str = include_str!("../probe-reading.json");
/// Pause before looking again, in which the next service works.
const PAUSE: Duration = Duration::from_millis(10);

/// Publishes one reading and waits for its prediction.
///
/// # Errors
///
/// Returns where the reading stopped, or why it could not be sent.
pub fn run(args: &ProbeArgs, out: &mut Output, stop: &CancellationToken) -> Result<(), Error> {
    let (payload, event_time) = reading(args.reading.as_deref(), &args.car)?;
    let endpoint = args.mqtt.endpoint().map_err(Error::Mqtt)?;
    let timeout = *args.timeout;
    let started = Instant::now();
    let mut search = Search::begin(args, started + timeout, stop)?;
    let topic = format!("{}/{}", args.topic, args.car);
    publish(&endpoint, &args.car, &topic, payload, timeout)?;
    out.line(format_args!("{:>7} ms  acknowledged by the MQTT broker", started.elapsed().as_millis()))?;

    let needle = format!("\"event_time\":{event_time}");
    let is_ours = |record: Record<'_>| {
        let has_time = |value: &[u8]| value.windows(needle.len()).any(|it| it == needle.as_bytes());
        (record.key() == Some(args.car.as_bytes()) && record.value().is_some_and(has_time))
            .then(|| record.source())
    };
    let raw = search.find(topics::SENSOR_DATA, None, is_ours, "the bridge", timeout)?;
    out.line(format_args!("{:>7} ms  in {raw}", started.elapsed().as_millis()))?;
    let clean = search.find(topics::CLEAN, Some(&raw), |it| of(it, &raw), "the preprocessor", timeout)?;
    out.line(format_args!("{:>7} ms  in {clean}", started.elapsed().as_millis()))?;
    let mut verdict = String::new();
    let is_prediction = |record: Record<'_>| {
        let place = of(record, &clean)?;
        verdict = describe(record);
        Some(place)
    };
    let prediction = search.find(topics::PREDICTIONS, Some(&clean), is_prediction, "the scorer", timeout)?;
    out.line(format_args!("{:>7} ms  in {prediction}: {verdict}", started.elapsed().as_millis()))?;
    Ok(())
}

/// The place of `record` if it is the outcome of `source`.
fn of(record: Record<'_>, source: &Source) -> Option<Source> {
    (record.header(SOURCE_HEADER) == Some(source.to_string().as_bytes())).then(|| record.source())
}

fn describe(record: Record<'_>) -> String {
    let payload = record.value().and_then(framing::split).map(|(_, payload)| payload);
    let Some(Ok(found)) = payload.map(Prediction::read) else {
        return "not a prediction this version can read".to_owned();
    };
    let sensors: Vec<String> =
        found.contributions.iter().map(|it| format!("{} {}", it.sensor, percent(it.share))).collect();
    format!(
        "{} with score {} (threshold {}) by model {} version {}, mostly for {}",
        found.verdict.as_str(),
        figure(found.score),
        figure(found.threshold),
        found.model_name,
        found.model_version,
        sensors.join(", "),
    )
}

/// The reading with the name of the car and the time of now, as bytes.
fn reading(file: Option<&Path>, car: &str) -> Result<(Bytes, i64), Error> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path).map_err(|source| Error::File {
            flag: "--reading",
            path: path.to_owned(),
            source,
        })?,
        None => READING.to_owned(),
    };
    let parsed: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(&text);
    let mut fields = parsed.map_err(|source| Error::Reading { source })?;
    #[expect(clippy::disallowed_methods, reason = "the probe is a device: the time of its reading is now")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let event_time = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    fields.insert("car".to_owned(), car.into());
    fields.insert("event_time".to_owned(), event_time.into());
    let bytes = serde_json::to_vec(&fields).expect("JSON that was just read can be written");
    Ok((bytes.into(), event_time))
}

fn publish(
    endpoint: &Endpoint,
    car: &str,
    topic: &str,
    payload: Bytes,
    timeout: Duration,
) -> Result<(), Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let address = || endpoint.address().to_string();
    let session = async {
        let options = device::Options::new(format!("telltale-probe-{car}-{}", std::process::id()));
        let (publisher, mut session) = device::open(endpoint, options);
        publisher.publish(&topic.into(), Qos::AtLeastOnce, false, payload).map_err(Error::Publish)?;
        let mut fault = None;
        let acknowledged = tokio::time::timeout(timeout, async {
            while let Some(event) = session.next().await {
                match event {
                    device::Event::Acknowledged { .. } => return Ok(()),
                    device::Event::Refused { reason, .. } => return Err(reason),
                    device::Event::Disconnected(cause) => fault = Some(cause),
                    _ => {}
                }
            }
            Err("the session ended".to_owned())
        });
        match acknowledged.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(Error::Refused { broker: address(), topic: topic.to_owned(), reason }),
            Err(_) => Err(Error::NotAcknowledged { broker: address(), timeout, source: fault }),
        }
    };
    runtime.block_on(session)
}

/// Looks through what came into topics since the probe began.
struct Search<'a> {
    reader: Reader,
    /// Next offset to look at, by topic and partition.
    next: BTreeMap<(&'static str, i32), i64>,
    deadline: Instant,
    stop: &'a CancellationToken,
}

impl<'a> Search<'a> {
    fn begin(args: &ProbeArgs, deadline: Instant, stop: &'a CancellationToken) -> Result<Self, Error> {
        let reader = Reader::open(&args.connection.kafka, Isolation::Committed)?;
        let mut next = BTreeMap::new();
        for topic in [topics::SENSOR_DATA, topics::CLEAN, topics::PREDICTIONS, topics::DEAD_LETTERS] {
            for partition in reader.partitions(topic)? {
                next.insert((topic, partition), reader.watermarks(topic, partition)?.end);
            }
        }
        Ok(Self { reader, next, deadline, stop })
    }

    /// Waits for a record of `topic` that `matches`, or a dead letter of `source`.
    fn find(
        &mut self,
        topic: &'static str,
        source: Option<&Source>,
        mut matches: impl FnMut(Record<'_>) -> Option<Source>,
        service: &'static str,
        timeout: Duration,
    ) -> Result<Source, Error> {
        while Instant::now() < self.deadline && !self.stop.is_cancelled() {
            if let Some(found) = self.look(topic, &mut matches)? {
                return Ok(found);
            }
            if let Some(source) = source {
                let mut why = String::new();
                let dead = self.look(topics::DEAD_LETTERS, &mut |record| {
                    let place = of(record, source)?;
                    let header = |name| record.header(name).map_or_else(String::new, plain);
                    why = format!("{}: {}", header(REASON_HEADER), header(DETAIL_HEADER));
                    Some(place)
                })?;
                if let Some(place) = dead {
                    return Err(Error::DeadLetter {
                        source_record: source.to_string(),
                        place: place.to_string(),
                        why,
                    });
                }
            }
            std::thread::sleep(PAUSE);
        }
        Err(Error::NotArrived { topic, service, timeout })
    }

    fn look(
        &mut self,
        topic: &'static str,
        matches: &mut impl FnMut(Record<'_>) -> Option<Source>,
    ) -> Result<Option<Source>, Error> {
        let mut found = None;
        for ((_, partition), next) in self.next.range_mut((topic, i32::MIN)..=(topic, i32::MAX)) {
            let end = self.reader.watermarks(topic, *partition)?.end;
            if end <= *next {
                continue;
            }
            *next = self.reader.read(topic, *partition, *next..end, self.stop, |batch| {
                found = batch.records().find_map(&mut *matches);
                if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if found.is_some() {
                break;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probes_reading_has_the_fields_of_the_schema() {
        let (bytes, event_time) = reading(None, "car-probe").unwrap();
        let fields: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let schema: serde_json::Value = serde_json::from_str(telltale_records::schema::READINGS).unwrap();
        let mut expected: Vec<&str> =
            schema["fields"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
        expected.sort_unstable();
        let mut found: Vec<&str> = fields.as_object().unwrap().keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!(fields["event_time"], event_time);
        assert!(String::from_utf8(bytes.to_vec()).unwrap().contains(&format!("\"event_time\":{event_time}")));
    }

    #[test]
    fn a_reading_that_is_no_object_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[1]").unwrap();
        assert!(matches!(reading(Some(file.path()), "c"), Err(Error::Reading { .. })));
        assert!(matches!(reading(Some(Path::new("/none/r.json")), "c"), Err(Error::File { .. })));
    }
}
