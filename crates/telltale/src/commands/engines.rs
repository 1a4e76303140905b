//! `telltale engines`: the broker, the log and the registry in the foreground, until a signal.

use std::path::PathBuf;

use telltale_embedded::{Engines, EnginesConfig};

use super::Error;
use crate::cli::{EnginesArgs, HERE};
use crate::demo::signals::Signals;
use crate::output::Output;
use crate::ports::{self, Wanted};

/// Runs the engines until SIGINT or SIGTERM.
///
/// # Errors
///
/// Returns why they could not be started.
pub fn run(args: &EnginesArgs, out: &mut Output) -> Result<(), Error> {
    ports::check(HERE, &wanted(args))?;
    // A disk that is full, a file that was damaged: whoever runs engines must learn of it.
    let logs = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN);
    logs.log_internal_errors(false).try_init().unwrap_or_default();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let mut signals = runtime.block_on(async { Signals::catch() }).map_err(Error::Runtime)?;
    // Where the demo puts them, so that its folder can be opened by either.
    let folder = args.data.as_ref().map(|it| it.join("engines"));
    let engines = start(config(args, folder))?;
    out.line(format_args!("MQTT broker      {}", engines.mqtt_addr()))?;
    out.line(format_args!("Kafka log        {}", engines.kafka_addr()))?;
    out.line(format_args!("schema registry  {}", engines.registry_url()))?;
    match &args.data {
        Some(data) => out.line(format_args!(
            "kept in {}; what the broker holds for its clients is in memory",
            data.display()
        ))?,
        None => out.line("in memory: all is gone at the end (--data DIR keeps log and registry)")?,
    }
    out.line("a single node for development and tests; Ctrl-C stops it")?;
    runtime.block_on(signals.next());
    drop(engines);
    out.line("stopped")?;
    Ok(())
}

/// The ports that the engines listen on, with the flags that change them.
#[must_use]
pub fn wanted(args: &EnginesArgs) -> [Wanted; 3] {
    [
        Wanted { flag: "--mqtt-port", purpose: "the MQTT broker", port: args.mqtt_port },
        Wanted { flag: "--kafka-port", purpose: "the Kafka log", port: args.kafka_port },
        Wanted { flag: "--registry-port", purpose: "the schema registry", port: args.registry_port },
    ]
}

/// The engines on the ports of `args`, keeping what they keep in `data`.
#[must_use]
pub fn config(args: &EnginesArgs, data: Option<PathBuf>) -> EnginesConfig {
    let EnginesArgs { mqtt_port, kafka_port, registry_port, .. } = *args;
    EnginesConfig { mqtt_port, kafka_port, registry_port, data, ..EnginesConfig::default() }
}

/// The engines on any free ports, keeping what they keep in `data`.
#[must_use]
pub fn free_ports(data: Option<PathBuf>) -> EnginesConfig {
    EnginesConfig { data, ..EnginesConfig::default() }
}

/// Starts the engines.
///
/// # Errors
///
/// Returns why they could not be started.
pub fn start(config: EnginesConfig) -> Result<Engines, Error> {
    Engines::start(config).map_err(Error::Engines)
}
