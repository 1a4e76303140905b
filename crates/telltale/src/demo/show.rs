//! Shows the demo as it runs: looks at everything once a second, draws or prints it.

use std::time::{Duration, Instant};

use telltale_records::topics;
use telltale_service::Service;

use super::metrics;
use super::warnings::Warnings;
use super::watch::{Offsets, Progress, Watch};
use crate::cli::DemoArgs;
use crate::commands::Error;
use crate::output::Output;
use crate::process::Usage;
use crate::view::plain;
use crate::view::screen::{Phase, Screen, StageLine};
use crate::view::terminal::Live;

/// Pause between two looks at the keys.
const TICK: Duration = Duration::from_millis(100);
/// Time between two looks at the stages.
const LOOK: Duration = Duration::from_secs(1);
/// Cars shown in a terminal; it shows as many as fit.
const WORST: usize = 40;
/// Seconds of latency the view remembers.
const HISTORY: usize = 240;
/// Warnings the view shows.
const WARNINGS: usize = 3;

/// What is shown, and what it is made of.
#[derive(Debug)]
pub(crate) struct Show {
    live: Option<Live>,
    screen: Screen,
    warnings: Warnings,
    progress: Progress,
    watch: Watch,
    simulator: Option<Service>,
    started: Instant,
    looked: Instant,
    /// Offsets when the demo began: a kept log counts from there.
    base: Offsets,
    cpu_seconds: Option<f64>,
    models_told: usize,
    output: Output,
}

impl Show {
    /// Takes over the terminal, if `live`.
    ///
    /// # Errors
    ///
    /// Returns why the terminal or Kafka cannot be used.
    pub(crate) fn open(
        args: &DemoArgs,
        live: bool,
        warnings: Warnings,
        progress: Progress,
        watch: Watch,
        started: Instant,
    ) -> Result<Self, Error> {
        let base = progress.offsets()?;
        let live = live.then(Live::open).transpose().map_err(Error::Output)?;
        let screen = Screen {
            cars: args.cars.into(),
            rate: args.rate,
            seed: args.seed,
            length: args.length.map(|it| *it),
            ..Screen::default()
        };
        let (simulator, cpu_seconds) = (None, None);
        let (looked, models_told) = (started, 0);
        Ok(Self {
            live,
            screen,
            warnings,
            progress,
            watch,
            simulator,
            started,
            looked,
            base,
            cpu_seconds,
            models_told,
            output: Output::standard(),
        })
    }

    /// Shows the metrics of this simulator from now on.
    pub(crate) fn simulator(&mut self, service: &Service) {
        self.simulator = Some(service.clone());
    }

    /// Shows where everything can be reached.
    ///
    /// # Errors
    ///
    /// Returns an error when nothing can be printed.
    pub(crate) fn addresses(&mut self, addresses: String) -> Result<(), Error> {
        if self.live.is_none() {
            self.output.line(&addresses)?;
        }
        self.screen.addresses = addresses;
        Ok(())
    }

