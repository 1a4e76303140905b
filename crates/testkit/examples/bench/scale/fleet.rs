//! How many cars one machine can hold connected, and what each takes.
//!
//! ```text
//! simulators, as many cars each as a process may open files ══▶ as many brokers: each has an address, and so ports, of its own
//! ```
//!
//! A broker needs a file for each connection as well, and a client a port for each: 28,000 to one address. So each simulator has
//! a broker of its own, and the two sides are measured apart.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;
use telltale_testkit::soak::ports::Ports;
use telltale_testkit::soak::process::Supervised;
use tokio_util::sync::CancellationToken;

use super::memory::resident_kb;
use crate::machine::load;
use crate::process::used;
use crate::report::Goal;
use crate::rounds::value;
use crate::settings::Settings;

/// Kilobytes of a simulator for each car, 1,024 bytes each as the kernel counts.
const GOAL: Goal = Goal::AtMost(25.0);
/// Longest wait for connections beyond the time in which they are to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time to end: each car says farewell.
const END: Duration = Duration::from_secs(60);

/// What is connected.
#[derive(Debug, Clone, Args)]
pub(super) struct Flags {
    /// Cars of the part fleet
    #[arg(long, default_value = "100000", value_name = "COUNT")]
    fleet: u32,

    /// Cars of one simulator in the part fleet: fewer than a process may open files
    #[arg(long, default_value = "16700", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    fleet_part: u32,

    /// Readings a second of each car of the part fleet
    #[arg(long, default_value = "0.05", value_name = "RATE")]
    fleet_rate: f64,

    /// Time over which the cars of the part fleet connect
    #[arg(long, default_value = "40s", value_name = "DURATION")]
    fleet_ramp_up: humantime::Duration,

