//! How often a message arrives.

use std::fmt;
use std::str::FromStr;

/// Quality of service: how often a message arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// 0: at most once, best effort.
    AtMostOnce,
    /// 1: at least once.
    AtLeastOnce,
    /// 2: once, while the session lives.
    ExactlyOnce,
}

impl FromStr for Qos {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "0" => Ok(Self::AtMostOnce),
            "1" => Ok(Self::AtLeastOnce),
            "2" => Ok(Self::ExactlyOnce),
            _ => Err(format!("{text:?} is not a quality of service: 0, 1 or 2")),
        }
    }
}

impl fmt::Display for Qos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", *self as u8)
    }
}
