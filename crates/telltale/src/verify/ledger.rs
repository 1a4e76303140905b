//! What the cars were acknowledged, held against the raw topic.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use telltale_records::Record;

use super::offsets::Offsets;

/// Bits of an entry that hold the event time in ms: enough until the year 2527.
const TIME_BITS: u32 = 44;
/// Cars an entry can tell apart.
const CARS: usize = 1 << (64 - TIME_BITS);

/// Places of altered readings that are kept; the others are counted.
const SHOWN: usize = 10;

/// Readings that a broker acknowledged to a car, sixteen bytes each.
#[derive(Debug, Default)]
pub struct Acknowledged {
    cars: HashMap<String, u64>,
    /// Car and event time, packed, and the first bytes of the payload's SHA-256; sorted once all are in.
    entries: Vec<(u64, u64)>,
    found: Option<Offsets>,
    altered: u64,
    shown: Vec<String>,
}

impl Acknowledged {
    /// Takes in one acknowledged reading, `hash` being the first eight bytes of its SHA-256; returns whether it can be held, which only absurd times and more
    /// than a million cars cannot.
    #[must_use]
    pub fn add(&mut self, car: &str, event_time_ms: i64, hash: u64) -> bool {
        let index = match self.cars.get(car) {
            Some(&index) => index,
            None if self.cars.len() < CARS => {
                let index = self.cars.len() as u64;
                self.cars.insert(car.to_owned(), index);
                index
            }
            None => return false,
        };
        let time = u64::try_from(event_time_ms).ok().filter(|it| it >> TIME_BITS == 0);
        self.entries.extend(time.map(|it| (index << TIME_BITS | it, hash)));
        time.is_some()
    }

    /// Number of readings acknowledged, each counted once however often it was.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Whether nothing was acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes in a record of the raw topic.
    pub fn found(&mut self, record: Record<'_>) {
        let found = self.found.get_or_insert_with(|| {
            sort(&mut self.entries);
            Offsets::starting_at(0)
        });
        let car = record.key().and_then(|it| std::str::from_utf8(it).ok());
        let Some(&car) = car.and_then(|it| self.cars.get(it)) else { return };
        let Some(value) = record.value() else { return };
        let Some(time) = event_time(value) else { return };
        if let Ok(index) = self.entries.binary_search_by_key(&(car << TIME_BITS | time), |it| it.0) {
            found.insert(index as i64);
            if hash_of(value) != self.entries[index].1 {
                self.altered += 1;
                if self.shown.len() < SHOWN {
                    self.shown.push(record.source().to_string());
                }
            }
        }
    }

    /// Readings that are in the topic with other bytes than the car sent: how many, and where the first lie.
    #[must_use]
    pub fn altered(&self) -> (u64, &[String]) {
        (self.altered, &self.shown)
    }

    /// How many readings were acknowledged, and how many of them were not found.
    #[must_use]
    pub fn finish(mut self) -> (u64, u64) {
        sort(&mut self.entries);
        let found = self.found.map_or(0, |it| it.len());
        (self.entries.len() as u64, self.entries.len() as u64 - found)
    }
}

/// Each reading once, however often it was acknowledged.
fn sort(entries: &mut Vec<(u64, u64)>) {
    entries.sort_unstable();
    entries.dedup_by_key(|it| it.0);
}

/// The first bytes of a payload's SHA-256.
fn hash_of(payload: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(payload).into();
    u64::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
}

/// The number after `"event_time":` in a reading as cars send it.
pub(super) fn event_time(value: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"\"event_time\":";
    // Cars write it last or nearly so.
    let at = value.windows(NAME.len()).rposition(|it| it == NAME)? + NAME.len();
    let digits = value[at..].trim_ascii_start();
    let end = digits.iter().position(|it| !it.is_ascii_digit()).unwrap_or(digits.len());
    let time: u64 = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    (time >> TIME_BITS == 0).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_records::Batch;

    #[test]
    fn what_was_acknowledged_and_is_not_there_is_counted() {
        let mut acknowledged = Acknowledged::default();
        for (car, time) in [("a", 1_000), ("a", 2_000), ("b", 1_000), ("b", 1_000), ("c", 5)] {
            let payload = format!("{{\"speed\":3,\"event_time\":{time}}}");
            assert!(acknowledged.add(car, time, hash_of(payload.as_bytes())), "{car} {time}");
        }
        assert!(!acknowledged.add("a", -1, 0) && !acknowledged.add("a", i64::MAX, 0));
        let mut batch = Batch::new("sensor-data".into(), 0);
        let values: [(&[u8], &[u8]); 7] = [
            (b"a", b"{\"speed\":3,\"event_time\":1000}"),
            (b"a", b"{\"event_time\": 1000,\"speed\":3}"),
            (b"b", b"{\"event_time\":1000}"),
            (b"b", b"{\"event_time\":2000}"),
            (b"c", b"{\"event_time\":}"),
            (b"c", b"{\"event_time\":99999999999999999999999}"),
            (b"x", b"{\"event_time\":5}"),
        ];
        for (offset, (key, value)) in values.into_iter().enumerate() {
            batch.push(offset as i64, None, Some(key), Some(value), []);
        }
        batch.push(9, None, None, None, []);
        batch.records().for_each(|it| acknowledged.found(it));
        // Both of a at 1000 and b at 1000 are there; two of the three have other bytes than were sent.
        let places = ["sensor-data-0-1", "sensor-data-0-2"].map(str::to_owned);
        assert_eq!(acknowledged.altered(), (2, &places[..]));
        assert_eq!(acknowledged.finish(), (4, 2), "a at 2000 and c at 5 are missing");
    }

    #[test]
    fn an_empty_raw_topic_lacks_everything() {
        let mut acknowledged = Acknowledged::default();
        assert!(acknowledged.add("a", 1, 0) && acknowledged.add("a", 2, 0));
        assert_eq!((acknowledged.len(), acknowledged.finish()), (2, (2, 2)));
    }
}
