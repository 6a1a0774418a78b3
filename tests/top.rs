//! `quipu top` on a terminal of its own: what it shows, what keys do, and what it leaves behind.

mod support;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use support::{Cluster, START_PATIENCE, quipu, wait_for};

const ROWS: usize = 24;
const COLUMNS: usize = 80;
/// Ten times what a change takes to show.
const PATIENCE: Duration = Duration::from_secs(20);

/// As much of a terminal as the view uses: places, text, and clearing.
struct Screen {
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// Of an escape sequence that is not whole yet.
    rest: Vec<u8>,
    /// Whether the alternate screen is shown.
    alternate: bool,
    cursor_shown: bool,
}

impl Screen {
    fn new() -> Self {
        let cells = vec![vec![' '; COLUMNS]; ROWS];
        Self { cells, row: 0, column: 0, rest: Vec::new(), alternate: false, cursor_shown: true }
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut bytes = [std::mem::take(&mut self.rest), bytes.to_vec()].concat();
        while !bytes.is_empty() {
            match self.write_first(&bytes) {
                Some(taken) => drop(bytes.drain(..taken)),
                None => break,
            }
        }
        self.rest = bytes;
    }

    /// Takes a character or an escape sequence; none if it is not whole.
    fn write_first(&mut self, bytes: &[u8]) -> Option<usize> {
        if bytes[0] != 0x1b {
            let len = match bytes[0] {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            let text = std::str::from_utf8(bytes.get(..len)?).expect("UTF-8");
            self.put(text.chars().next().expect("a character"));
            return Some(len);
        }
        if *bytes.get(1)? != b'[' {
            return Some(2);
        }
        let end = 2 + bytes[2..].iter().position(|byte| (0x40..0x7f).contains(byte))?;
        let parameters = std::str::from_utf8(&bytes[2..end]).expect("ASCII");
        let number = |at: usize| parameters.split(';').nth(at).and_then(|text| text.parse::<usize>().ok());
        match bytes[end] {
            b'H' => (self.row, self.column) = (number(0).unwrap_or(1) - 1, number(1).unwrap_or(1) - 1),
            b'J' => self.cells = vec![vec![' '; COLUMNS]; ROWS],
            b'h' | b'l' => {
                let on = bytes[end] == b'h';
                match parameters {
                    "?1049" => self.alternate = on,
                    "?25" => self.cursor_shown = on,
                    _ => {}
                }
            }
            _ => {}
        }
        Some(end + 1)
    }

    fn put(&mut self, letter: char) {
        match letter {
            '\r' => self.column = 0,
            '\n' => self.row = (self.row + 1).min(ROWS - 1),
            _ => {
                if let Some(cell) = self.cells.get_mut(self.row).and_then(|row| row.get_mut(self.column)) {
                    *cell = letter;
                }
                self.column += 1;
            }
        }
    }

    fn lines(&self) -> Vec<String> {
        self.cells.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned()).collect()
    }
}

/// `quipu top` and the user in front of it.
struct Top {
    child: Child,
    keyboard: File,
    /// Kept open, so that its settings can be looked at.
    terminal: OwnedFd,
    output: Receiver<Vec<u8>>,
    screen: Screen,
}

