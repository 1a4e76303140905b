//! The command lines of a soak's processes: every service reaches its engines over links of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::engines::Addresses;
use super::link::Proxy;
use super::plan::{Link, Service};
use super::process::Supervised;
use super::settings::Settings;

/// Folder of the ledgers, in that of the run.
pub const LEDGERS: &str = "ledgers";
/// Ledger of the cars.
pub const CARS: &str = "cars.csv";
/// Name of the preprocessor that comes and goes.
pub const THIRD: &str = "preprocessor-3";
/// First number of cars with wrong clocks, above those of any fleet.
const WRONG_CLOCKS: u32 = 900_000;

/// What command lines are made of.
#[derive(Debug)]
pub struct Commands {
    program: String,
    folder: PathBuf,
    mqtt: String,
    registry_path: String,
    links: BTreeMap<Link, String>,
    bridge: Option<PathBuf>,
    cars: [(&'static str, String); 3],
}

impl Commands {
    /// Takes what the command lines need to know.
    #[must_use]
    pub fn new(settings: &Settings, folder: &Path, at: &Addresses, links: &BTreeMap<Link, Proxy>) -> Self {
        let cars = [
            ("--cars", settings.cars.to_string()),
            ("--rate", settings.rate.to_string()),
            ("--seed", settings.seed.to_string()),
        ];
        Self {
            program: settings.program.display().to_string(),
            folder: folder.to_owned(),
            mqtt: at.mqtt.to_string(),
            registry_path: at.registry_path.clone(),
            links: links.iter().map(|(link, proxy)| (*link, proxy.address())).collect(),
            bridge: settings.bridge.clone(),
            cars,
        }
    }

    /// A service with its probes at `http`.
    #[must_use]
    pub fn service(&self, service: Service, name: &str, http: String) -> Supervised {
        if let (Service::Bridge, Some(program)) = (service, &self.bridge) {
            return self.other_bridge(program, name);
        }
        let mut flags = vec![("--http", http.clone()), self.kafka(service)];
        let path = |name: &str| self.folder.join(name).display().to_string();
        let mut switches: &[&str] = &[];
        match service {
            Service::Bridge => flags.extend([
                ("--mqtt", self.links[&Link::Broker].clone()),
                ("--mqtt-client-id", "soak-bridge".to_owned()),
                ("--session-expiry", "2h".to_owned()),
            ]),
            Service::Trainer => flags.extend([
                self.registry(service),
                ("--signing-key", path("signing-key.pem")),
                ("--first-rows", "600".to_owned()),
                ("--min-interval", "20s".to_owned()),
                ("--interval", "60s".to_owned()),
            ]),
            Service::Preprocessor(_) | Service::Scorer(_) => {
                let identity = ("--identity", service.to_string());
                flags.extend([self.registry(service), identity, ("--max-records", "500".to_owned())]);
                switches = &["--static-member"];
                if matches!(service, Service::Scorer(_)) {
                    flags.push(("--trusted-key", path("verifying-key.pem")));
                }
            }
        }
        let mut process = self.process(name, service.program(), &flags, switches);
        process.serve(http);
        process
    }

    fn other_bridge(&self, program: &Path, name: &str) -> Supervised {
        let (flag, kafka) = self.kafka(Service::Bridge);
        let mqtt = self.links[&Link::Broker].clone();
        let command = vec![program.display().to_string(), "--mqtt".to_owned(), mqtt, flag.to_owned(), kafka];
        Supervised::new(name, command, &self.folder.join("logs"))
    }

    /// A preprocessor that is no static member: each time it comes or goes, the group divides its partitions anew.
    #[must_use]
    pub fn third(&self) -> Supervised {
        let first = Service::Preprocessor(1);
        let identity = ("--identity", THIRD.to_owned());
        let flags = [("--http", "off".to_owned()), self.kafka(first), self.registry(first), identity];
        self.process(THIRD, first.program(), &flags, &[])
    }

    /// The cars, whose ledger everything is held against.
    #[must_use]
    pub fn cars(&self) -> Supervised {
        let ledger = self.folder.join(LEDGERS).join(CARS).display().to_string();
        let flags =
            [("--http", "off".to_owned()), ("--mqtt", self.links[&Link::Cars].clone()), ("--ledger", ledger)];
        let flags: Vec<_> = flags.into_iter().chain(self.cars.clone()).collect();
        self.process("simulator", "simulator", &flags, &[])
    }

    /// A few other cars, whose clocks are so many minutes off, for a few seconds; and their ledger.
    #[must_use]
    pub fn wrong_clocks(&self, number: u32, minutes: i64) -> (PathBuf, Supervised) {
        let ledger = self.folder.join(LEDGERS).join(format!("clocks-{number}.csv"));
        #[expect(
            clippy::disallowed_methods,
            reason = "a clock that is wrong is wrong against the right time"
        )]
        let now = SystemTime::now();
        let off = Duration::from_secs(minutes.unsigned_abs() * 60);
        let start = if minutes < 0 { now - off } else { now + off };
        let flags = [
            ("--http", "off".to_owned()),
            ("--mqtt", self.mqtt.clone()),
            ("--cars", "3".to_owned()),
            ("--first-car", (WRONG_CLOCKS + number * 3).to_string()),
            ("--rate", "2".to_owned()),
            ("--duration", "4s".to_owned()),
            ("--truth-topic", "off".to_owned()),
            ("--start", humantime::format_rfc3339_millis(start).to_string()),
            ("--ledger", ledger.display().to_string()),
        ];
        let cars = self.process(&format!("clocks-{number}"), "simulator", &flags, &[]);
        (ledger, cars)
    }

    fn kafka(&self, service: Service) -> (&'static str, String) {
        ("--kafka", self.links[&Link::Kafka(service)].clone())
    }

    fn registry(&self, service: Service) -> (&'static str, String) {
        ("--registry", format!("http://{}{}", self.links[&Link::Registry(service)], self.registry_path))
    }

    fn process(&self, name: &str, program: &str, flags: &[(&str, String)], switches: &[&str]) -> Supervised {
        let mut command = vec![self.program.clone(), program.to_owned()];
        command.extend(flags.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]));
        command.extend(switches.iter().map(|&it| it.to_owned()));
        Supervised::new(name, command, &self.folder.join("logs"))
    }
}
