//! What a bench found: a table for people, JSON for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::figures::{Job, Latency, Sample, Spread};
use crate::machine::Machine;
use crate::peers::COMPARED;

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The commit that was built.
    pub(crate) commit: String,
    /// When the bench ended, in UTC.
    pub(crate) date: String,
    /// What it ran on.
    pub(crate) machine: Machine,
    /// The machine's load average before and after.
    pub(crate) load: [f64; 2],
    /// Kind of the engines.
    pub(crate) engines: &'static str,
    /// Readings, messages, cars, partitions.
    pub(crate) sizes: BTreeMap<&'static str, u64>,
    /// The jobs.
    pub(crate) jobs: Vec<JobReport>,
    /// Ours against the bare ways.
    pub(crate) ratios: Vec<Ratio>,
    /// Publish to committed prediction.
    pub(crate) latency: Option<LatencyReport>,
    /// Programs of others, and where they are or why they are not among the jobs.
    pub(crate) peers: BTreeMap<&'static str, String>,
}

/// What the rounds of a job say.
#[derive(Debug, Serialize)]
pub(crate) struct JobReport {
    /// Which job.
    pub(crate) job: Job,
    /// Records a second.
    pub(crate) per_second: Spread,
    /// Records a second of the process's CPU time.
    pub(crate) per_cpu_second: Spread,
    /// The most memory in any round, in MB.
    pub(crate) peak_rss_mb: f64,
    /// The rounds themselves, in their order.
    pub(crate) rounds: Vec<Sample>,
}

impl JobReport {
    /// Of the rounds of a job; `None` without any.
    pub(crate) fn of(job: Job, rounds: &[Sample]) -> Option<Self> {
        let peak = rounds.iter().map(|it| it.peak_rss_kb).max()?;
        Some(Self {
            job,
            per_second: Spread::of(rounds.iter().map(Sample::per_second))?,
            per_cpu_second: Spread::of(rounds.iter().map(Sample::per_cpu_second))?,
            peak_rss_mb: peak as f64 * 1024.0 / 1e6,
            rounds: rounds.to_vec(),
        })
    }
}

/// One of ours against the bare way, by records per CPU second, round by round.
#[derive(Debug, Serialize)]
pub(crate) struct Ratio {
    /// What is compared.
    pub(crate) what: &'static str,
    /// The ratio.
    pub(crate) ratio: Spread,
    /// What it is to be.
    pub(crate) goal: Goal,
    /// Whether the median is.
    pub(crate) reached: bool,
}

/// What a ratio is to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
}

impl Goal {
    /// Whether it is.
    pub(crate) fn is_reached(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "at least {least:.2}"),
            Self::AtMost(most) => write!(f, "at most {most:.2}"),
        }
    }
}

/// The rounds of all jobs, round by round.
pub(crate) type Rounds = BTreeMap<Job, Vec<Sample>>;

/// What is compared with what.
pub(crate) fn ratios(rounds: &Rounds) -> Vec<Ratio> {
    let of = |job: Job| rounds.get(&job).map_or(&[][..], Vec::as_slice).iter().map(Sample::per_cpu_second);
    let pairs = |ours, bare| of(ours).zip(of(bare)).map(|(ours, bare)| ours / bare).collect::<Vec<_>>();
    let bridge = of(Job::Bridge).zip(of(Job::Receive).zip(of(Job::Produce)));
    let bridge =
        bridge.map(|(ours, (receive, produce))| (1.0 / ours) / (1.0 / receive + 1.0 / produce)).collect();
    let compared = [
        ("preprocessor / copy of the same JSON", pairs(Job::Preprocessor, Job::CopyJson), Goal::AtLeast(0.8)),
        ("scorer / copy of the same Avro", pairs(Job::Scorer, Job::CopyAvro), Goal::AtLeast(0.7)),
        (
            "trainer reading / reading the same Avro",
            pairs(Job::TrainerReads, Job::ConsumeAvro),
            Goal::AtLeast(0.8),
        ),
        ("CPU a record: bridge / receiving and writing", bridge, Goal::AtMost(1.3)),
    ];
    let peers = COMPARED.map(|(what, ours, peer, goal)| (what, pairs(ours, peer), goal));
    let ratio = |(what, values, goal): (&'static str, Vec<f64>, Goal)| {
        let ratio = Spread::of(values)?;
        Some(Ratio { what, ratio, goal, reached: goal.is_reached(ratio.median) })
    };
    compared.into_iter().chain(peers).filter_map(ratio).collect()
}

/// How long readings take at half load.
#[derive(Debug, Serialize)]
pub(crate) struct LatencyReport {
    /// Records a second of the whole pipeline at full load; `None` where the rate was given.
    pub(crate) full_per_second: Option<f64>,
    /// Readings a second at half load.
    pub(crate) rate: f64,
    /// Publish to committed prediction, round by round.
    pub(crate) pipeline: Vec<Latency>,
    /// Written to Kafka, copied in a transaction, read again.
    pub(crate) bare: Vec<Latency>,
    /// p99 of the pipeline to that of the bare round trip.
    pub(crate) ratio: Option<Spread>,
}

