//! The store's tables on the disk: fjall, with every commit synced.

use super::StoreError;
use super::kv::{Each, Kv, Writes};
use super::record::{FORMAT_VERSION, Table};
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Bytes of a table that wait in memory to be written out in order.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// Bytes of the journals: what a start replays at most.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Bytes of blocks that are kept for reading.
const CACHE_BYTES: u64 = 32 << 20;
/// The file that says what wrote the folder.
const FORMAT_FILE: &str = "format";

/// Tables in a folder.
pub struct DiskKv {
    database: Database,
    /// In the order of [`Table::ALL`].
    keyspaces: Vec<Keyspace>,
    folder: PathBuf,
}

impl DiskKv {
    /// Opens the tables in `folder`, which is made where it is missing. The caller holds the data folder's lock.
    ///
    /// # Errors
    /// Where the folder can't be used, or was written by another version.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(|error| StoreError::io("make the store's folder", folder, error))?;
        check_format(folder)?;
        let failed = |error: fjall::Error| open_error(folder, &error);
        let database = Database::builder(folder.join("tables"))
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .manual_journal_persist(true)
            .worker_threads(1)
            .open()
            .map_err(failed)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let keyspaces = Table::ALL
            .iter()
            .map(|table| database.keyspace(table.name(), options))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        // fjall syncs what is in its folders, and not the names of those that it makes for its keyspaces.
        for made in [folder.join("tables/keyspaces"), folder.join("tables")] {
            super::files::sync_folder(&made)
                .map_err(|error| StoreError::io("sync a folder of the store", &made, error))?;
        }
        Ok(Self { database, keyspaces, folder: folder.to_owned() })
    }

    fn keyspace(&self, table: Table) -> &Keyspace {
        &self.keyspaces[table as usize]
    }

    fn trouble(&self, doing: &'static str) -> impl Fn(fjall::Error) -> StoreError {
        let folder = self.folder.clone();
        move |error| match error {
            // Without a cause in the system it is what was read that can't be.
            fjall::Error::Storage(ref inner) if inner.source().is_none() => {
                StoreError::Corrupt { table: "all", problem: format!("{inner:?}") }
            }
            error => StoreError::io(doing, &folder, problem(&error)),
        }
    }

    /// Bytes on the disk, journals included.
    ///
    /// # Errors
    /// Where the files can't be looked at.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.database.disk_space().map_err(self.trouble("measure the store"))
    }

    /// Bytes of the journals on the disk, which a start replays.
    ///
    /// # Errors
    /// Where the files can't be looked at.
    pub fn journal_bytes(&self) -> Result<u64, StoreError> {
        self.database.journal_disk_space().map_err(self.trouble("measure the store's journals"))
    }

    /// Writes everything out in order and drops what was overwritten.
    ///
    /// # Errors
    /// Where that can't be written.
    pub fn compact(&self) -> Result<(), StoreError> {
        for keyspace in &self.keyspaces {
            keyspace
                .rotate_memtable_and_wait()
                .and_then(|()| keyspace.major_compact())
                .map_err(self.trouble("compact the store"))?;
        }
        Ok(())
    }
}

impl Kv for DiskKv {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.keyspace(table).get(key).map_err(self.trouble("read the store"))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        for guard in self.keyspace(table).range(from..to) {
            let (key, value) = guard.into_inner().map_err(self.trouble("read the store"))?;
            if !each(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, writes: Writes) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(Some(durability()));
        for ((table, key), value) in writes {
            match value {
                Some(value) => batch.insert(self.keyspace(table), key, value.as_ref()),
                None => batch.remove(self.keyspace(table), key),
            }
        }
        batch.commit().map_err(self.trouble("write to the store"))
    }
}

/// How far a commit goes before it is acknowledged: onto the disk. The negative control of the tests with power cuts
/// is built with the feature `unsafe-no-sync` and must lose data.
fn durability() -> PersistMode {
    if cfg!(feature = "unsafe-no-sync") { PersistMode::Buffer } else { PersistMode::SyncData }
}

/// Refuses a folder of another format, and marks a new one.
fn check_format(folder: &Path) -> Result<(), StoreError> {
    let path = folder.join(FORMAT_FILE);
    let ours = format!("quipu store {FORMAT_VERSION}\n");
    match fs::read_to_string(&path) {
        Ok(found) if found == ours => Ok(()),
        Ok(found) => Err(StoreError::Format {
            path: folder.to_owned(),
            found: found.trim().trim_start_matches("quipu store ").chars().take(40).collect(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !folder.join("tables").exists() => {
            super::files::write_durably(&path, ours.as_bytes())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(StoreError::Format { path: folder.to_owned(), found: "none (its file `format` is missing)".into() })
        }
        Err(error) => Err(StoreError::io("read the store's format", path, error)),
    }
}

fn open_error(folder: &Path, error: &fjall::Error) -> StoreError {
    match error {
        fjall::Error::Locked => StoreError::Locked { path: folder.to_owned() },
        fjall::Error::InvalidVersion(version) => {
            StoreError::Format { path: folder.to_owned(), found: format!("{version:?} of its tables") }
        }
        fjall::Error::Io(error) => StoreError::io("open the store", folder, error),
        error => StoreError::Corrupt { table: "all", problem: format!("{error:?}") },
    }
}

fn problem(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) => error.to_string(),
        fjall::Error::Poisoned => "an earlier write failed".into(),
        error => format!("{error:?}"),
    }
}

/// The lock on a data folder; it goes with the value, and with the process.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock, and makes the folder where it is missing.
    ///
    /// # Errors
    /// [`StoreError::Locked`] where another process has it.
    pub fn take(data_dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(data_dir).map_err(|error| StoreError::io("make the data folder", data_dir, error))?;
        let path = data_dir.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| StoreError::io("open the data folder's lock", &path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(fs::TryLockError::WouldBlock) => Err(StoreError::Locked { path: data_dir.to_owned() }),
            Err(fs::TryLockError::Error(error)) => Err(StoreError::io("lock the data folder", path, error)),
        }
    }
}
