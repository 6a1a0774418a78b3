//! Runs the real binary and waits for its end with a deadline.

// Each test file uses its own part of this.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// No command of these tests takes near as long on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(120);
/// How often a condition is looked at.
const TICK: Duration = Duration::from_millis(5);

/// What a command left.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The output of a command that succeeded and said nothing on standard error.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }

    /// The standard error of a command that ended with `code`.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.err
    }

    /// Both outputs of a command that ended with `code`.
    #[track_caller]
    pub fn ends(self, code: i32) -> (String, String) {
        assert_eq!(self.code, Some(code), "{self:?}");
        (self.out, self.err)
    }
}

/// The binary with none of the caller's settings.
pub fn quipu(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quipu"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUIPU_") || name == "NO_COLOR" {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command without input.
pub fn run(args: &[&str]) -> Ran {
    finish(quipu(args).spawn().expect("start quipu"), Vec::new())
}

/// Runs a command in a folder.
pub fn run_in(folder: &Path, args: &[&str]) -> Ran {
    finish(quipu(args).current_dir(folder).spawn().expect("start quipu"), Vec::new())
}

/// Runs a command with bytes on its standard input.
pub fn run_with(args: &[&str], input: impl Into<Vec<u8>>) -> Ran {
    finish(quipu(args).stdin(Stdio::piped()).spawn().expect("start quipu"), input.into())
}

/// Feeds and drains a started command until it ends.
pub fn finish(mut child: Child, input: Vec<u8>) -> Ran {
    let writer = child.stdin.take().map(|mut stdin| {
        thread::spawn(move || {
            // A command may end before it has read everything.
            let _ = stdin.write_all(&input);
        })
    });
    let drain = |pipe: Option<Box<dyn Read + Send>>| {
        pipe.map(|mut pipe| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = pipe.read_to_end(&mut bytes);
                bytes
            })
        })
    };
    let out = drain(child.stdout.take().map(|p| Box::new(p) as Box<dyn Read + Send>));
    let err = drain(child.stderr.take().map(|p| Box::new(p) as Box<dyn Read + Send>));
    let code = wait(&mut child).code();
    if let Some(writer) = writer {
        writer.join().expect("feed quipu");
    }
    let text = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
        let bytes = reader.map(|r| r.join().expect("read from quipu")).unwrap_or_default();
        String::from_utf8(bytes).expect("output is UTF-8")
    };
    Ran { code, out: text(out), err: text(err) }
}

/// Waits for the end of a process.
#[track_caller]
pub fn wait(child: &mut Child) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("wait for quipu") {
            return status;
        }
        if started.elapsed() > DEADLINE {
            let _ = child.kill();
            panic!("quipu did not end in {DEADLINE:?}");
        }
        thread::park_timeout(TICK);
    }
}

/// Waits until something holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "not in {DEADLINE:?}: {what}");
        thread::park_timeout(TICK);
    }
}

/// Sends SIGINT, as Ctrl-C does.
pub fn interrupt(child: &Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("interrupt quipu");
}

/// Names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("read the folder")
        .map(|entry| entry.expect("read the folder").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
