//! The engines of a soak: processes that can be killed, frozen, and started again where they were.
//!
//! Embedded ones are two processes of `telltale engines`: one whose log and registry are on disk and which dies, one whose
//! MQTT broker is used and which does not, since it keeps in memory what it has acknowledged, and says so.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use super::link::list;
use super::plan::engine_name;
use super::process::Supervised;
use crate::engines::{Engine, Kind, real::Real};

/// Where the engines listen.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The MQTT broker.
    pub mqtt: SocketAddr,
    /// The brokers of Kafka: one, or three.
    pub kafka: Vec<SocketAddr>,
    /// The registry.
    pub registry: SocketAddr,
    /// What follows the registry's address in its URL.
    pub registry_path: String,
}

impl Addresses {
    /// How clients of Kafka are told of its brokers.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        list(&self.kafka)
    }

    /// Whether something listens at each of them.
    #[must_use]
    pub fn answer(&self) -> bool {
        let others = [self.mqtt, self.registry];
        self.kafka.iter().chain(&others).all(|it| TcpStream::connect(it).is_ok())
    }
}

/// Which engines, and where they keep what they keep.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Their kind.
    pub kind: Kind,
    /// The program `telltale`, which has the embedded ones.
    pub program: &'a Path,
    /// Folder for the data of embedded ones.
    pub data: PathBuf,
    /// Folder of real ones that run already; without it real ones of its own are started.
    pub running: Option<&'a Path>,
    /// Folder for real ones of its own.
    pub own: PathBuf,
    /// Brokers that real ones of its own have: one, or three.
    pub brokers: u8,
}

/// Engines of either kind.
#[derive(Debug)]
pub struct Machines {
    /// Where they listen.
    pub addresses: Addresses,
    origin: Origin,
    /// Which of several brokers faults strike, from zero.
    turn: usize,
}

#[derive(Debug)]
enum Origin {
    Embedded { log: Box<Supervised>, broker: Box<Supervised> },
    Real { real: Real, folder: PathBuf, again: Box<Supervised>, ours: bool, faults: u32, ended: Vec<String> },
}

impl Machines {
    /// Starts the engines, or finds those that run.
    ///
    /// # Errors
    ///
    /// Returns why there are none.
    pub fn start(wanted: &Wanted<'_>, ports: &mut super::ports::Ports, logs: &Path) -> anyhow::Result<Self> {
        match wanted.kind {
            Kind::Embedded if wanted.brokers > 1 => {
                bail!("the embedded log is one broker; --engines real has {}", wanted.brokers)
            }
            Kind::Embedded => Self::embedded(wanted, ports, logs),
            Kind::Real => Self::real(wanted, ports, logs),
        }
    }

    fn embedded(wanted: &Wanted<'_>, ports: &mut super::ports::Ports, logs: &Path) -> anyhow::Result<Self> {
        let mut local = || ports.one().map(|it| SocketAddr::from(([127, 0, 0, 1], it)));
        let (mqtt, kafka, registry) = (local()?, local()?, local()?);
        let engines = |name: &str, ports: [u16; 3], data: &[String]| {
            let program = wanted.program.display().to_string();
            // A process whose files cannot grow is told so by an error, unless the signal for it ends it first.
            let mut command = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh", &program, "engines"]
                .map(str::to_owned)
                .to_vec();
            for (flag, port) in ["--mqtt-port", "--kafka-port", "--registry-port"].iter().zip(ports) {
                command.extend([(*flag).to_owned(), port.to_string()]);
            }
            command.extend_from_slice(data);
            Box::new(Supervised::new(name, command, logs))
        };
        let data = ["--data".to_owned(), wanted.data.display().to_string()];
        let mut log = engines("engine-kafka", [0, kafka.port(), registry.port()], &data);
        let mut broker = engines("engine-mqtt", [mqtt.port(), 0, 0], &[]);
        log.start().context("starting the embedded log")?;
        broker.start().context("starting the embedded MQTT broker")?;
        let addresses = Addresses { mqtt, kafka: vec![kafka], registry, registry_path: String::new() };
        Ok(Self { addresses, origin: Origin::Embedded { log, broker }, turn: 0 })
    }

