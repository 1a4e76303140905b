//! Our programs as processes, with the settings of one user of the secured engines.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use telltale_testkit::beside::answer;
use telltale_testkit::engines::wait_at_most;
use telltale_testkit::tls::Authority;
use telltale_testkit::{Engines, PATIENCE};
use tempfile::TempDir;

/// Environment variables of a program.
pub(crate) type Settings = BTreeMap<String, String>;

/// The secured engines, with empty topics, and a folder for what a test needs.
pub(crate) struct Secured {
    pub(crate) engines: Engines,
    pub(crate) files: TempDir,
    security: PathBuf,
}

impl Secured {
    pub(crate) fn fresh() -> Self {
        let engines = Engines::fresh(2);
        let ca =
            engines.kafka().ca.expect("the engines of TELLTALE_TEST_ENGINES were started with SECURITY=on");
        let security = ca.parent().unwrap().to_owned();
        Self { engines, files: tempfile::tempdir().unwrap(), security }
    }

    /// What `make up` wrote for the program of `user`.
    pub(crate) fn settings(&self, user: &str) -> Settings {
        read_settings(&self.security.join(format!("{user}.env")))
    }

    /// The settings of `user`, with changes; an empty value takes a setting away.
    pub(crate) fn but(&self, user: &str, changes: &[(&str, &str)]) -> Settings {
        let mut settings = self.settings(user);
        for (name, value) in changes {
            settings.insert((*name).to_owned(), (*value).to_owned());
        }
        settings.retain(|_, value| !value.is_empty());
        settings
    }

    pub(crate) fn password_file(&self, user: &str) -> PathBuf {
        self.security.join("passwords").join(user)
    }

    /// Every password there is.
    pub(crate) fn passwords(&self) -> Vec<String> {
        let files = fs::read_dir(self.security.join("passwords")).unwrap();
        files.map(|it| fs::read_to_string(it.unwrap().path()).unwrap().trim().to_owned()).collect()
    }

    /// The authority that all programs trust.
    pub(crate) fn authority(&self) -> Authority {
        Authority::load(&self.authority_file(), &self.security.join("authority.key"))
    }

    pub(crate) fn authority_file(&self) -> PathBuf {
        self.security.join("authority.pem")
    }

    /// A file of this test.
    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.files.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Starts a program with these settings and no other part of this environment.
    pub(crate) fn start(&self, program: &str, settings: &Settings, arguments: &[&str]) -> Program {
        let log = self.files.path().join(format!("{program}-{}.log", settings.len() + arguments.len()));
        let output = File::create(&log).unwrap();
        let mut command = Command::new(binary(program));
        command.args(arguments).env_clear().env("HTTP_ADDRESS", "off").envs(settings);
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().expect("make build makes the programs");
        Program { name: program.to_owned(), child, log }
    }

    /// Runs a program to its end.
    pub(crate) fn run(&self, program: &str, settings: &Settings, arguments: &[&str]) -> (ExitStatus, String) {
        self.start(program, settings, arguments).ended()
    }
}

/// The `NAME=value` lines of a file.
pub(crate) fn read_settings(path: &Path) -> Settings {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|it| !it.starts_with('#')).filter_map(|it| it.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A program of ours, where cargo puts those of a test's profile.
pub(crate) fn binary(program: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join(program)
}

/// A running program.
pub(crate) struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log holds `text`; a program that ends instead fails the test.
    pub(crate) fn says(&mut self, text: &str) {
        wait_at_most(PATIENCE * 2, &format!("{} says {text:?}", self.name), || {
            let said = self.log().contains(text);
            let ended = !said && self.child.try_wait().unwrap().is_some();
            assert!(!ended, "{} ended: {}", self.name, self.log());
            said
        });
    }

    /// What its probes and metrics answer at `path`; it was started with `HTTP_ADDRESS=127.0.0.1:0`.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        answer(&self.log(), path)
    }

    /// What everybody on this machine, or its owner, can see of the process: its arguments and its environment.
    pub(crate) fn visible(&self) -> String {
        let folder = PathBuf::from(format!("/proc/{}", self.child.id()));
        let read = |name: &str| fs::read(folder.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&[read("cmdline"), read("environ")].concat()).into_owned()
    }

    /// Asks the program to end and waits until it has.
    pub(crate) fn end(self) -> (ExitStatus, String) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success(), "{} ended by itself: {}", self.name, self.log());
        self.ended()
    }

    /// Waits until the program has ended.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let mut status = None;
        wait_at_most(PATIENCE * 3, &format!("{} has ended: {}", self.name, self.log()), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        (status.unwrap(), self.log())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended is reaped already; a test that failed leaves none behind.
        if self.child.try_wait().is_ok_and(|it| it.is_none()) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}
