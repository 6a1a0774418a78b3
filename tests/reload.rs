//! The configuration of a running master: read again on SIGHUP and when its file changes.

mod support;

use nix::sys::signal::Signal;
use std::fs;
use std::time::Duration;
use support::{Cluster, wait_for};

/// Ten times what it takes.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn changed_file_is_applied_and_what_is_wrong_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("quipu.toml");
    let write = |text: &str| fs::write(&file, text).expect("written");
    write("[limits]\nrows_max = 1000\n");
    let cluster = Cluster::master_on("127.0.0.1:0", |mut command| {
        command.arg("--config").arg(&file).env_remove("QUIPU_LOG_LEVEL");
        command
    });
    let logged = |what: &str| {
        wait_for(what, PATIENCE, || cluster.master.logged().lines().find(|line| line.contains(what)).map(str::to_owned))
    };
    let submit = |rows: u32| {
        let over = format!("x=0:{rows}:1");
        cluster.run(&["submit", "sweep", "x", "--over", &over, "--reduce", "count"]).status.success()
    };
    assert!(submit(1_000) && !submit(1_001), "rows_max is in force");

    // A change of the file, with a key that needs a restart beside it.
    write("[limits]\nrows_max = 5000\ntokens_max = 77\n[scheduler]\nplacement = 'round-robin'\n");
    let line = logged("\"limits.rows_max\"");
    assert!(line.contains("\"1000\"") && line.contains("\"5000\""), "{line}");
    assert!(logged("\"limits.tokens_max\"").contains("needs a restart"));
    logged("\"scheduler.placement\"");
    wait_for("the new limit", PATIENCE, || submit(5_000).then_some(()));

    // What is wrong changes nothing.
    write("[limits]\nrows_max = 0\n");
    assert!(logged("stays as it was").contains("limits.rows_max"));
    assert!(submit(5_000), "as it was");

    // SIGHUP reads it in any case, and does not end the node.
    write("[limits]\nrows_max = 5000\n[log]\nlevel = 'debug'\n");
    cluster.master.signal(Signal::SIGHUP);
    logged("\"log.level\"");
    assert!(submit(10));
    logged("\"DEBUG\"");
}
