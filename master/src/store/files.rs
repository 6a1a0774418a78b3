//! Files that are there after a power failure, and the mark of how many commands were acknowledged.

use super::StoreError;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Writes a file so that after a crash it is there whole, or as it was before.
///
/// # Errors
/// Where it can't be written.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = (|| {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        sync_folder(folder)
    })();
    written.map_err(|error: std::io::Error| StoreError::io("write a file of the store", path, error))
}

/// Makes the names in a folder durable.
///
/// # Errors
/// Where the system refuses.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Size of one of the two slots of the mark: a sector, so that a torn write leaves the other one whole.
const SLOT_BYTES: u64 = 512;

/// How many commands were acknowledged, written after each commit and before its acknowledgements. The tables' library
/// drops what it finds damaged at the end of its journal; with this mark that is noticed. It is not synced, so that it
/// costs nothing: after a power failure it may be behind the tables, and it is never ahead of them.
#[derive(Debug)]
pub struct HighWater {
    file: File,
    path: PathBuf,
    next_slot: u64,
}

impl HighWater {
    /// Opens the mark of a store, and gives it.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn open(path: PathBuf) -> Result<(Self, u64), StoreError> {
        let failed = |error| StoreError::io("open the mark of acknowledged commands", &path, error);
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
        let mark = (0..2).filter_map(|slot| read_slot(&file, slot)).max().unwrap_or(0);
        Ok((Self { file, path, next_slot: 0 }, mark))
    }

    /// Moves the mark.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn set(&mut self, acknowledged: u64) -> Result<(), StoreError> {
        let number = acknowledged.to_le_bytes();
        let mut slot = [0; 40];
        slot[..8].copy_from_slice(&number);
        slot[8..].copy_from_slice(blake3::hash(&number).as_bytes());
        self.file
            .write_all_at(&slot, self.next_slot * SLOT_BYTES)
            .map_err(|error| StoreError::io("write the mark of acknowledged commands", &self.path, error))?;
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }

    /// Sets the mark back, for an operator who accepts a loss.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn reset(path: &Path) -> Result<(), StoreError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::io("remove the mark of acknowledged commands", path, error))
            }
            _ => Ok(()),
        }
    }
}

fn read_slot(file: &File, slot: u64) -> Option<u64> {
    let mut bytes = [0; 40];
    file.read_exact_at(&mut bytes, slot * SLOT_BYTES).ok()?;
    let (number, digest) = bytes.split_at(8);
    let number: [u8; 8] = number.try_into().ok()?;
    (blake3::hash(&number).as_bytes() == digest).then(|| u64::from_le_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_survives_a_torn_write() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mark");
        let (mut mark, found) = HighWater::open(path.clone()).expect("opens");
        assert_eq!(found, 0);
        mark.set(7).expect("written");
        mark.set(8).expect("written");
        assert_eq!(HighWater::open(path.clone()).expect("opens").1, 8);
        File::options().write(true).open(&path).expect("there").write_all_at(&[0xff; 3], SLOT_BYTES).expect("torn");
        assert_eq!(HighWater::open(path.clone()).expect("opens").1, 7, "the other slot is whole");
        HighWater::reset(&path).expect("removed");
        assert_eq!(HighWater::open(path).expect("opens").1, 0);
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        for text in ["old", "new"] {
            write_durably(&path, text.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("there"), text);
        }
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1, "no temporary file is left");
    }
}
