//! Predictions: what the model in force made of one clean reading.
//!
//! Written and read by hand, field by field, because there is one shape of it ([`crate::schema::PREDICTIONS`])
//! and one for each reading; a property test holds both ways equal to apache-avro.

use crate::avro::{Cursor, write_long};
use crate::columns::Rejected;
use crate::dead_letter::Reason;

/// Most contributions that are read from one prediction.
const CONTRIBUTIONS_LIMIT: u64 = 64;

/// Whether a reading is usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The score is not above the threshold.
    Normal,
    /// The score is above the threshold.
    Anomaly,
}

/// How much one sensor adds to a score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contribution<'a> {
    /// The sensor's field in the clean reading.
    pub sensor: &'a str,
    /// Its share of the score, 0 to 1.
    pub share: f64,
}

/// A prediction, borrowing its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction<'a, C = Vec<Contribution<'a>>> {
    /// The car that sent the reading.
    pub car: &'a str,
    /// When the car took the reading, in ms since 1970.
    pub event_time: i64,
    /// How unlike the training data the reading is.
    pub score: f64,
    /// The model's threshold.
    pub threshold: f64,
    /// Whether the score is above it.
    pub verdict: Verdict,
    /// The sensors that contribute most, largest first.
    pub contributions: C,
    /// Name of the model.
    pub model_name: &'a str,
    /// Version of the model.
    pub model_version: i64,
    /// Partition of the clean reading.
    pub source_partition: i32,
    /// Offset of the clean reading.
    pub source_offset: i64,
}

/// A prediction that was decoded.
pub type PredictionView<'a> = Prediction<'a>;

impl Verdict {
    /// The symbol in the schema.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Anomaly => "ANOMALY",
        }
    }
}

impl<'a, C: AsRef<[Contribution<'a>]>> Prediction<'a, C> {
    /// Appends the prediction as Avro, without a Confluent header.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_text(self.car, out);
        write_long(self.event_time, out);
        out.extend_from_slice(&self.score.to_le_bytes());
        out.extend_from_slice(&self.threshold.to_le_bytes());
        out.push(match self.verdict {
            Verdict::Normal => 0,
            Verdict::Anomaly => 2,
        });
        let contributions = self.contributions.as_ref();
        if !contributions.is_empty() {
            write_long(contributions.len() as i64, out);
            for contribution in contributions {
                write_text(contribution.sensor, out);
                out.extend_from_slice(&contribution.share.to_le_bytes());
            }
        }
        out.push(0); // the end of the array
        write_text(self.model_name, out);
        write_long(self.model_version, out);
        write_long(i64::from(self.source_partition), out);
        write_long(self.source_offset, out);
    }
}

impl<'a> Prediction<'a> {
    /// Reads a prediction that [`Prediction::write`], or any Avro encoder, wrote.
    ///
    /// # Errors
    ///
    /// Returns the reason and a description when the bytes are not exactly one prediction.
    pub fn read(payload: &'a [u8]) -> Result<Self, (Reason, String)> {
        let mut cursor = Cursor::new(payload);
        let mut field = "car";
        let found = Self::read_fields(&mut cursor, &mut field);
        let found = found.map_err(|fault| (fault.reason(), fault.describe(field, &cursor)))?;
        match cursor.remaining() {
            0 => Ok(found),
            left => Err((Reason::Trailing, format!("{left} of {} bytes are left", payload.len()))),
        }
    }

    fn read_fields(cursor: &mut Cursor<'a>, field: &mut &'static str) -> Result<Self, crate::avro::Fault> {
        use crate::avro::Fault;
        let car = cursor.text()?;
        *field = "event_time";
        let event_time = cursor.long()?;
        *field = "score";
        let score = cursor.double()?;
        *field = "threshold";
        let threshold = cursor.double()?;
        *field = "verdict";
        let verdict = [Verdict::Normal, Verdict::Anomaly][cursor.index(2, Fault::Symbol)?];
        *field = "contributions";
        let mut contributions = Vec::new();
        while let Some((count, end)) = cursor.block()? {
            if contributions.len() as u64 + count.min(CONTRIBUTIONS_LIMIT + 1) > CONTRIBUTIONS_LIMIT {
                return Err(Fault::TooLarge);
            }
            for _ in 0..count {
                contributions.push(Contribution { sensor: cursor.text()?, share: cursor.double()? });
            }
            if end.is_some_and(|it| it != cursor.remaining()) {
                return Err(Fault::BlockSize);
            }
        }
        *field = "model_name";
        let model_name = cursor.text()?;
        *field = "model_version";
        let model_version = cursor.long()?;
        *field = "source_partition";
        let source_partition = cursor.int()?;
        *field = "source_offset";
        let source_offset = cursor.long()?;
        Ok(Self {
            car,
            event_time,
            score,
            threshold,
            verdict,
            contributions,
            model_name,
            model_version,
            source_partition,
            source_offset,
        })
    }
}

/// Reads the predictions of many payloads; those that are none come back as rejections.
pub fn read_all<'a>(
    payloads: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<PredictionView<'a>>, Vec<Rejected>) {
    let mut found = Vec::new();
    let mut rejected = Vec::new();
    for (position, payload) in payloads.into_iter().enumerate() {
        match Prediction::read(payload) {
            Ok(prediction) => found.push(prediction),
            Err((reason, detail)) => rejected.push((crate::columns::index(position), reason, detail)),
        }
    }
    (found, rejected)
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_long(text.len() as i64, out);
    out.extend_from_slice(text.as_bytes());
}
