//! The service files of `scripts/systemd`, as systemd reads them.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn service_files_are_what_systemd_understands() {
    let found = Command::new("systemd-analyze").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: systemd-analyze can't be run here");
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    for name in ["quipu-master.service", "quipu-worker@.service"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/systemd").join(name);
        let text = fs::read_to_string(source).expect("service file");
        // It insists on the program's file being there.
        let text = text.replace("/usr/local/bin/quipu", env!("CARGO_BIN_EXE_quipu"));
        let copy = folder.path().join(name.replace('@', "@1"));
        fs::write(&copy, text).expect("copy");
        let output = Command::new("systemd-analyze").arg("verify").arg(&copy).output().expect("systemd-analyze runs");
        let said = String::from_utf8_lossy(&output.stderr);
        // Other units of the machine are read too, and not ours to judge.
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("quipu")).collect();
        assert!(output.status.success() && ours.is_empty(), "{said}");
    }
}
