//! Where a bench runs: engines as processes, and topics, groups and sessions that no other run has names for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use telltale_kafka::topics::Topics;
use telltale_kafka::{KafkaConfig, RegistryConfig};
use telltale_records::topics::TopicSpec;
use telltale_testkit::soak::engines::{Machines, Wanted};
use telltale_testkit::soak::ports::Ports;
use telltale_testkit::soak::process::Supervised;
use tokio_util::sync::CancellationToken;

use crate::peers;
use crate::settings::Settings;

/// Longest wait for anything: far longer than a busy machine needs for five million readings.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Longest wait for a process that was asked to end.
const END: Duration = Duration::from_secs(60);

/// Kept for ever: readings of the simulator carry times of the past.
pub(crate) const PLAIN: &[(&str, &str)] = &[("cleanup.policy", "delete"), ("retention.ms", "-1")];
/// A table: the newest record of each key.
pub(crate) const TABLE: &[(&str, &str)] = &[("cleanup.policy", "compact")];

/// Engines, and what leads to them. Dropping it ends what it started.
pub(crate) struct Place {
    /// What was asked for.
    pub(crate) settings: Settings,
    /// How Kafka is reached.
    pub(crate) kafka: KafkaConfig,
    /// How the registry is reached.
    pub(crate) registry: RegistryConfig,
    /// Where the MQTT broker listens.
    pub(crate) mqtt: SocketAddr,
    /// Folder for files of this run.
    pub(crate) folder: PathBuf,
    /// Ends everything early.
    pub(crate) stop: CancellationToken,
    /// More flags for preprocessors and scorers: how they work.
    pub(crate) work: Vec<String>,
    /// What the names of this run begin with.
    pub(crate) id: String,
    topics: Topics,
    ours: Vec<String>,
    ports: Ports,
    /// Held for its end, and so is the other.
    _machines: Machines,
    _mosquitto: Option<Supervised>,
}

