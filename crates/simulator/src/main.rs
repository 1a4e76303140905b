//! Publishes a seeded fleet over real MQTT connections.

use std::process::ExitCode;

fn main() -> ExitCode {
    telltale_service::run("simulator", telltale_simulator::run)
}
