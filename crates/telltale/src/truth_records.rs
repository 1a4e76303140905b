//! Records of the truth topic: what the simulator broke, and when.

use serde::Deserialize;
use telltale_records::Record;

use crate::evaluate::Episode;

/// A failure as the simulator tells it; what else it says is not needed here.
#[derive(Debug, Deserialize)]
struct Told {
    car: String,
    mode: String,
    start_ms: i64,
    grown_ms: i64,
    end_ms: i64,
}

/// The episode that `record` tells of; `None` when it is something else.
#[must_use]
pub fn episode(record: Record<'_>) -> Option<Episode> {
    let told: Told = serde_json::from_slice(record.value()?).ok()?;
    if told.start_ms > told.grown_ms || told.grown_ms > told.end_ms {
        return None;
    }
    // A failure is visible at the end of the first quarter of its growth.
    let visible_ms = told.start_ms + (told.grown_ms - told.start_ms) / 4;
    Some(Episode { car: told.car, mode: told.mode, start_ms: told.start_ms, visible_ms, end_ms: told.end_ms })
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_records::Batch;

    #[test]
    fn an_episode_is_visible_after_a_quarter_of_its_growth() {
        let mut batch = Batch::new("fleet-truth".into(), 0);
        let told = br#"{"car":"car-000001","mode":"tyre-leak","part":"11","start_ms":1000,"grown_ms":5000,"end_ms":9000}"#;
        batch.push(0, None, Some(b"car-000001"), Some(told), []);
        batch.push(
            1,
            None,
            None,
            Some(br#"{"car":"a","mode":"b","start_ms":2,"grown_ms":1,"end_ms":3}"#),
            [],
        );
        batch.push(2, None, None, Some(b"nonsense"), []);
        batch.push(3, None, None, None, []);
        let found: Vec<_> = batch.records().filter_map(episode).collect();
        let expected = Episode {
            car: "car-000001".into(),
            mode: "tyre-leak".into(),
            start_ms: 1_000,
            visible_ms: 2_000,
            end_ms: 9_000,
        };
        assert_eq!(found, [expected]);
    }
}
