//! The job log: what the master has promised, durably.
//!
//! ```text
//!   Store::propose --> Sequencer: order, group --> apply (pure) --> one atomic, synced commit --> observer, then the caller
//!                                                   state + number of the last command
//! ```
//! [`apply`] is the law, [`record`] the form on the disk, [`kv`] what it stands on, [`sequencer`] who decides the order.
//! A store in memory obeys the same law; it serves embedded clusters, and promises nothing beyond the process.

pub mod apply;
pub mod backup;
pub mod command;
pub mod disk;
mod error;
pub mod files;
pub mod kv;
pub mod reads;
pub mod record;
pub mod sequencer;
#[cfg(test)]
pub(crate) mod tests;
pub mod verify;

pub use error::StoreError;

use crate::metrics::StoreMetrics;
use command::{Command, Outcome};
use disk::{DiskKv, FolderLock};
use files::HighWater;
use kv::{Kv, MemoryKv};
use record::{META_KEY, Meta, Table};
use sequencer::{Decided, GroupCommit, Immediate, Observer, Sequencer, State};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Bytes of commands that may wait to be written; clients that bring more are told to try again.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Where things stand in a data folder.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The data folder.
    pub data_dir: PathBuf,
}

impl Layout {
    /// Of a data folder.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into() }
    }

    /// The store: tables, format, mark.
    pub fn store(&self) -> PathBuf {
        self.data_dir.join("store")
    }

    /// The mark of acknowledged commands.
    pub fn mark(&self) -> PathBuf {
        self.store().join("acknowledged")
    }

    /// Files of results, one a job.
    pub fn results(&self) -> PathBuf {
        self.data_dir.join("results")
    }

    /// The audit log.
    pub fn audit(&self) -> PathBuf {
        self.data_dir.join("audit.ndjson")
    }

    /// Uploaded tables, by digest.
    pub fn uploads(&self) -> PathBuf {
        self.data_dir.join("uploads")
    }
}

/// The job log.
pub struct Store {
    kv: Arc<dyn Kv>,
    disk: Option<Arc<DiskKv>>,
    id: uuid::Uuid,
    sequencer: Box<dyn Sequencer>,
    /// Goes last.
    _lock: Option<FolderLock>,
}

/// A store that is open and does not decide anything yet: what it has can be read first.
pub struct Opened {
    kv: Arc<dyn Kv>,
    disk: Option<Arc<DiskKv>>,
    meta: Meta,
    mark: Option<HighWater>,
    lock: Option<FolderLock>,
    metrics: StoreMetrics,
}

/// Room that a store takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUse {
    /// Bytes on the disk, journals included.
    pub bytes: u64,
    /// Bytes of the journals.
    pub journal_bytes: u64,
}

/// A store that is not compared with its mark yet.
struct Unchecked {
    opened: Opened,
    /// How many commands were acknowledged, as the mark says.
    acknowledged: u64,
}

impl Unchecked {
    /// Refuses a store that has lost acknowledged commands.
    fn checked(self, data_dir: &Path) -> Result<Opened, StoreError> {
        let Self { opened, acknowledged } = self;
        let found = opened.meta.last_applied;
        if found < acknowledged {
            return Err(StoreError::Truncated { path: data_dir.to_owned(), found, acknowledged });
        }
        Ok(opened)
    }
}

impl Opened {
    /// A store in memory.
    pub fn in_memory() -> Self {
        let meta = Meta { id: uuid::Uuid::new_v4(), ..Meta::default() };
        Self {
            kv: Arc::new(MemoryKv::default()),
            disk: None,
            meta,
            mark: None,
            lock: None,
            metrics: StoreMetrics::default(),
        }
    }

    /// The store of a data folder, made where there is none.
    ///
    /// # Errors
    /// Where the folder is in use, damaged, of another version, or can't be used.
    pub fn on_disk(data_dir: &Path) -> Result<Self, StoreError> {
        Self::on_disk_unchecked(data_dir)?.checked(data_dir)
    }

    /// The store of a data folder; none is made.
    ///
    /// # Errors
    /// [`StoreError::Missing`], or as with [`Self::on_disk`].
    fn existing(data_dir: &Path) -> Result<Unchecked, StoreError> {
        if !Layout::new(data_dir).store().exists() {
            return Err(StoreError::Missing { path: data_dir.to_owned() });
        }
        Self::on_disk_unchecked(data_dir)
    }