    fn real(wanted: &Wanted<'_>, ports: &mut super::ports::Ports, logs: &Path) -> anyhow::Result<Self> {
        let ours = wanted.running.is_none();
        let folder = wanted.running.unwrap_or(&wanted.own).to_owned();
        if ours {
            empty(&folder)?;
            let first = ports.next_of(12)?;
            let flags = [
                ("--kafka", u16::from(wanted.brokers)),
                ("--kafka-port", first),
                ("--registry-port", first + 6),
                ("--mqtt-port", first + 8),
                ("--websocket-port", first + 9),
            ];
            let mut up = script("up", &folder);
            up.args(flags.iter().flat_map(|(flag, port)| [(*flag).to_owned(), port.to_string()]));
            println!("starting Apache Kafka, HiveMQ and Apicurio Registry in {}", folder.display());
            let status = up.stdout(Stdio::null()).status().context("running engines.sh up")?;
            if !status.success() {
                let _ = script("down", &folder).stdout(Stdio::null()).status();
                bail!("engines.sh up failed, {status}");
            }
        }
        let folder =
            folder.canonicalize().with_context(|| format!("no engines run in {}", folder.display()))?;
        let real = Real::find(folder.clone());
        let settings = real.settings();
        let value = |name: &str| {
            let found = settings.iter().find(|it| it.0 == name).map(|it| it.1.clone());
            found.with_context(|| format!("{} has no {name} in run/clients.env", folder.display()))
        };
        let brokers = value("KAFKA")?.split(',').map(str::parse).collect::<Result<Vec<_>, _>>();
        let registry = value("REGISTRY")?;
        let rest = registry.strip_prefix("http://").context("only engines without TLS can be used")?;
        let (host, path) =
            rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
        let addresses = Addresses {
            mqtt: value("MQTT")?.parse().context("the address of HiveMQ")?,
            kafka: brokers.context("the addresses of Kafka's brokers")?,
            registry: host.parse().context("the address of the registry")?,
            registry_path: path,
        };
        let command =
            [SCRIPT, "again", "--dir"].map(str::to_owned).into_iter().chain([folder.display().to_string()]);
        let again = Box::new(Supervised::new("engines-again", command.collect(), logs));
        Ok(Self {
            addresses,
            origin: Origin::Real { real, folder, again, ours, faults: 0, ended: Vec::new() },
            turn: 0,
        })
    }

    /// Of several brokers the next is the one that faults strike from now on; returns its name, or nothing if there is but one.
    pub fn next_broker(&mut self) -> Option<String> {
        let brokers = self.addresses.kafka.len();
        self.turn = (self.turn + 1) % brokers;
        (brokers > 1).then(|| broker(self.turn))
    }

    /// Every process of the engines, and its id if it runs.
    #[must_use]
    pub fn processes(&self) -> Vec<(String, Option<u32>)> {
        let of = |engine| (engine_name(engine).to_owned(), self.pid(engine));
        match &self.origin {
            Origin::Real { real, .. } if self.addresses.kafka.len() > 1 => (0..self.addresses.kafka.len())
                .map(|it| (broker(it), real.process(&broker(it))))
                .chain([Engine::Registry, Engine::Mqtt].map(of))
                .collect(),
            _ => [Engine::Kafka, Engine::Registry, Engine::Mqtt].map(of).to_vec(),
        }
    }

    /// Process id of an engine that runs; of several brokers, of the one whose turn it is.
    #[must_use]
    pub fn pid(&self, engine: Engine) -> Option<u32> {
        match (&self.origin, engine) {
            (Origin::Embedded { broker, .. }, Engine::Mqtt) => broker.pid(),
            (Origin::Embedded { log, .. }, _) => log.pid(),
            (Origin::Real { real, .. }, Engine::Kafka) => real.process(&broker(self.turn)),
            (Origin::Real { real, .. }, _) => real.pid(engine),
        }
    }

    /// Sends an engine a signal by name.
    ///
    /// # Errors
    ///
    /// Returns why `kill` cannot be run.
    pub fn signal(&self, engine: Engine, signal: &str) -> io::Result<()> {
        let Some(pid) = self.pid(engine) else { return Ok(()) };
        Command::new("kill")
            .args([&format!("-{signal}"), &pid.to_string()])
            .stderr(Stdio::null())
            .status()
            .map(drop)
    }

