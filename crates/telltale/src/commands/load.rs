//! `telltale load`: a CSV file into a topic, once.

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use telltale_kafka::Progress;
use telltale_kafka::topics::Topics;
use telltale_records::schema::{self, Schema};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::cli::{LastAt, LoadArgs};
use crate::clock::now_ms;
use crate::load::LoadError;
use crate::load::mapping::Mapping;
use crate::load::plan::Plan;
use crate::load::rows::Rows;
use crate::load::send::{self, Job, Sent};
use crate::load::survey::Survey;
use crate::output::Output;
use crate::show;
use crate::view::numbers::{grouped, rate};

/// Longest time to take the load over from a process that was killed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How far event times may be ahead of the clock: what the preprocessor takes where nothing else is said.
const AHEAD_MS: i64 = 600_000;
/// How often a line is printed where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);

/// Loads the file.
///
/// # Errors
///
/// Returns what is wrong with the file or the flags, or where to go on.
pub fn run(args: &LoadArgs, out: &mut Output, stop: &CancellationToken) -> Result<(), Error> {
    let mapping = Mapping::load(args.mapping.as_deref(), args.changes())?;
    let delimiter = u8::try_from(mapping.delimiter).expect("the mapping's delimiter is ASCII");
    let schema = schema(args.schema.as_deref())?;
    let path = args.file.as_path();
    let mut rows = Rows::open(path, delimiter)?;
    let plan = Plan::compile(rows.header(), &mapping, &schema)
        .map_err(|problem| LoadError::Header { path: path.to_owned(), problem })?;
    let survey = Survey::take(path, &mut rows, &plan)?;
    for bad in &survey.shown {
        eprintln!("{}: {bad}", path.display());
    }
    let hidden = survey.bad.saturating_sub(survey.shown.len() as u64);
    if hidden > 0 {
        eprintln!("{}: and {} rows more", path.display(), grouped(hidden));
    }
    if survey.bad > 0 && !args.skip_bad && !args.check {
        return Err(LoadError::Bad { path: path.to_owned(), bad: survey.bad, rows: survey.rows }.into());
    }
    if args.check {
        out.line(describe(path, &survey, 0))?;
        return Ok(());
    }
    super::stop_on_signal(stop)?;
    let mut progress = Progress::open(&args.kafka, &survey.name(&args.topic), &args.topic, PATIENCE, stop)
        .map_err(LoadError::from)?;
    let before = progress.position().map_err(LoadError::from)?.filter(|_| !args.again);
    let skip_rows = before.as_ref().map_or(0, |it| it.done);
    if skip_rows >= survey.rows {
        let (path, topic) = (path.to_owned(), args.topic.clone());
        return Err(LoadError::Loaded { path, topic, rows: survey.rows }.into());
    }
    let from_line = begin(args, delimiter, skip_rows)?;
    let shift_ms = match before.and_then(|it| send::shift_of(&it.note)) {
        Some(shift) => shift,
        None => shift(args, &survey)?,
    };
    if skip_rows > 0 {
        eprintln!("{} rows are in {} already: going on behind them", grouped(skip_rows), args.topic);
    }
    let job =
        Job { path, plan: &plan, topic: &args.topic, skip_rows, from_line, shift_ms, rate: args.rate, stop };
    let started = Instant::now();
    let mut rows = Rows::open(path, delimiter)?;
    let mut shown = Shown::new(survey.rows, skip_rows);
    let sent = send::send(&job, &mut rows, &mut progress, |it| shown.rows(it));
    shown.finish();
    let sent = sent?;
    if sent.hash != survey.hash {
        return Err(LoadError::Changed { path: path.to_owned(), topic: args.topic.clone() }.into());
    }
    if sent.readings == 0 && args.from_line.is_some() {
        return Err(LoadError::Beyond { path: path.to_owned(), from: from_line }.into());
    }
    out.line(describe(path, &survey, shift_ms))?;
    out.line(summary(&sent, &args.topic, started.elapsed()))
}

