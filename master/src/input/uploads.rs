//! Tables that clients have uploaded: files named by the digest of their bytes.

use crate::store::files;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use quipu_shared::service::{ErrorKind, ServiceError, Upload};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// The folder of uploads.
#[derive(Debug)]
pub struct Uploads {
    folder: PathBuf,
    bytes_max: u64,
}

impl Uploads {
    /// Uses `folder`, which is made where it is missing; one upload has at most `bytes_max`.
    ///
    /// # Errors
    /// Where the folder can't be made.
    pub fn open(folder: PathBuf, bytes_max: u64) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder, bytes_max })
    }

    /// The file of an upload, where there is one. The digest is checked to be one, so it can't leave the folder.
    pub fn path(&self, digest: &str) -> Option<PathBuf> {
        let is_digest = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
        let path = self.folder.join(digest);
        (is_digest && path.is_file()).then_some(path)
    }

    /// Removes uploads that are older than `kept_min` and not in use, and what broken ones have left.
    pub fn sweep(&self, kept_min: Duration, is_used: impl Fn(&str) -> bool) {
        let Ok(files) = std::fs::read_dir(&self.folder) else { return };
        for file in files.flatten() {
            let age = file.metadata().and_then(|file| file.modified()).ok().and_then(|at| at.elapsed().ok());
            let used = file.file_name().to_str().is_some_and(&is_used);
            if !used
                && age.is_some_and(|age| age >= kept_min)
                && let Err(error) = std::fs::remove_file(file.path())
            {
                tracing::warn!(error = %error, path = %file.path().display(), "remove an upload");
            }
        }
    }

    /// Takes bytes as they come; the file appears under its digest when it is whole.
    ///
    /// # Errors
    /// Where the stream breaks, the disk is full, or there are too many bytes.
    pub async fn receive(&self, mut bytes: BoxStream<'static, std::io::Result<Bytes>>) -> Result<Upload, ServiceError> {
        let part = tempfile::Builder::new()
            .prefix(".part-")
            .tempfile_in(&self.folder)
            .map_err(|error| disk("create a file for the upload", &self.folder, &error))?;
        let handle = part.reopen().map_err(|error| disk("open the upload's file", part.path(), &error))?;
        let mut file = tokio::fs::File::from_std(handle);
        let mut hasher = blake3::Hasher::new();
        let mut len = 0_u64;
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk.map_err(|error| ServiceError {
                kind: ErrorKind::Usage,
                code: "upload_broken".into(),
                message: format!("the upload broke off after {len} bytes: {error}"),
                place: None,
                retry_after_s: None,
            })?;
            len += chunk.len() as u64;
            if len > self.bytes_max {
                return Err(ServiceError {
                    kind: ErrorKind::TooLarge,
                    code: "upload_too_large".into(),
                    message: format!(
                        "the upload is over the limit of {} bytes (limits.upload_bytes_max)",
                        self.bytes_max
                    ),
                    place: None,
                    retry_after_s: None,
                });
            }
            hasher.update(&chunk);
            file.write_all(&chunk).await.map_err(|error| disk("write the upload", part.path(), &error))?;
        }
        file.flush().await.map_err(|error| disk("write the upload", part.path(), &error))?;
        // A job that reads it may be acknowledged next.
        file.sync_all().await.map_err(|error| disk("sync the upload", part.path(), &error))?;
        let digest = hasher.finalize().to_hex().to_string();
        let target = self.folder.join(&digest);
        part.persist(&target).map_err(|error| disk("name the upload", &target, &error.error))?;
        let folder = self.folder.clone();
        let synced = tokio::task::spawn_blocking(move || files::sync_folder(&folder)).await;
        synced
            .unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
            .map_err(|error| disk("sync the folder of uploads", &self.folder, &error))?;
        Ok(Upload { digest, bytes: len })
    }
}

fn disk(doing: &str, path: &Path, error: &std::io::Error) -> ServiceError {
    ServiceError {
        kind: ErrorKind::Internal,
        code: "spool_write".into(),
        message: format!("{doing} ({}): {error}", path.display()),
        place: None,
        retry_after_s: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    fn chunks(parts: &[&'static str]) -> BoxStream<'static, std::io::Result<Bytes>> {
        let parts: Vec<_> = parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect();
        stream::iter(parts).boxed()
    }

    #[tokio::test]
    async fn upload_is_found_by_its_digest() {
        let folder = tempfile::tempdir().expect("folder");
        let uploads = Uploads::open(folder.path().join("uploads"), 100).expect("open");
        let upload = uploads.receive(chunks(&["a,b\n", "1,2\n"])).await.expect("received");
        assert_eq!(upload.bytes, 8);
        let path = uploads.path(&upload.digest).expect("found");
        assert_eq!(std::fs::read(path).expect("read"), b"a,b\n1,2\n");
        assert_eq!(uploads.path("../../etc/passwd"), None);
    }

    #[tokio::test]
    async fn uploads_that_no_job_reads_are_removed_in_time() {
        let folder = tempfile::tempdir().expect("folder");
        let uploads = Uploads::open(folder.path().to_owned(), 100).expect("open");
        let used = uploads.receive(chunks(&["1"])).await.expect("received").digest;
        let unused = uploads.receive(chunks(&["2"])).await.expect("received").digest;
        uploads.sweep(Duration::from_secs(60), |_| false);
        assert!(uploads.path(&unused).is_some(), "its job may be on its way");
        uploads.sweep(Duration::ZERO, |digest| digest == used);
        assert_eq!((uploads.path(&used).is_some(), uploads.path(&unused)), (true, None));
    }

    #[tokio::test]
    async fn too_large_an_upload_leaves_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let uploads = Uploads::open(folder.path().to_owned(), 5).expect("open");
        let error = uploads.receive(chunks(&["123", "456"])).await.expect_err("too large");
        assert_eq!(error.kind, ErrorKind::TooLarge);
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 0);
    }
}
