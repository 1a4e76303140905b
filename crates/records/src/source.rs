//! Where a record came from: the `src` header every record of a service carries.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Name of the header that holds a [`Source`].
pub const SOURCE_HEADER: &str = "src";

/// Name of the header of a sampled record's trace, as W3C Trace Context defines it.
pub const TRACE_HEADER: &str = "traceparent";

/// A record's place in Kafka, written `<topic>-<partition>-<offset>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// Topic of the record.
    pub topic: Arc<str>,
    /// Partition of the record.
    pub partition: i32,
    /// Offset of the record in its partition.
    pub offset: i64,
}

impl Source {
    /// Appends the text of the header, faster than formatting it: it is on every record.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.topic.as_bytes());
        for number in [i64::from(self.partition), self.offset] {
            out.push(b'-');
            if number < 0 {
                out.push(b'-');
            }
            let mut digits = [0; 20];
            let mut first = digits.len();
            let mut rest = number.unsigned_abs();
            loop {
                first -= 1;
                digits[first] = b'0' + (rest % 10) as u8;
                rest /= 10;
                if rest == 0 {
                    break;
                }
            }
            out.extend_from_slice(&digits[first..]);
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.topic, self.partition, self.offset)
    }
}

/// A text that is not `<topic>-<partition>-<offset>`.
#[derive(Debug, thiserror::Error)]
#[error("source {text:?} is not <topic>-<partition>-<offset>")]
pub struct SourceError {
    /// The text as found.
    pub text: String,
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let error = || SourceError { text: text.to_owned() };
        // A topic may hold dashes itself, so read from the right.
        let mut parts = text.rsplitn(3, '-');
        let offset = parts.next().and_then(natural).ok_or_else(error)?;
        let partition = parts.next().and_then(natural).ok_or_else(error)?;
        let topic = parts.next().filter(|it| !it.is_empty()).ok_or_else(error)?;
        let partition = i32::try_from(partition).map_err(|_| error())?;
        Ok(Self { topic: topic.into(), partition, offset })
    }
}

fn natural(digits: &str) -> Option<i64> {
    let canonical = digits == "0" || !digits.starts_with(['0', '+']);
    canonical.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["sensor-data-0-0", "A-3-9223372036854775807", "a-b-c-12-7"] {
            let source: Source = text.parse().unwrap();
            assert_eq!(source.to_string(), text);
            let mut written = Vec::new();
            source.write(&mut written);
            assert_eq!(written, text.as_bytes());
        }
    }

    #[test]
    fn refuses_anything_else() {
        for text in ["", "a", "a-1", "-1-2", "a--1", "a-1-", "a-1-x", "a-1-02", "a-4294967296-1", "a-1-+2"] {
            assert!(text.parse::<Source>().is_err(), "{text:?}");
        }
    }
}