fn schema(path: Option<&Path>) -> Result<Schema, LoadError> {
    let Some(path) = path else {
        return Ok(Schema::parse(schema::READINGS).expect("the schema in this program is valid"));
    };
    let failed = |source| LoadError::File { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    Schema::parse(&text).map_err(|source| LoadError::Schema { path: path.to_owned(), source })
}

/// The first line to send; it must not lie in what is there already.
fn begin(args: &LoadArgs, delimiter: u8, skip_rows: u64) -> Result<u64, LoadError> {
    let Some(from) = args.from_line.map(u64::from) else { return Ok(0) };
    if skip_rows == 0 {
        return Ok(from);
    }
    let mut rows = Rows::open(&args.file, delimiter)?;
    let mut count = 0;
    while let Some(row) = rows.next_row()? {
        count += 1;
        let next = row.line;
        if count > skip_rows && next > from {
            return Err(LoadError::Overlap {
                path: args.file.clone(),
                topic: args.topic.clone(),
                next,
                from,
            });
        }
        if count > skip_rows {
            break;
        }
    }
    Ok(from)
}

/// What to add to each event time; times that nothing will come of are refused.
fn shift(args: &LoadArgs, survey: &Survey) -> Result<i64, LoadError> {
    let Some((first, last)) = survey.times else { return Ok(0) };
    let now = now_ms();
    match args.last_at {
        Some(LastAt::Now) => return Ok(now - last),
        Some(LastAt::At(time)) => return Ok(time - last),
        None if args.any_time => return Ok(0),
        None => {}
    }
    let readings = format!("the readings are of {} to {}", show::time(first), show::time(last));
    let settings = Topics::open(&args.kafka)?.describe(&args.topic)?;
    let kept: Option<i64> = settings.get("retention.ms").and_then(|it| it.parse().ok()).filter(|it| *it > 0);
    if let Some(kept) = kept.filter(|kept| first < now - kept) {
        let kept = in_words(Duration::from_millis(kept.unsigned_abs()));
        let problem = format!("{readings}, but {} keeps no more than {kept}", args.topic);
        return Err(LoadError::Times { problem });
    }
    if last > now + AHEAD_MS {
        let problem = format!("{readings}, which is ahead of the clock ({})", show::time(now));
        return Err(LoadError::Times { problem });
    }
    Ok(0)
}

/// A long time for a person: humantime writes `7days`.
fn in_words(time: Duration) -> String {
    let text = humantime::format_duration(time).to_string();
    ["day", "month", "year"].into_iter().fold(text, |text, unit| text.replace(unit, &format!(" {unit}")))
}

fn describe(path: &Path, survey: &Survey, shift_ms: i64) -> String {
    let mut text = format!(
        "{}: {} readings of {} devices",
        path.display(),
        grouped(survey.good()),
        grouped(survey.cars as u64)
    );
    if let Some((first, last)) = survey.times {
        let (first, last) = (first.saturating_add(shift_ms), last.saturating_add(shift_ms));
        text.push_str(&format!(", from {} to {}", show::time(first), show::time(last)));
    }
    if survey.bad > 0 {
        text.push_str(&format!("; {} rows are none", grouped(survey.bad)));
    }
    text
}

fn summary(sent: &Sent, topic: &str, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    let mut text = format!(
        "sent {} to {topic} in {seconds:.1} s, {}/s, acknowledged by every replica",
        grouped(sent.readings),
        rate(sent.readings as f64 / seconds.max(1e-3))
    );
    if sent.left_out > 0 {
        text.push_str(&format!("; left out {}", grouped(sent.left_out)));
    }
    text
}

/// How far it is: a bar in a terminal, else a line now and then.
struct Shown {
    bar: Option<ProgressBar>,
    rows: u64,
    said: Instant,
}

impl Shown {
    fn new(rows: u64, done: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(rows), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(
                "{wide_bar} {human_pos} of {human_len} rows, {per_sec}, {eta} left",
            );
            bar.set_style(style.expect("a template that a test renders"));
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        Self { bar, rows, said: Instant::now() }
    }

    fn rows(&mut self, done: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None if self.said.elapsed() >= EVERY => {
                eprintln!("{} of {} rows", grouped(done), grouped(self.rows));
                self.said = Instant::now();
            }
            None => {}
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_of_the_bar_is_one() {
        ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} rows, {per_sec}, {eta} left")
            .unwrap();
    }

    #[test]
    fn the_line_at_the_end_counts() {
        let sent = Sent { rows: 12, readings: 10, left_out: 2, hash: [0; 32] };
        let expected = "sent 10 to sensor-data in 2.0 s, 5.0/s, acknowledged by every replica; left out 2";
        assert_eq!(summary(&sent, "sensor-data", Duration::from_secs(2)), expected);
    }
}
