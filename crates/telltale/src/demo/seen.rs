//! What the demo has seen on the topics so far: truth, models, predictions, latencies.
//!
//! Plain state without threads; `watch` feeds it, the view and the summary read it.

use std::collections::BTreeMap;
use std::time::Duration;

use telltale_records::manifest::{Manifest, SignedManifest};
use telltale_records::prediction::{Prediction, Verdict};
use telltale_records::{Record, framing};

use crate::evaluate::{Latencies, Truth};
use crate::truth_records;
use crate::view::screen::{ModelInForce, WorstCar};
use crate::view::worst::Standings;

/// Models remembered; a demo makes about one a minute.
const MODELS: usize = 10_000;

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    truth: Truth,
    standings: Standings,
    manifests: BTreeMap<u64, Manifest>,
    /// Version with the time since the start of its first prediction, in the order they came into force.
    in_force: Vec<(u64, Duration)>,
    predictions: u64,
    first_prediction: Option<Duration>,
    /// Wall clock at the first prediction.
    first_prediction_ms: Option<i64>,
    /// Readings published from here on found no backlog from before the first model.
    steady_from_ms: Option<i64>,
    latencies: Latencies,
    latest: Latencies,
}

impl Seen {
    /// Takes in a record of the truth topic.
    pub fn truth(&mut self, record: Record<'_>) {
        if let Some(episode) = truth_records::episode(record) {
            self.truth.add(episode);
        }
    }

    /// Takes in a record of the topic of models; chunks and what is no manifest are passed over.
    pub fn model(&mut self, record: Record<'_>) {
        let signed = record.value().and_then(|it| SignedManifest::parse(it).ok());
        let manifest = signed.and_then(|it| Manifest::parse(&it.manifest).ok());
        if let Some(manifest) = manifest.filter(|_| self.manifests.len() < MODELS) {
            self.manifests.insert(manifest.version, manifest);
        }
    }

    /// Takes in a record of the topic of predictions, seen at `now_ms`, which is `elapsed` after the start.
    pub fn prediction(&mut self, record: Record<'_>, now_ms: i64, elapsed: Duration) {
        let payload = record.value().and_then(framing::split).map(|(_, payload)| payload);
        let Some(Ok(found)) = payload.map(Prediction::read) else { return };
        self.predictions += 1;
        let version = u64::try_from(found.model_version).unwrap_or_default();
        if self.in_force.last().is_none_or(|(newest, _)| version > *newest) && self.in_force.len() < MODELS {
            self.in_force.push((version, elapsed));
        }
        self.first_prediction.get_or_insert(elapsed);
        let first_ms = *self.first_prediction_ms.get_or_insert(now_ms);
        if found.event_time >= first_ms {
            // The first reading from after the first prediction: whatever waited for the model is through.
            let steady_from = *self.steady_from_ms.get_or_insert(now_ms);
            if found.event_time >= steady_from {
                self.latencies.add(now_ms - found.event_time);
                self.latest.add(now_ms - found.event_time);
            }
        }
        let times = if found.threshold > 0.0 { found.score / found.threshold } else { 0.0 };
        // The verdict is the scorer's word; the ratio only orders the cars.
        let times = if found.verdict == Verdict::Anomaly { times.max(1.000_001) } else { times.min(1.0) };
        self.standings.add(found.car, found.event_time, times, &self.truth, || {
            found.contributions.iter().map(|it| (it.sensor.to_owned(), it.share)).collect()
        });
    }

    /// Number of predictions.
    #[must_use]
    pub fn predictions(&self) -> u64 {
        self.predictions
    }

    /// Time from the start to the first prediction.
    #[must_use]
    pub fn first_prediction(&self) -> Option<Duration> {
        self.first_prediction
    }

    /// p50 and p99 of the steady latencies in ms.
    #[must_use]
    pub fn latency_ms(&self) -> (Option<u64>, Option<u64>) {
        (self.latencies.quantile(0.5), self.latencies.quantile(0.99))
    }

