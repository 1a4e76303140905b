//! Everything a soak runs: engines, links, services, cars; and what a fault does to them.

mod deletion;
mod topics;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::commands::{CARS, Commands, LEDGERS, THIRD};
use super::engines::Machines;
use super::link::{Protocol, Proxy};
use super::plan::{Fault, Kind, Link, Service};
use super::poison::Poison;
use super::ports::Ports;
use super::process::Supervised;
use super::settings::Settings;
use super::trouble::Trouble;
use super::usage::Courses;
use crate::engines::Engine;

/// Longest wait for a part to start; far longer than a busy machine needs.
const START: Duration = Duration::from_secs(300);
/// Longest wait for a process that was asked to end, before it is killed.
const END: Duration = Duration::from_secs(60);
/// Time after which the third preprocessor of a rebalance storm leaves.
const STAY: Duration = Duration::from_millis(1500);

/// The pipeline under faults. Dropping it ends everything it started.
#[derive(Debug)]
pub struct Pipeline {
    settings: Settings,
    folder: PathBuf,
    commands: Commands,
    cars: Supervised,
    services: BTreeMap<Service, Supervised>,
    /// Processes that faults have brought: twins, a third preprocessor.
    guests: BTreeMap<String, Supervised>,
    /// Cars with wrong clocks, which end by themselves.
    clocks: Vec<(PathBuf, Supervised)>,
    stay_until: Option<Instant>,
    /// Messages that no service can use, if there are to be any.
    poison: Option<Poison>,
    /// Records that a scenario deleted.
    pub deleted: u64,
    links: BTreeMap<Link, Proxy>,
    /// The engines.
    pub machines: Machines,
    ports: Ports,
    runtime: Runtime,
}