impl Top {
    fn start(command: Command) -> Self {
        let size = Winsize { ws_row: ROWS as u16, ws_col: COLUMNS as u16, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a terminal");
        let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        // The size of a terminal is asked of the one that controls the process.
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        let child = session.env("TERM", "xterm-256color").stdin(end()).stdout(end()).stderr(end()).spawn();
        let mut reader = File::from(pty.master.try_clone().expect("a descriptor"));
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        let (keyboard, screen) = (File::from(pty.master), Screen::new());
        Self { child: child.expect("starts"), keyboard, terminal: pty.slave, output, screen }
    }

    fn look(&mut self) -> Vec<String> {
        while let Ok(bytes) = self.output.try_recv() {
            self.screen.write(&bytes);
        }
        self.screen.lines()
    }

    /// Waits until a line has all of these words.
    fn sees(&mut self, words: &[&str]) -> String {
        let mut last = Vec::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(&format!("{words:?} on the screen"), PATIENCE, || {
                last = self.look();
                last.iter().find(|line| words.iter().all(|word| line.contains(word))).cloned()
            })
        }));
        found.unwrap_or_else(|_| panic!("{words:?} is not on the screen:\n{}", last.join("\n")))
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("keys");
    }

    fn is_raw(&self) -> bool {
        let settings = tcgetattr(self.terminal.as_fd()).expect("settings");
        !settings.local_flags.contains(LocalFlags::ICANON)
    }

    fn ended(&mut self) -> ExitStatus {
        let status = wait_for("the end of top", PATIENCE, || self.child.try_wait().expect("waitable"));
        // What it wrote last may be on its way still.
        wait_for("the screen to be given back", PATIENCE, || {
            self.look();
            (!self.screen.alternate && self.screen.cursor_shown).then_some(())
        });
        assert!(!self.is_raw(), "the terminal takes lines again");
        status
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_job_is_seen_and_cancelled_and_the_terminal_is_given_back() {
    let mut cluster = Cluster::start(1);
    let mut top = Top::start(cluster.client(&["top"]));
    top.sees(&["quipu top", "workers 1 up"]);
    assert!(top.screen.alternate && !top.screen.cursor_shown && top.is_raw());
    let worker = cluster.workers[0].id();
    top.sees(&[&worker, "up", "0/1"]);

    let submitted = cluster.output(&[
        "submit",
        "sweep",
        "math::sin(x)",
        "--over",
        "x=0.0:1.0/1000000000000",
        "--reduce",
        "mean",
        "--name",
        "endless",
    ]);
    let job = submitted.trim().to_owned();
    top.sees(&["endless", "running", "%"]);
    top.sees(&["M rows/s", "1 running"]);
    top.press("\r");
    top.sees(&[&format!("> job {job}")]);
    top.sees(&["rows done in", "shards"]);
    top.press("\x1b");
    top.sees(&["jobs (1)"]);
    top.press("c");
    top.sees(&[&format!("cancel job {job}?")]);
    top.press("y");
    top.sees(&["endless", "cancelled"]);
    let view: serde_json::Value =
        serde_json::from_str(&cluster.output(&["job", "show", &job, "-O", "json"])).expect("JSON");
    assert_eq!(view["state"], "cancelled");

    cluster.master.kill();
    top.sees(&["reconnecting to", "http://127.0.0.1"]);
    top.sees(&["endless", "cancelled"]);
    cluster.restart_master();
    top.sees(&["quipu top", "workers 1 up"]);

    top.press("\tjd");
    top.sees(&["drain", &worker]);
    top.press("y");
    assert!(cluster.workers[0].wait(START_PATIENCE).success(), "it has drained");
    top.sees(&["workers 0 up, 1 down"]);
    top.press("q");
    assert!(top.ended().success());
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let cluster = Cluster::master();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut top = Top::start(cluster.client(&["top"]));
        top.sees(&["workers 0 up"]);
        kill(Pid::from_raw(i32::try_from(top.child.id()).expect("a process id")), signal).expect("it runs");
        assert!(top.ended().success(), "{signal}");
    }
}

#[test]
fn without_a_terminal_or_a_cluster_it_says_what_to_do() {
    let cluster = Cluster::master();
    let output = cluster.run(&["top"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{told}");
    assert!(told.contains("needs a terminal") && told.contains("quipu status"), "{told}");

    let output = quipu().arg("top").output().expect("runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("--cluster"), "{told}");

    let mut top = Top::start({
        let mut command = quipu();
        command.args(["top", "--cluster", "http://127.0.0.1:1"]);
        command
    });
    let status = wait_for("the end of top", PATIENCE, || top.child.try_wait().expect("waitable"));
    assert_eq!(status.code(), Some(69), "{}", top.look().join("\n"));
    assert!(!top.screen.alternate, "the screen was never taken");
}
