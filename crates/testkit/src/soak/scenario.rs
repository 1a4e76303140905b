//! Faults that run alone, each with an expectation of its own: one takes long, the others lose data by definition.

use std::time::Duration;

use clap::ValueEnum;
use telltale_kafka::{Isolation, KafkaConfig, Reader};
use telltale_records::topics;

use super::plan::{Fault, Kind, Planned, Service, schedule};
use super::settings::Settings;
use super::usage::Course;
use crate::engines::Engine;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Faults of the kinds that are asked for, in a seeded schedule
    Mix,
    /// Kafka is away for the whole time: the bridge waits in bounded memory and catches up, nothing lost, nothing moved
    Outage,
    /// The topic of predictions is deleted and made anew: the scorers say so, and only what lay in it is lost
    TopicDeleted,
    /// What the preprocessors had not read is deleted: they say so and stand still, and only what was deleted is lost
    Retention,
    /// One of each service stands still until Kafka has given its work to another, and then goes on where it was
    Zombies,
}

/// Time of undisturbed flow before a scenario's fault.
const BEFORE: Duration = Duration::from_secs(15);
/// For so long the topic of predictions is gone: longer than librdkafka waits in silence for a topic to come (30 s).
const WITHOUT_TOPIC: Duration = Duration::from_secs(45);
/// For so long the preprocessors are away.
const AWAY: Duration = Duration::from_secs(10);
/// For so long a service stands still: longer than its session in the group (30 s) and its transaction (60 s) last.
const STILL: Duration = Duration::from_secs(75);
/// What the bridge may take more while Kafka is away, in kB of 1024 bytes.
const OUTAGE_KB: u64 = 10 * 1024;

impl Scenario {
    /// What will happen when.
    #[must_use]
    pub fn plan(self, settings: &Settings) -> Vec<Planned> {
        let alone = |kind, fault, lasting| vec![Planned { at: BEFORE, lasting, kind, fault }];
        match self {
            Self::Mix => schedule(settings.seed, settings.length(), &settings.kinds(), settings.engines),
            Self::Outage => alone(Kind::Outage, Fault::KillEngine(Engine::Kafka), settings.length()),
            Self::TopicDeleted => alone(Kind::Deleted, Fault::DeleteTopic, WITHOUT_TOPIC),
            Self::Retention => alone(Kind::Retention, Fault::Retention, AWAY),
            // A moment apart: each may be in the midst of a transaction or not.
            Self::Zombies => {
                [Service::Preprocessor(1), Service::Scorer(1), Service::Trainer, Service::Bridge]
                    .into_iter()
                    .zip(1..)
                    .map(|(service, number)| {
                        let at = BEFORE + Duration::from_millis(350) * number;
                        Planned { at, lasting: STILL, kind: Kind::Freeze, fault: Fault::Freeze(service) }
                    })
                    .collect()
            }
        }
    }
}

/// Whether all predictions are of transactions that have ended.
///
/// # Errors
///
/// Returns why Kafka cannot be asked.
pub fn no_open_transaction(kafka: &KafkaConfig, partitions: i32) -> Result<bool, telltale_kafka::Error> {
    let ends = |isolation| -> Result<Vec<i64>, telltale_kafka::Error> {
        let reader = Reader::open(kafka, isolation)?;
        (0..partitions).map(|it| Ok(reader.watermarks(topics::PREDICTIONS, it)?.end)).collect()
    };
    Ok(ends(Isolation::Committed)? == ends(Isolation::Uncommitted)?)
}

/// What is wrong with the bridge's memory, `course` being its memory from the beginning of the outage on.
#[must_use]
pub fn judge_outage(course: &Course) -> Option<String> {
    let more = course.peak.rss_kb.saturating_sub(course.start.rss_kb);
    (more >= OUTAGE_KB)
        .then(|| format!("the bridge took {more} kB more while Kafka was away; it may take {OUTAGE_KB}"))
}

