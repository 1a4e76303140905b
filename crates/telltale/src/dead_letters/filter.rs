//! Which dead letters.

use std::time::Duration;

use clap::Args;
use telltale_records::Record;
use telltale_records::dead_letter::{REASON_HEADER, SERVICE_HEADER};

use super::{TARGET_HEADER, source_of, text};
use crate::clock::now_ms;
use crate::load::time::TimeFormat;

/// Which dead letters; each flag leaves fewer.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which")]
pub struct Filter {
    /// Only those with this reason, such as schema-mismatch; repeatable
    #[arg(long, value_name = "REASON")]
    pub reason: Vec<String>,

    /// Only those set aside by this service, such as preprocessor
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,

    /// Only those that failed on the way out of this topic, or into it where the bridge set them aside
    #[arg(long, value_name = "TOPIC")]
    pub source: Option<String>,

    /// Only those of this partition of their source topic
    #[arg(long, value_name = "PARTITION")]
    pub source_partition: Option<i32>,

    /// Only those of this device: the key of the record
    #[arg(long, value_name = "CAR")]
    pub car: Option<String>,

    /// Only those from this time on: RFC 3339, ms or s since 1970, or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<i64>,

    /// Only those before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<i64>,

    /// Only this one of the topic dead-letters, as `list` prints it: OFFSET or PARTITION-OFFSET; repeatable
    #[arg(long, value_name = "OFFSET", value_parser = place)]
    pub offset: Vec<(i32, i64)>,
}

impl Filter {
    /// Whether it takes all there are.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.reason.is_empty()
            && self.service.is_none()
            && self.source.is_none()
            && self.source_partition.is_none()
            && self.car.is_none()
            && self.since.is_none()
            && self.until.is_none()
            && self.offset.is_empty()
    }

    /// Whether it takes this dead letter.
    #[must_use]
    pub fn takes(&self, record: Record<'_>) -> bool {
        let place = record.source();
        let source = source_of(record);
        let topic = source.as_ref().map(|it| &*it.topic).or_else(|| text(record, TARGET_HEADER));
        let time = record.timestamp_ms();
        (self.reason.is_empty()
            || text(record, REASON_HEADER).is_some_and(|it| self.reason.iter().any(|wanted| wanted == it)))
            && self.service.as_deref().is_none_or(|it| text(record, SERVICE_HEADER) == Some(it))
            && self.source.as_deref().is_none_or(|it| topic == Some(it))
            && self
                .source_partition
                .is_none_or(|it| source.as_ref().is_some_and(|found| found.partition == it))
            && self.car.as_ref().is_none_or(|it| record.key() == Some(it.as_bytes()))
            && self.since.is_none_or(|it| time.is_some_and(|time| time >= it))
            && self.until.is_none_or(|it| time.is_some_and(|time| time < it))
            && (self.offset.is_empty() || self.offset.contains(&(place.partition, place.offset)))
    }
}

/// A time, or how long ago.
fn time(text: &str) -> Result<i64, String> {
    if let Ok(ago) = text.parse::<humantime::Duration>() {
        let ago: Duration = ago.into();
        return Ok(now_ms().saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)));
    }
    TimeFormat::Auto.parse(text).map_err(|it| format!("{it}, nor how long ago, such as 2h"))
}

fn place(text: &str) -> Result<(i32, i64), String> {
    let (partition, offset) = text.split_once('-').unwrap_or(("0", text));
    match (partition.parse(), offset.parse()) {
        (Ok(partition), Ok(offset)) if partition >= 0 && offset >= 0 => Ok((partition, offset)),
        _ => Err(format!("{text:?} is neither OFFSET nor PARTITION-OFFSET")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_records::{Batch, topics};

    #[test]
    fn each_flag_leaves_fewer() {
        let mut batch = Batch::new(topics::DEAD_LETTERS.into(), 0);
        let headers = [
            ("src", Some(&b"sensor-data-1-7"[..])),
            ("reason", Some(&b"malformed"[..])),
            ("service", Some(&b"preprocessor"[..])),
        ];
        batch.push(12, Some(5000), Some(b"car-1"), Some(b"x"), headers);
        batch.push(
            13,
            None,
            None,
            None,
            [("reason", Some(&b"too-large"[..])), ("target", Some(&b"sensor-data"[..]))],
        );
        type Change = fn(&mut Filter);
        let cases: [(Change, [bool; 2]); 12] = [
            (|_| (), [true, true]),
            (|it| it.reason = vec!["malformed".to_owned(), "empty".to_owned()], [true, false]),
            (|it| it.service = Some("scorer".to_owned()), [false, false]),
            (|it| it.source = Some("sensor-data".to_owned()), [true, true]),
            (|it| it.source_partition = Some(1), [true, false]),
            (|it| it.source_partition = Some(0), [false, false]),
            (|it| it.car = Some("car-1".to_owned()), [true, false]),
            (|it| it.since = Some(5000), [true, false]),
            (|it| it.since = Some(5001), [false, false]),
            (|it| it.until = Some(5000), [false, false]),
            (|it| it.offset = vec![(0, 13)], [false, true]),
            (|it| it.offset = vec![(1, 13)], [false, false]),
        ];
        for (index, (change, expected)) in cases.into_iter().enumerate() {
            let mut filter = Filter::default();
            change(&mut filter);
            assert_eq!([0, 1].map(|it| filter.takes(batch.record(it))), expected, "case {index}");
            assert_eq!(filter.is_open(), index == 0, "case {index}");
        }
    }

    #[test]
    fn times_and_places_are_read_or_explained() {
        assert_eq!(time("1970-01-01T00:00:05Z"), Ok(5000));
        assert!(time("2h").unwrap() < now_ms() - 7_000_000);
        assert!(time("noon").unwrap_err().contains("such as 2h"));
        assert_eq!((place("5"), place("2-5")), (Ok((0, 5)), Ok((2, 5))));
        assert!(place("-5").is_err() && place("x").is_err());
    }
}
