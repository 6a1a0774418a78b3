//! Commands that follow their job over the death of the master.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;
use support::{Cluster, START_PATIENCE, quipu, wait_for};

/// Rows of a job that takes one slot some seconds.
const ROWS: &str = "x=0.0:1.0/3000000";
/// Terms of its formula.
const TERMS: usize = 200;
const AWAY: &str = "the master is away; waiting for it (the job goes on)";
/// Ten times what the work takes.
const PATIENCE: Duration = Duration::from_secs(120);

fn formula() -> String {
    let terms: Vec<String> = (0..TERMS).map(|term| format!("math::sin(x * {term}.5)")).collect();
    terms.join(" + ")
}

/// A command that follows its job.
struct Following {
    child: Child,
    stderr: PathBuf,
}

impl Following {
    fn start(cluster: &Cluster, args: &[&str]) -> Self {
        let stderr = cluster.folder.path().join("command.log");
        let file = File::create(&stderr).expect("file");
        let child = cluster.client(args).stderr(file).spawn().expect("command starts");
        Self { child, stderr }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("waitable").is_some()
    }

    fn wait(&mut self) -> ExitStatus {
        wait_for("the end of the command", PATIENCE, || self.child.try_wait().expect("waitable"))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills the master in the middle of the job, and waits until the command has noticed.
fn lose_master(cluster: &mut Cluster, command: &mut Following) {
    wait_for("the first rows", START_PATIENCE, || {
        assert!(!command.has_ended(), "{}", command.said());
        (cluster.rows_done() > 0).then_some(())
    });
    cluster.master.kill();
    wait_for("a word of it", START_PATIENCE, || command.said().contains(AWAY).then_some(()));
    assert!(!command.has_ended(), "the job was not over: {}", command.said());
}

fn embedded(args: &[&str], out: &Path) {
    let output = quipu().args(args).arg("-o").arg(out).output().expect("runs");
    assert!(output.status.success(), "{output:?}");
}

fn follows_over_a_restart(args: &[&str]) {
    let mut cluster = Cluster::start(1);
    let (out, expected) = (cluster.folder.path().join("out.csv"), cluster.folder.path().join("expected.csv"));
    let mut command = Following::start(&cluster, &[args, &["-o", out.to_str().expect("a path")]].concat());
    lose_master(&mut cluster, &mut command);
    cluster.restart_master();
    assert!(command.wait().success(), "{}", command.said());
    assert_eq!(command.said().matches("is away").count(), 1, "it is said once: {}", command.said());
    embedded(args, &expected);
    assert!(fs::read(&out).expect("output") == fs::read(&expected).expect("output"), "other bytes");
    assert_eq!(cluster.jobs().len(), 1, "no second job was made");
}

#[test]
fn rows_go_on_where_they_were() {
    follows_over_a_restart(&["sweep", &formula(), "--over", ROWS]);
}

#[test]
fn a_reduction_is_waited_for() {
    follows_over_a_restart(&["sweep", &formula(), "--over", ROWS, "--reduce", "mean", "--reduce", "sum"]);
}

#[test]
fn an_interrupt_ends_the_wait_for_a_master() {
    let mut cluster = Cluster::start(1);
    let out = cluster.folder.path().join("out.csv");
    let mut command =
        Following::start(&cluster, &["sweep", &formula(), "--over", ROWS, "-o", out.to_str().expect("a path")]);
    lose_master(&mut cluster, &mut command);
    kill(Pid::from_raw(i32::try_from(command.child.id()).expect("a process id")), Signal::SIGINT).expect("is there");
    assert_eq!(command.wait().code(), Some(130), "{}", command.said());
    assert!(command.said().contains("job 1 is not cancelled and goes on"), "{}", command.said());
    assert!(command.said().contains("quipu job cancel 1"), "{}", command.said());
    let left: Vec<_> =
        fs::read_dir(cluster.folder.path()).expect("folder").map(|file| file.expect("entry").file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("out")), "nothing is left half written: {left:?}");
    cluster.restart_master();
    assert!(cluster.run(&["job", "cancel", "1"]).status.success());
}

#[test]
fn a_quiet_command_waits_without_a_word() {
    let mut cluster = Cluster::start(1);
    let out = cluster.folder.path().join("out.csv");
    let args = ["sweep", &formula(), "--over", ROWS, "--quiet", "-o", out.to_str().expect("a path")];
    let mut command = Following::start(&cluster, &args);
    wait_for("the first rows", START_PATIENCE, || {
        assert!(!command.has_ended(), "{}", command.said());
        (cluster.rows_done() > 0).then_some(())
    });
    cluster.master.kill();
    assert!(!command.has_ended(), "the job was not over");
    cluster.restart_master();
    assert!(command.wait().success(), "{}", command.said());
    assert_eq!(command.said(), "");
}
