//! The schedule of a soak: which fault begins when, and for how long; a pure function of the seed and what is asked for.
//!
//! ```text
//! seed ─▶ bag of kinds ─▶ bag of that kind's faults ─▶ a gap, a length ─▶ put off what would strike a target twice
//! ```
//!
//! Bags are emptied before they are filled again, so a long soak sees every fault and a short one every kind.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use clap::ValueEnum;

use super::random::Random;
use super::trouble::Trouble;
use crate::engines::{Engine, Kind as Engines};

/// Kinds of faults, as they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// SIGKILL of a service or an engine, which starts again a moment later
    Kill,
    /// SIGTERM of a service, which starts again once it has ended
    Terminate,
    /// SIGSTOP of a service or an engine, and SIGCONT
    Freeze,
    /// A link stands still, is cut, is cut one way, or brings what it held after it was closed
    Partition,
    /// A link is late, narrow, or brings every byte alone
    Slow,
    /// The registry answers 500, garbage, or late
    Registry,
    /// Messages that no service can use
    Poison,
    /// A third preprocessor joins the group and leaves it again, over and over
    Rebalance,
    /// A second process with the identity of one that runs
    Twin,
    /// No file of the log can grow
    Disk,
    /// Cars whose clocks are wrong
    Clock,
    /// Kafka is away for as long as the soak lasts; a scenario of its own
    #[value(skip)]
    Outage,
    /// The topic of predictions is deleted and made anew; a scenario of its own
    #[value(skip)]
    Deleted,
    /// Retention deletes what the preprocessors, who are away, had not read; a scenario of its own
    #[value(skip)]
    Retention,
}

impl Kind {
    /// The word for it on the command line and in the report.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Outage => "outage".to_owned(),
            Self::Deleted => "deleted".to_owned(),
            Self::Retention => "retention".to_owned(),
            _ => self.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default(),
        }
    }
}

/// A process that faults are made for. The cars are none: their ledger is what everything is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Moves the cars' messages into Kafka.
    Bridge,
    /// One of two preprocessors, 1 or 2.
    Preprocessor(u8),
    /// Publishes models.
    Trainer,
    /// One of two scorers, 1 or 2.
    Scorer(u8),
}

impl Service {
    /// All of them, in the order they start.
    pub const ALL: [Self; 6] = [
        Self::Bridge,
        Self::Preprocessor(1),
        Self::Preprocessor(2),
        Self::Trainer,
        Self::Scorer(1),
        Self::Scorer(2),
    ];

    /// The program's name for it.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Preprocessor(_) => "preprocessor",
            Self::Trainer => "trainer",
            Self::Scorer(_) => "scorer",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preprocessor(number) | Self::Scorer(number) => write!(f, "{}-{number}", self.program()),
            Self::Bridge | Self::Trainer => f.write_str(self.program()),
        }
    }
}

/// A way between two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// Cars to MQTT broker.
    Cars,
    /// MQTT broker to bridge.
    Broker,
    /// A service to Kafka.
    Kafka(Service),
    /// A service to the schema registry.
    Registry(Service),
}

impl Link {
    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let registries = Service::ALL.into_iter().filter(|it| *it != Service::Bridge).map(Self::Registry);
        [Self::Cars, Self::Broker]
            .into_iter()
            .chain(Service::ALL.map(Self::Kafka))
            .chain(registries)
            .collect()
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cars => f.write_str("cars-mqtt"),
            Self::Broker => f.write_str("bridge-mqtt"),
            Self::Kafka(service) => write!(f, "{service}-kafka"),
            Self::Registry(service) => write!(f, "{service}-registry"),
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// SIGKILL; it starts again when the fault is over.
    Kill(Service),
    /// SIGKILL of an engine; it starts again when the fault is over.
    KillEngine(Engine),
    /// SIGTERM; it starts again when the fault is over and it has ended.
    Terminate(Service),
    /// SIGSTOP, and SIGCONT when the fault is over.
    Freeze(Service),
    /// SIGSTOP of an engine, and SIGCONT when the fault is over.
    FreezeEngine(Engine),
    /// Trouble on a link.
    Link(Link, Trouble),
    /// So many messages that no service can use.
    Poison(u16),
    /// A third preprocessor comes and goes.
    Rebalance,
    /// A second process with a service's identity.
    Twin(Service),
    /// No file of the log can grow.
    Disk,
    /// New cars whose clocks are wrong by so many minutes.
    Clock(i64),
    /// The topic of predictions is deleted, and made anew when the fault is over.
    DeleteTopic,
    /// The preprocessors are away, and when the fault is over what they had not read is gone.
    Retention,
}

/// Who suffers from a fault: one fault at a time for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Service(Service),
    Engine(Engine),
    Link(Link),
    Group,
    Cars,
}

