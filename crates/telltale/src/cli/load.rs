//! Flags of `telltale load`.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::Args;
use telltale_kafka::KafkaConfig;
use telltale_records::topics;

use crate::load::mapping::{Changes, Pair};
use crate::load::time::TimeFormat;

/// `telltale load`
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// The file: CSV in UTF-8, the first line names the columns
    pub file: PathBuf,

    /// Topic the readings go to
    #[arg(long, value_name = "TOPIC", default_value = topics::SENSOR_DATA)]
    pub topic: String,

    /// Column that is a field of the reading, as COLUMN=FIELD; COLUMN= leaves it out; repeatable
    #[arg(long = "map", value_name = "COLUMN=FIELD")]
    pub columns: Vec<Pair>,

    /// Field that has the same value in each reading, as FIELD=VALUE; repeatable
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub constants: Vec<Pair>,

    /// File that says all of this (TOML: car, time, time_format, delimiter, tables columns and constants); flags go before it
    #[arg(long, value_name = "FILE")]
    pub mapping: Option<PathBuf>,

    /// File with the Avro schema of the readings; the cars' if absent
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,

    /// Column with the device, the key of the record [default: car]
    #[arg(long, value_name = "COLUMN")]
    pub car: Option<String>,

    /// Column with the event time [default: time]
    #[arg(long, value_name = "COLUMN")]
    pub time: Option<String>,

    /// How event times are written [default: auto]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub time_format: Option<TimeFormat>,

    /// Character between two cells, or `tab` [default: ,]
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    pub delimiter: Option<char>,

    /// Move all event times alike, so that the last reading is then: `now`, or a time such as 2026-05-04T10:00:00Z
    #[arg(long, value_name = "TIME")]
    pub last_at: Option<LastAt>,

    /// Send readings also when their times lie before what the topic keeps, or ahead of the clock
    #[arg(long, conflicts_with = "last_at")]
    pub any_time: bool,

    /// Readings a second, above 0 up to 1,000,000; as fast as it goes if absent
    #[arg(long, value_name = "COUNT", value_parser = rate)]
    pub rate: Option<f64>,

    /// Leave out rows that are no readings, and say how many; else nothing is sent if there is one
    #[arg(long)]
    pub skip_bad: bool,

    /// First line of the file to send, counted from 1 with the header
    #[arg(long, value_name = "LINE")]
    pub from_line: Option<NonZeroU64>,

    /// Load rows once more that were loaded before: their readings are then in the topic twice
    #[arg(long)]
    pub again: bool,

    /// Only read the file and say what is in it; nothing is sent, Kafka is not asked
    #[arg(long)]
    pub check: bool,

    /// Where to.
    #[command(flatten)]
    pub kafka: KafkaConfig,
}

/// When the last reading is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastAt {
    /// When the load begins.
    Now,
    /// Then, in ms since 1970.
    At(i64),
}

impl LoadArgs {
    /// What the flags change in the mapping.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes {
            car: self.car.clone(),
            time: self.time.clone(),
            time_format: self.time_format,
            delimiter: self.delimiter,
            columns: self.columns.clone(),
            constants: self.constants.clone(),
        }
    }
}

impl std::str::FromStr for LastAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "now" => Ok(Self::Now),
            _ => TimeFormat::Auto.parse(text).map(Self::At).map_err(|it| format!("{it}, nor `now`")),
        }
    }
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if 0.0 < value && value <= 1e6 => Ok(value),
        _ => Err("it must be a number above 0 up to 1000000".to_owned()),
    }
}

fn delimiter(text: &str) -> Result<char, String> {
    let mut characters = text.chars();
    match (text, characters.next(), characters.next()) {
        ("tab", ..) => Ok('\t'),
        (_, Some(only), None) => Ok(only),
        _ => Err("it must be one character, or tab".to_owned()),
    }
}
