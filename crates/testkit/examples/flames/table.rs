//! What a record costs by stage.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::stacks::Stack;
use crate::stages::{Owner, Stage, stage};

/// A table in Markdown: µs of CPU a record, and the share of all, by owner and stage, the dearest first.
pub(crate) fn of(service: &str, stacks: &[Stack], frequency: u32, records: u64) -> String {
    let mut stages: BTreeMap<Stage, u64> = BTreeMap::new();
    let mut owners: BTreeMap<Owner, u64> = BTreeMap::new();
    for stack in stacks {
        let stage = stage(stack);
        *stages.entry(stage).or_default() += stack.samples;
        *owners.entry(stage.0).or_default() += stack.samples;
    }
    let all: u64 = owners.values().sum();
    let micros = |samples: u64| samples as f64 * 1e6 / f64::from(frequency) / records as f64;
    let share = |samples: u64| 100.0 * samples as f64 / all.max(1) as f64;
    let mut rows: Vec<(Stage, u64)> = stages.into_iter().collect();
    rows.sort_by_key(|((owner, _), samples)| (*owner, std::cmp::Reverse(*samples)));
    let mut text = format!("| **{service}**, {:.2} µs a record | µs | % |\n|---|---|---|\n", micros(all));
    let mut before = None;
    for ((owner, name), samples) in rows {
        if before.replace(owner) != Some(owner) {
            let sum = owners[&owner];
            let _ =
                writeln!(text, "| **{}** | **{:.2}** | **{:.0}** |", owner.name(), micros(sum), share(sum));
        }
        let _ = writeln!(text, "| {name} | {:.2} | {:.0} |", micros(samples), share(samples));
    }
    let _ = writeln!(text, "\n{all} samples, {frequency} a second of CPU time, {records} records");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_add_up_and_the_dearest_comes_first() {
        let stack = |thread: &str, frame: &str, samples| Stack {
            thread: thread.to_owned(),
            frames: vec![frame.to_owned()],
            samples,
        };
        let stacks = [
            stack("worker-0", "telltale_records::json::Decoder::decode", 10),
            stack("worker-0", "telltale_preprocessor::sql::Projection::evaluate", 30),
            stack("rdk:broker1", "rd_kafka_msgset_reader_v2", 60),
        ];
        let text = of("preprocessor", &stacks, 1000, 1000);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[0], "| **preprocessor**, 100.00 µs a record | µs | % |");
        assert_eq!(rows[2], "| **ours** | **40.00** | **40** |");
        assert_eq!(rows[3], "| SQL and checks | 30.00 | 30 |");
        assert_eq!(rows[4], "| JSON to columns | 10.00 | 10 |");
        assert_eq!(rows[5], "| **librdkafka, its threads** | **60.00** | **60** |");
        assert_eq!(rows.last(), Some(&"100 samples, 1000 a second of CPU time, 1000 records"));
    }
}
