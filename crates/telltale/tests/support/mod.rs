//! Runs the built program and reads what it prints, and what lies in topics.

#![allow(dead_code, reason = "each test file uses its own part of this module")]

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use telltale_kafka::{Isolation, Reader};
use telltale_records::Record;
use telltale_testkit::Engines;
use tokio_util::sync::CancellationToken;

/// Hands every committed record of `topic` to `take`.
pub(crate) fn each(engines: &Engines, topic: &str, mut take: impl FnMut(Record<'_>)) {
    let mut reader = Reader::open(&engines.kafka(), Isolation::Committed).unwrap();
    let stop = CancellationToken::new();
    for partition in reader.partitions(topic).unwrap() {
        let range = reader.watermarks(topic, partition).unwrap();
        reader
            .read(topic, partition, range, &stop, |batch| {
                batch.records().for_each(&mut take);
                ControlFlow::Continue(())
            })
            .unwrap();
    }
}

/// Number of committed records in `topic`.
pub(crate) fn count(engines: &Engines, topic: &str) -> usize {
    let mut count = 0;
    each(engines, topic, |_| count += 1);
    count
}

/// Longest time to wait for a state; machines that run tests are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Flags that let any number of demos run side by side.
pub(crate) const FREE_PORTS: [&str; 8] =
    ["--mqtt-port", "0", "--kafka-port", "0", "--registry-port", "0", "--http-port", "0"];

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_telltale"));
    command.args(arguments).stdin(Stdio::null());
    // What the user's environment sets is not under test.
    for name in ["KAFKA", "REGISTRY", "MQTT", "LOG"] {
        command.env_remove(name);
    }
    command
}

/// Runs `telltale` with `arguments` to its end.
pub(crate) fn telltale(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// What `telltale` prints when it succeeds.
pub(crate) fn succeed(arguments: &[&str]) -> String {
    let output = telltale(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// What `telltale` says on standard error when it fails with `code`.
pub(crate) fn fail(arguments: &[&str], code: i32) -> String {
    let output = telltale(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    text
}

/// A running `telltale`, killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    printed: String,
}

impl Running {
    /// Starts `telltale` with `arguments`.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tx, lines) = mpsc::sync_channel(100_000);
        std::thread::spawn(move || {
            for line in output.lines() {
                let Ok(line) = line else { break };
                if tx.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, printed: String::new() }
    }

    /// Waits for a line that holds `part` and returns it.
    pub(crate) fn wait_for(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.printed.push_str(&line);
                    self.printed.push('\n');
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {part:?} in time in\n{}", self.printed),
                Err(RecvTimeoutError::Disconnected) => panic!("no {part:?} to the end in\n{}", self.printed),
            }
        }
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end; returns how it ended and what it printed.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.printed.push_str(&line);
            self.printed.push('\n');
        }
        (self.child.wait().unwrap(), std::mem::take(&mut self.printed))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, or ended here: nothing is left behind either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The word behind `name` in a line such as `MQTT 127.0.0.1:1883  Kafka 127.0.0.1:9092`.
pub(crate) fn after<'a>(line: &'a str, name: &str) -> &'a str {
    let rest = line.split_once(&format!("{name} ")).unwrap_or_else(|| panic!("no {name} in {line}")).1;
    rest.split_whitespace().next().unwrap()
}

/// Reads a summary.
pub(crate) fn summary(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
