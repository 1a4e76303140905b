//! The architecture as a test: the arrows between crates, and files that stay readable.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Each crate with the workspace crates it may use. Development dependencies are free.
const ARROWS: &[(&str, &[&str])] = &[
    ("records", &[]),
    ("features", &["records"]),
    ("model", &["records", "features"]),
    ("kafka", &["records"]),
    ("mqtt", &[]),
    ("service", &[]),
    ("simulator", &["records", "mqtt", "service"]),
    ("bridge", &["records", "mqtt", "kafka", "service"]),
    ("preprocessor", &["records", "kafka", "service"]),
    ("trainer", &["records", "features", "model", "kafka", "service"]),
    ("scorer", &["records", "features", "model", "kafka", "mqtt", "service"]),
    ("embedded", &[]),
    (
        "telltale",
        &[
            "records",
            "features",
            "model",
            "kafka",
            "mqtt",
            "service",
            "simulator",
            "bridge",
            "preprocessor",
            "trainer",
            "scorer",
            "embedded",
        ],
    ),
    ("testkit", &["records", "kafka", "mqtt", "service", "embedded"]),
];

/// Lines a file may have before a reader deserves a reason.
const LINE_LIMIT: usize = 450;

/// Files above the limit, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

#[test]
fn crates_depend_only_along_the_arrows() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    for package in metadata.packages {
        let name = package.name.trim_start_matches("telltale-").to_owned();
        let Some((_, allowed)) = ARROWS.iter().find(|(it, _)| *it == name) else {
            panic!("{name} is not listed in ARROWS");
        };
        let used: BTreeSet<&str> = package
            .dependencies
            .iter()
            .filter(|it| it.kind == DependencyKind::Normal)
            .filter_map(|it| it.name.strip_prefix("telltale-"))
            .collect();
        let forbidden: Vec<_> = used.iter().filter(|it| !allowed.contains(it)).collect();
        assert!(forbidden.is_empty(), "{name} must not depend on {forbidden:?}");
    }
}

/// Faults strike from outside, at testkit's gate: there is no second build of a crate, with fault points in it, that could be
/// mistaken for the one that users run.
#[test]
fn no_crate_has_a_feature_for_tests() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    for package in metadata.packages {
        let features: Vec<&str> = package.features.keys().map(String::as_str).collect();
        assert!(features.iter().all(|it| *it == "cuda"), "{} has the features {features:?}", package.name);
    }
}

#[test]
fn a_file_is_short_or_has_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    rust_files(&root.join("crates"), &mut files);
    assert!(files.len() > 50, "found only {} files below {}", files.len(), root.display());
    let mut long = Vec::new();
    for file in files {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        let excused = LONG_FILES.iter().any(|(it, _)| *it == name);
        if (lines > LINE_LIMIT) != excused {
            long.push(format!(
                "{name}: {lines} lines, {}",
                if excused { "excused" } else { "no reason given" }
            ));
        }
    }
    assert!(long.is_empty(), "mend the files or LONG_FILES:\n{}", long.join("\n"));
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}