impl Fault {
    fn target(self) -> Target {
        match self {
            Self::Kill(it) | Self::Terminate(it) | Self::Freeze(it) | Self::Twin(it) => Target::Service(it),
            Self::KillEngine(it) | Self::FreezeEngine(it) => Target::Engine(it),
            Self::Disk => Target::Engine(Engine::Kafka),
            Self::Link(link, _) => Target::Link(link),
            Self::Rebalance | Self::Retention => Target::Group,
            Self::DeleteTopic => Target::Engine(Engine::Kafka),
            Self::Poison(_) | Self::Clock(_) => Target::Cars,
        }
    }

    /// How long it lasts: shortest and longest, in milliseconds.
    fn length(self) -> (u64, u64) {
        match self {
            Self::Kill(_) => (0, 2_000),
            Self::KillEngine(_) => (500, 4_000),
            Self::Terminate(_) => (0, 1_000),
            Self::Freeze(_) => (500, 12_000),
            Self::FreezeEngine(_) => (500, 6_000),
            Self::Link(_, Trouble::Hold { .. }) => (3_000, 6_000),
            Self::Link(_, Trouble::Reset) => (10, 2_000),
            Self::Link(..) => (1_000, 10_000),
            Self::Poison(_) => (0, 0),
            Self::Rebalance => (6_000, 10_000),
            Self::Twin(_) => (3_000, 8_000),
            Self::Disk => (1_000, 4_000),
            Self::Clock(_) => (4_000, 4_000),
            Self::DeleteTopic | Self::Retention => (0, 0), // scenarios say how long
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(service) | Self::Freeze(service) | Self::Terminate(service) => service.fmt(f),
            Self::KillEngine(engine) | Self::FreezeEngine(engine) => f.write_str(engine_name(*engine)),
            Self::Link(link, trouble) => write!(f, "{link}: {trouble}"),
            Self::Poison(messages) => write!(f, "{messages} messages that nobody can use"),
            Self::DeleteTopic => write!(f, "{} is deleted", telltale_records::topics::PREDICTIONS),
            Self::Retention => f.write_str("the preprocessors are away, and retention overtakes them"),
            Self::Rebalance => f.write_str("a third preprocessor comes and goes"),
            Self::Twin(service) => write!(f, "a second {service}"),
            Self::Disk => f.write_str("no file of the log can grow"),
            Self::Clock(minutes) => write!(f, "cars whose clocks are {minutes} minutes off"),
        }
    }
}

/// The word for an engine.
#[must_use]
pub fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Kafka => "kafka",
        Engine::Registry => "registry",
        Engine::Mqtt => "mqtt-broker",
    }
}

/// A fault with its time, from the moment the soak's clock starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planned {
    /// When it begins.
    pub at: Duration,
    /// How long it lasts.
    pub lasting: Duration,
    /// Its kind.
    pub kind: Kind,
    /// What it is.
    pub fault: Fault,
}

impl Planned {
    /// When it is over.
    #[must_use]
    pub fn end(&self) -> Duration {
        self.at + self.lasting
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasting) = (self.at.as_secs_f64(), self.lasting.as_secs_f64());
        write!(f, "{at:8.1} s  {:<10} {}", self.kind.name(), self.fault)?;
        if lasting > 0.0 { write!(f, ", {lasting:.1} s") } else { Ok(()) }
    }
}

/// Pause between two faults: shortest and longest, in milliseconds.
const GAP: (u64, u64) = (800, 5_000);
/// A target is left in peace for so long between two faults.
const PEACE: Duration = Duration::from_secs(2);
/// The same for a real engine that was ended: one that is killed before it has started proves nothing.
const PEACE_OF_ENDED: Duration = Duration::from_secs(60);

/// The faults of a soak that lasts `length`, none of which outlasts it.
#[must_use]
pub fn schedule(seed: u64, length: Duration, kinds: &[Kind], engines: Engines) -> Vec<Planned> {
    let mut random = Random::new(seed);
    let mut all_kinds: Vec<Kind> = kinds.to_vec();
    all_kinds.sort_unstable();
    all_kinds.dedup();
    let mut kind_bag = Vec::new();
    let mut fault_bags: BTreeMap<Kind, Vec<Fault>> = BTreeMap::new();
    let mut busy: Vec<(Target, Duration)> = Vec::new();
    let mut planned = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        at += random.duration(GAP);
        if at >= length || all_kinds.is_empty() {
            return planned;
        }
        let kind = draw(&mut kind_bag, &mut random, || all_kinds.clone());
        let fault = draw(fault_bags.entry(kind).or_default(), &mut random, || faults(kind, engines));
        let lasting = random.duration(fault.length());
        let target = fault.target();
        let struck = busy.iter().any(|(it, until)| *it == target && *until > at);
        if struck || at + lasting > length {
            continue; // there will be others
        }
        let ended = engines == Engines::Real && matches!(fault, Fault::KillEngine(_) | Fault::Disk);
        busy.push((target, at + lasting + if ended { PEACE_OF_ENDED } else { PEACE }));
        planned.push(Planned { at, lasting, kind, fault });
    }
}