    /// The same without a look at the mark of acknowledged commands, which is given.
    fn on_disk_unchecked(data_dir: &Path) -> Result<Unchecked, StoreError> {
        let layout = Layout::new(data_dir);
        let lock = FolderLock::take(data_dir)?;
        for folder in [layout.store(), layout.results(), layout.uploads()] {
            std::fs::create_dir_all(&folder)
                .map_err(|error| StoreError::io("make a folder of the data folder", folder, error))?;
        }
        let disk = Arc::new(DiskKv::open(&layout.store())?);
        let (mark, acknowledged) = HighWater::open(layout.mark())?;
        // A commit is worth nothing in a folder that has no name.
        for folder in [&layout.store(), data_dir, data_dir.parent().unwrap_or(data_dir)] {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            files::sync_folder(folder).map_err(|error| StoreError::io("sync a folder", folder, error))?;
        }
        let meta = match disk.get(Table::Meta, META_KEY)? {
            Some(bytes) => record::decode(Table::Meta, &bytes)?,
            None => Meta { id: uuid::Uuid::new_v4(), ..Meta::default() },
        };
        let kv: Arc<dyn Kv> = Arc::clone(&disk) as Arc<dyn Kv>;
        let metrics = StoreMetrics::default();
        let opened = Self { kv, disk: Some(disk), meta, mark: Some(mark), lock: Some(lock), metrics };
        Ok(Unchecked { opened, acknowledged })
    }

    /// Counts commits here.
    pub fn measured_by(mut self, metrics: &StoreMetrics) -> Self {
        self.metrics = metrics.clone();
        self
    }

    /// Begins to decide; `observer` hears of every change.
    ///
    /// # Errors
    /// Where the thread can't be started.
    pub fn start(self, observer: Observer) -> Result<Store, StoreError> {
        let Self { kv, disk, meta, mark, lock, metrics } = self;
        let state = State { kv: Arc::clone(&kv), meta, mark, observer, metrics };
        let sequencer: Box<dyn Sequencer> = match disk {
            Some(_) => {
                let started = GroupCommit::start(state);
                Box::new(started.map_err(|error| StoreError::io("start the store's thread", "", error))?)
            }
            None => Box::new(Immediate { state: Mutex::new(state) }),
        };
        Ok(Store { kv, disk, id: meta.id, sequencer, _lock: lock })
    }
}

impl Store {
    /// Names this store.
    pub fn id(&self) -> uuid::Uuid {
        self.id
    }

    /// Whether it outlives the process.
    pub fn is_durable(&self) -> bool {
        self.disk.is_some()
    }

    /// Proposes commands; `decided` hears what became of them once that is durable. Never blocks on the disk.
    pub fn propose(&self, commands: Vec<Command>, decided: Decided) {
        self.sequencer.propose(commands, decided);
    }

    /// Proposes commands and waits for what becomes of them.
    ///
    /// # Errors
    /// Where the store has stopped.
    pub async fn decide(&self, commands: Vec<Command>) -> Result<Vec<Outcome>, StoreError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.propose(
            commands,
            Box::new(move |decided| {
                // A caller that is gone does not want to know; the commands stand all the same.
                let _ = sender.send(decided);
            }),
        );
        receiver.await.unwrap_or_else(|_| Err(StoreError::Stopped("its thread ended".into())))
    }

    /// Whether more may be proposed; the master's own commands are bounded by credits and need not ask.
    ///
    /// # Errors
    /// [`StoreError::Busy`], or why the store has stopped.
    pub fn check_room(&self) -> Result<(), StoreError> {
        if let Some(trouble) = self.sequencer.trouble() {
            return Err(trouble);
        }
        match self.sequencer.waiting_bytes() {
            bytes if bytes > WAITING_BYTES_MAX => Err(StoreError::Busy { bytes }),
            _ => Ok(()),
        }
    }

    /// Bytes of commands that are not decided yet.
    pub fn waiting_bytes(&self) -> usize {
        self.sequencer.waiting_bytes()
    }

    /// What it takes on the disk; none in memory, or where it can't be measured.
    pub fn disk_use(&self) -> Option<DiskUse> {
        let disk = self.disk.as_ref()?;
        Some(DiskUse { bytes: disk.disk_bytes().ok()?, journal_bytes: disk.journal_bytes().ok()? })
    }

    /// Why nothing is accepted any more.
    pub fn trouble(&self) -> Option<StoreError> {
        self.sequencer.trouble()
    }
}
