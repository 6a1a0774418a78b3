//! Keeps the tree honest: directions of dependencies, sizes of files, purity of the cores.

use std::fs;
use std::path::{Path, PathBuf};

/// A longer file has usually found a second job.
const FILE_LINES_MAX: usize = 600;

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let start = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    if start.is_file() {
        found.push(start.clone());
    }
    let mut folders = vec![start];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("entry of a folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// Lines that offend, of code before a file's unit tests.
fn offences(folders: &[&str], is_offence: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for path in folders.iter().flat_map(|folder| rust_files(folder)) {
        let text = text(&path);
        let code = text.lines().enumerate().take_while(|(_, line)| *line != "#[cfg(test)]");
        for (at, line) in code.filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if is_offence(line) {
                found.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
            }
        }
    }
    found
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

const FOLDERS: [&str; 7] = ["src", "shared", "master", "worker", "tests", "benches", "examples"];

#[test]
fn dependencies_run_one_way() {
    let imports = |name: &'static str| move |line: &str| line.contains(name);
    assert_none("shared imports the master", &offences(&["shared/src"], imports("quipu_master::")));
    assert_none("shared imports the worker", &offences(&["shared/src"], imports("quipu_worker::")));
    assert_none("master imports worker", &offences(&["master/src"], imports("quipu_worker::")));
    assert_none("worker imports master", &offences(&["worker/src"], imports("quipu_master::")));
}

#[test]
fn files_have_one_job() {
    let long: Vec<String> = FOLDERS
        .iter()
        .flat_map(|folder| rust_files(folder))
        .filter_map(|path| {
            let lines = text(&path).lines().count();
            (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", path.display()))
        })
        .collect();
    assert_none("files over the limit", &long);
}

#[test]
fn the_cores_are_pure() {
    let impure = ["async ", "tokio", "SystemTime", "rand::", "HashMap", "HashSet", "std::fs", "std::net", "ractor::"];
    let cores = [
        "master/src/scheduler",
        "master/src/store/apply.rs",
        "master/src/store/record.rs",
        "master/src/store/command.rs",
        "master/src/jobs/index.rs",
        "worker/src/core",
        "shared/src/calendar.rs",
    ];
    let found = offences(&cores, |line| impure.iter().any(|word| line.contains(word)));
    assert_none("a pure core uses a clock, randomness, I/O or unordered maps", &found);
}

#[test]
fn nothing_is_left_half_done() {
    // Written apart, so that this file does not find itself.
    let words = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("FIX", "ME"), concat!("XX", "X")];
    assert_none("leftovers", &offences(&FOLDERS, |line| words.iter().any(|word| line.contains(word))));
}

#[test]
fn only_one_crate_parses_formulas() {
    let parser = concat!("build_operator", "_tree");
    let found = offences(&["src", "shared/src", "master/src", "worker/src"], |line| {
        line.contains(parser) && !line.contains("use ")
    });
    assert_eq!(found.len(), 1, "one call of the parser, behind its guards: {found:#?}");
}
