//! The command line: every command with its flags.

mod dead_letters;
mod load;
mod models;
mod verify;

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use telltale_kafka::{KafkaConfig, RegistryConfig};
use telltale_mqtt::MqttConfig;

pub use dead_letters::{DeadLettersCommand, ReplayArgs};
pub use load::{LastAt, LoadArgs};
pub use models::ModelsCommand;
pub use verify::VerifyArgs;

/// Streaming machine learning for fleets of connected devices
///
/// Telltale takes sensor readings from MQTT, keeps them in Kafka, learns from the log alone, scores every
/// reading with the newest model exactly once, and says which device is about to fail and why.
///
/// `telltale demo` shows all of it on this machine, without anything installed.
#[derive(Debug, Parser)]
#[command(name = "telltale", version, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole pipeline in this process: cars, broker, Kafka's log, SQL, training, scoring
    ///
    /// The engines can also be real ones (--engines real). Everything goes over the sockets, as it would between machines. In a terminal a live view shows the
    /// stages, the model in force and the cars that stand out; else a line a second. Ctrl-C stops the cars,
    /// lets the services finish, reads everything back, and prints the balance.
    ///
    /// Exits with 0 if nothing was lost or duplicated, with 1 otherwise.
    Demo(Box<DemoArgs>),

    /// Run just the embedded MQTT broker, Kafka-protocol log and schema registry in the foreground
    ///
    /// Any MQTT or Kafka client can be tried against them. For one machine, development and tests: a single
    /// node, nothing is replicated.
    Engines(EnginesArgs),

    /// Create and list topics, look at their records
    #[command(subcommand)]
    Topics(TopicsCommand),

    /// List and show models, go back to an earlier one
    #[command(subcommand)]
    Models(ModelsCommand),

    /// List, show, export and put back the records that could not go on
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),

    /// Load readings from a CSV file into a topic, each once
    ///
    /// The whole file is read and checked first: nothing is sent if a row is no reading. Then its rows go to Kafka as JSON, as
    /// devices would send them, in transactions that also note how far it came. Stopped, killed or without Kafka for a
    /// while, the same command again goes on where it was; a file that was loaded whole is not loaded again.
    ///
    /// The defaults fit a file with the columns time, car and the 18 sensors of the cars.
    Load(Box<LoadArgs>),

    /// Prove that each record has exactly one outcome
    ///
    /// Reads source and target topics as committed, and checks by the header `src` that each offset of
    /// sensor-data has one outcome (a clean record or a dead letter), each offset of SENSOR_DATA_S_AVRO one
    /// (a prediction or a dead letter), in order, and that the model version never falls within a partition; that each
    /// device's readings in sensor-data are in order and what came again is a replay of equal bytes, no longer than the
    /// in-flight window; that the counts per window are what a recount gives; that a sample of the predictions is what the
    /// model each one names makes of its reading, bit for bit. With a simulator's ledger it also checks that every acknowledged reading is in
    /// sensor-data with the bytes that were sent; with --drained that everything is done and committed.
    ///
    /// Exits with 0 if all holds, with 1 after printing the violations.
    Verify(VerifyArgs),

    /// Check the whole way: publish one reading by MQTT and wait for its prediction
    ///
    /// Exits with 0 when the prediction arrives, with 1 after saying how far the reading came.
    Probe(ProbeArgs),

    /// Make the keys that sign models
    #[command(subcommand)]
    Keys(KeysCommand),

    /// Print the completions of a shell
    ///
    /// For example: telltale completions bash > ~/.local/share/bash-completion/completions/telltale
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How to reach Kafka and the schema registry.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Kafka.
    #[command(flatten)]
    pub kafka: KafkaConfig,
    /// Schema registry.
    #[command(flatten)]
    pub registry: RegistryConfig,
}

/// Where the engines listen and what they keep.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Embedded engines")]
pub struct EnginesArgs {
    /// Port of the MQTT broker (v5 and v3.1.1); 0 takes any free one
    #[arg(long, default_value_t = 1883, value_name = "PORT")]
    pub mqtt_port: u16,

    /// Port of the Kafka-protocol log; 0 takes any free one
    #[arg(long, default_value_t = 9092, value_name = "PORT")]
    pub kafka_port: u16,

    /// Port of the schema registry; 0 takes any free one
    #[arg(long, default_value_t = 8081, value_name = "PORT")]
    pub registry_port: u16,

    /// Folder that keeps the log and everything else; without it all is gone at the end
    ///
    /// Started again on it, the demo goes on with the model it had. What the embedded MQTT broker holds for its
    /// clients is in memory alone.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Engines that the demo runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EnginesKind {
    /// Its own, in this process; --kafka, --registry and --mqtt are not used
    Embedded,
    /// Those that --kafka, --registry and --mqtt lead to
    Real,
}