/// Takes one of a bag, which is filled first if it is empty.
fn draw<T>(bag: &mut Vec<T>, random: &mut Random, full: impl FnOnce() -> Vec<T>) -> T {
    if bag.is_empty() {
        *bag = full();
    }
    let index = random.below(bag.len() as u64) as usize;
    bag.swap_remove(index)
}

/// The faults of one kind.
fn faults(kind: Kind, engines: Engines) -> Vec<Fault> {
    let services = || Service::ALL.into_iter();
    // The embedded broker keeps its sessions in memory and says so: what it has acknowledged goes with it by definition.
    let killable: &[Engine] = match engines {
        Engines::Embedded => &[Engine::Kafka],
        Engines::Real => &[Engine::Kafka, Engine::Registry, Engine::Mqtt],
    };
    let links = |troubles: &[Trouble]| -> Vec<Fault> {
        let with = |&trouble| Link::all().into_iter().map(move |it| Fault::Link(it, trouble));
        troubles.iter().flat_map(with).collect()
    };
    let registries = |troubles: &[Trouble]| -> Vec<Fault> {
        links(troubles).into_iter().filter(|it| matches!(it, Fault::Link(Link::Registry(_), _))).collect()
    };
    match kind {
        Kind::Kill => {
            services().map(Fault::Kill).chain(killable.iter().map(|&it| Fault::KillEngine(it))).collect()
        }
        Kind::Terminate => services().map(Fault::Terminate).collect(),
        Kind::Freeze => services()
            .map(Fault::Freeze)
            .chain([Engine::Kafka, Engine::Mqtt].map(Fault::FreezeEngine))
            .collect(),
        Kind::Partition => links(&Trouble::PARTITIONS),
        Kind::Slow => links(&Trouble::SLOWNESS),
        Kind::Registry => registries(&Trouble::WRONG_ANSWERS),
        Kind::Poison => vec![Fault::Poison(40)],
        Kind::Rebalance => vec![Fault::Rebalance],
        Kind::Twin => services().filter(|it| *it != Service::Trainer).map(Fault::Twin).collect(),
        Kind::Disk => vec![Fault::Disk],
        Kind::Clock => [-180, -30, 60, 3 * 1440].map(Fault::Clock).to_vec(),
        Kind::Outage | Kind::Deleted | Kind::Retention => Vec::new(), // scenarios plan theirs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seed: u64, engines: Engines) -> Vec<Planned> {
        schedule(seed, Duration::from_secs(600), Kind::value_variants(), engines)
    }

    #[test]
    fn a_schedule_is_a_function_of_its_seed() {
        assert_eq!(of(7, Engines::Real), of(7, Engines::Real));
        assert_ne!(of(7, Engines::Real), of(8, Engines::Real));
        let shuffled: Vec<Kind> = Kind::value_variants().iter().rev().copied().collect();
        let length = Duration::from_secs(600);
        assert_eq!(schedule(7, length, &shuffled, Engines::Real), of(7, Engines::Real));
    }

    #[test]
    fn a_soak_of_ten_minutes_has_every_kind_of_fault_and_none_outlasts_it() {
        let planned = of(7, Engines::Embedded);
        for kind in Kind::value_variants() {
            assert!(planned.iter().filter(|it| it.kind == *kind).count() >= 3, "{kind:?}");
        }
        assert!(planned.iter().all(|it| it.end() <= Duration::from_secs(600)));
    }

    #[test]
    fn no_target_suffers_from_two_faults_at_once() {
        for seed in 0..50 {
            let planned = of(seed, Engines::Real);
            for (index, first) in planned.iter().enumerate() {
                let next = planned[index + 1..].iter().find(|it| it.fault.target() == first.fault.target());
                assert!(next.is_none_or(|it| it.at >= first.end() + PEACE), "{seed}: {first}; {next:?}");
            }
        }
    }

    #[test]
    fn a_real_engine_that_was_ended_has_time_to_start() {
        for seed in 0..50 {
            let planned = of(seed, Engines::Real);
            let ends = |it: &&Planned| matches!(it.fault, Fault::KillEngine(_) | Fault::Disk);
            for (index, first) in planned.iter().enumerate().filter(|(_, it)| ends(it)) {
                let next = planned[index + 1..].iter().find(|it| it.fault.target() == first.fault.target());
                assert!(
                    next.is_none_or(|it| it.at >= first.end() + PEACE_OF_ENDED),
                    "{seed}: {first}; {next:?}"
                );
            }
        }
    }

    #[test]
    fn an_embedded_broker_which_keeps_sessions_in_memory_is_not_killed() {
        let killed = |engines| (0..20).flat_map(move |seed| of(seed, engines)).map(|it| it.fault);
        assert!(!killed(Engines::Embedded).any(|it| it == Fault::KillEngine(Engine::Mqtt)));
        assert!(killed(Engines::Real).any(|it| it == Fault::KillEngine(Engine::Mqtt)));
    }

    #[test]
    fn nothing_is_planned_where_nothing_is_asked_for() {
        assert_eq!(schedule(7, Duration::from_secs(60), &[], Engines::Embedded), []);
    }
}