    /// Ends an engine by SIGKILL; it stays down until [`Machines::start_again`].
    ///
    /// # Errors
    ///
    /// Returns why it cannot be ended.
    pub fn kill(&mut self, engine: Engine) -> io::Result<()> {
        match (&mut self.origin, engine) {
            (Origin::Embedded { broker, .. }, Engine::Mqtt) => broker.kill(),
            (Origin::Embedded { log, .. }, _) => log.kill(),
            (Origin::Real { faults, .. }, _) => {
                *faults += 1;
                self.signal(engine, "KILL")?;
            }
        }
        Ok(())
    }

    /// Starts what does not run, and does not wait until it answers.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be started.
    pub fn start_again(&mut self) -> io::Result<()> {
        match &mut self.origin {
            Origin::Embedded { log, broker } => {
                for process in [log, broker] {
                    if process.pid().is_none() {
                        process.start()?;
                    }
                }
                Ok(())
            }
            Origin::Real { again, faults, .. } => {
                *faults = faults.saturating_sub(1);
                again.kill(); // it may wait for an engine that has just been killed again
                again.start()
            }
        }
    }

    /// Whether engines that were ended have not all started again yet.
    #[must_use]
    pub fn are_starting(&self) -> bool {
        match &self.origin {
            Origin::Embedded { .. } => false,
            Origin::Real { again, .. } => again.pid().is_some(),
        }
    }

    /// Whether files of the log may grow. A broker that cannot write may end; [`Machines::start_again`] is for afterwards.
    ///
    /// # Errors
    ///
    /// Returns why `prlimit` cannot be run.
    pub fn limit_files(&mut self, limited: bool) -> io::Result<()> {
        if let Origin::Real { faults, .. } = &mut self.origin
            && limited
        {
            *faults += 1;
        }
        let Some(pid) = self.pid(Engine::Kafka) else { return Ok(()) };
        let limit = if limited { "--fsize=1:" } else { "--fsize=unlimited:" };
        Command::new("prlimit")
            .args(["--pid", &pid.to_string(), limit])
            .stderr(Stdio::null())
            .status()
            .map(drop)
    }

    /// Takes note of engines that have ended by themselves, and starts them again.
    ///
    /// # Errors
    ///
    /// Returns why one cannot be started.
    pub fn supervise(&mut self) -> io::Result<()> {
        let processes = self.processes();
        match &mut self.origin {
            Origin::Embedded { log, broker } => log.supervise().and_then(|()| broker.supervise()),
            Origin::Real { again, faults, ended, .. } => {
                let working = again.pid().is_some() && again.try_end().is_none();
                let missing = processes.into_iter().filter(|(_, pid)| pid.is_none());
                let missing: Vec<String> = missing.map(|(name, _)| name).collect();
                if *faults > 0 || working || missing.is_empty() {
                    return Ok(());
                }
                ended.push(format!("{} ended, or did not start again", missing.join(", ")));
                again.start()
            }
        }
    }

    /// Ends that nobody asked for.
    #[must_use]
    pub fn ended_themselves(&self) -> Vec<String> {
        match &self.origin {
            Origin::Embedded { log, broker } => [&log.ended_itself[..], &broker.ended_itself[..]].concat(),
            Origin::Real { ended, .. } => ended.clone(),
        }
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        if let Origin::Real { folder, again, ours, .. } = &mut self.origin {
            again.kill();
            let word = if *ours { "down" } else { "again" };
            // Nobody is left to tell of a failure but whoever reads what the script says.
            let _ = script(word, folder).stdout(Stdio::null()).status();
        }
    }
}

/// The script's name of a broker; they are numbered from one.
fn broker(number: usize) -> String {
    format!("kafka-{}", number + 1)
}

/// Ends what an earlier run may have left in a folder of our own, and removes what it kept: nobody would know its ledgers.
fn empty(folder: &Path) -> anyhow::Result<()> {
    let data = folder.join("data");
    if data.exists() {
        let status =
            script("down", folder).stdout(Stdio::null()).status().context("running engines.sh down")?;
        ensure!(status.success(), "engines.sh down failed, {status}");
        std::fs::remove_dir_all(&data).with_context(|| format!("emptying {}", data.display()))?;
    }
    Ok(())
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/local/engines.sh");

fn script(word: &str, folder: &Path) -> Command {
    let mut command = Command::new(SCRIPT);
    command.arg(word).arg("--dir").arg(folder).stdin(Stdio::null());
    command
}