    /// p50 and p99 in ms of the steady latencies since the last call.
    pub fn take_latest_latency_ms(&mut self) -> Option<(u64, u64)> {
        let found = self.latest.quantile(0.5).zip(self.latest.quantile(0.99));
        self.latest.clear();
        found
    }

    /// Models that are or were in force, newest first.
    #[must_use]
    pub fn models(&self) -> Vec<ModelInForce> {
        let model = |&(version, since): &(u64, Duration)| match self.manifests.get(&version) {
            Some(it) => ModelInForce {
                version,
                sha256: it.sha256.clone(),
                rows: it.rows,
                training: Duration::try_from_secs_f64(it.seconds).unwrap_or_default(),
                threshold: f64::from(it.threshold),
                since,
            },
            None => ModelInForce { version, since, ..ModelInForce::default() },
        };
        self.in_force.iter().rev().map(model).collect()
    }

    /// The cars that stand out most, and the alarms so far that were right, near a failure, and wrong.
    pub fn worst(&mut self, count: usize) -> (Vec<WorstCar>, (u64, u64, u64)) {
        (self.standings.worst(count, &self.truth), self.standings.alarms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_records::prediction::Contribution;
    use telltale_records::{Batch, topics};

    fn batch(predictions: &[(i64, i64)]) -> Batch {
        let mut batch = Batch::new(topics::PREDICTIONS.into(), 0);
        for (offset, &(event_time, model_version)) in predictions.iter().enumerate() {
            let mut bytes = Vec::new();
            framing::write_header(1, &mut bytes);
            let prediction = Prediction {
                car: "a",
                event_time,
                score: 4.0,
                threshold: 2.0,
                verdict: Verdict::Anomaly,
                contributions: vec![Contribution { sensor: "SPEED", share: 0.5 }],
                model_name: "cars",
                model_version,
                source_partition: 0,
                source_offset: 0,
            };
            prediction.write(&mut bytes);
            batch.push(offset as i64, Some(event_time), Some(b"a"), Some(&bytes), []);
        }
        batch
    }

    #[test]
    fn latencies_count_from_when_the_backlog_is_worked_off() {
        let mut seen = Seen::default();
        // Event time, and when it was seen: the first two waited for the model.
        let times =
            [(1_000, 9_000), (8_990, 9_100), (9_050, 9_200), (9_150, 9_210), (9_300, 9_330), (9_400, 9_440)];
        let batch = batch(&times.map(|(event_time, _)| (event_time, 1)));
        for (record, (_, now)) in batch.records().zip(times) {
            seen.prediction(record, now, Duration::from_millis(now as u64));
        }
        assert_eq!(seen.predictions(), 6);
        assert_eq!(seen.first_prediction(), Some(Duration::from_secs(9)));
        assert_eq!(seen.latency_ms(), (Some(30), Some(40)), "only the last two");
        assert_eq!(seen.take_latest_latency_ms(), Some((30, 40)));
        assert_eq!(seen.take_latest_latency_ms(), None);
    }

    #[test]
    fn a_model_is_in_force_from_its_first_prediction() {
        let mut seen = Seen::default();
        let batch = batch(&[(1, 1), (2, 1), (3, 2), (4, 2)]);
        for (second, record) in batch.records().enumerate() {
            seen.prediction(record, 0, Duration::from_secs(second as u64));
        }
        let found: Vec<_> = seen.models().iter().map(|it| (it.version, it.since.as_secs())).collect();
        assert_eq!(found, [(2, 2), (1, 0)]);
        let (worst, alarms) = seen.worst(3);
        assert_eq!(worst[0].sensors, [("SPEED".to_owned(), 0.5)]);
        assert_eq!(alarms, (0, 0, 4));
    }

    #[test]
    fn strange_records_are_passed_over() {
        let mut seen = Seen::default();
        let mut batch = Batch::new(topics::MODELS.into(), 0);
        batch.push(0, None, None, Some(b"\0\0\0\0\x01x"), []);
        batch.push(1, None, None, None, []);
        for record in batch.records() {
            seen.model(record);
            seen.prediction(record, 0, Duration::ZERO);
        }
        assert_eq!((seen.predictions(), seen.models().len()), (0, 0));
    }
}
