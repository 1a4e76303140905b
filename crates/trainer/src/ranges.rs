//! Which offsets to read: given by a person, or the last of what is there.

use std::ops::Range;
use std::str::FromStr;

/// Partitions with the offsets to read of each, by partition.
pub(crate) type Ranges = Vec<(i32, Range<i64>)>;

/// A bound of one partition, written `PARTITION:OFFSET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Number of the partition.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(partition, offset)| {
            let (partition, offset): (i32, i64) = (partition.parse().ok()?, offset.parse().ok()?);
            (partition >= 0 && offset >= 0).then_some(Self { partition, offset })
        });
        parsed.ok_or_else(|| format!("{text:?} is not PARTITION:OFFSET, for example 0:1000"))
    }
}

/// Why ranges cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RangeError {
    /// A bound names a partition that is not there.
    #[error("{flag} names partition {partition}, but {topic} has only {partitions}")]
    NoPartition {
        /// `--from` or `--to`.
        flag: &'static str,
        /// The partition.
        partition: i32,
        /// Topic to read.
        topic: String,
        /// How many partitions it has.
        partitions: usize,
    },
    /// Two bounds for one partition.
    #[error("{flag} names partition {partition} twice")]
    Twice {
        /// `--from` or `--to`.
        flag: &'static str,
        /// The partition.
        partition: i32,
    },
    /// A range lies outside of what is there, or ends before it begins.
    #[error("cannot read {topic}-{partition} from {from} to {to}: Kafka holds {first} to {end}")]
    Outside {
        /// Topic to read.
        topic: String,
        /// The partition.
        partition: i32,
        /// First offset asked for.
        from: i64,
        /// Offset to end before.
        to: i64,
        /// First offset there is.
        first: i64,
        /// Offset after the last there is.
        end: i64,
    },
}

/// The ranges between the bounds; where there is none, all that is there.
pub(crate) fn between(
    topic: &str,
    there: &Ranges,
    from: &[Bound],
    to: &[Bound],
) -> Result<Ranges, RangeError> {
    for (flag, bounds) in [("--from", from), ("--to", to)] {
        for (index, &Bound { partition, .. }) in bounds.iter().enumerate() {
            if !there.iter().any(|(it, _)| *it == partition) {
                let partitions = there.len();
                return Err(RangeError::NoPartition { flag, partition, topic: topic.to_owned(), partitions });
            }
            if bounds[..index].iter().any(|it| it.partition == partition) {
                return Err(RangeError::Twice { flag, partition });
            }
        }
    }
    let bound =
        |bounds: &[Bound], partition| bounds.iter().find(|it| it.partition == partition).map(|it| it.offset);
    there
        .iter()
        .map(|&(partition, Range { start: first, end })| {
            let (from, to) = (bound(from, partition).unwrap_or(first), bound(to, partition).unwrap_or(end));
            if from < first || to > end || from > to {
                return Err(RangeError::Outside { topic: topic.to_owned(), partition, from, to, first, end });
            }
            Ok((partition, from..to))
        })
        .collect()
}

/// The last `count` offsets over all partitions, of each as many as it has part in the whole.
pub(crate) fn last(there: &Ranges, count: usize) -> Ranges {
    let all = total(there);
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    if all <= count {
        return there.clone();
    }
    let share = |range: &Range<i64>| {
        let share = i128::from(range.end - range.start) * i128::from(count) / i128::from(all);
        i64::try_from(share).expect("it is at most the length of the range")
    };
    there.iter().map(|(partition, range)| (*partition, range.end - share(range)..range.end)).collect()
}

/// Number of offsets.
pub(crate) fn total(ranges: &Ranges) -> i64 {
    ranges.iter().map(|(_, range)| range.end - range.start).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(texts: &[&str]) -> Vec<Bound> {
        texts.iter().map(|it| it.parse().unwrap()).collect()
    }

    #[test]
    fn bounds_are_read_or_refused() {
        assert_eq!("3:17".parse(), Ok(Bound { partition: 3, offset: 17 }));
        for text in ["", "3", "3:", ":3", "-1:3", "1:-3", "a:b", "1:2:3"] {
            assert!(text.parse::<Bound>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_bounded_is_read_whole() {
        let there = vec![(0, 10..100), (1, 0..50)];
        let found = between("t", &there, &bounds(&["0:20"]), &bounds(&["1:40"]));
        assert_eq!(found, Ok(vec![(0, 20..100), (1, 0..40)]));
    }

    #[test]
    fn ranges_that_are_not_there_are_named() {
        let there = vec![(0, 10..100)];
        let cases = [
            (bounds(&["1:0"]), vec![], "--from names partition 1, but t has only 1"),
            (bounds(&["0:10", "0:11"]), vec![], "--from names partition 0 twice"),
            (bounds(&["0:9"]), vec![], "cannot read t-0 from 9 to 100: Kafka holds 10 to 100"),
            (vec![], bounds(&["0:101"]), "cannot read t-0 from 10 to 101: Kafka holds 10 to 100"),
            (bounds(&["0:50"]), bounds(&["0:40"]), "cannot read t-0 from 50 to 40: Kafka holds 10 to 100"),
        ];
        for (from, to, expected) in cases {
            assert_eq!(between("t", &there, &from, &to).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_last_are_shared_out_by_length() {
        let there = vec![(0, 0..100), (1, 100..400), (2, 5..5)];
        assert_eq!(last(&there, 1000), there);
        assert_eq!(last(&there, 40), [(0, 90..100), (1, 370..400), (2, 5..5)]);
    }
}
