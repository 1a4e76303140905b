//! What can be wrong with a link.

use std::fmt;
use std::time::Duration;

/// What is wrong with a link; [`Trouble::Clear`] is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// It passes everything on at once.
    Clear,
    /// It passes nothing on, and says nothing; what it has taken goes on when it is clear again, even if the sender is gone.
    Blackhole,
    /// Its connections are reset, and so are new ones.
    Reset,
    /// Its connections end towards the engine, and the service is not told.
    HalfClose,
    /// It keeps what the service sends, closes the service's connections after a while, and delivers what it kept when
    /// it is clear again, over connections the engine still thinks alive. New connections are clear.
    Hold {
        /// Time until it closes the connections.
        cut_after: Duration,
    },
    /// What it passes on is late by this time, and by up to as much again.
    Late {
        /// The shortest delay.
        delay: Duration,
    },
    /// It passes so many bytes a second on, each way.
    Narrow {
        /// The bytes.
        bytes_a_second: u32,
    },
    /// It passes the first bytes of all it reads one by one.
    Sliced,
    /// Whoever asks is answered HTTP 500.
    Error500,
    /// Whoever asks is answered what is not HTTP.
    Garbage,
    /// Whoever asks is answered by HTTP, with a body that is not JSON.
    NotJson,
}

impl Trouble {
    /// Ways in which a link does not connect.
    pub const PARTITIONS: [Self; 4] = [
        Self::Blackhole,
        Self::Reset,
        Self::HalfClose,
        Self::Hold { cut_after: Duration::from_millis(1500) },
    ];
    /// Ways in which it does, but badly.
    pub const SLOWNESS: [Self; 3] = [
        Self::Late { delay: Duration::from_millis(60) },
        Self::Narrow { bytes_a_second: 100_000 },
        Self::Sliced,
    ];
    /// Ways in which a registry does not answer as it should.
    pub const WRONG_ANSWERS: [Self; 4] =
        [Self::Error500, Self::Garbage, Self::NotJson, Self::Late { delay: Duration::from_secs(4) }];

    /// What is answered instead of the engine's answers.
    #[must_use]
    pub(super) fn answer(self) -> Option<&'static [u8]> {
        match self {
            Self::Error500 => Some(
                b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\n\
                Content-Length: 44\r\nConnection: close\r\n\r\n{\"error_code\":50001,\"message\":\"store error\"}",
            ),
            Self::NotJson => Some(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\nContent-Length: 15\r\n\
                Connection: close\r\n\r\n<html>hello</ht",
            ),
            Self::Garbage => Some(&[0x16, 0x03, 0x01, 0x00, 0xff, 0xfe, 0x00, 0x80, b'\r', b'\n', b'\r', b'\n']),
            _ => None,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clear => f.write_str("clear"),
            Self::Blackhole => f.write_str("blackhole"),
            Self::Reset => f.write_str("reset"),
            Self::HalfClose => f.write_str("half-closed"),
            Self::Hold { .. } => f.write_str("hold and release"),
            Self::Late { delay } => write!(f, "late by {} ms", delay.as_millis()),
            Self::Narrow { bytes_a_second } => write!(f, "{} kB a second", bytes_a_second / 1000),
            Self::Sliced => f.write_str("bytes one by one"),
            Self::Error500 => f.write_str("answers 500"),
            Self::Garbage => f.write_str("answers garbage"),
            Self::NotJson => f.write_str("answers no JSON"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_as_long_as_they_say() {
        for trouble in [Trouble::Error500, Trouble::NotJson] {
            let text = String::from_utf8(trouble.answer().unwrap().to_vec()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}");
        }
    }
}