    /// Asks how far the stages are.
    pub(crate) fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }

    /// Records that came into the raw topic since the demo began.
    ///
    /// # Errors
    ///
    /// Returns an error when Kafka cannot be asked.
    pub(crate) fn raw(&self) -> Result<u64, Error> {
        Ok(self.progress.offsets()?.raw_end.saturating_sub(self.base.raw_end))
    }

    /// Shows what the demo is doing from now on.
    ///
    /// # Errors
    ///
    /// Returns an error when the terminal cannot be written to.
    pub(crate) fn phase(&mut self, phase: Phase) -> Result<(), Error> {
        if self.screen.phase != phase {
            self.screen.phase = phase;
            self.look();
            self.show(true)?;
        }
        Ok(())
    }

    /// Waits a moment, shows what has changed, and says whether a key asked to stop.
    ///
    /// # Errors
    ///
    /// Returns an error when the terminal cannot be used.
    pub(crate) fn tick(&mut self) -> Result<bool, Error> {
        let stop = match &mut self.live {
            Some(live) => live.asked_to_stop(TICK).map_err(Error::Output)?,
            None => {
                std::thread::sleep(TICK);
                false
            }
        };
        let second = self.looked.elapsed() >= LOOK;
        if second {
            self.look();
        }
        self.screen.elapsed = self.started.elapsed();
        self.show(second)?;
        Ok(stop)
    }

    /// Gives the terminal back and prints the warnings it hid.
    pub(crate) fn close(&mut self) {
        if self.live.take().is_some() {
            self.warnings.latest(usize::MAX).iter().for_each(|it| eprintln!("{it}"));
        }
    }

    fn show(&mut self, second: bool) -> Result<(), Error> {
        if let Some(live) = &mut self.live {
            return live.show(&self.screen).map_err(Error::Output);
        }
        let untold = self.screen.models.len() - self.models_told.min(self.screen.models.len());
        for model in self.screen.models[..untold].iter().rev() {
            self.output.line(plain::swap(model))?;
        }
        self.models_told = self.screen.models.len();
        if second {
            self.output.line(plain::line(&self.screen))?;
        }
        Ok(())
    }

    /// Brings the screen up to date.
    fn look(&mut self) {
        let seconds = self.looked.elapsed().as_secs_f64();
        self.looked = Instant::now();
        self.screen.elapsed = self.started.elapsed();
        // Kafka may be busy for a moment: the view shows the last figures then.
        if let Ok(now) = self.progress.offsets() {
            self.stages(now, seconds);
        }
        let mut seen = self.watch.seen();
        let latest = seen.take_latest_latency_ms();
        self.screen.models = seen.models();
        (self.screen.worst, self.screen.alarms) = seen.worst(WORST);
        let scoring = seen.first_prediction().is_some();
        drop(seen);
        if let Some(latency) = latest {
            self.screen.latency_ms = Some(latency);
            if self.screen.latency_history.len() == HISTORY {
                self.screen.latency_history.remove(0);
            }
            self.screen.latency_history.push(latency.1);
        }
        match self.screen.phase {
            Phase::Starting if self.screen.connected > 0 => self.screen.phase = Phase::Learning,
            Phase::Starting | Phase::Learning if scoring => self.screen.phase = Phase::Scoring,
            _ => {}
        }
        let usage = Usage::of_this_process();
        self.screen.cores_busy =
            usage.cpu_seconds.zip(self.cpu_seconds).map(|(now, before)| (now - before) / seconds);
        self.cpu_seconds = usage.cpu_seconds;
        self.screen.memory_mb = usage.rss_mb;
        self.screen.warnings = self.warnings.latest(WARNINGS);
    }

    fn stages(&mut self, now: Offsets, seconds: f64) {
        let (published, acknowledged) = match &self.simulator {
            Some(simulator) => {
                self.screen.connected = metrics::count(simulator, metrics::CONNECTED);
                (
                    metrics::count(simulator, metrics::PUBLISHED),
                    metrics::count(simulator, metrics::ACKNOWLEDGED),
                )
            }
            None => (0, 0),
        };
        let raw = now.raw_end.saturating_sub(self.base.raw_end);
        let done = now.raw_done.saturating_sub(self.base.raw_done);
        let predictions = self.watch.seen().predictions();
        let lines = [
            ("cars", "readings by MQTT", published, Some(published.saturating_sub(acknowledged))),
            ("bridge", topics::SENSOR_DATA, raw, Some(acknowledged.saturating_sub(raw))),
            ("preprocessor", topics::CLEAN, done, Some(now.raw_end.saturating_sub(now.raw_done))),
            ("scorer", topics::PREDICTIONS, predictions, Some(now.clean_lag)),
        ];
        let before: Vec<u64> = self.screen.stages.iter().map(|it| it.records).collect();
        let lines = lines.into_iter().enumerate().map(|(index, (stage, writes, records, lag))| {
            let before = before.get(index).copied().unwrap_or_default();
            let per_second = records.saturating_sub(before) as f64 / seconds.max(1e-3);
            StageLine { stage, writes, records, per_second, lag }
        });
        self.screen.stages = lines.collect();
    }
}
