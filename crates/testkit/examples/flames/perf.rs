//! perf beside a service, and the stacks that it saw.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// Stands for `telltale`, so that perf is attached before the service begins, and the process that the bench has started is
/// the service itself. In a session of its own, perf outlives the signal that ends the service, and ends with it.
const WRAPPER: &str = r#"#!/bin/sh
if [ "$1" = "$FLAMES_SERVICE" ]; then
    data=$FLAMES_DIR/$1.$$
    setsid sh -c "perf record --quiet --event cpu-clock --freq $FLAMES_FREQUENCY --call-graph dwarf,8192 --pid $$ \
        --output $data.part >$data.log 2>&1; mv $data.part $data.data" &
    waited=0
    until [ -s "$data.part" ] || [ $waited -ge 50 ]; do sleep 0.1; waited=$((waited + 1)); done
    sleep 0.3
fi
exec "$FLAMES_PROGRAM" "$@"
"#;

/// Longest wait for perf to write what it has seen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs of perf that write to a folder.
pub(crate) struct Perf {
    folder: PathBuf,
    program: PathBuf,
    frequency: u32,
}

impl Perf {
    /// Puts what stands for `program` into `folder`.
    pub(crate) fn new(folder: &Path, program: &Path, frequency: u32) -> Result<Self> {
        let perf = Command::new("perf").arg("--version").stdout(Stdio::null()).status();
        perf.context("running perf: it comes with the package linux-perf, or with the kernel's tools")?;
        let folder = folder.canonicalize().with_context(|| format!("finding {}", folder.display()))?;
        let perf = Self { folder, program: program.to_owned(), frequency };
        let wrapper = perf.wrapper();
        fs::write(&wrapper, WRAPPER).with_context(|| format!("writing {}", wrapper.display()))?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        Ok(perf)
    }

    /// What the bench is to run in place of `telltale`.
    pub(crate) fn wrapper(&self) -> PathBuf {
        self.folder.join("telltale")
    }

    /// What the wrapper must know to look at `service`.
    pub(crate) fn environment(&self, service: &str) -> [(&'static str, String); 4] {
        [
            ("FLAMES_SERVICE", service.to_owned()),
            ("FLAMES_DIR", self.folder.display().to_string()),
            ("FLAMES_PROGRAM", self.program.display().to_string()),
            ("FLAMES_FREQUENCY", self.frequency.to_string()),
        ]
    }

    /// The file of stacks of the last run of `service`, one a line; what perf wrote is gone then.
    pub(crate) fn folded(&self, service: &str, collapse: &Path) -> Result<PathBuf> {
        self.wait(service)?;
        // Before the round that counts the bench runs some services once, to warm up.
        let data =
            self.files(service, "data")?.pop().with_context(|| format!("perf has not seen the {service}"))?;
        let script = self.folder.join(format!("{service}.script"));
        let mut perf = Command::new("perf");
        perf.args(["script", "--no-inline", "--fields", "comm,pid,tid,time,event,ip,sym,dso", "--input"]);
        let out = fs::File::create(&script).with_context(|| format!("writing {}", script.display()))?;
        let status = perf.arg(&data).stdout(out).stderr(Stdio::null()).status().context("running perf")?;
        ensure!(status.success(), "perf script ended with {status}");
        let folded = self.folder.join(format!("{service}.folded"));
        let out = fs::File::create(&folded).with_context(|| format!("writing {}", folded.display()))?;
        let status = Command::new(collapse).arg("--kernel").arg(&script).stdout(out).status();
        let status = status
            .with_context(|| format!("running {}: deploy/flames.sh installs it", collapse.display()))?;
        ensure!(status.success(), "inferno-collapse-perf ended with {status}");
        for of in ["data", "script", "log"] {
            for file in self.files(service, of)? {
                fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
            }
        }
        Ok(folded)
    }

    /// Until perf has written all.
    fn wait(&self, service: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.files(service, "part")?.is_empty() {
            if Instant::now() > deadline {
                bail!("perf has not ended after {PATIENCE:?}: see {}/{service}.*.log", self.folder.display());
            }
            sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Files of a service with this ending, oldest first.
    fn files(&self, service: &str, ending: &str) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
            if name.starts_with(&format!("{service}.")) && name.ends_with(&format!(".{ending}")) {
                // One that is being renamed is gone by now.
                let Ok(changed) = fs::metadata(&path).and_then(|it| it.modified()) else { continue };
                files.push((changed, path));
            }
        }
        files.sort();
        Ok(files.into_iter().map(|(_, path)| path).collect())
    }
}