impl Pipeline {
    /// Starts everything, one after the other, until the bridge has its session and cars publish.
    ///
    /// # Errors
    ///
    /// Returns what does not start.
    pub fn start(settings: &Settings, stop: &CancellationToken) -> Result<Self> {
        let folder = settings.folder();
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("emptying {}", folder.display()))?;
        }
        let logs = folder.join("logs");
        for it in [&logs, &folder.join(LEDGERS)] {
            std::fs::create_dir_all(it).with_context(|| format!("making {}", it.display()))?;
        }
        let folder = folder.canonicalize().context("finding the folder")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let mut ports = Ports::default();
        let machines = Machines::start(&settings.wanted(), &mut ports, &logs)?;
        let mut links = BTreeMap::new();
        for link in Link::all() {
            let at = &machines.addresses;
            let (targets, protocol) = match link {
                Link::Cars | Link::Broker => (&[at.mqtt][..], Protocol::Plain),
                Link::Kafka(_) => (&at.kafka[..], Protocol::Kafka),
                Link::Registry(_) => (&[at.registry][..], Protocol::Plain),
            };
            links.insert(
                link,
                Proxy::open(&runtime, targets, protocol)
                    .with_context(|| format!("opening the link {link}"))?,
            );
        }
        let cars = Supervised::new("simulator", Vec::new(), &logs);
        let mut pipeline = Self {
            settings: settings.clone(),
            commands: Commands::new(settings, &folder, &machines.addresses, &links),
            folder,
            cars,
            services: BTreeMap::new(),
            guests: BTreeMap::new(),
            clocks: Vec::new(),
            stay_until: None,
            poison: None,
            deleted: 0,
            links,
            machines,
            ports,
            runtime,
        };
        pipeline.prepare(stop)?;
        for service in Service::ALL {
            let mut process = pipeline.service(service, &service.to_string())?;
            process.start().with_context(|| format!("starting {service}"))?;
            pipeline.services.insert(service, process);
            if service == Service::Bridge {
                // From now on the broker holds its session.
                pipeline.until("the bridge is ready", stop, |it| it.bridge_is_ready())?;
            }
        }
        pipeline.cars = pipeline.commands.cars();
        pipeline.cars.start().context("starting the simulator")?;
        Ok(pipeline)
    }

    /// Topics and keys.
    fn prepare(&mut self, stop: &CancellationToken) -> Result<()> {
        self.until("the engines answer", stop, |it| it.machines.addresses.answer())?;
        if self.settings.engines_dir.is_some() {
            crate::engines::empty(&self.kafka(), &self.registry());
        }
        self.create_topics()?;
        self.check_copies()?;
        let keys = self.folder.display().to_string();
        self.telltale(&["keys", "generate", "--out", &keys])?;
        if self.settings.kinds().contains(&Kind::Poison) {
            self.poison = Some(Poison::new(self.machines.addresses.mqtt, &self.registry()));
        }
        Ok(())
    }

    /// How many messages there were that no service can use, and which are not among the dead letters as they must be.
    ///
    /// # Panics
    ///
    /// Panics when the topic cannot be read.
    #[must_use]
    pub fn check_poison(&self) -> (u64, Vec<String>) {
        self.poison.as_ref().map(|it| it.check(&self.kafka())).unwrap_or_default()
    }

    /// What a service has logged so far.
    #[must_use]
    pub fn log(&self, service: Service) -> String {
        self.services[&service].log()
    }

    /// How Kafka is reached past all links.
    #[must_use]
    pub fn kafka(&self) -> telltale_kafka::KafkaConfig {
        telltale_kafka::KafkaConfig::at(self.machines.addresses.bootstrap())
    }

    /// How the registry is reached past all links.
    #[must_use]
    pub fn registry(&self) -> telltale_kafka::RegistryConfig {
        let at = &self.machines.addresses;
        telltale_kafka::RegistryConfig::at(format!("http://{}{}", at.registry, at.registry_path))
    }

    /// Folder of this run.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Folder with the ledgers of the cars.
    #[must_use]
    pub fn ledgers(&self) -> PathBuf {
        self.folder.join(LEDGERS)
    }

    /// The services, in the order they start.
    pub fn services(&self) -> impl Iterator<Item = (Service, &Supervised)> {
        self.services.iter().map(|(service, process)| (*service, process))
    }

    fn telltale(&self, arguments: &[&str]) -> Result<()> {
        let output = std::process::Command::new(&self.settings.program).args(arguments).output();
        let output = output.with_context(|| format!("running {}", self.settings.program.display()))?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(
            output.status.success(),
            "telltale {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&said)
        );
        Ok(())
    }

    /// Waits, with everything supervised, until something holds.
    ///
    /// # Errors
    ///
    /// Returns an error when it does not in time, or the soak is stopped.
    pub fn until(
        &mut self,
        what: &str,
        stop: &CancellationToken,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + START;
        while !holds(self) {
            ensure!(!stop.is_cancelled(), "stopped while waiting until {what}");
            ensure!(
                Instant::now() < deadline,
                "waited {START:?} in vain until {what}; logs are in {}",
                self.folder.display()
            );
            self.supervise()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Takes note of processes that have ended and starts them again.
    ///
    /// # Errors
    ///
    /// Returns which one cannot be started, and that the cars have ended, which they never should.
    pub fn supervise(&mut self) -> Result<()> {
        for (service, process) in &mut self.services {
            process.supervise().with_context(|| format!("starting {service} again"))?;
        }
        if let Some(until) = self.stay_until
            && Instant::now() > until
            && let Some(guest) = self.guests.get_mut(THIRD)
        {
            guest.terminate().context("ending the third preprocessor")?;
            self.stay_until = Some(Instant::now() + 2 * STAY);
        }
        for (name, guest) in &mut self.guests {
            guest.supervise().with_context(|| format!("starting {name} again"))?;
        }
        for (ledger, clock) in &mut self.clocks {
            if clock.pid().is_some() && clock.try_end().is_some_and(|it| it.success()) {
                mark_drained(ledger)?;
            }
        }
        self.machines.supervise().context("starting an engine again")?;
        if self.cars.starts > 0 && self.cars.try_end().is_some() {
            bail!("the simulator has ended: {}", self.cars.last_words());
        }
        Ok(())
    }

    fn bridge_is_ready(&self) -> bool {
        let bridge = &self.services[&Service::Bridge];
        match bridge.http() {
            Some(address) => {
                let answer = reqwest::blocking::get(format!("http://{address}/readyz"));
                answer.is_ok_and(|it| it.status().is_success())
            }
            // Other people's have no probes: the naive one says the first, Telegraf the second.
            None => ["subscribed", "Connected"].iter().any(|it| bridge.log().contains(it)),
        }
    }

    /// A process for a service; a twin has the flags of its original but for the port of its probes.
    fn service(&mut self, service: Service, name: &str) -> Result<Supervised> {
        let http = format!("127.0.0.1:{}", self.ports.one()?);
        Ok(self.commands.service(service, name, http))
    }

    /// Whether a fault is of an engine that has not started again since the one before.
    #[must_use]
    pub fn is_too_early(&self, fault: Fault) -> bool {
        let of_engine = matches!(fault, Fault::KillEngine(_) | Fault::FreezeEngine(_) | Fault::Disk);
        of_engine && self.machines.are_starting()
    }

    /// Says which of several brokers a fault of Kafka's will strike: each time the next.
    pub fn takes_turn(&mut self, fault: Fault) -> Option<String> {
        let of_kafka = matches!(
            fault,
            Fault::KillEngine(Engine::Kafka) | Fault::FreezeEngine(Engine::Kafka) | Fault::Disk
        );
        if of_kafka { self.machines.next_broker() } else { None }
    }

    /// Makes a fault begin.
    ///
    /// # Errors
    ///
    /// Returns what could not be done.
    pub fn begin(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kill(service) => self.of(service).kill(),
            Fault::Terminate(service) => self.of(service).terminate()?,
            Fault::Freeze(service) => self.of(service).signal("STOP")?,
            Fault::KillEngine(engine) => self.machines.kill(engine)?,
            Fault::FreezeEngine(engine) => self.machines.signal(engine, "STOP")?,
            Fault::Link(link, trouble) => self.links[&link].set(trouble),
            Fault::Poison(messages) => {
                if let Some(poison) = &mut self.poison {
                    poison.publish(&self.runtime, messages);
                }
            }
            Fault::Disk => self.machines.limit_files(true)?,
            Fault::DeleteTopic => self.delete_predictions()?,
            Fault::Retention => [1, 2].into_iter().for_each(|it| self.of(Service::Preprocessor(it)).kill()),
            Fault::Twin(service) => {
                let name = format!("{service}-twin");
                let mut twin = self.service(service, &name)?;
                twin.start()?;
                self.guests.insert(name, twin);
            }
            Fault::Rebalance => {
                let mut third = self.commands.third();
                third.start()?;
                self.guests.insert(THIRD.to_owned(), third);
                self.stay_until = Some(Instant::now() + STAY);
            }
            Fault::Clock(minutes) => {
                let (ledger, mut cars) = self.commands.wrong_clocks(self.clocks.len() as u32, minutes);
                cars.start()?;
                self.clocks.push((ledger, cars));
            }
        }
        Ok(())
    }

    /// Makes a fault end.
    ///
    /// # Errors
    ///
    /// Returns what could not be done.
    pub fn end(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kill(service) => self.of(service).start()?,
            Fault::Freeze(service) => self.of(service).signal("CONT")?,
            Fault::FreezeEngine(engine) => self.machines.signal(engine, "CONT")?,
            Fault::KillEngine(_) => self.machines.start_again()?,
            Fault::Link(link, _) => self.links[&link].set(Trouble::Clear),
            Fault::Disk => {
                self.machines.limit_files(false)?;
                self.machines.start_again()?; // a broker that could not write may have ended
            }
            Fault::Twin(service) => drop(self.guests.remove(&format!("{service}-twin"))),
            Fault::Rebalance => {
                self.stay_until = None;
                if let Some(mut third) = self.guests.remove(THIRD) {
                    third.signal("TERM")?;
                    let _ = third.wait(END);
                }
            }
            Fault::DeleteTopic => self.create_topics()?,
            Fault::Retention => self.overtake()?,
            Fault::Terminate(_) | Fault::Poison(_) | Fault::Clock(_) => {}
        }
        Ok(())
    }

    fn of(&mut self, service: Service) -> &mut Supervised {
        self.services.get_mut(&service).expect("all services were started")
    }

    /// Clears every link, so that nothing more goes wrong.
    pub fn clear(&self) {
        self.links.values().for_each(|it| it.set(Trouble::Clear));
    }

    /// Ends the cars once all they have published is acknowledged, and marks their ledgers as complete.
    ///
    /// # Errors
    ///
    /// Returns an error when they could not deliver everything.
    pub fn end_cars(&mut self) -> Result<()> {
        self.cars.signal("TERM")?;
        let status = self.cars.wait(END);
        self.cars.starts = 0;
        ensure!(
            status.is_some_and(|it| it.success()),
            "the simulator could not deliver all: {}",
            self.cars.last_words()
        );
        mark_drained(&self.ledgers().join(CARS))?;
        for (ledger, cars) in &mut self.clocks {
            if cars.pid().is_some() {
                ensure!(
                    cars.wait(END).is_some_and(|it| it.success()),
                    "cars with wrong clocks: {}",
                    cars.last_words()
                );
                mark_drained(ledger)?;
            }
        }
        Ok(())
    }

    /// Ends the services in order; says which did not end well.
    #[must_use]
    pub fn end_services(&mut self) -> Vec<String> {
        let mut badly = Vec::new();
        for (service, process) in &mut self.services {
            let asked = process.signal("TERM");
            if asked.is_err() || !process.wait(END).is_some_and(|it| it.success()) {
                badly.push(format!("{service} did not end well at last: {}", process.last_words()));
            }
        }
        badly
    }

    /// Takes in what each process holds now.
    pub fn sample(&self, courses: &mut Courses) {
        courses.take("simulator", self.cars.pid());
        for (service, process) in &self.services {
            courses.take(&service.to_string(), process.pid());
        }
        for (name, pid) in self.machines.processes() {
            courses.take(&name, pid);
        }
    }

    /// What processes have ended without being asked to, with their last words.
    #[must_use]
    pub fn ended_themselves(&self) -> Vec<String> {
        let services = self.services.values().flat_map(|it| it.ended_itself.iter().cloned());
        services.chain(self.machines.ended_themselves()).collect()
    }
}

/// Says of a ledger that all it holds as acknowledged has left the broker, or is about to.
fn mark_drained(ledger: &Path) -> Result<()> {
    std::fs::write(ledger.with_extension("drained"), "").context("marking a ledger as complete")
}
