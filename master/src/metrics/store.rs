//! The job log: how long commits take and how many commands share one.

use super::collect::gauge;
use super::histogram::{Buckets, Histogram};
use crate::disk::DiskWatch;
use crate::store::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Weak;

/// What the sequencer counts. Clones count together.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    /// Time of a commit, until it is on the disk.
    pub commit: Histogram,
    /// Commands that share a commit.
    pub commit_commands: Histogram,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        Self { commit: Histogram::new(Buckets::LATENCY), commit_commands: Histogram::new(Buckets::COUNT) }
    }
}

impl StoreMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "quipu_store_commit_seconds",
            "Time of a commit of the job log, until it is on the disk",
            self.commit.clone(),
        );
        registry.register("quipu_store_commit_commands", "Commands that share a commit", self.commit_commands.clone());
    }
}

/// Asks the store at each scrape.
pub struct StoreCollector {
    /// A store that has been closed is exported no more.
    pub store: Weak<Store>,
    /// The disk that it stands on.
    pub disk: DiskWatch,
}

impl fmt::Debug for StoreCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreCollector").finish_non_exhaustive()
    }
}

impl Collector for StoreCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let Some(store) = self.store.upgrade() else { return Ok(()) };
        gauge(
            encoder,
            "quipu_store_waiting_bytes",
            "Bytes of commands that are not decided yet",
            store.waiting_bytes() as f64,
        )?;
        let stopped = i64::from(store.trouble().is_some());
        gauge(encoder, "quipu_store_stopped", "1 where the job log has failed and accepts nothing more", stopped)?;
        if let Some(disk) = store.disk_use() {
            let bytes = |bytes: u64| bytes as f64;
            gauge(
                encoder,
                "quipu_store_disk_bytes",
                "Bytes of the job log on the disk, its journals included",
                bytes(disk.bytes),
            )?;
            gauge(
                encoder,
                "quipu_store_journal_bytes",
                "Bytes of its journals, which a start replays",
                bytes(disk.journal_bytes),
            )?;
        }
        if let Some(room) = self.disk.room() {
            gauge(
                encoder,
                "quipu_disk_free_bytes",
                "Bytes that are free on the disk of the data folder",
                room.free_bytes as f64,
            )?;
            gauge(
                encoder,
                "quipu_disk_reserved_bytes",
                "Bytes that are to stay free there (limits.disk_free_min_bytes)",
                room.free_min_bytes as f64,
            )?;
        }
        Ok(())
    }
}
