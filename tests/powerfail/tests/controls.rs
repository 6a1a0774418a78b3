//! Controls on a real mount: who syncs keeps what was acknowledged, who doesn't loses some. They need root and
//! /dev/fuse, and SQLite's need python3; without them they say that they were skipped.

#![allow(clippy::print_stderr, reason = "tests say what they measured or skipped")]

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A mount of the test's own.
struct Mount {
    process: Child,
    folder: PathBuf,
    control: BufReader<UnixStream>,
}

impl Mount {
    /// `None` where nothing can be mounted.
    fn new(options: &[&str]) -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/fuse") {
            eprintln!("skipped: /dev/fuse: {error}");
            return None;
        }
        let name = format!("powerfail-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("mount")).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_powerfail"))
            .arg(folder.join("mount"))
            .arg("--control")
            .arg(folder.join("control"))
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.contains("ready"), "{ready:?}");
        let control = BufReader::new(UnixStream::connect(folder.join("control")).unwrap());
        Some(Self { process, folder, control })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join("mount").join(name)
    }

    fn command(&mut self, line: &str) -> String {
        writeln!(self.control.get_mut(), "{line}").unwrap();
        let mut answer = String::new();
        self.control.read_line(&mut answer).unwrap();
        assert!(!answer.contains("error"), "{line}: {answer}");
        answer
    }

    fn power_cycle(&mut self) {
        self.command("cut");
        self.command("on");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // It unmounts when its standard input closes.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        let _ = fs::remove_dir(self.folder.join("mount"));
        let _ = fs::remove_dir(&self.folder);
    }
}

