//! Starts engines and services in this process, and stops each of them.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use telltale_kafka::topics::{Created, Topics};
use telltale_kafka::{KafkaConfig, RegistryConfig};
use telltale_service::{Address, Host, Running, Service, ServiceError};

use super::folder::Folder;
use super::reach::Reach;
use super::signals::Signals;
use super::watch::Watch;
use super::{PREPROCESSOR_GROUP, SCORER_GROUP};
use crate::cli::{DemoArgs, HERE};
use crate::commands::{Error, keys};
use crate::verify::read::{Ends, ends};

/// How long a service may take to finish its work once it is asked to stop.
const DRAIN: Duration = Duration::from_secs(20);

/// A service at work, whatever its error type is.
trait Work: Send {
    fn service(&self) -> &Service;
    fn is_ended(&self) -> bool;
    fn stop(self: Box<Self>) -> Result<(), Box<dyn StdError + Send + Sync>>;
}

impl<E: StdError + Send + Sync + 'static> Work for Running<E> {
    fn service(&self) -> &Service {
        Running::service(self)
    }

    fn is_ended(&self) -> bool {
        Running::is_ended(self)
    }

    fn stop(self: Box<Self>) -> Result<(), Box<dyn StdError + Send + Sync>> {
        Running::stop(*self, DRAIN).map_err(|error: ServiceError<E>| Box::new(error) as _)
    }
}

/// Everything that runs; stopped in order by whoever drains it, or all at once when it is dropped.
pub(crate) struct Pipeline {
    services: Vec<Box<dyn Work>>,
    control: Service,
    signals: Arc<AtomicUsize>,
    watch: Watch,
    since: Ends,
    host: Host,
    // The last to go: everything else talks to the engines.
    reach: Reach,
}

impl Pipeline {
    /// Starts engines and services, all but the simulator.
    pub(crate) fn start(args: &DemoArgs, folder: &Folder, started: Instant) -> Result<Self, Error> {
        let reach = Reach::start(args, folder.engines())?;
        let topics = Topics::open(&reach.kafka)?.create_all(i32::from(args.partitions), reach.replication)?;
        // Topics that have just been made end where they begin.
        let all_new = topics.iter().all(|(_, created)| *created == Created::New);
        let since = if all_new { Ends::new() } else { ends(&reach.kafka)? };
        let http = Address::On(SocketAddr::new(HERE, args.http_port));
        let host = Host::start(http, "--http-port", DRAIN).map_err(Error::Host)?;
        let control = host.service("demo");
        let watch = Watch::begin(&reach.kafka, &control, started);
        let mut pipeline = Self {
            services: Vec::new(),
            signals: count_signals(&control)?,
            control,
            watch,
            since,
            host,
            reach,
        };
        pipeline.launch_services(args, folder)?;
        Ok(pipeline)
    }

    fn launch_services(&mut self, args: &DemoArgs, folder: &Folder) -> Result<(), Error> {
        let (signing, verifying) = keys::take(&folder.keys())?;
        let kafka = self.reach.kafka.flags();
        let (seed, first_rows) = (args.seed.to_string(), first_rows(args).to_string());
        let false_alarms = args.false_alarm_rate.to_string();
        let (signing, verifying) = (text(&signing), text(&verifying));
        let both = [kafka.clone(), self.reach.registry.flags()].concat();

        let bridge = [&kafka[..], &self.reach.mqtt_flags, &self.reach.bridge_flags].concat();
        self.launch("bridge", parse::<telltale_bridge::Config>(&bridge)?, telltale_bridge::run);
        let preprocessor = [&both[..], &flags(&[("--group", PREPROCESSOR_GROUP)])].concat();
        self.launch(
            "preprocessor",
            parse::<telltale_preprocessor::Config>(&preprocessor)?,
            telltale_preprocessor::run,
        );
        let scorer = flags(&[("--group", SCORER_GROUP), ("--trusted-key", &verifying)]);
        let scorer = [&both[..], &scorer].concat();
        self.launch("scorer", parse::<telltale_scorer::Config>(&scorer)?, telltale_scorer::run);
        let trainer = flags(&[
            ("--signing-key", &signing),
            ("--seed", &seed),
            ("--false-alarm-rate", &false_alarms),
            ("--first-rows", &first_rows),
        ]);
        let trainer = [&both[..], &trainer].concat();
        self.launch("trainer", parse::<telltale_trainer::Config>(&trainer)?, telltale_trainer::run);
        Ok(())
    }

    /// Starts the cars.
    pub(crate) fn launch_simulator(&mut self, args: &DemoArgs, ledger: &Path) -> Result<Service, Error> {
        let (cars, rate) = (args.cars.to_string(), args.rate.to_string());
        let (seed, ledger) = (args.seed.to_string(), text(ledger));
        let ramp_up = format!("{}ms", ramp_up(args).as_millis());
        let own = flags(&[
            ("--cars", &cars),
            ("--rate", &rate),
            ("--ramp-up", &ramp_up),
            ("--seed", &seed),
            ("--ledger", &ledger),
        ]);
        let simulator = [&self.reach.mqtt_flags[..], &own, &self.reach.simulator_flags].concat();
        self.launch("simulator", parse::<telltale_simulator::Config>(&simulator)?, telltale_simulator::run);
        Ok(self.services.last().expect("it was launched just now").service().clone())
    }

