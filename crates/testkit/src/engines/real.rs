//! Real engines that `make up` started: found by their folder, stopped by their process ids, started by its script.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Engine, wait_until};

/// The engines of a folder of `make up`.
#[derive(Debug)]
pub(crate) struct Real {
    folder: PathBuf,
    /// Whether an engine was stopped and not started since.
    incomplete: bool,
}

/// The folder that the environment names, if it does.
pub(crate) fn folder() -> Option<PathBuf> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the switch between the kinds of engines is for tests only"
    )]
    let named = std::env::var("TELLTALE_TEST_ENGINES").ok();
    named.filter(|it| !it.is_empty()).map(PathBuf::from)
}

impl Real {
    pub(crate) fn find(folder: PathBuf) -> Self {
        let missing = "make up DIR=FOLDER starts the engines that TELLTALE_TEST_ENGINES=FOLDER names";
        assert!(clients(&folder).is_file(), "no engines run in {}: {missing}", folder.display());
        Self { folder, incomplete: false }
    }

    /// What `make up` wrote for our programs: `NAME=value` lines.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(clients(&self.folder)).expect("the engines' settings can be read");
        let pairs = text.lines().filter_map(|it| it.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Sends a signal to the process of an engine and waits for its end.
    pub(super) fn signal(&mut self, engine: Engine, signal: &str) {
        let name = name(engine);
        let pid = self.pid(engine);
        let pid = &pid.unwrap_or_else(|| panic!("{name} of {} runs", self.folder.display())).to_string();
        self.incomplete = true;
        let sent = Command::new("kill").args([&format!("-{signal}"), pid]).status();
        assert!(sent.expect("kill can be run").success(), "sending {signal} to {name}, process {pid}");
        wait_until(&format!("{name} has ended"), || !self.is_ours(pid, name) && has_ended(pid));
    }

    /// Process id of an engine, if it runs.
    pub(crate) fn pid(&self, engine: Engine) -> Option<u32> {
        self.process(name(engine))
    }

    /// Process id of an engine by the script's name for it, if it runs.
    pub(crate) fn process(&self, name: &str) -> Option<u32> {
        let text = std::fs::read_to_string(self.folder.join("run").join(format!("{name}.pid"))).ok()?;
        let pid = text.trim();
        self.is_ours(pid, name).then(|| pid.parse().ok())?
    }

    /// Whether the process carries the mark of this engine of this folder on its command line; a dead one has none.
    fn is_ours(&self, pid: &str, name: &str) -> bool {
        let mark = format!("-Dtelltale.engine={}", self.folder.join("data").join(name).display());
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|it| *it == 0).any(|it| it == mark.as_bytes())
    }

    /// Starts what is missing, with the settings of the last `make up`.
    pub(super) fn start_again(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local/engines.sh");
        let output = Command::new(script).arg("again").arg("--dir").arg(&self.folder).output();
        let output = output.expect("the script of make up can be run");
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "starting the engines again: {}", String::from_utf8_lossy(&text));
        self.incomplete = false;
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        if self.incomplete {
            self.start_again(); // the next test needs them
        }
    }
}

/// The script's word for an engine; of several brokers, the first.
fn name(engine: Engine) -> &'static str {
    match engine {
        Engine::Kafka => "kafka-1",
        Engine::Registry => "registry",
        Engine::Mqtt => "hivemq",
    }
}

/// Whether the process has closed its ports: one that is killed loses its command line before its files. A stranger
/// with the same number has a command line.
fn has_ended(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map_or("", |it| it.1);
    let stranger = || std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|it| !it.is_empty());
    state.is_empty() || state.starts_with(['Z', 'X']) || stranger()
}

fn clients(folder: &Path) -> PathBuf {
    folder.join("run").join("clients.env")
}
