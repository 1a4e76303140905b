//! The commands besides the demo, and why one of them could not be done.

pub mod dead_letters;
pub mod engines;
pub mod keys;
pub mod load;
pub mod models;
pub mod probe;
mod rollback;
pub mod topics;
pub mod verify;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use telltale_mqtt::device::PublishError;
use tokio_util::sync::CancellationToken;

use crate::demo::folder::FolderError;
use crate::demo::signals::Signals;
use crate::load::LoadError;
use crate::ports::PortError;
use crate::summary::SummaryError;

/// Why a command could not be done: what was attempted, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Kafka could not be used.
    #[error(transparent)]
    Kafka(#[from] telltale_kafka::Error),
    /// Something could not be checked.
    #[error(transparent)]
    Verify(#[from] crate::verify::Error),
    /// The registry could not be used.
    #[error(transparent)]
    Registry(#[from] telltale_kafka::RegistryError),
    /// A file was not loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A port is taken.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The summary cannot be written.
    #[error(transparent)]
    Summary(#[from] SummaryError),
    /// Writing to the terminal or pipe failed.
    #[error("writing the output")]
    Output(#[source] io::Error),
    /// A file cannot be read or written.
    #[error("using the file {path}, given by {flag}")]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Topics are there that are not as the design asks for.
    #[error("{count} topics differ from what the services expect: delete them, or change their settings")]
    TopicsDiffer {
        /// How many.
        count: usize,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has no partition {partition}: it has {count}, counted from 0")]
    NoPartition {
        /// Its name.
        topic: String,
        /// The partition that was asked for.
        partition: i32,
        /// How many it has.
        count: usize,
    },
    /// There is no such dead letter.
    #[error(
        "there is no dead letter at offset {offset} of partition {partition}: its offsets are {first} up to, not including, {end}"
    )]
    NoDeadLetter {
        /// Partition asked for.
        partition: i32,
        /// Offset asked for.
        offset: i64,
        /// First offset there is.
        first: i64,
        /// Offset behind the last one.
        end: i64,
    },
    /// Dead letters were not put back, or not all.
    #[error("{sent} dead letters went back; the same command again goes on, each goes back once")]
    Replay {
        /// How many.
        sent: u64,
        /// Why no more.
        source: telltale_kafka::PublishError,
    },
    /// Nobody said which dead letters.
    #[error(
        "which dead letters are to go back? Say so, such as --reason schema-mismatch or --since 2h, or --all"
    )]
    Which,
    /// The MQTT settings cannot be used.
    #[error(transparent)]
    Mqtt(telltale_mqtt::ConfigError),
    /// The system refused threads.
    #[error("starting the runtime")]
    Runtime(#[source] io::Error),
    /// The reading to publish is not a JSON object.
    #[error("reading a JSON object with the fields of a reading")]
    Reading {
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The reading was not taken.
    #[error("publishing the reading")]
    Publish(#[source] PublishError),
    /// The broker refused the reading.
    #[error("the MQTT broker at {broker} refuses a publish to {topic}: {reason}")]
    Refused {
        /// Address of the broker.
        broker: String,
        /// The MQTT topic.
        topic: String,
        /// What it said.
        reason: String,
    },
    /// The broker did not answer.
    #[error(
        "the MQTT broker at {broker} did not acknowledge the reading within {timeout:?}: is it reachable (--mqtt)?"
    )]
    NotAcknowledged {
        /// Address of the broker.
        broker: String,
        /// How long was waited.
        timeout: Duration,
        /// The latest fault of the connection.
        source: Option<telltale_mqtt::Fault>,
    },
    /// The reading did not arrive.
    #[error(
        "the reading did not arrive in {topic} within {timeout:?}: ask /readyz of {service} why, or look at its log"
    )]
    NotArrived {
        /// The topic.
        topic: &'static str,
        /// Who writes to it.
        service: &'static str,
        /// How long was waited.
        timeout: Duration,
    },
    /// The reading was set aside.
    #[error("{source_record} became the dead letter {place}: {why}")]
    DeadLetter {
        /// What was set aside.
        source_record: String,
        /// Where it is now.
        place: String,
        /// Reason and detail.
        why: String,
    },
    /// A key cannot be made, read or written.
    #[error(transparent)]
    Key(telltale_model::KeyError),
    /// A key would be overwritten.
    #[error(
        "{path} exists: models signed with it would no longer be taken; --replace replaces it nevertheless"
    )]
    KeyExists {
        /// The file.
        path: PathBuf,
    },
    /// There is no such model.
    #[error("there is no model version {version}; there are {versions}")]
    NoSuchModel {
        /// Version asked for.
        version: u64,
        /// Versions there are.
        versions: String,
    },
    /// There is no model at all.
    #[error("there is no model yet: the topic models holds no manifest")]
    NoModel,
    /// A rollback to what is in force.
    #[error("model version {version} is in force already")]
    InForce {
        /// Version asked for.
        version: u64,
    },
    /// Nothing is pinned.
    #[error("model version {version}, which is in force, is not pinned")]
    NotPinned {
        /// The version in force.
        version: u64,
    },
    /// A rollback by a key that the scorers need not trust.
    #[error(
        "the model in force is signed by key {in_force}, but --signing-key is key {given}: scorers would refuse it"
    )]
    OtherKey {
        /// Id of the key that was given.
        given: String,
        /// Id of the key that signed the model in force.
        in_force: String,
    },
    /// A model does not hold what its manifest promises.
    #[error("model version {version} cannot be verified: {reason}")]
    NotVerified {
        /// Its version.
        version: u64,
        /// Why.
        reason: String,
    },
    /// A rollback was not published.
    #[error("publishing the rollback")]
    Rollback(#[source] telltale_kafka::PublishError),
    /// The process cannot host services.
    #[error(transparent)]
    Host(telltale_service::HostError),
    /// Logs cannot be set up.
    #[error(transparent)]
    Telemetry(telltale_service::TelemetryError),
    /// The engines did not start.
    #[error(transparent)]
    Engines(telltale_embedded::EnginesError),
    /// A real engine does not answer.
    #[error(
        "no {engine} answers at {address}, which {flag} names: make up starts engines on this machine, make status shows them"
    )]
    NotUp {
        /// What is missing.
        engine: &'static str,
        /// The flag that names it.
        flag: &'static str,
        /// Where it should be.
        address: String,
        /// What came instead of an answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A service failed.
    #[error("the {service} failed")]
    Service {
        /// Its name.
        service: &'static str,
        /// What it returned.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A service ended though nobody asked it to.
    #[error("the {service} ended by itself")]
    Ended {
        /// Its name.
        service: &'static str,
    },
    /// A service does not know the demo's flags, or an environment variable sets it wrongly.
    #[error("setting up a service of the demo (an environment variable may set it wrongly)")]
    ServiceFlags {
        /// What clap said.
        source: clap::Error,
    },
    /// Something does not hold that must.
    #[error("{faults} violations: the records named above break the delivery contract")]
    Violations {
        /// How many.
        faults: u64,
    },
}

/// Cancels `stop` at the first SIGINT or SIGTERM, so that a command ends in order.
///
/// # Errors
///
/// Returns an error when the system refuses a thread or the signals.
pub(crate) fn stop_on_signal(stop: &CancellationToken) -> Result<(), Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let mut signals = runtime.block_on(async { Signals::catch() }).map_err(Error::Runtime)?;
    let stop = stop.clone();
    let wait = move || {
        runtime.block_on(signals.next());
        stop.cancel();
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map_err(Error::Runtime)?;
    Ok(())
}