impl LatencyReport {
    /// Of rounds of both.
    pub(crate) fn new(
        full_per_second: Option<f64>,
        rate: f64,
        pipeline: Vec<Latency>,
        bare: Vec<Latency>,
    ) -> Self {
        // A bare round trip below the clock's millisecond counts as one.
        let ratio = pipeline.iter().zip(&bare).map(|(ours, bare)| ours.p99 as f64 / bare.p99.max(1) as f64);
        Self { full_per_second, rate, ratio: Spread::of(ratio), pipeline, bare }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cores, memory_mb } = &self.machine;
        writeln!(f, "{}, commit {}, {} engines", self.date, self.commit, self.engines)?;
        writeln!(f, "{cpu}, {cores} cores, {memory_mb} MB; load {:.1} to {:.1}", self.load[0], self.load[1])?;
        let sizes: Vec<String> = self.sizes.iter().map(|(name, size)| format!("{name} {size}")).collect();
        writeln!(f, "{}; median (least to most)\n", sizes.join(", "))?;
        writeln!(f, "{:<37} {:>28} {:>30} {:>8}", "", "records/s", "records per CPU second", "peak MB")?;
        for JobReport { job, per_second, per_cpu_second, peak_rss_mb, .. } in &self.jobs {
            let (wall, cpu) = (whole(per_second), whole(per_cpu_second));
            writeln!(f, "{:<37} {wall:>28} {cpu:>30} {peak_rss_mb:>8.0}", job.name())?;
        }
        for (peer, why) in &self.peers {
            writeln!(f, "peer {peer:<32} {why}")?;
        }
        writeln!(f)?;
        for Ratio { what, ratio: Spread { median, least, most, .. }, goal, reached } in &self.ratios {
            let word = if *reached { "reached" } else { "missed" };
            writeln!(f, "{what:<45} {median:>6.2} ({least:.2} to {most:.2})   {goal}: {word}")?;
        }
        self.latency.as_ref().map_or(Ok(()), |it| write!(f, "\n{it}"))
    }
}

impl fmt::Display for LatencyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = self.full_per_second.map_or_else(String::new, |it| format!(" of {it:.0} at full load"));
        writeln!(f, "{:.0} readings/s{full}; milliseconds", self.rate)?;
        writeln!(f, "{:<45} {:>8} {:>6} {:>6} {:>6} {:>6}", "", "readings", "p50", "p99", "p99.9", "most")?;
        let rows = [
            ("publish to committed prediction", &self.pipeline),
            ("bare round trip, a transaction", &self.bare),
        ];
        for (name, rounds) in rows {
            for Latency { readings, p50, p99, p999, most } in rounds {
                writeln!(f, "{name:<45} {readings:>8} {p50:>6} {p99:>6} {p999:>6} {most:>6}")?;
            }
        }
        let Some(Spread { median, least, most, .. }) = self.ratio else { return Ok(()) };
        let goal = Goal::AtMost(2.0);
        let word = if goal.is_reached(median) { "reached" } else { "missed" };
        writeln!(
            f,
            "{:<45} {median:>6.2} ({least:.2} to {most:.2})   {goal}: {word}",
            "p99: pipeline / bare round trip"
        )
    }
}

fn whole(spread: &Spread) -> String {
    format!("{:.0} ({:.0} to {:.0})", spread.median, spread.least, spread.most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(records: u64, cpu_seconds: f64) -> Sample {
        Sample { records, seconds: 1.0, cpu_seconds, peak_rss_kb: 1000, load: 1.0 }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine is twice as slow in the second round, the ratio is not.
        let rounds = Rounds::from([
            (Job::Preprocessor, vec![sample(100, 1.0), sample(100, 2.0)]),
            (Job::CopyJson, vec![sample(100, 0.5), sample(100, 1.0)]),
            (Job::Bridge, vec![sample(100, 4.0)]),
            (Job::Telegraf, vec![sample(100, 40.0)]),
            (Job::Receive, vec![sample(100, 1.0)]),
            (Job::Produce, vec![sample(100, 3.0)]),
        ]);
        let ratios = ratios(&rounds);
        assert_eq!(ratios.len(), 3, "what was not measured is not compared");
        let [preprocessor, bridge, telegraf] = &ratios[..] else { panic!("{ratios:?}") };
        assert_eq!(
            (preprocessor.ratio.least, preprocessor.ratio.most, preprocessor.reached),
            (0.5, 0.5, false)
        );
        assert_eq!((bridge.ratio.median, bridge.reached), (1.0, true));
        assert_eq!(
            (telegraf.what, telegraf.ratio.median, telegraf.reached),
            ("bridge / Telegraf", 10.0, true)
        );
    }

    #[test]
    fn a_report_can_be_read_by_people_and_programs() {
        let rounds = [sample(100, 1.0), sample(100, 0.5), sample(100, 2.0)];
        let latency = Latency::of((1..=100).collect()).unwrap();
        let report = Report {
            commit: "abc".to_owned(),
            date: "2026-01-01T00:00:00Z".to_owned(),
            machine: Machine { cpu: "a CPU".to_owned(), cores: 2, memory_mb: 1000 },
            load: [0.5, 1.0],
            engines: "embedded",
            sizes: BTreeMap::from([("readings", 100)]),
            jobs: JobReport::of(Job::Scorer, &rounds).into_iter().collect(),
            ratios: Vec::new(),
            latency: Some(LatencyReport::new(Some(200.0), 100.0, vec![latency], vec![latency])),
            peers: BTreeMap::from([("Telegraf", "not installed".to_owned())]),
        };
        let text = report.to_string();
        for part in
            ["100 (50 to 200)", "100 readings/s of 200 at full load", "Telegraf", "1.00 (1.00 to 1.00)"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let value = serde_json::to_value(&report).unwrap();
        assert_eq!(value["jobs"][0]["job"], "scorer");
        assert_eq!(value["jobs"][0]["per_cpu_second"]["median"], 100.0);
        assert_eq!(value["latency"]["pipeline"][0]["p99"], 99);
        assert_eq!(value["jobs"][0]["rounds"][1]["cpu_seconds"], 0.5);
    }
}
