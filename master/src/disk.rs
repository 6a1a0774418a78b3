//! Whether the disk under the data folder has room: asked before anything new is taken on, so that what was accepted
//! can be finished.

use quipu_shared::service::{ErrorKind, ServiceError};
use std::path::PathBuf;

/// Watches the room on a disk.
#[derive(Clone, Debug, Default)]
pub struct DiskWatch {
    /// The data folder and the bytes that must stay free there; an embedded master has none.
    watched: Option<(PathBuf, u64)>,
}

/// Room on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes that must stay free.
    pub free_min_bytes: u64,
}

impl DiskWatch {
    /// Of a data folder, in whose file system `free_min_bytes` must stay free.
    pub fn new(data_dir: PathBuf, free_min_bytes: u64) -> Self {
        Self { watched: Some((data_dir, free_min_bytes)) }
    }

    /// What is free there and what must be; none where nothing is watched, or the file system does not say.
    pub fn room(&self) -> Option<Room> {
        let (data_dir, free_min_bytes) = self.watched.as_ref()?;
        let stat = nix::sys::statvfs::statvfs(data_dir).ok()?;
        let free_bytes = stat.blocks_available().saturating_mul(stat.fragment_size());
        Some(Room { free_bytes, free_min_bytes: *free_min_bytes })
    }

    /// Whether anything new may be taken on.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`], which names the folder and what is missing; it passes when there is room again.
    pub fn check(&self) -> Result<(), ServiceError> {
        let Some((data_dir, free_min)) = &self.watched else { return Ok(()) };
        // A file system that does not say how full it is will say so when it is written to.
        let Some(Room { free_bytes: free, .. }) = self.room() else { return Ok(()) };
        if free >= *free_min {
            return Ok(());
        }
        Err(ServiceError {
            kind: ErrorKind::Busy,
            code: "disk_full".into(),
            message: format!(
                "the disk of the data folder {} has {free} bytes free, and {free_min} are to stay free \
                 (limits.disk_free_min_bytes); nothing new is taken on until there is room",
                data_dir.display()
            ),
            place: None,
            retry_after_s: Some(5),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_takes_nothing_new() {
        let folder = tempfile::tempdir().expect("folder");
        assert!(DiskWatch::default().check().is_ok());
        assert!(DiskWatch::new(folder.path().to_owned(), 1).check().is_ok());
        let full = DiskWatch::new(folder.path().to_owned(), u64::MAX).check().expect_err("never so much room");
        assert_eq!((full.kind, full.code.as_str()), (ErrorKind::Busy, "disk_full"));
        assert!(full.message.contains("limits.disk_free_min_bytes"), "{}", full.message);
    }
}
