//! The settings that every service has besides its own.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use clap::{Args, ValueEnum};

/// How this process shows itself and how it stops.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Process")]
pub struct ProcessConfig {
    /// Address of /livez, /readyz and /metrics; port 0 is any free port, `off` is none
    ///
    /// Each service has a port of its own where nothing else is said, so that all of them run on one machine.
    #[arg(long, env = "HTTP_ADDRESS", value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    pub http: Address,

    /// What is logged: a level, or `target=level` directives separated by commas
    #[arg(long, env = "LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// How log lines are written to standard error
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Human)]
    pub log_format: LogFormat,

    /// Base URL of an OpenTelemetry collector (OTLP over HTTP with protobuf); without it no traces are made
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// Share of traces that are recorded, 0 to 1
    #[arg(long, env = "TRACE_SHARE", value_name = "SHARE", default_value = "1")]
    pub trace_share: Share,

    /// Longest time to finish the work in hand after a signal to stop
    ///
    /// Must be shorter than the grace period of whoever sends the signal.
    #[arg(long, env = "DRAIN_TIMEOUT", value_name = "DURATION", default_value = "20s")]
    pub drain_timeout: humantime::Duration,

    /// Check all settings and the files they name, connect to nothing, and end: with 0 if they can be used
    #[arg(long)]
    pub check_config: bool,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text for people
    Human,
    /// One JSON object a line
    Json,
}

/// Where to listen, or that nothing listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// Listen here; port 0 is any free port.
    On(SocketAddr),
    /// Do not listen.
    Off,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let found = text.to_socket_addrs().ok().and_then(|mut it| it.next());
        found.map(Self::On).ok_or_else(|| format!("{text:?} is neither host:port nor `off`"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On(address) => address.fmt(f),
            Self::Off => f.write_str("off"),
        }
    }
}

/// A share from 0 to 1, both included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(f64);

impl Share {
    /// Returns the share as a number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(value) if (0.0..=1.0).contains(&value) => Ok(Self(value)),
            _ => Err(format!("{text:?} is not a number from 0 to 1")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_or_off() {
        assert_eq!("off".parse(), Ok(Address::Off));
        assert_eq!("127.0.0.1:0".parse(), Ok(Address::On(SocketAddr::from(([127, 0, 0, 1], 0)))));
        assert_eq!("8080".parse::<Address>().unwrap_err(), "\"8080\" is neither host:port nor `off`");
    }

    #[test]
    fn a_share_lies_between_nothing_and_all() {
        assert_eq!("0.25".parse(), Ok(Share(0.25)));
        for wrong in ["-0.1", "1.1", "NaN", "half"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }
}
