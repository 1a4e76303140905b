//! Predictions are written and read as apache-avro writes and reads them.

use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use telltale_records::prediction::{Contribution, Prediction, Verdict};
use telltale_records::{Reason, Schema, schema};

fn value(prediction: &Prediction<'_>) -> Value {
    let text = |it: &str| Value::String(it.to_owned());
    let contribution = |it: &Contribution<'_>| {
        Value::Record(vec![
            ("sensor".to_owned(), text(it.sensor)),
            ("share".to_owned(), Value::Double(it.share)),
        ])
    };
    let fields = [
        ("car", text(prediction.car)),
        ("event_time", Value::Long(prediction.event_time)),
        ("score", Value::Double(prediction.score)),
        ("threshold", Value::Double(prediction.threshold)),
        ("verdict", Value::Enum(prediction.verdict as u32, prediction.verdict.as_str().to_owned())),
        ("contributions", Value::Array(prediction.contributions.iter().map(contribution).collect())),
        ("model_name", text(prediction.model_name)),
        ("model_version", Value::Long(prediction.model_version)),
        ("source_partition", Value::Int(prediction.source_partition)),
        ("source_offset", Value::Long(prediction.source_offset)),
    ];
    Value::Record(fields.map(|(name, it)| (name.to_owned(), it)).to_vec())
}

proptest! {
    #[test]
    fn writes_and_reads_as_apache_avro(
        (car, sensors, model_name) in ("\\PC{0,20}", prop::collection::vec(("[A-Z_0-9]{0,20}", 0.0..1.0), 0..4), "[a-z]{1,9}"),
        (event_time, model_version, source_offset) in any::<(i64, i64, i64)>(),
        (score, threshold, anomaly, source_partition) in any::<(f64, f64, bool, i32)>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let prediction = Prediction {
            car: &car,
            event_time,
            score,
            threshold,
            verdict: if anomaly { Verdict::Anomaly } else { Verdict::Normal },
            contributions: sensors.iter().map(|(sensor, share)| Contribution { sensor, share: *share }).collect(),
            model_name: &model_name,
            model_version,
            source_partition,
            source_offset,
        };
        let schema = Schema::parse(schema::PREDICTIONS).unwrap();
        let mut bytes = Vec::new();
        prediction.write(&mut bytes);
        prop_assert_eq!(&bytes, &GenericDatumWriter::builder(schema.avro()).build().unwrap().write_value_to_vec(value(&prediction)).unwrap());
        let mut again = Vec::new();
        Prediction::read(&bytes).unwrap().write(&mut again);
        prop_assert_eq!(&bytes, &again);

        let end = cut.index(bytes.len());
        prop_assert_eq!(Prediction::read(&bytes[..end]).unwrap_err().0, Reason::Truncated);
        bytes.push(0);
        prop_assert_eq!(Prediction::read(&bytes).unwrap_err().0, Reason::Trailing);
    }

    #[test]
    fn noise_is_no_prediction(bytes in prop::collection::vec(any::<u8>(), 0..90)) {
        // Thirty-six bytes and more that fit by chance are possible, but not in this many tries.
        prop_assert!(Prediction::read(&bytes).is_err());
    }
}
