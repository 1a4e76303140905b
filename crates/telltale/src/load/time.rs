//! Event times as files write them.

use std::str::FromStr;

use serde::Deserialize;

/// Numbers below it are seconds (until the year 5138), others milliseconds (from 1973 on).
const SECONDS_BELOW: f64 = 1e11;
/// Latest time that is taken, in ms since 1970: the end of the year 9999.
const LATEST: f64 = 253_402_300_799_999.0;

/// How a file writes event times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TimeFormat {
    /// RFC 3339 where there are dashes, else seconds below 1e11, else milliseconds
    #[default]
    Auto,
    /// Milliseconds since 1970
    Ms,
    /// Seconds since 1970, with or without a fraction
    S,
    /// Such as 2026-05-04T10:00:00Z or 2026-05-04 12:00:00.250+02:00
    Rfc3339,
}

impl TimeFormat {
    /// The time in ms since 1970.
    ///
    /// # Errors
    ///
    /// Says what was expected.
    pub fn parse(self, text: &str) -> Result<i64, String> {
        let text = text.trim();
        match self {
            Self::Rfc3339 => rfc3339(text),
            // A dash in front is a sign, one behind an e an exponent.
            Self::Auto if text.get(4..5) == Some("-") => rfc3339(text),
            Self::Auto | Self::Ms | Self::S => {
                let number = f64::from_str(text).map_err(|_| self.expected(text))?;
                let seconds = self == Self::S || self == Self::Auto && number < SECONDS_BELOW;
                let ms = if seconds { number * 1000.0 } else { number };
                if !(0.0..=LATEST).contains(&ms) {
                    return Err(format!("{text:?} is no time from 1970 to 9999"));
                }
                // Whole milliseconds are exact in an f64 for the whole range.
                Ok(ms.round() as i64)
            }
        }
    }

    fn expected(self, text: &str) -> String {
        let expected = match self {
            Self::Auto => {
                "a time: seconds or milliseconds since 1970, or RFC 3339 such as 2026-05-04T10:00:00Z"
            }
            Self::Ms => "a number of milliseconds since 1970",
            Self::S => "a number of seconds since 1970",
            Self::Rfc3339 => "a time such as 2026-05-04T10:00:00Z or 2026-05-04T12:00:00+02:00",
        };
        format!("{text:?} is not {expected}")
    }
}

fn rfc3339(text: &str) -> Result<i64, String> {
    let time = chrono::DateTime::parse_from_rfc3339(text);
    let ms = time.map_err(|_| TimeFormat::Rfc3339.expected(text))?.timestamp_millis();
    if ms < 0 { Err(format!("{text:?} is before 1970")) } else { Ok(ms) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_format() {
        use TimeFormat::{Auto, Ms, Rfc3339, S};
        let cases = [
            (Auto, "1567606196", 1_567_606_196_000),
            (Auto, "1567606196.25", 1_567_606_196_250),
            (Auto, "1.567606196E9", 1_567_606_196_000),
            (Auto, " 1567606196123 ", 1_567_606_196_123),
            (Auto, "2019-09-04T14:09:56Z", 1_567_606_196_000),
            (Auto, "2019-09-04T16:09:56.5+02:00", 1_567_606_196_500),
            (Rfc3339, "2019-09-04 14:09:56Z", 1_567_606_196_000),
            (Ms, "1000", 1000),
            (S, "0.0004", 0),
            (S, "200000000000", 200_000_000_000_000),
        ];
        for (format, text, expected) in cases {
            assert_eq!(format.parse(text), Ok(expected), "{format:?} {text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_was_expected() {
        use TimeFormat::{Auto, Ms, Rfc3339, S};
        let cases = [
            (Auto, "", "seconds or milliseconds"),
            (Auto, "noon", "seconds or milliseconds"),
            (Auto, "NaN", "no time from 1970"),
            (Auto, "-1", "no time from 1970"),
            (Auto, "1e99", "no time from 1970"),
            (Auto, "2019-13-04T14:09:56Z", "such as 2026"),
            (Auto, "2019-09-04T14:09:56", "such as 2026"),
            (Ms, "2019-09-04T14:09:56Z", "milliseconds since 1970"),
            (S, "inf", "no time from 1970"),
            (Rfc3339, "1567606196", "such as 2026"),
            (Rfc3339, "1969-12-31T23:59:59Z", "before 1970"),
        ];
        for (format, text, expected) in cases {
            let error = format.parse(text).unwrap_err();
            assert!(error.contains(expected), "{format:?} {text}: {error}");
        }
    }
}
