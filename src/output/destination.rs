//! What output is written to: standard output, or a file that appears whole or not at all.

use crate::failure::Failure;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Stdout, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use tempfile::NamedTempFile;

/// Output is handed to the system in pieces of this size.
const BUFFER_BYTES: usize = 128 * 1024;
/// Bytes after which a file's are sent to the disk in the background, so that little is left to do in the end.
const SYNC_BYTES: usize = 64 * 1024 * 1024;

/// Where output goes. Dropped without [`Destination::commit`], a file leaves nothing behind and what stood there stays.
pub(crate) enum Destination {
    /// Standard output.
    Stdout(BufWriter<Stdout>),
    /// A file, written beside its final place.
    File {
        /// What has been written.
        temporary: BufWriter<NamedTempFile>,
        /// Its place.
        path: PathBuf,
        /// What goes on beside.
        syncing: Syncing,
    },
    /// A pipe or device: written as it comes.
    Stream {
        /// The open device.
        file: BufWriter<File>,
        /// Its name.
        path: PathBuf,
    },
}

impl Destination {
    /// Opens `path`; `None` or `-` is standard output.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path.filter(|p| *p != Path::new("-")) else {
            return Ok(Self::Stdout(BufWriter::with_capacity(BUFFER_BYTES, io::stdout())));
        };
        Self::open_file(path).map_err(|error| Failure::write(&error, &path.display()))
    }

    fn open_file(path: &Path) -> io::Result<Self> {
        // The file that a symbolic link names is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let mut permissions = Permissions::from_mode(0o666);
        match fs::metadata(&path) {
            Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(there) if !there.is_file() => {
                let file = fs::OpenOptions::new().write(true).open(&path)?;
                return Ok(Self::Stream { file: BufWriter::with_capacity(BUFFER_BYTES, file), path });
            }
            // A read-only file is not replaced behind its owner's back.
            Ok(there) => {
                fs::OpenOptions::new().append(true).open(&path)?;
                permissions = there.permissions();
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_string_lossy();
        let temporary = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".partial")
            .permissions(permissions)
            .tempfile_in(folder(&path))?;
        let temporary = BufWriter::with_capacity(BUFFER_BYTES, temporary);
        Ok(Self::File { temporary, path, syncing: Syncing::default() })
    }

    /// Whether this is standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout(_))
    }

    /// The file that must go if the process has to end at once.
    pub(crate) fn temporary(&self) -> Option<PathBuf> {
        match self {
            Self::File { temporary, .. } => Some(temporary.get_ref().path().to_path_buf()),
            Self::Stdout(_) | Self::Stream { .. } => None,
        }
    }

    /// Turns trouble with writing into a failure that names the place.
    pub(crate) fn failure(&self, error: &io::Error) -> Failure {
        match self {
            Self::Stdout(_) => Failure::write(error, &"standard output"),
            Self::File { path, .. } | Self::Stream { path, .. } => Failure::write(error, &path.display()),
        }
    }

    /// Everything is written: hands it over, for a file synced and in one step.
    pub(crate) fn commit(mut self) -> Result<(), Failure> {
        self.flush().map_err(|error| self.failure(&error))?;
        let Self::File { temporary, path, mut syncing } = self else { return Ok(()) };
        let replace = || -> io::Result<()> {
            syncing.wait()?;
            let temporary = temporary.into_inner().map_err(io::IntoInnerError::into_error)?;
            temporary.as_file().sync_all()?;
            temporary.persist(&path).map_err(|error| error.error)?;
            // The new name is durable once its folder is.
            File::open(folder(&path))?.sync_all()
        };
        replace().map_err(|error| Failure::write(&error, &path.display()))
    }
}

/// Writing a file's bytes to the disk while more of them come.
#[derive(Default)]
pub(crate) struct Syncing {
    /// Bytes written since it began last.
    written: usize,
    /// It is under way, or its outcome is still to be looked at: the system tells an error once only.
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Syncing {
    /// So many more bytes are written.
    fn written(&mut self, file: &File, bytes: usize) -> io::Result<()> {
        self.written = self.written.saturating_add(bytes);
        if self.written < SYNC_BYTES || self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        self.written = 0;
        self.wait()?;
        let file = file.try_clone()?;
        // Without another thread everything is synced in the end.
        self.thread = thread::Builder::new().name("sync".into()).spawn(move || file.sync_data()).ok();
        Ok(())
    }

    /// Waits for what is under way, and gives its outcome.
    fn wait(&mut self) -> io::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs the file died")))
    }
}

/// The folder that holds `path`.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File { temporary, syncing, .. } => {
                let written = temporary.write(bytes)?;
                syncing.written(temporary.get_ref().as_file(), written)?;
                Ok(written)
            }
            Self::Stream { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File { temporary, .. } => temporary.flush(),
            Self::Stream { file, .. } => file.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_is_left_of_output_that_is_not_committed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        fs::write(&path, "old").unwrap();
        let mut out = Destination::open(Some(&path)).unwrap();
        out.write_all(b"new").unwrap();
        drop(out);
        assert_eq!(names(folder.path()), ["out.csv"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }

    #[test]
    fn crash_before_the_commit_leaves_the_old_file_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        fs::write(&path, "old").unwrap();
        let mut out = Destination::open(Some(&path)).unwrap();
        out.write_all(b"new").unwrap();
        out.flush().unwrap();
        // A process that dies does not tidy up.
        let left = out.temporary().unwrap();
        std::mem::forget(out);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_to_string(left).unwrap(), "new");
        // What is left behind is in nobody's way.
        let mut again = Destination::open(Some(&path)).unwrap();
        again.write_all(b"newer").unwrap();
        again.commit().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "newer");
    }

    #[test]
    fn committed_output_replaces_and_keeps_the_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let mut out = Destination::open(Some(&path)).unwrap();
        out.write_all(b"new").unwrap();
        out.commit().unwrap();
        assert_eq!(names(folder.path()), ["out.csv"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn large_output_is_whole_whatever_was_synced_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let mut out = Destination::open(Some(&path)).unwrap();
        let piece = vec![b'x'; SYNC_BYTES / 2 + 1];
        for _ in 0..3 {
            out.write_all(&piece).unwrap();
        }
        let Destination::File { syncing, .. } = &out else { panic!("a file") };
        assert!(syncing.thread.is_some(), "synced once at least");
        out.commit().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 3 * piece.len() as u64);
        assert_eq!(names(folder.path()), ["out.csv"]);
    }

    #[test]
    fn link_is_kept_and_its_file_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("real.csv"), folder.path().join("link.csv"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut out = Destination::open(Some(&link)).unwrap();
        out.write_all(b"new").unwrap();
        out.commit().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
    }

    #[test]
    fn devices_are_written_and_not_replaced() {
        let mut out = Destination::open(Some(Path::new("/dev/null"))).unwrap();
        out.write_all(b"x").unwrap();
        assert_eq!(out.temporary(), None);
        out.commit().unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn places_that_cannot_be_written_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let failure = Destination::open(Some(&folder.path().join("no/out.csv"))).err().unwrap();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("no/out.csv"), "{}", failure.message);
        assert!(Destination::open(Some(folder.path())).is_err());
    }
}