    /// Time for which the cars of the part fleet stay connected
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    fleet_hold: humantime::Duration,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Connected {
    cars: u32,
    connected: u64,
    rate: f64,
    seconds_to_connect: f64,
    /// Readings while all were connected, and acknowledgements of brokers, also for readings just before.
    published: u64,
    acknowledged: u64,
    disconnects: u64,
    /// Memory when all were connected, and at the end of the time they stayed; 1,024 bytes a car.
    client_kb_connected: f64,
    client_kb: f64,
    broker_kb: f64,
    /// CPU of all simulators and of all brokers while the cars stayed.
    client_cpus: f64,
    broker_cpus: f64,
    goal: Goal,
    reached: bool,
}

/// Sums over the processes at a moment.
struct Moment {
    clients_kb: u64,
    brokers_kb: u64,
    clients_cpu: Duration,
    brokers_cpu: Duration,
    at: Instant,
}

/// Simulators and their brokers.
struct Machines {
    simulators: Vec<Supervised>,
    brokers: Vec<Supervised>,
}

/// Connects the cars, holds them, and lets them go.
pub(super) fn measure(settings: &Settings, flags: &Flags, stop: &CancellationToken) -> Result<Connected> {
    let machines = Machines::start(settings, flags)?;
    let began = Instant::now();
    let limit = began + *flags.fleet_ramp_up + PATIENCE;
    let mut connected = 0;
    while connected < u64::from(flags.fleet) && Instant::now() < limit {
        ensure!(!stop.is_cancelled(), "stopped");
        std::thread::sleep(Duration::from_millis(500));
        connected = machines.sum("telltale_simulator_cars_connected")?;
    }
    let seconds_to_connect = began.elapsed().as_secs_f64();
    println!("{connected} cars are connected after {seconds_to_connect:.1} s, load {:.1}", load());
    let readings = || -> Result<(u64, u64)> {
        let sum = |what| machines.sum(&format!("telltale_simulator_readings_{what}_total"));
        Ok((sum("published")?, sum("acknowledged")?))
    };
    let (first, before) = (machines.moment()?, readings()?);
    while first.at.elapsed() < *flags.fleet_hold {
        ensure!(!stop.is_cancelled(), "stopped");
        std::thread::sleep(Duration::from_millis(100));
    }
    let last = machines.moment()?;
    let connected = machines.sum("telltale_simulator_cars_connected")?;
    let (published, acknowledged) = readings()?;
    let disconnects = machines.sum("telltale_simulator_disconnects_total")?;
    machines.end()?;
    let seconds = (last.at - first.at).as_secs_f64();
    let each = |kb: u64| kb as f64 / f64::from(flags.fleet);
    Ok(Connected {
        cars: flags.fleet,
        connected,
        rate: flags.fleet_rate,
        seconds_to_connect,
        published: published - before.0,
        acknowledged: acknowledged - before.1,
        disconnects,
        client_kb_connected: each(first.clients_kb),
        client_kb: each(last.clients_kb),
        broker_kb: each(last.brokers_kb),
        client_cpus: (last.clients_cpu - first.clients_cpu).as_secs_f64() / seconds,
        broker_cpus: (last.brokers_cpu - first.brokers_cpu).as_secs_f64() / seconds,
        goal: GOAL,
        reached: connected == u64::from(flags.fleet) && GOAL.is_reached(each(last.clients_kb)),
    })
}

/// Cars of each simulator.
fn parts(fleet: u32, part: u32) -> Vec<u32> {
    (0..fleet.div_ceil(part)).map(|it| part.min(fleet - it * part)).collect()
}

impl Machines {
    fn start(settings: &Settings, flags: &Flags) -> Result<Self> {
        let folder = settings.dir.join("fleet");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("emptying {}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let mut ports = Ports::default();
        let program = settings.program.display().to_string();
        let mut machines = Self { simulators: Vec::new(), brokers: Vec::new() };
        let mut first_car = 1;
        for (shard, cars) in parts(flags.fleet, flags.fleet_part).into_iter().enumerate() {
            let (mqtt, http) = (ports.one()?, ports.one()?);
            let ports = [format!("--mqtt-port={mqtt}"), "--kafka-port=0".into(), "--registry-port=0".into()];
            let command = [vec![program.clone(), "engines".to_owned()], ports.to_vec()].concat();
            let mut broker = Supervised::new(&format!("broker-{shard}"), command, &folder);
            broker.start().context("starting a broker")?;
            let deadline = Instant::now() + PATIENCE;
            while std::net::TcpStream::connect(("127.0.0.1", mqtt)).is_err() {
                ensure!(Instant::now() < deadline, "broker {shard} does not answer: {}", broker.log());
                std::thread::sleep(Duration::from_millis(20));
            }
            let mut command = vec![program.clone(), "simulator".to_owned()];
            command.extend([
                format!("--http=127.0.0.1:{http}"),
                format!("--mqtt=127.0.0.1:{mqtt}"),
                format!("--cars={cars}"),
                format!("--first-car={first_car}"),
                format!("--rate={}", flags.fleet_rate),
                format!("--ramp-up={}", flags.fleet_ramp_up),
                format!("--seed={}", settings.seed),
                "--mqtt-keep-alive=5m".to_owned(),
                "--log=warn".to_owned(),
            ]);
            first_car += cars;
            let mut simulator = Supervised::new(&format!("simulator-{shard}"), command, &folder);
            simulator.serve(format!("127.0.0.1:{http}"));
            machines.brokers.push(broker);
            machines.simulators.push(simulator);
        }
        for simulator in &mut machines.simulators {
            simulator.start().context("starting a simulator")?;
        }
        Ok(machines)
    }

    /// A metric, summed over the simulators.
    fn sum(&self, metric: &str) -> Result<u64> {
        let of = |simulator: &Supervised| {
            let at = simulator.http().context("a simulator has ended")?;
            // While it starts it does not answer.
            let answer = reqwest::blocking::get(format!("http://{at}/metrics")).and_then(|it| it.text());
            Ok(answer.ok().and_then(|it| value(&it, metric)).unwrap_or(0))
        };
        self.simulators.iter().map(of).sum()
    }

    fn moment(&self) -> Result<Moment> {
        let sums = |processes: &[Supervised]| -> Result<(u64, Duration)> {
            let mut sums = (0, Duration::ZERO);
            for process in processes {
                let pid = process.pid().context("a process has ended")?;
                sums.0 +=
                    resident_kb(pid).with_context(|| format!("a process has ended: {}", process.log()))?;
                sums.1 += used(pid)?.cpu;
            }
            Ok(sums)
        };
        let ((clients_kb, clients_cpu), (brokers_kb, brokers_cpu)) =
            (sums(&self.simulators)?, sums(&self.brokers)?);
        Ok(Moment { clients_kb, brokers_kb, clients_cpu, brokers_cpu, at: Instant::now() })
    }

    /// Lets the cars go, then the brokers.
    fn end(mut self) -> Result<()> {
        for simulator in &self.simulators {
            simulator.signal("TERM")?;
        }
        for simulator in &mut self.simulators {
            let status = simulator.wait(END);
            ensure!(status.is_some_and(|it| it.success()), "a simulator ended badly: {}", simulator.log());
        }
        Ok(())
    }
}

impl fmt::Display for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} of {} cars connected after {:.0} s, {} connections ended; {} readings, {:.2} CPUs of simulators, {:.2} of brokers",
            self.connected,
            self.cars,
            self.seconds_to_connect,
            self.disconnects,
            self.published,
            self.client_cpus,
            self.broker_cpus
        )?;
        let word = if self.reached { "reached" } else { "missed" };
        writeln!(
            f,
            "kB a car: simulators {:.1} when connected, {:.1} in the end, brokers {:.1}   {}: {word}",
            self.client_kb_connected, self.client_kb, self.broker_kb, self.goal
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_fleet() {
        assert_eq!(parts(100_000, 16_700), [16_700, 16_700, 16_700, 16_700, 16_700, 16_500]);
        assert_eq!(parts(10, 20), [10]);
        assert_eq!(parts(40, 20), [20, 20]);
    }
}