/// What is wrong after the topic of predictions was deleted with so many in it: `violations` are those of `telltale verify`,
/// `summary` is all that it said, `logs` what each scorer logged.
#[must_use]
pub fn judge_deleted(
    deleted: u64,
    violations: Vec<String>,
    summary: &str,
    logs: &[(Service, String)],
) -> Vec<String> {
    let of_deleted = format!("lost: {}-", topics::CLEAN);
    let mut wrong: Vec<String> =
        violations.into_iter().filter(|it| !it.trim_start().starts_with(&of_deleted)).collect();
    let lost = lost(summary, topics::CLEAN);
    if lost != Some(deleted) {
        wrong.push(format!("{deleted} predictions were deleted, but {lost:?} readings are without one"));
    }
    for (service, log) in logs {
        let said =
            |it: &str| (it.contains("WARN") || it.contains("ERROR")) && it.contains(topics::PREDICTIONS);
        if !log.lines().any(said) {
            wrong.push(format!("{service} did not say that {} was gone", topics::PREDICTIONS));
        }
    }
    wrong
}

/// What is wrong after so many acknowledged readings were deleted: `violations` are those of `telltale verify`.
#[must_use]
pub fn judge_retention(deleted: u64, violations: Vec<String>) -> Vec<String> {
    let named = format!("{ABSENT}{deleted} readings");
    if deleted > 0 && violations.iter().any(|it| it.trim_start().starts_with(&named)) {
        return violations.into_iter().filter(|it| !it.trim_start().starts_with(&named)).collect();
    }
    let all = violations.join("; ");
    vec![format!("{deleted} readings were deleted, but telltale verify does not say so: {all}")]
}

/// How `telltale verify` says how many readings are gone.
const ABSENT: &str = "acknowledged and not in the log: ";

/// How many records of a topic `telltale verify` calls lost.
fn lost(summary: &str, topic: &str) -> Option<u64> {
    let line = summary.lines().find_map(|it| it.strip_prefix(topic)?.strip_prefix(": "))?;
    line.split(", ").find_map(|it| it.strip_suffix(" lost"))?.replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::usage::Usage;

    #[test]
    fn only_what_was_deleted_may_be_lost_and_the_scorers_say_so() {
        let summary = "sensor-data: 9 records, 9 with an outcome, 0 on their way, 0 lost, 0 outcomes too many\n\
            SENSOR_DATA_S_AVRO: 1,300 records, 100 with an outcome, 0 on their way, 1,200 lost, 0 outcomes too many\n";
        let log = |text: &str| [(Service::Scorer(1), text.to_owned())];
        let warned = log("WARN model-predictions is not there");
        let lost =
            || vec!["    lost: SENSOR_DATA_S_AVRO-0-1 to SENSOR_DATA_S_AVRO-0-9 have no outcome".to_owned()];
        assert_eq!(judge_deleted(1200, lost(), summary, &warned), Vec::<String>::new());
        assert_eq!(judge_deleted(1199, lost(), summary, &warned).len(), 1);
        assert_eq!(judge_deleted(1200, lost(), summary, &log("INFO model-predictions")).len(), 1);
        let more = vec!["lost: sensor-data-0-7 has no outcome".to_owned()];
        assert_eq!(judge_deleted(1200, more.clone(), summary, &warned), more);
    }

    #[test]
    fn only_what_retention_deleted_may_be_lost_and_all_of_it_is_named() {
        let said = |count: u64| format!("  {ABSENT}{count} readings of the cars' ledgers");
        assert_eq!(judge_retention(12, vec![said(12)]), Vec::<String>::new());
        assert_eq!(judge_retention(12, vec![said(12), "lost: more".to_owned()]), ["lost: more"]);
        assert_eq!(judge_retention(12, vec![said(13)]).len(), 1);
        assert_eq!(judge_retention(12, vec![said(122)]).len(), 1);
        assert_eq!(judge_retention(0, Vec::new()).len(), 1);
    }

    #[test]
    fn the_bridge_may_take_less_than_ten_mebibytes_more() {
        let kb = |rss_kb| Usage { rss_kb, ..Usage::default() };
        let course = |peak| {
            let mut course = Course::new(kb(20_000));
            course.peak = kb(peak);
            course
        };
        assert_eq!(judge_outage(&course(20_000 + OUTAGE_KB - 1)), None);
        assert!(judge_outage(&course(20_000 + OUTAGE_KB)).is_some());
    }
}
