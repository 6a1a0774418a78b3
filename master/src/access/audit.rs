//! The audit log: who changed what, and who was refused. One JSON object a line, in a file of its own beside the store.
//!
//! Requests hand their entries to a thread that writes them, and wait for it only where the queue is full. An entry that
//! can't be written (a full disk) is told of in the master's own log, and the request goes on.

use file_rotate::compression::Compression;
use file_rotate::suffix::AppendCount;
use file_rotate::{ContentLimit, FileRotate};
use quipu_shared::access::{AccessRole, Caller};
use serde::Serialize;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use tokio::sync::mpsc;

/// Files that are kept beside the one that is written.
const FILES_KEPT: usize = 7;
/// Entries that wait for the writer.
const QUEUE: usize = 1024;

/// What was asked, by whom, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct AuditEntry {
    /// Unix time.
    pub at_ms: u64,
    /// Name of the caller's token; null where there was none that is good.
    pub caller: Option<String>,
    /// Its id; null for the cluster's own.
    pub token: Option<u64>,
    /// What it allows.
    pub role: Option<AccessRole>,
    /// The namespace that it is kept to; null for all.
    pub namespace: Option<String>,
    /// Address that the request came from.
    pub peer: Option<IpAddr>,
    /// `POST`, `DELETE`, or `GRPC`.
    pub method: String,
    /// Path of the request, or the name of the procedure.
    pub path: String,
    /// Status of the answer.
    pub status: u16,
    /// Where a new thing was made: its place.
    pub location: Option<String>,
}

impl AuditEntry {
    /// An entry of this moment; who asks is filled in from their token.
    pub fn new(caller: Option<&Caller>, method: &str, path: &str, status: u16) -> Self {
        Self {
            at_ms: crate::store::sequencer::unix_ms(),
            caller: caller.map(|caller| caller.name.as_ref().to_owned()),
            token: caller.and_then(|caller| caller.token).map(|token| token.0),
            role: caller.map(|caller| caller.role),
            namespace: caller.and_then(|caller| caller.namespace.as_ref()).map(ToString::to_string),
            peer: None,
            method: method.to_owned(),
            path: path.to_owned(),
            status,
            location: None,
        }
    }
}

/// Where entries go.
#[derive(Clone)]
pub struct AuditLog(mpsc::Sender<AuditEntry>);

impl AuditLog {
    /// Writes to `path`, and begins another file after `bytes_max`.
    ///
    /// # Errors
    /// Where the thread can't be started or the file can't be written.
    pub fn open(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let mut options = std::fs::OpenOptions::new();
        options.create(true).append(true).read(true).mode(0o600);
        // Asked here, since the rotating file tells of it only when something is written.
        options.open(path)?;
        let limit = ContentLimit::BytesSurpassed(usize::try_from(bytes_max).unwrap_or(usize::MAX));
        let mut file = FileRotate::new(path, AppendCount::new(FILES_KEPT), limit, Compression::None, Some(options));
        let (sender, mut entries) = mpsc::channel::<AuditEntry>(QUEUE);
        std::thread::Builder::new().name("audit".into()).spawn(move || {
            while let Some(entry) = entries.blocking_recv() {
                // A type without maps, whose strings are UTF-8: it can always be written.
                let mut line = serde_json::to_vec(&entry).unwrap_or_default();
                line.push(b'\n');
                if let Err(error) = file.write_all(&line).and_then(|()| file.flush()) {
                    tracing::error!(%error, method = entry.method, path = entry.path, "audit entry not written");
                }
            }
        })?;
        Ok(Self(sender))
    }

    /// Hands an entry over.
    pub async fn write(&self, entry: AuditEntry) {
        if self.0.send(entry).await.is_err() {
            tracing::error!("audit entry not written, its thread has ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn entries_are_lines_and_full_files_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.ndjson");
        let log = AuditLog::open(&path, 1_000).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for number in 0..100 {
            let entry = AuditEntry::new(Some(&Caller::cluster()), "POST", &format!("/v1/jobs/{number}:cancel"), 202);
            runtime.block_on(log.write(entry));
        }
        let read = || -> Vec<serde_json::Value> {
            let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
            let texts = files.iter().map(|file| std::fs::read_to_string(file.path()).unwrap_or_default());
            texts
                .flat_map(|text| text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect::<Vec<_>>())
                .collect()
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        let last = loop {
            let entries = read();
            if let Some(last) = entries.into_iter().find(|entry| entry["path"] == "/v1/jobs/99:cancel") {
                break last;
            }
            assert!(Instant::now() < deadline, "the last entry is written");
            std::thread::yield_now();
        };
        assert_eq!(
            (&last["caller"], &last["role"], &last["status"]),
            (&"cluster".into(), &"operate".into(), &202.into())
        );
        assert!(folder.path().join("audit.ndjson.1").exists(), "full files are put aside");
        // The last entry is written after the last of them was.
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert!(files <= FILES_KEPT + 1, "{files} files");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(AuditLog::open(Path::new("/nowhere/audit.ndjson"), 1).is_err());
    }
}
