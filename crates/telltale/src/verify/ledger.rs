//! What the cars were acknowledged, held against the raw topic.

use std::collections::HashMap;

use telltale_records::Record;

use super::offsets::Offsets;

/// Bits of an entry that hold the event time in ms: enough until the year 2527.
const TIME_BITS: u32 = 44;
/// Cars an entry can tell apart.
const CARS: usize = 1 << (64 - TIME_BITS);

/// Readings that a broker acknowledged to a car, eight bytes each.
#[derive(Debug, Default)]
pub struct Acknowledged {
    cars: HashMap<String, u64>,
    /// Car and event time, packed; sorted once all are in.
    entries: Vec<u64>,
    found: Option<Offsets>,
}

impl Acknowledged {
    /// Takes in one acknowledged reading; returns whether it can be held, which only absurd times and more
    /// than a million cars cannot.
    #[must_use]
    pub fn add(&mut self, car: &str, event_time_ms: i64) -> bool {
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
        self.entries.extend(time.map(|it| index << TIME_BITS | it));
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
            self.entries.sort_unstable();
            self.entries.dedup();
            Offsets::within(0..self.entries.len() as i64)
        });
        let car = record.key().and_then(|it| std::str::from_utf8(it).ok());
        let Some(&car) = car.and_then(|it| self.cars.get(it)) else { return };
        let Some(time) = record.value().and_then(event_time) else { return };
        if let Ok(index) = self.entries.binary_search(&(car << TIME_BITS | time)) {
            found.insert(index as i64);
        }
    }

    /// How many readings were acknowledged, and how many of them were not found.
    #[must_use]
    pub fn finish(mut self) -> (u64, u64) {
        self.entries.sort_unstable();
        self.entries.dedup();
        let found = self.found.map_or(0, |it| it.len());
        (self.entries.len() as u64, self.entries.len() as u64 - found)
    }
}

/// The number after `"event_time":` in a reading as cars send it.
fn event_time(value: &[u8]) -> Option<u64> {
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
            assert!(acknowledged.add(car, time), "{car} {time}");
        }
        assert!(!acknowledged.add("a", -1) && !acknowledged.add("a", i64::MAX));
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
        assert_eq!(acknowledged.finish(), (4, 2), "a at 2000 and c at 5 are missing");
    }

    #[test]
    fn an_empty_raw_topic_lacks_everything() {
        let mut acknowledged = Acknowledged::default();
        assert!(acknowledged.add("a", 1) && acknowledged.add("a", 2));
        assert_eq!((acknowledged.len(), acknowledged.finish()), (2, (2, 2)));
    }
}
