//! From the file as it is written to streams that can run.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, SchemaRef};
use telltale_records::dead_letter::Reason;
use telltale_records::schema::{self, Schema};
use telltale_records::topics;
use telltale_service::chain;
use toml::Spanned;

use super::{Pipeline, PipelineError, Rule, Stream, WindowTable, raw, read};
use crate::sql::{Checks, Projection, SqlError};
use crate::table::Input;

/// How far a device's clock may run ahead where the file does not say.
const MAX_AHEAD: Duration = Duration::from_secs(600);
/// The furthest that a file may allow: an event time becomes a time stamp in Kafka, which takes none further ahead of its clock
/// (`message.timestamp.after.max.ms`).
const FURTHEST_AHEAD: Duration = Duration::from_secs(3600);
/// Longest window, grace and distance of times.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// Most streams, and most checks and windows of one.
const MOST: usize = 1000;

/// The schemas that come with Telltale, by the names a pipeline calls them.
const SHIPPED: [(&str, &str); 4] = [
    ("readings", schema::READINGS),
    ("cardata-v1", schema::CARDATA_V1),
    ("sensor-data-s-avro", schema::CLEAN),
    ("sensor-data-events-per-5min-t", schema::EVENTS_PER_5MIN),
];

pub(super) struct Compiler<'a> {
    pub(super) text: &'a str,
    pub(super) file: &'a str,
    pub(super) folder: &'a Path,
}