impl Place {
    /// Starts the engines, or finds them, and makes what every service needs.
    pub(crate) fn start(settings: &Settings, stop: &CancellationToken) -> Result<Self> {
        ensure!(settings.program.is_file(), "{} is not there: make build", settings.program.display());
        let folder = settings.dir.join("run");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("emptying {}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let folder = folder.canonicalize().context("finding the folder")?;
        let mut ports = Ports::default();
        let wanted = Wanted {
            kind: settings.engines,
            program: &settings.program,
            data: folder.join("data"),
            running: Some(&settings.engines_dir),
            own: folder.join("engines"),
            brokers: 1,
        };
        let machines = Machines::start(&wanted, &mut ports, &folder)?;
        let at = machines.addresses.clone();
        let mosquitto = settings.peers.mosquitto.then(|| peers::mosquitto(settings, &mut ports, &folder));
        let (mosquitto, mqtt) =
            mosquitto.transpose()?.map_or((None, at.mqtt), |(process, at)| (Some(process), at));
        let kafka = KafkaConfig::at(at.bootstrap());
        let seconds = UNIX_EPOCH.elapsed().map_or(0, |it| it.as_secs());
        let place = Self {
            settings: settings.clone(),
            registry: RegistryConfig::at(format!("http://{}{}", at.registry, at.registry_path)),
            mqtt,
            folder,
            stop: stop.clone(),
            work: Vec::new(),
            id: format!("bench-{seconds:x}"),
            topics: Topics::open(&kafka)?,
            kafka,
            ours: Vec::new(),
            ports,
            _machines: machines,
            _mosquitto: mosquitto,
        };
        let answers = || at.answer() && std::net::TcpStream::connect(mqtt).is_ok();
        place.until("the engines answer", || Ok(answers().then_some(())))?;
        let partitions = settings.partitions.to_string();
        place.telltale(&[
            "topics",
            "create",
            "--partitions",
            &partitions,
            "--kafka",
            &place.kafka.bootstrap,
        ])?;
        place.telltale(&["keys", "generate", "--out", &place.folder.display().to_string()])?;
        Ok(place)
    }

    /// Makes a topic of this run and returns its name.
    pub(crate) fn topic(
        &mut self,
        what: &str,
        config: &'static [(&'static str, &'static str)],
    ) -> Result<String> {
        let name = format!("{}-{what}", self.id);
        // The design's topics have names that live for ever; a run has some dozens of them.
        let spec = TopicSpec { name: name.clone().leak(), partitioned: true, config };
        self.topics.create(&spec, self.settings.partitions, 1)?;
        self.ours.push(name.clone());
        Ok(name)
    }

    /// Deletes a topic of this run, for its room on disk.
    pub(crate) fn delete(&mut self, topic: &str) -> Result<()> {
        self.ours.retain(|it| it != topic);
        Ok(self.topics.delete(topic)?)
    }

    /// A file of this run, as an argument.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Runs a command of `telltale` to its end.
    fn telltale(&self, arguments: &[&str]) -> Result<()> {
        let program = &self.settings.program;
        let output = std::process::Command::new(program).args(arguments).output();
        let output = output.with_context(|| format!("running {}", program.display()))?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(output.status.success(), "telltale {}: {said}", arguments.join(" "));
        Ok(())
    }

    /// Starts one of our services as a process; with `http` its probes are at a port of their own.
    pub(crate) fn service(
        &mut self,
        service: &str,
        name: &str,
        flags: Vec<String>,
        http: bool,
    ) -> Result<Supervised> {
        let at = if http { format!("127.0.0.1:{}", self.ports.one()?) } else { "off".to_owned() };
        let program = self.settings.program.display().to_string();
        let mut command = vec![program, service.to_owned(), "--http".to_owned(), at.clone()];
        command.extend(flags);
        let mut process = Supervised::new(name, command, &self.folder);
        if http {
            process.serve(at);
        }
        process.start().with_context(|| format!("starting {name}"))?;
        Ok(process)
    }

    /// Starts this program as a process, to do a part.
    pub(crate) fn part(&self, part: &str, name: &str, flags: Vec<String>) -> Result<Supervised> {
        let program = std::env::current_exe().context("finding this program")?;
        let command = [vec![program.display().to_string(), part.to_owned()], flags].concat();
        let mut process = Supervised::new(name, command, &self.folder);
        process.start().with_context(|| format!("starting {name}"))?;
        Ok(process)
    }

    /// Waits until `look` finds something.
    pub(crate) fn until<T>(&self, what: &str, look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        self.until_each(Duration::from_millis(10), what, look)
    }

    /// As [`Place::until`], with a pause of its own between two looks.
    pub(crate) fn until_each<T>(
        &self,
        pause: Duration,
        what: &str,
        mut look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look().with_context(|| format!("waiting until {what}"))? {
                return Ok(found);
            }
            ensure!(!self.stop.is_cancelled(), "stopped while waiting until {what}");
            ensure!(
                Instant::now() < deadline,
                "waited {PATIENCE:?} in vain until {what}: {}",
                self.folder.display()
            );
            std::thread::sleep(pause);
        }
    }

    /// Waits until a service says that it is ready.
    pub(crate) fn ready(&self, process: &mut Supervised) -> Result<()> {
        self.until("the service is ready", || {
            alive(process)?;
            let at = process.http().unwrap_or_default();
            let answer = reqwest::blocking::get(format!("http://{at}/readyz"));
            Ok(answer.is_ok_and(|it| it.status().is_success()).then_some(()))
        })
    }

    /// Asks a process to end, which it must do well.
    pub(crate) fn end(&self, mut process: Supervised) -> Result<()> {
        process.signal("TERM")?;
        let status = process.wait(END);
        ensure!(status.is_some_and(|it| it.success()), "a process ended badly: {}", process.last_words());
        Ok(())
    }

    /// Waits until a process has ended by itself, which it must do well; returns what it said.
    pub(crate) fn finish(&self, mut process: Supervised) -> Result<String> {
        let status = self.until("a process has ended", || Ok(process.try_end()))?;
        ensure!(status.success(), "a process ended badly, {status}: {}", process.log());
        Ok(process.log())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for topic in &self.ours {
            // Of engines that go away it does not matter; others keep a topic that says whose it was.
            let _ = self.topics.delete(topic);
        }
    }
}

/// Fails when a process has ended, with what it said.
pub(crate) fn alive(process: &mut Supervised) -> Result<()> {
    match process.try_end() {
        Some(status) => bail!("a process has ended, {status}: {}", process.log()),
        None => Ok(()),
    }
}

/// Writes a file of this run.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    std::fs::write(folder.join(name), text).with_context(|| format!("writing {name}"))
}