/// `telltale demo`
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Engines to run on
    ///
    /// `make demo ENGINES=real` runs on those of `make up`. On real engines, which may hold data of earlier runs and of others,
    /// the balance is that of this run alone, and --data keeps the keys and the cars' ledger.
    #[arg(long = "engines", id = "engines_kind", value_enum, default_value_t = EnginesKind::Embedded, value_name = "KIND")]
    pub kind: EnginesKind,

    /// Cars of the fleet, 1 to 15,000
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    pub cars: u32,

    /// Readings a second of each car, above 0 up to 100
    #[arg(long, default_value = "1", value_parser = rate)]
    pub rate: f64,

    /// Seed of the fleet and of the models: the same seed makes the same readings
    #[arg(long, default_value_t = 7)]
    pub seed: u64,

    /// How long the cars run, such as 60s or 5m; without it until Ctrl-C
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub length: Option<humantime::Duration>,

    /// File the balance is written to as JSON
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,

    /// Partitions of the topics, 1 to 64
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub partitions: u16,

    /// Share of healthy readings that may give alarm, above 0 and below 0.5
    #[arg(long, default_value = "0.005", value_parser = share)]
    pub false_alarm_rate: f64,

    /// Print a line a second even in a terminal
    #[arg(long)]
    pub plain: bool,

    /// What is logged: a level, or `target=level` directives separated by commas
    #[arg(long, env = "LOG", value_name = "FILTER", default_value = "warn,rumqttc=error")]
    pub log: String,

    /// Port of /livez, /readyz and /metrics; 0 takes any free one
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    pub http_port: u16,

    /// The embedded engines.
    #[command(flatten)]
    pub engines: EnginesArgs,

    /// Real Kafka and registry.
    #[command(flatten)]
    pub connection: Connection,

    /// Real MQTT broker.
    #[command(flatten)]
    pub mqtt: MqttConfig,
}

/// `telltale topics`
#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Create every topic of the design that is missing
    Create {
        /// Partitions of the topics that hold the fleet's data
        #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=10_000))]
        partitions: i32,
        /// Replicas of each partition; if absent, as many as the brokers are set to give a topic
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..=32))]
        replication: Option<i32>,
        /// Where to.
        #[command(flatten)]
        connection: Connection,
    },
    /// List the topics with their partitions and records
    List {
        /// Where from.
        #[command(flatten)]
        connection: Connection,
    },
    /// Print the records of a topic as they come, Avro and JSON decoded, with their headers
    Tail(Box<TailArgs>),
}

/// `telltale topics tail`
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Name of the topic
    pub topic: String,

    /// Where to begin: the last few records, the first record there is, or behind the last one
    #[arg(long, value_enum, default_value_t = From::Last)]
    pub from: From,

    /// Stop after so many records
    #[arg(long, short = 'n', value_name = "COUNT")]
    pub count: Option<NonZeroU64>,

    /// Only records with this key
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,

    /// Only records of this partition
    #[arg(long, value_name = "PARTITION")]
    pub partition: Option<i32>,

    /// Stop at the end of the topic instead of waiting for more
    #[arg(long)]
    pub no_follow: bool,

    /// Also records of transactions that are open or were aborted
    #[arg(long)]
    pub uncommitted: bool,

    /// Where from.
    #[command(flatten)]
    pub connection: Connection,
}

/// Where a tail begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// At the first record there is
    Beginning,
    /// Ten offsets before the end of each partition
    Last,
    /// Behind the last record
    End,
}

/// `telltale probe`
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// Car the reading is of: a name that no real car has
    #[arg(long, default_value = "car-probe", value_name = "CAR")]
    pub car: String,

    /// MQTT topic the reading is published to, before the name of the car
    #[arg(long, default_value = "vehicles/sensor/data", value_name = "TOPIC")]
    pub topic: String,

    /// File with the reading as JSON; `car` and `event_time` are added to it
    #[arg(long, value_name = "FILE")]
    pub reading: Option<PathBuf>,

    /// Longest time to wait for the prediction
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = duration)]
    pub timeout: humantime::Duration,

    /// Where the reading is published.
    #[command(flatten)]
    pub mqtt: MqttConfig,

    /// Where the prediction is to arrive.
    #[command(flatten)]
    pub connection: Connection,
}

/// `telltale keys`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a new pair: the trainer signs with one, the scorers check with the other
    Generate {
        /// Folder for signing-key.pem (for the trainer alone) and verifying-key.pem
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
        /// Replace keys that are there: models signed with them will be refused from then on
        #[arg(long)]
        replace: bool,
    },
}

/// Address all engines and services of this process listen on.
pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if 0.0 < value && value <= 100.0 => Ok(value),
        _ => Err("it must be a number above 0 up to 100".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if 0.0 < value && value < 0.5 => Ok(value),
        _ => Err("it must be a number above 0 and below 0.5".to_owned()),
    }
}

fn duration(text: &str) -> Result<humantime::Duration, String> {
    match text.parse::<humantime::Duration>() {
        Ok(value) if !value.is_zero() => Ok(value),
        Ok(_) => Err("it must be longer than nothing".to_owned()),
        Err(error) => Err(format!("{error}; write it as 60s, 5m or 1h30m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_every_flag_explains_itself() {
        fn visit(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path} has no help");
            for argument in
                command.get_arguments().filter(|it| !matches!(it.get_id().as_str(), "help" | "version"))
            {
                assert!(argument.get_help().is_some(), "{path} {} has no help", argument.get_id());
            }
            command.get_subcommands().for_each(|it| visit(it, &path));
        }
        visit(&Cli::command(), "");
    }

    #[test]
    fn wrong_values_are_answered_with_the_right_ones() {
        let cases: [(&[&str], &str); 7] = [
            (&["demo", "--cars", "0"], "1..=15000"),
            (&["demo", "--rate", "NaN"], "above 0 up to 100"),
            (&["demo", "--for", "sixty"], "write it as 60s, 5m or 1h30m"),
            (&["demo", "--for", "0s"], "longer than nothing"),
            (&["demo", "--kafka-port", "99999"], "0..=65535"),
            (&["demo", "--car", "5"], "--cars"),
            (&["topics", "tial"], "tail"),
        ];
        for (arguments, expected) in cases {
            let all = ["telltale"].iter().chain(arguments);
            let message = Cli::try_parse_from(all).unwrap_err().to_string();
            assert!(message.contains(expected), "{arguments:?}: {message}");
        }
    }
}
