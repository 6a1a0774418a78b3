//! Cuts and restores the power over a Unix socket: one command a line, one answer a line, in JSON.

use crate::disk::Disk;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Mutex, PoisonError};

/// Answers commands until one of them is `stop`.
pub fn serve(listener: &UnixListener, disk: &Mutex<Disk>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        // A client that goes away in the middle is none of the others' business.
        if let Ok(true) = converse(&stream, disk) {
            return Ok(());
        }
    }
}

/// One client's commands; whether the last one was `stop`.
fn converse(mut stream: &UnixStream, disk: &Mutex<Disk>) -> io::Result<bool> {
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let answer = match obey(&line, &mut disk.lock().unwrap_or_else(PoisonError::into_inner)) {
            Ok(status) => status,
            Err(error) => format!(r#"{{"error":"{error}"}}"#),
        };
        writeln!(stream, "{answer}")?;
        if line == "stop" {
            return Ok(true);
        }
    }
    Ok(false)
}

fn obey(line: &str, disk: &mut Disk) -> Result<String, &'static str> {
    match line.split_once(' ').unwrap_or((line, "")) {
        ("cut", "") => disk.cut(),
        ("on", "") => disk.restore(),
        ("arm", count) => {
            let changes = count.parse().map_err(|_| "arm takes the number of changes that are still done")?;
            disk.arm(changes);
        }
        ("status" | "stop", "") => {}
        _ => return Err("commands are cut, on, arm COUNT, status and stop"),
    }
    let (counts, (pages, entries)) = (disk.counts, disk.at_stake());
    Ok(format!(
        r#"{{"powered":{},"changes":{},"syncs":{},"cuts":{},"pages_lost":{},"entries_lost":{},"pages_at_stake":{pages},"entries_at_stake":{entries}}}"#,
        disk.powered(),
        counts.changes,
        counts.syncs,
        counts.cuts,
        counts.pages_lost,
        counts.entries_lost,
    ))
}