fn sync_folder(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

/// Appends numbered records until the power is cut at the change of this number, and gives how many were acknowledged
/// and how many are found.
fn records(mount: &mut Mount, sync: bool, cut_at: u64) -> (usize, usize) {
    let path = mount.path("log");
    let mut log = File::create(&path).unwrap();
    log.sync_all().unwrap();
    sync_folder(path.parent().unwrap());
    mount.command(&format!("arm {cut_at}"));
    let mut acknowledged = 0;
    loop {
        // One write each: `writeln!` would make several.
        let record = format!("record {acknowledged:08}\n");
        let done = log.write_all(record.as_bytes()).and_then(|()| if sync { log.sync_data() } else { Ok(()) });
        if done.is_err() {
            break;
        }
        acknowledged += 1;
    }
    assert!(log.write_all(b"x").is_err() && File::open(&path).is_err(), "the power is off");
    mount.command("on");
    assert!(log.write_all(b"x").is_err(), "a handle from before the cut is dead");
    drop(log);
    let text = fs::read_to_string(&path).unwrap();
    let whole = text.lines().enumerate().take_while(|(at, line)| *line == format!("record {at:08}")).count();
    (acknowledged, whole)
}

#[test]
fn writer_that_syncs_keeps_every_acknowledged_record() {
    for options in [&[][..], &["--ordered-metadata"], &["--torn", "--seed", "7"]] {
        let Some(mut mount) = Mount::new(options) else { return };
        for cut_at in [0, 1, 2, 999, 1000] {
            let (acknowledged, found) = records(&mut mount, true, cut_at);
            assert_eq!(acknowledged as u64, cut_at / 2);
            // What was written but not acknowledged may have survived.
            assert!((acknowledged..=acknowledged + 1).contains(&found), "{options:?}: {acknowledged}, {found}");
        }
    }
}

#[test]
fn writer_that_does_not_sync_loses_records() {
    for options in [&[][..], &["--ordered-metadata"]] {
        let Some(mut mount) = Mount::new(options) else { return };
        assert_eq!(records(&mut mount, false, 1000), (1000, 0), "{options:?}");
    }
    let Some(mut mount) = Mount::new(&["--torn", "--seed", "7"]) else { return };
    let rounds: Vec<_> = (0..20).map(|_| records(&mut mount, false, 5000)).collect();
    assert!(rounds.iter().any(|(acknowledged, found)| found < acknowledged), "{rounds:?}");
    assert!(rounds.iter().any(|(_, found)| *found > 0), "something survives a torn cut: {rounds:?}");
}

#[test]
fn rename_without_sync_of_its_folder_is_lost_and_with_it_kept() {
    let write = |path: &Path, text: &str| {
        let mut file = File::create(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.sync_all().unwrap();
    };
    for (options, with_sync, expected) in [
        (&[][..], false, "old"),
        (&[], true, "new"),
        (&["--ordered-metadata"], false, "old"),
        (&["--ordered-metadata"], true, "new"),
    ] {
        let Some(mut mount) = Mount::new(options) else { return };
        let (folder, target, temporary) = (mount.path(""), mount.path("target"), mount.path("temporary"));
        write(&target, "old");
        write(&temporary, "new");
        sync_folder(&folder);
        fs::rename(&temporary, &target).unwrap();
        if with_sync {
            sync_folder(&folder);
        }
        mount.power_cycle();
        assert_eq!(fs::read_to_string(&target).unwrap(), expected, "{options:?}");
        let left = fs::metadata(&temporary).map_err(|error| error.kind());
        assert_eq!(left.is_err(), with_sync, "the rename is whole: {left:?}");
    }
}

#[test]
fn shared_writable_memory_map_is_refused() {
    let Some(mount) = Mount::new(&[]) else { return };
    let script = "import mmap, sys\nf = open(sys.argv[1], 'w+b')\nf.truncate(4096)\nmmap.mmap(f.fileno(), 4096)";
    let output = Command::new("python3").args(["-c", script]).arg(mount.path("mapped")).output();
    match output {
        Err(error) if error.kind() == ErrorKind::NotFound => eprintln!("skipped: python3 is not here"),
        output => {
            let error = String::from_utf8_lossy(&output.unwrap().stderr).into_owned();
            assert!(error.contains("No such device"), "{error}");
        }
    }
}

/// Inserts numbered rows, one transaction each, and says each number once it is committed.
const SQLITE_WRITER: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute('PRAGMA synchronous=' + sys.argv[2])
number = (db.execute('SELECT max(number) FROM rows').fetchone()[0] or 0)
while True:
    number += 1
    db.execute('INSERT INTO rows VALUES (?, ?)', (number, str(number) * 300))
    print(number, flush=True)
";

/// Says whether the database is whole, and which numbers it holds.
const SQLITE_READER: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
try:
    whole = db.execute('PRAGMA integrity_check').fetchone()[0] == 'ok'
    rows = db.execute('SELECT number, text FROM rows').fetchall()
    assert whole and all(text == str(number) * 300 for number, text in rows)
    print(*[number for number, _ in rows])
except (sqlite3.Error, AssertionError):
    print('broken')
";

const SQLITE_NEW: &str = "
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute('PRAGMA synchronous=EXTRA')
db.execute('CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT)')
os.sync()
";

fn python(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", script]).args(arguments).stderr(Stdio::null());
    command
}

/// Acknowledged rows that are missing after a power cut at the change of this number; `None` for a broken database.
fn sqlite_losses(mount: &mut Mount, name: &str, synchronous: &str, cut_at: u64) -> Option<usize> {
    let path = mount.path(name);
    let path = path.to_str().unwrap();
    assert!(python(SQLITE_NEW, &[path]).status().unwrap().success());
    sync_folder(Path::new(path).parent().unwrap());
    mount.command(&format!("arm {cut_at}"));
    let mut acknowledged = String::new();
    let mut writer = python(SQLITE_WRITER, &[path, synchronous]).stdout(Stdio::piped()).spawn().unwrap();
    writer.stdout.take().unwrap().read_to_string(&mut acknowledged).unwrap();
    writer.wait().unwrap();
    let status = mount.command("on");
    assert!(!status.contains(r#""cuts":0"#), "the writer ran until the power was cut: {status}");
    let output = python(SQLITE_READER, &[path]).output().unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    if found.trim() == "broken" {
        return None;
    }
    let found: Vec<&str> = found.split_whitespace().collect();
    Some(acknowledged.lines().filter(|number| !found.contains(number)).count())
}

/// SQLite's documentation says of `synchronous`: EXTRA also syncs the folder after the journal's removal, which FULL
/// leaves out, so that FULL may lose the last transaction; OFF may lose many or break the database.
#[test]
fn sqlite_keeps_what_its_setting_promises() {
    if Command::new("python3").args(["-c", "import sqlite3"]).status().map_or(true, |status| !status.success()) {
        eprintln!("skipped: python3 with sqlite3 is not here");
        return;
    }
    let cuts = (200..=260).step_by(7);
    for options in [&[][..], &["--ordered-metadata"], &["--torn", "--seed", "3"]] {
        for (synchronous, allowed) in [("EXTRA", 0), ("FULL", 1)] {
            let Some(mut mount) = Mount::new(options) else { return };
            let losses: Vec<_> = cuts
                .clone()
                .map(|cut_at| sqlite_losses(&mut mount, &format!("{cut_at}.db"), synchronous, cut_at))
                .collect();
            eprintln!("{options:?} {synchronous}: lost {losses:?}");
            assert!(losses.iter().all(|lost| lost.is_some_and(|lost| lost <= allowed)), "{options:?}: {losses:?}");
        }
        let Some(mut mount) = Mount::new(options) else { return };
        let losses: Vec<_> =
            cuts.clone().map(|cut_at| sqlite_losses(&mut mount, &format!("{cut_at}.db"), "OFF", cut_at)).collect();
        eprintln!("{options:?} OFF: lost {losses:?}");
        assert!(losses.iter().any(|lost| *lost != Some(0)), "the negative control must lose: {options:?}: {losses:?}");
    }
}
