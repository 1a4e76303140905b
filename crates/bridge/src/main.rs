//! Moves MQTT messages into Kafka and acknowledges them once Kafka has them.

use std::process::ExitCode;

fn main() -> ExitCode {
    telltale_service::run("bridge", telltale_bridge::run)
}
