//! A service beside a test: on a thread of this process, or as a process of its own that can be killed.

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use telltale_service::{Address, Host, Running, Service};

use crate::PATIENCE;

/// Time that a service has to finish its work.
const DRAIN: Duration = Duration::from_secs(20);

/// A place for services of this process, without probes.
///
/// # Panics
///
/// Panics when the system has no threads.
#[must_use]
pub fn host() -> Host {
    Host::start(Address::Off, "--http", DRAIN).expect("the system has threads")
}

/// Does `work` beside the service `run`, which is stopped afterwards and must have ended well.
///
/// # Panics
///
/// Panics when the service fails.
pub fn beside<C, E, F, T>(name: &'static str, config: C, run: F, work: impl FnOnce(&Running<E>) -> T) -> T
where
    C: Send + 'static,
    E: Error + Send + Sync + 'static,
    F: FnOnce(C, &Service) -> Result<(), E> + Send + 'static,
{
    let host = host();
    let running = host.launch(name, config, run);
    let result = work(&running);
    if let Err(error) = running.stop(PATIENCE) {
        panic!("{name} ended badly: {}", telltale_service::chain(&error));
    }
    result
}

/// The metrics of a service as a scraper sees them.
///
/// # Panics
///
/// Never: text takes everything.
#[must_use]
pub fn metrics(service: &Service) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &service.registry()).expect("text takes everything");
    text
}

/// The value of a metric whose name without the service's prefix is `name`, summed over its labels; 0 without it.
///
/// # Panics
///
/// Panics when its value is not a whole number.
#[must_use]
pub fn metric(service: &Service, name: &str) -> u64 {
    let name = format!("telltale_{}_{name}", service.name());
    let text = metrics(service);
    let values = text.lines().filter_map(|it| it.strip_prefix(&name));
    let values = values.filter(|it| it.starts_with(['{', ' '])).filter_map(|it| it.rsplit(' ').next());
    values.map(|it| it.parse::<u64>().expect("a count is a whole number")).sum()
}

/// What the process that has logged `log` answers at `path` of its probes and metrics.
#[must_use]
pub fn answer(log: &str, path: &str) -> Option<String> {
    let line = log.lines().find(|it| it.contains("serving /livez"))?;
    let address = line.split_once("address=")?.1.split_whitespace().next()?;
    let answer = reqwest::blocking::get(format!("http://{address}{path}")).ok()?;
    answer.error_for_status().ok()?.text().ok()
}

/// A program of ours as a process; killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts `program` with `arguments`; what it logs goes to the test's output too.
    ///
    /// # Panics
    ///
    /// Panics when it cannot be started.
    #[must_use]
    pub fn start(program: impl AsRef<Path>, arguments: &[String]) -> Self {
        let mut command = Command::new(program.as_ref());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program was built with the test");
        let log = Arc::new(Mutex::new(String::new()));
        let errors = BufReader::new(child.stderr.take().expect("it was asked for"));
        let written = Arc::clone(&log);
        // Ends with the process.
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                eprintln!("{line}");
                let mut log = written.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log }
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What its probes and metrics answer at `path`; it was started with `--http 127.0.0.1:0` and logs where that is.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<String> {
        answer(&self.log(), path)
    }

    /// Waits until the service says that it is ready.
    ///
    /// # Panics
    ///
    /// Panics when it ends, or is not ready in time.
    pub fn wait_until_ready(&mut self) {
        crate::wait_until("the process is ready", || {
            assert!(self.is_running(), "it has ended: {}", self.log());
            // Before it has metrics it has not said yet what it is not ready for.
            let begun = self.get("/metrics").is_some_and(|it| it.contains("telltale_"));
            begun && self.get("/readyz").is_some()
        });
    }

    /// Kills it in the middle of whatever it is doing: SIGKILL.
    pub fn kill(self) {
        drop(self);
    }

    /// Waits until it has ended by itself, which must be well.
    ///
    /// # Panics
    ///
    /// Panics when it does not end in time, or fails.
    pub fn wait(mut self) {
        crate::wait_until("the process has ended", || !self.is_running());
        let status = self.child.wait().expect("it is a child of this process");
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Whether it still runs.
    ///
    /// # Panics
    ///
    /// Panics when the system does not know its own child.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is a child of this process").is_none()
    }

    /// Asks it to end, with SIGTERM, and waits until it has.
    ///
    /// # Panics
    ///
    /// Panics when it does not end in time, or fails.
    pub fn stop(self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill can be run");
        assert!(sent.success(), "process {pid} was there to be asked");
        self.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
