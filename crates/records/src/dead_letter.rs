//! Dead letters: records that could not go on, their bytes unchanged, the reason in their headers.

use std::fmt;

/// Header with the [`Reason`] a record was rejected for.
pub const REASON_HEADER: &str = "reason";
/// Header with what exactly was wrong, for a person.
pub const DETAIL_HEADER: &str = "detail";
/// Header with the service that rejected the record.
pub const SERVICE_HEADER: &str = "service";

/// Longest `detail` that is kept, in bytes; hostile input must not grow headers without bound.
pub const DETAIL_LIMIT: usize = 512;

/// Why a record is a dead letter: a small closed set, fit for a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// No value, or a value without bytes.
    Empty,
    /// The bytes end before the record does.
    Truncated,
    /// Bytes are left after the record's end.
    Trailing,
    /// The bytes are not of the stated format.
    Malformed,
    /// The Confluent header names a schema that the registry does not have, or that is not allowed.
    UnknownSchema,
    /// A field is missing or of the wrong type.
    SchemaMismatch,
    /// A value is outside the range that a check demands, or is not a number.
    OutOfRange,
    /// The event time is missing or beyond what the stream accepts.
    BadTime,
    /// The record is larger than the target accepts.
    TooLarge,
    /// The target topic refused the record.
    Refused,
    /// The key is missing or is not text.
    BadKey,
}

impl Reason {
    /// Every reason, for metrics and documentation.
    pub const ALL: [Self; 11] = [
        Self::Empty,
        Self::Truncated,
        Self::Trailing,
        Self::Malformed,
        Self::UnknownSchema,
        Self::SchemaMismatch,
        Self::OutOfRange,
        Self::BadTime,
        Self::TooLarge,
        Self::Refused,
        Self::BadKey,
    ];

    /// The word in the header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Truncated => "truncated",
            Self::Trailing => "trailing",
            Self::Malformed => "malformed",
            Self::UnknownSchema => "unknown-schema",
            Self::SchemaMismatch => "schema-mismatch",
            Self::OutOfRange => "out-of-range",
            Self::BadTime => "bad-time",
            Self::TooLarge => "too-large",
            Self::Refused => "refused",
            Self::BadKey => "bad-key",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why one record was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The kind of fault.
    pub reason: Reason,
    /// What exactly was wrong, for a person.
    pub detail: String,
    /// The service that found it.
    pub service: &'static str,
}

impl Rejection {
    /// Names and values of the headers that a dead letter carries besides `src`.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, &str); 3] {
        let mut end = self.detail.len().min(DETAIL_LIMIT);
        while !self.detail.is_char_boundary(end) {
            end -= 1;
        }
        [
            (REASON_HEADER, self.reason.as_str()),
            (DETAIL_HEADER, &self.detail[..end]),
            (SERVICE_HEADER, self.service),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_detail_is_cut_between_characters() {
        let rejection = Rejection { reason: Reason::Malformed, detail: "ü".repeat(400), service: "bridge" };
        let headers = rejection.headers();
        assert_eq!(headers[1].1.len(), DETAIL_LIMIT);
        assert_eq!(headers[0], (REASON_HEADER, "malformed"));
    }
}