    fn launch<C, E, F>(&mut self, name: &'static str, config: C, run: F)
    where
        C: Send + 'static,
        E: StdError + Send + Sync + 'static,
        F: FnOnce(C, &Service) -> Result<(), E> + Send + 'static,
    {
        self.services.push(Box::new(self.host.launch(name, config, run)));
    }

    /// Says to `/readyz` that the demo itself waits for nothing; each service speaks for itself.
    pub(crate) fn all_started(&self) {
        self.control.ready("pipeline");
    }

    /// Why the service `name` is not ready yet; empty when it is.
    pub(crate) fn unready(&self, name: &str) -> Vec<String> {
        let found = self.services.iter().find(|it| it.service().name() == name);
        found.map_or_else(Vec::new, |it| it.service().unready())
    }

    /// Takes a service out of the pipeline; [`Stopping::stop`] ends it.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Stopping> {
        let index = self.services.iter().position(|it| it.service().name() == name)?;
        Some(Stopping { name, work: self.services.remove(index) })
    }

    /// The first service that has ended though nobody asked it to.
    pub(crate) fn take_ended(&mut self) -> Option<Stopping> {
        let ended = self.services.iter().find(|it| it.is_ended())?;
        self.take(ended.service().name())
    }

    /// Signals that came so far.
    pub(crate) fn signals(&self) -> usize {
        self.signals.load(Ordering::Relaxed)
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    pub(crate) fn kafka(&self) -> &KafkaConfig {
        &self.reach.kafka
    }

    pub(crate) fn registry(&self) -> &RegistryConfig {
        &self.reach.registry
    }

    /// Where the topics ended before anything was added to them.
    pub(crate) fn since(&self) -> &Ends {
        &self.since
    }

    /// Where everything can be reached, for a person.
    pub(crate) fn addresses(&self) -> String {
        format!(
            "MQTT {}  Kafka {}  registry {}  metrics {}/metrics",
            self.reach.mqtt,
            self.reach.kafka.bootstrap,
            self.reach.registry.url,
            self.http(),
        )
    }

    pub(crate) fn http(&self) -> String {
        self.host.http_addr().map_or_else(|| "off".to_owned(), |it| format!("http://{it}"))
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // Asked all at once, so that they end side by side.
        self.services.iter().for_each(|it| it.service().shutdown().request());
        self.control.shutdown().request();
        for service in self.services.drain(..) {
            let name = service.service().name();
            if let Err(error) = service.stop() {
                tracing::warn!(
                    service = name,
                    error = telltale_service::chain(&*error),
                    "not stopped in order"
                );
            }
        }
        if let Err(error) = self.control.join(DRAIN) {
            tracing::warn!(error = telltale_service::chain(&error), "not stopped in order");
        }
    }
}

/// A service that is about to be stopped.
pub(crate) struct Stopping {
    name: &'static str,
    work: Box<dyn Work>,
}

impl Stopping {
    /// The service.
    pub(crate) fn service(&self) -> &Service {
        self.work.service()
    }

    /// Asks the service to stop and waits until it has.
    pub(crate) fn stop(self) -> Result<(), Error> {
        let service = self.name;
        self.work.stop().map_err(|source| Error::Service { service, source })
    }

    /// Why the service ended by itself.
    pub(crate) fn why_ended(self) -> Error {
        let service = self.name;
        match self.stop() {
            Ok(()) => Error::Ended { service },
            Err(error) => error,
        }
    }
}

/// Time over which the cars connect: a thousand a second, and all within two.
fn ramp_up(args: &DemoArgs) -> Duration {
    Duration::from_millis(u64::from(args.cars)).clamp(Duration::from_millis(100), Duration::from_secs(2))
}

/// Readings the first model learns from: those of the first three seconds, as far as that is neither too few to
/// learn from nor more than are learnt from in a second.
fn first_rows(args: &DemoArgs) -> u64 {
    let three_seconds = f64::from(args.cars) * args.rate * 3.0;
    (three_seconds as u64).clamp(300, 8_000)
}

/// Counts SIGINT and SIGTERM from now on.
fn count_signals(control: &Service) -> Result<Arc<AtomicUsize>, Error> {
    let count = Arc::new(AtomicUsize::new(0));
    let mut signals = control.runtime().block_on(async { Signals::catch() }).map_err(Error::Runtime)?;
    let (counted, shutdown) = (Arc::clone(&count), control.shutdown().clone());
    control.spawn("signals", async move {
        loop {
            tokio::select! {
                () = signals.next() => { counted.fetch_add(1, Ordering::Relaxed); }
                () = shutdown.requested() => break,
            }
        }
    });
    Ok(count)
}

/// The configuration of a service as its own command line makes it.
fn parse<C: Parser>(arguments: &[String]) -> Result<C, Error> {
    let program = std::iter::once("telltale".to_owned());
    C::try_parse_from(program.chain(arguments.iter().cloned()))
        .map_err(|source| Error::ServiceFlags { source })
}

fn flags(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]).collect()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
