//! `telltale engines`: the broker, the log and the registry in the foreground, until a signal.

use std::path::PathBuf;

use telltale_embedded::{Engines, EnginesConfig};

use super::Error;
use crate::cli::{EnginesArgs, HERE};
use crate::ports::{self, Wanted};

/// Runs the engines until SIGINT or SIGTERM.
///
/// # Errors
///
/// Returns why they could not be started.
pub fn run(args: &EnginesArgs) -> Result<(), Error> {
    ports::check(HERE, &wanted(args))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let signal = runtime.block_on(async { crate::demo::signals::Signals::catch() }).map_err(Error::Runtime)?;
    let engines = start(config(args, args.data.clone()))?;
    println!("MQTT broker      {}", engines.mqtt_addr());
    println!("Kafka log        {}", engines.kafka_addr());
    println!("schema registry  {}", engines.registry_url());
    match &args.data {
        Some(data) => println!("kept in {}", data.display()),
        None => println!("in memory: all is gone at the end (--data DIR keeps it)"),
    }
    println!("a single node for development and tests; Ctrl-C stops it");
    runtime.block_on(signal.first());
    drop(engines);
    println!("stopped");
    Ok(())
}
