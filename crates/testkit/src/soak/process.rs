//! A process of a soak: started, signalled by its id, started again when it ends, and ended with the soak.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Time from the end of a process to its next start, as a cluster would.
const BACKOFF: Duration = Duration::from_secs(1);
/// Time from SIGTERM to SIGKILL, as a cluster would: longer than the services' `--drain-timeout`.
const GRACE: Duration = Duration::from_secs(30);

/// A program with its arguments, and the process that runs it, if one does. Killed when it is dropped.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    command: Vec<String>,
    log: PathBuf,
    /// Where its probes and metrics are, if it has any.
    http: Option<String>,
    child: Option<Child>,
    /// When it may start again; `None` while a fault keeps it down.
    due: Option<Instant>,
    /// When it was asked to end.
    asked: Option<Instant>,
    /// Starts so far.
    pub starts: u32,
    /// Ends that nobody asked for, each with what the process said last.
    pub ended_itself: Vec<String>,
}

impl Supervised {
    /// Names a process of the program and arguments in `command`, which is not started yet; it logs to `folder`.
    #[must_use]
    pub fn new(name: &str, command: Vec<String>, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        Self {
            name: name.to_owned(),
            command,
            log,
            http: None,
            child: None,
            due: None,
            asked: None,
            starts: 0,
            ended_itself: Vec::new(),
        }
    }

    /// Says where its probes and metrics are.
    pub fn serve(&mut self, http: String) {
        self.http = Some(http);
    }

    /// Where its probes and metrics are, while it runs.
    #[must_use]
    pub fn http(&self) -> Option<&str> {
        self.child.as_ref().and(self.http.as_deref())
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// Returns why the system does not.
    pub fn start(&mut self) -> io::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let (program, arguments) = self.command.split_first().expect("a command has a program");
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C is for the soak, which ends its processes itself.
        command.process_group(0);
        self.child = Some(command.spawn()?);
        (self.due, self.asked) = (None, None);
        self.starts += 1;
        Ok(())
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Sends it a signal by name, such as `STOP`; a process that has ended by itself gets none.
    ///
    /// # Errors
    ///
    /// Returns why `kill` cannot be run.
    pub fn signal(&self, signal: &str) -> io::Result<()> {
        // The child is not waited for before `child` is taken, so its number is still its own.
        if let Some(pid) = self.pid() {
            Command::new("kill")
                .args([&format!("-{signal}"), &pid.to_string()])
                .stderr(Stdio::null())
                .status()?;
        }
        Ok(())
    }

    /// Ends it by SIGKILL; it stays down until [`Supervised::start`].
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        (self.due, self.asked) = (None, None);
    }

    /// Asks it to end, by SIGTERM; it starts again once it has.
    ///
    /// # Errors
    ///
    /// Returns why `kill` cannot be run.
    pub fn terminate(&mut self) -> io::Result<()> {
        self.asked = Some(Instant::now());
        self.signal("TERM")
    }

    /// Waits for a process that was asked to end; kills it if it does not.
    #[must_use]
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.as_mut()?.try_wait().ok()? {
                self.child = None;
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
        None
    }

    /// How it ended, if it just has; it stays down.
    pub fn try_end(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status)
    }

    /// Takes note of its end, and starts it again after a moment; kills it if it was asked to end and does not.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be started.
    pub fn supervise(&mut self) -> io::Result<()> {
        if self.asked.is_some_and(|it| it.elapsed() > GRACE) {
            self.kill();
            self.ended_itself.push(format!("{} did not end within {GRACE:?} after SIGTERM", self.name));
            self.due = Some(Instant::now());
        }
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            self.child = None;
            self.due = Some(Instant::now() + BACKOFF);
            match self.asked.take() {
                Some(_) if status.success() => {}
                asked => {
                    let why = if asked.is_some() { "ended badly after SIGTERM" } else { "ended by itself" };
                    self.ended_itself.push(format!(
                        "{} {why}, {}: {}",
                        self.name,
                        end(status),
                        self.last_words()
                    ));
                }
            }
        }
        if self.due.is_some_and(|it| it <= Instant::now()) {
            self.start()?;
        }
        Ok(())
    }

    /// What it has logged; empty where that is no text.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last error that it logged.
    #[must_use]
    pub fn last_words(&self) -> String {
        let log = self.log();
        let mut errors = log.lines().rev().filter(|it| it.contains("ERROR") || it.contains("panicked"));
        errors.next().map_or_else(|| format!("no error in {}", self.log.display()), str::to_owned)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.kill();
    }
}

fn end(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "without a code".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(text: &str, folder: &Path) -> Supervised {
        Supervised::new("it", ["sh", "-c", text].map(str::to_owned).to_vec(), folder)
    }

    fn until(what: &str, holds: impl FnMut() -> bool) {
        crate::wait_until(what, holds);
    }

    #[test]
    fn a_process_that_ends_starts_again_and_its_last_words_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut it = shell("echo first; echo ERROR it is broken; exit 3", folder.path());
        it.start().unwrap();
        until("it was started three times", || {
            it.supervise().unwrap();
            it.starts == 3
        });
        assert!(it.ended_itself[0].ends_with("code 3: ERROR it is broken"), "{:?}", it.ended_itself);
    }

    #[test]
    fn a_process_that_was_killed_stays_down_until_it_is_started() {
        let folder = tempfile::tempdir().unwrap();
        let mut it = shell("sleep 600", folder.path());
        it.start().unwrap();
        it.signal("STOP").unwrap();
        let pid = it.pid().unwrap();
        it.kill();
        it.supervise().unwrap();
        assert_eq!((it.pid(), it.starts), (None, 1));
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "a stopped process is killed, too");
        it.start().unwrap();
        it.signal("TERM").unwrap();
        assert_eq!(it.wait(crate::PATIENCE).and_then(|it| it.signal()), Some(15));
    }

    #[test]
    fn a_process_ends_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let mut it = shell("sleep 600", folder.path());
        it.start().unwrap();
        let place = format!("/proc/{}", it.pid().unwrap());
        drop(it);
        assert!(!Path::new(&place).exists());
    }
}