impl Compiler<'_> {
    pub(super) fn pipeline(&self) -> Result<Pipeline, PipelineError> {
        let file: raw::File = toml::from_str(self.text).map_err(|error| {
            let place = error.span().unwrap_or(0..0);
            self.at(&place, error.message())
        })?;
        if file.streams.is_empty() {
            return Err(self.at(&(0..0), "there is no [[stream]]; a pipeline needs at least one"));
        }
        if file.streams.len() > MOST {
            return Err(self.at(&(0..0), format!("there are more than {MOST} streams")));
        }
        let mut sources = BTreeSet::new();
        let mut targets = BTreeSet::from([topics::DEAD_LETTERS]);
        for stream in file.streams.iter().map(Spanned::get_ref) {
            if !sources.insert(stream.source.get_ref().as_str()) {
                return Err(self.wrong(
                    &stream.source,
                    "another stream reads this topic already; every record has exactly one outcome, so one stream a topic",
                ));
            }
            for target in std::iter::once(&stream.target).chain(stream.windows.iter().map(|it| &it.target)) {
                if !targets.insert(target.get_ref()) {
                    return Err(self.wrong(
                        target,
                        "this topic is written already; every stream and window has its own",
                    ));
                }
            }
        }
        for stream in file.streams.iter().map(Spanned::get_ref) {
            if targets.contains(stream.source.get_ref().as_str()) {
                return Err(self
                    .wrong(&stream.source, "this pipeline writes the topic; it would read what it writes"));
            }
        }
        let streams =
            file.streams.iter().map(|it| self.stream(it).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(Pipeline { streams })
    }

    fn stream(&self, spanned: &Spanned<raw::Stream>) -> Result<Stream, PipelineError> {
        let stream = spanned.get_ref();
        let input = self.input(stream)?;
        let target_schema = self.schema(&stream.target_schema)?;
        let target = target_schema.arrow();
        if target.fields().len() != target_schema.fields().len() {
            return Err(self
                .wrong(&stream.target_schema, "a target's fields must be simple types, SQL gives columns"));
        }
        let projection = Projection::plan(stream.sql.get_ref(), input.schema(), &target)
            .map_err(|it| self.sql(&stream.sql, &it))?;
        let (checks, rules) = self.checks(stream, &target, input.schema())?;
        for (column, wanted) in [(&stream.key, DataType::Utf8), (&stream.event_time, DataType::Int64)] {
            if let Some(column) = column {
                self.column(column, column.get_ref(), &wanted, &target)?;
            }
        }
        let max_ahead = stream.max_ahead.as_ref().map(|it| self.ahead(it)).transpose()?.unwrap_or(MAX_AHEAD);
        let max_behind = stream.max_behind.as_ref().map(|it| self.duration(it)).transpose()?;
        let windows = stream.windows.iter().map(|it| self.window(it)).collect::<Result<Vec<_>, _>>()?;
        Ok(Stream {
            source: self.topic(&stream.source)?,
            format: stream.format,
            subjects: stream
                .subjects
                .clone()
                .unwrap_or_else(|| vec![schema::subject(stream.source.get_ref())]),
            input,
            projection,
            checks,
            rules,
            key: stream.key.as_ref().map(|it| it.get_ref().clone()),
            event_time: stream.event_time.as_ref().map(|it| it.get_ref().clone()),
            max_ahead,
            max_behind,
            target: self.topic(&stream.target)?,
            target_schema,
            windows,
        })
    }

    fn input(&self, stream: &raw::Stream) -> Result<Input, PipelineError> {
        let source = self.schema(&stream.schema)?;
        let columns = source.arrow();
        if let Some(name) = columns.fields().iter().map(|it| it.name()).find(|it| Input::is_of_record(it)) {
            let problem =
                format!("the schema has a column {name}, which is the name of a part of the record");
            return Err(self.wrong(&stream.schema, problem));
        }
        for (from, to) in &stream.alias {
            if columns.index_of(to.get_ref()).is_err() {
                let problem = format!(
                    "{} is to become column {}, which the schema does not have",
                    from.get_ref(),
                    to.get_ref()
                );
                return Err(self.wrong(to, problem));
            }
            if columns.index_of(from.get_ref()).is_ok() {
                return Err(self.wrong(from, format!("{} is a column of the schema itself", from.get_ref())));
            }
        }
        let aliases = stream.alias.iter().map(|(from, to)| (from.get_ref().clone(), to.get_ref().clone()));
        Ok(Input::new(source, aliases.collect()))
    }

    fn checks(
        &self,
        stream: &raw::Stream,
        target: &SchemaRef,
        input: &SchemaRef,
    ) -> Result<(Checks, Vec<Rule>), PipelineError> {
        let mut rules: Vec<Rule> = Vec::with_capacity(stream.checks.len());
        for check in &stream.checks {
            let name = check.name.get_ref();
            if name.is_empty() || name.len() > 200 || rules.len() >= MOST {
                return Err(self.wrong(
                    &check.name,
                    "a check needs a name of 1 to 200 bytes, and a stream 1000 checks at most",
                ));
            }
            if rules.iter().any(|it| it.name == *name) {
                return Err(self.wrong(&check.name, format!("two checks are called {name:?}")));
            }
            rules.push(Rule { name: name.clone(), reason: self.reason(check.reason.as_ref())? });
        }
        let texts: Vec<&str> = stream.checks.iter().map(|it| it.sql.get_ref().as_str()).collect();
        let checks =
            Checks::plan(&texts, target, input).map_err(|(index, error)| match stream.checks.get(index) {
                Some(check) => self.sql(&check.sql, &error),
                None => self.wrong(&stream.target_schema, error.problem),
            })?;
        Ok((checks, rules))
    }

    fn reason(&self, word: Option<&Spanned<String>>) -> Result<Reason, PipelineError> {
        let Some(word) = word else { return Ok(Reason::OutOfRange) };
        Reason::ALL.into_iter().find(|it| it.as_str() == word.get_ref()).ok_or_else(|| {
            let words: Vec<&str> = Reason::ALL.iter().map(|it| it.as_str()).collect();
            self.wrong(word, format!("{:?} is no reason; reasons are {}", word.get_ref(), words.join(", ")))
        })
    }

    fn window(&self, window: &raw::Window) -> Result<WindowTable, PipelineError> {
        let schema = self.schema(&window.schema)?;
        let present = schema.arrow();
        let columns = window.columns.get_ref();
        let wanted = [
            (&columns.key, DataType::Utf8),
            (&columns.start, DataType::Int64),
            (&columns.end, DataType::Int64),
            (&columns.count, DataType::Int64),
        ];
        for (name, of) in &wanted {
            self.column(&window.columns, name, of, &present)?;
        }
        let distinct: BTreeSet<&String> = wanted.iter().map(|(name, _)| *name).collect();
        if distinct.len() != wanted.len() || schema.fields().len() != wanted.len() {
            let problem = "the columns must be the schema's four fields: key, start, end and count";
            return Err(self.wrong(&window.columns, problem));
        }
        let size = self.duration(&window.size)?;
        if size < Duration::from_secs(1) || size.subsec_nanos() != 0 {
            return Err(self.wrong(&window.size, "a window is a whole number of seconds, at least one"));
        }
        Ok(WindowTable {
            target: self.topic(&window.target)?,
            schema,
            columns: columns.clone(),
            size,
            grace: self.duration(&window.grace)?,
        })
    }

    fn schema(&self, name: &Spanned<String>) -> Result<Schema, PipelineError> {
        let found = SHIPPED.iter().find(|(it, _)| it == name.get_ref());
        let text = match found {
            Some((_, text)) => (*text).to_owned(),
            None if name.get_ref().ends_with(".avsc") => {
                read(&self.folder.join(name.get_ref())).map_err(|it| self.wrong(name, chain(&it)))?
            }
            None => {
                let names: Vec<&str> = SHIPPED.iter().map(|it| it.0).collect();
                let problem = format!(
                    "{:?} is neither a schema file (*.avsc) nor one that comes with Telltale: {}",
                    name.get_ref(),
                    names.join(", ")
                );
                return Err(self.wrong(name, problem));
            }
        };
        Schema::parse(&text)
            .map_err(|it| self.wrong(name, format!("schema {}: {}", name.get_ref(), chain(&it))))
    }

    fn column<T>(
        &self,
        place: &Spanned<T>,
        name: &str,
        wanted: &DataType,
        columns: &SchemaRef,
    ) -> Result<(), PipelineError> {
        let Ok(index) = columns.index_of(name) else {
            let names: Vec<&str> = columns.fields().iter().map(|it| it.name().as_str()).collect();
            let problem = format!("the target schema has no column {name:?}; it has {}", names.join(", "));
            return Err(self.wrong(place, problem));
        };
        let found = columns.field(index).data_type();
        if found != wanted {
            return Err(self.wrong(place, format!("column {name:?} is {found}, but must be {wanted}")));
        }
        Ok(())
    }

    /// A topic's name that Kafka accepts.
    fn topic(&self, name: &Spanned<String>) -> Result<String, PipelineError> {
        let text = name.get_ref();
        let legal = text.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it));
        if !legal || text.is_empty() || text.len() > 249 || text == "." || text == ".." {
            let problem = format!("{text:?} cannot be a topic: 1 to 249 letters, digits, '.', '_' and '-'");
            return Err(self.wrong(name, problem));
        }
        Ok(text.clone())
    }

    fn duration(&self, text: &Spanned<String>) -> Result<Duration, PipelineError> {
        match humantime::parse_duration(text.get_ref()) {
            Ok(duration) if duration <= LONGEST => Ok(duration),
            Ok(_) => Err(self.wrong(text, format!("{:?} is longer than a year", text.get_ref()))),
            Err(error) => Err(self
                .wrong(text, format!("{:?} is not a time such as 30s, 5m or 1h: {error}", text.get_ref()))),
        }
    }

    fn ahead(&self, text: &Spanned<String>) -> Result<Duration, PipelineError> {
        let ahead = self.duration(text)?;
        if ahead > FURTHEST_AHEAD {
            let problem = format!(
                "{:?} is longer than 1h: event times become the time stamps of records, and Kafka takes none that is further ahead",
                text.get_ref()
            );
            return Err(self.wrong(text, problem));
        }
        Ok(ahead)
    }

    /// An error in SQL: the line of the file that the line of the SQL is.
    fn sql(&self, sql: &Spanned<String>, error: &SqlError) -> PipelineError {
        let place = sql.span();
        let mut line = self.line(place.start);
        let written = &self.text[place.start.min(self.text.len())..];
        let several_lines = written.starts_with("\"\"\"") || written.starts_with("'''");
        if let Some(within) = error.line.filter(|_| several_lines) {
            // TOML drops an end of line right after the quotes.
            let begins_below = written[3..].starts_with('\n') || written[3..].starts_with("\r\n");
            line += usize::from(begins_below) + within.saturating_sub(1);
        }
        PipelineError::At { file: self.file.to_owned(), line, problem: error.problem.clone() }
    }

    fn wrong<T>(&self, place: &Spanned<T>, problem: impl Into<String>) -> PipelineError {
        self.at(&place.span(), problem)
    }

    fn at(&self, place: &Range<usize>, problem: impl Into<String>) -> PipelineError {
        PipelineError::At {
            file: self.file.to_owned(),
            line: self.line(place.start),
            problem: problem.into(),
        }
    }

    fn line(&self, position: usize) -> usize {
        let end = position.min(self.text.len());
        1 + self.text.as_bytes()[..end].iter().filter(|it| **it == b'\n').count()
    }
}
