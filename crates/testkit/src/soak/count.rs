//! Counts what was lost, doubled and moved between the cars' ledger and the raw topic, without the product's own verifier:
//! it holds for any bridge.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use telltale_kafka::{Isolation, KafkaConfig, Reader};
use telltale_records::topics;
use tokio_util::sync::CancellationToken;

/// What became of the readings that the broker acknowledged to the cars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Count {
    /// Readings that the broker acknowledged.
    pub acknowledged: u64,
    /// Records in the raw topic.
    pub raw: u64,
    /// Acknowledged readings that are not in the raw topic.
    pub lost: u64,
    /// Records of the raw topic that were there before.
    pub again: u64,
    /// First appearances behind a later reading of the same car.
    pub moved: u64,
}

/// A reading in the ledger: its place among those of its car, and how often it was found.
#[derive(Debug, Clone, Copy)]
struct Sent {
    place: u64,
    found: u64,
}

/// What the ledgers say, by car and the beginning of a payload's hash.
#[derive(Debug, Default)]
struct Ledger {
    cars: HashMap<String, Car>,
}

#[derive(Debug, Default)]
struct Car {
    sent: HashMap<u64, Sent>,
    /// Place of the newest reading found.
    newest: u64,
}

impl Ledger {
    fn read(folder: &Path) -> Result<Self> {
        let mut ledger = Self::default();
        for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "csv") {
                let lines = BufReader::new(std::fs::File::open(&path)?).lines();
                ledger
                    .add(lines.map_while(Result::ok))
                    .with_context(|| format!("reading {}", path.display()))?;
            }
        }
        Ok(ledger)
    }

    fn add(&mut self, mut lines: impl Iterator<Item = String>) -> Result<()> {
        let head = lines.next().context("it is empty")?;
        let column = |name: &str| {
            head.split(',').position(|it| it == name).with_context(|| format!("no column {name}"))
        };
        let (car, time, hash, outcome) =
            (column("car")?, column("event_time")?, column("sha256")?, column("outcome")?);
        for line in lines {
            let fields: Vec<&str> = line.split(',').collect();
            let found =
                || Some((*fields.get(car)?, fields.get(time)?.parse().ok()?, fields.get(hash)?.get(..16)?));
            if let (Some((car, place, hash)), Some(&"acknowledged")) = (found(), fields.get(outcome))
                && let Ok(hash) = u64::from_str_radix(hash, 16)
            {
                self.cars.entry(car.to_owned()).or_default().sent.insert(hash, Sent { place, found: 0 });
            }
        }
        Ok(())
    }

    fn found(&mut self, key: &[u8], value: &[u8], count: &mut Count) {
        count.raw += 1;
        let car = std::str::from_utf8(key).ok().and_then(|it| self.cars.get_mut(it));
        let hash = Sha256::digest(value);
        let hash = u64::from_be_bytes(hash[..8].try_into().expect("a hash has 32 bytes"));
        let Some(car) = car else { return };
        let Some(sent) = car.sent.get_mut(&hash) else { return };
        sent.found += 1;
        if sent.found > 1 {
            count.again += 1;
        } else if sent.place < car.newest {
            count.moved += 1;
        }
        car.newest = car.newest.max(sent.place);
    }

    fn finish(&self, count: &mut Count) {
        let sent = || self.cars.values().flat_map(|it| it.sent.values());
        count.acknowledged = sent().count() as u64;
        count.lost = sent().filter(|it| it.found == 0).count() as u64;
    }
}

/// Holds the ledgers of a folder against the raw topic.
///
/// # Errors
///
/// Returns which of them cannot be read.
pub fn count(ledgers: &Path, kafka: &KafkaConfig, stop: &CancellationToken) -> Result<Count> {
    let mut ledger = Ledger::read(ledgers)?;
    let mut count = Count::default();
    let mut reader = Reader::open(kafka, Isolation::Committed)?;
    for partition in reader.partitions(topics::SENSOR_DATA)? {
        let range = reader.watermarks(topics::SENSOR_DATA, partition)?;
        reader.read(topics::SENSOR_DATA, partition, range, stop, |batch| {
            for record in batch.records() {
                ledger.found(
                    record.key().unwrap_or_default(),
                    record.value().unwrap_or_default(),
                    &mut count,
                );
            }
            ControlFlow::Continue(())
        })?;
    }
    ledger.finish(&mut count);
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_doubled_and_moved_is_counted() {
        let line = |car: &str, time: u64, outcome: &str| {
            let hash = Sha256::digest(format!("{car} {time}"));
            let hash: String = hash.iter().map(|it| format!("{it:02x}")).collect();
            format!("{car},{time},{hash},{outcome}")
        };
        let mut lines = vec!["car,event_time,sha256,outcome".to_owned()];
        lines.extend((1..=6).map(|it| line("car-1", it, "acknowledged")));
        lines.push(line("car-1", 7, "unacknowledged"));
        let mut ledger = Ledger::default();
        ledger.add(lines.into_iter()).unwrap();
        let mut count = Count::default();
        for time in [1, 2, 4, 3, 4, 3, 7, 6] {
            ledger.found(b"car-1", format!("car-1 {time}").as_bytes(), &mut count);
        }
        ledger.found(b"poison", b"", &mut count);
        ledger.finish(&mut count);
        assert_eq!(count, Count { acknowledged: 6, raw: 9, lost: 1, again: 2, moved: 1 });
    }
}
