//! Adds what a part found to `scale.json`, beside what earlier runs found of others.

use std::fmt::Display;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::machine::{Machine, commit, load};
use crate::settings::Settings;

/// What a part found, and where.
#[derive(Debug, Serialize)]
struct Entry<'a, T> {
    commit: String,
    date: String,
    machine: Machine,
    /// The machine's load average before and after.
    load: [f64; 2],
    engines: String,
    readings: u64,
    found: &'a T,
}

/// Prints what was found and writes it down.
pub(super) fn add<T: Serialize + Display>(
    settings: &Settings,
    part: &str,
    before: f64,
    found: &T,
) -> Result<()> {
    let now = UNIX_EPOCH + UNIX_EPOCH.elapsed().unwrap_or_default();
    let entry = Entry {
        commit: commit(),
        date: humantime::format_rfc3339_seconds(now).to_string(),
        machine: Machine::here(),
        load: [before, load()],
        engines: format!("{:?}", settings.engines).to_lowercase(),
        readings: settings.readings,
        found,
    };
    let Machine { cpu, cores, .. } = &entry.machine;
    println!(
        "\n{}, commit {}, {cpu}, {cores} cores; load {:.1} to {:.1}",
        entry.date, entry.commit, before, entry.load[1]
    );
    let path = settings.dir.join("scale.json");
    let mut all = earlier(&path)?;
    all.insert(part.to_owned(), serde_json::to_value(&entry)?);
    std::fs::write(&path, serde_json::to_string_pretty(&all)?)
        .with_context(|| format!("writing {}", path.display()))?;
    println!("{found}\nwritten to {}\n", path.display());
    Ok(())
}

/// What earlier runs wrote; nothing where there was none.
fn earlier(path: &Path) -> Result<Map<String, Value>> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is not ours", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_earlier_runs_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scale.json");
        assert!(earlier(&path).unwrap().is_empty());
        std::fs::write(&path, r#"{"cars": {"found": 1}}"#).unwrap();
        assert_eq!(earlier(&path).unwrap()["cars"]["found"], 1);
        std::fs::write(&path, "[]").unwrap();
        earlier(&path).unwrap_err();
    }
}
