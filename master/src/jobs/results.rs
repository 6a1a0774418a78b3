//! Results of one job: what its shards gave, handed out in row order.
//!
//! Two places, one interface. *Ephemeral* (embedded): rows wait in memory until the one reader has taken them, and the
//! scheduler's window bounds how many wait. *Spooled* (cluster): rows are appended to a file and stay readable until the
//! job is forgotten.

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use quipu_shared::service::{ErrorKind, ServiceError};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Rows of one shard, where they were put.
#[derive(Clone, Debug)]
pub enum Stored {
    /// In memory.
    Memory(Bytes),
    /// In the spool file.
    Spool {
        /// First byte.
        offset: u64,
        /// How many.
        len: usize,
    },
}

/// How a job's results end.
#[derive(Clone, Debug)]
enum End {
    /// After this many rows.
    Rows(u64),
    /// With one document.
    Document(Bytes),
    /// With an error.
    Error(ServiceError),
}

#[derive(Debug, Default)]
struct Inner {
    /// By first row: number of rows, and the bytes.
    segments: BTreeMap<u64, (u64, Stored)>,
    end: Option<End>,
    /// Whether the one reader of an ephemeral log has come.
    taken: bool,
    spooled_bytes: u64,
}

/// The results of a job.
pub struct ResultLog {
    inner: Mutex<Inner>,
    header: Bytes,
    spool: Option<File>,
    spool_bytes_max: u64,
    changed: watch::Sender<()>,
    /// Told how far the reader of an ephemeral log has come.
    on_taken: Box<dyn Fn(u64) + Send + Sync>,
}

impl ResultLog {
    /// A log that keeps rows in memory for one reader; `on_taken` hears the row up to which they were taken.
    pub fn ephemeral(header: Bytes, on_taken: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self::new(header, None, u64::MAX, Box::new(on_taken))
    }

    /// A log that keeps rows in a file, which must not exist, of at most `spool_bytes_max`.
    ///
    /// # Errors
    /// Where the file can't be made.
    pub fn spooled(header: Bytes, path: &Path, spool_bytes_max: u64) -> std::io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        Ok(Self::new(header, Some(file), spool_bytes_max, Box::new(|_| {})))
    }

    fn new(header: Bytes, spool: Option<File>, spool_bytes_max: u64, on_taken: Box<dyn Fn(u64) + Send + Sync>) -> Self {
        let (changed, _) = watch::channel(());
        Self { inner: Mutex::default(), header, spool, spool_bytes_max, changed, on_taken }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether rows go to a file, so that [`Self::put`] blocks.
    pub fn is_spooled(&self) -> bool {
        self.spool.is_some()
    }

    /// Puts the bytes of a shard away; [`Self::commit`] makes them part of the results. Blocks where they are spooled.
    ///
    /// # Errors
    /// Where the spool is full or can't be written.
    pub fn put(&self, bytes: Bytes) -> Result<Stored, ServiceError> {
        let Some(spool) = &self.spool else { return Ok(Stored::Memory(bytes)) };
        let len = bytes.len();
        let offset = {
            let mut inner = self.lock();
            let offset = inner.spooled_bytes;
            if offset + len as u64 > self.spool_bytes_max {
                return Err(internal(
                    "spool_full",
                    format!(
                        "results are over the limit of {} bytes (limits.spool_bytes_max); use --reduce, or raise it",
                        self.spool_bytes_max
                    ),
                ));
            }
            inner.spooled_bytes += len as u64;
            offset
        };
        spool
            .write_all_at(&bytes, offset)
            .map_err(|error| internal("spool_write", format!("write {len} bytes of results to the spool: {error}")))?;
        Ok(Stored::Spool { offset, len })
    }

    /// Makes a shard's rows part of the results.
    pub fn commit(&self, first_row: u64, rows: u64, stored: Stored) {
        self.lock().segments.insert(first_row, (rows, stored));
        self.changed.send_replace(());
    }

    /// Ends the results after this many rows.
    pub fn finish_rows(&self, rows: u64) {
        self.finish(End::Rows(rows));
    }

    /// Ends the results with one document.
    pub fn finish_document(&self, document: Bytes) {
        self.finish(End::Document(document));
    }

    /// Ends the results with an error.
    pub fn finish_error(&self, error: ServiceError) {
        self.finish(End::Error(error));
    }

    fn finish(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.changed.send_replace(());
    }

    /// The results from their start, as they come.
    ///
    /// # Errors
    /// Where an ephemeral log has had its reader.
    pub fn read(self: &Arc<Self>) -> Result<BoxStream<'static, Result<Bytes, ServiceError>>, ServiceError> {
        if !self.is_spooled() && std::mem::replace(&mut self.lock().taken, true) {
            return Err(ServiceError {
                kind: ErrorKind::Conflict,
                code: "results_taken".into(),
                message: "the results of an embedded job can be read once".into(),
                place: None,
                retry_after_s: None,
            });
        }
        let reader =
            Reader { log: Arc::clone(self), changed: self.changed.subscribe(), row: 0, begun: false, done: false };
        Ok(stream::unfold(reader, |mut reader| async move {
            let item = reader.next().await?;
            Some((item, reader))
        })
        .boxed())
    }

    async fn bytes_of(self: &Arc<Self>, stored: Stored) -> Result<Bytes, ServiceError> {
        match stored {
            Stored::Memory(bytes) => Ok(bytes),
            Stored::Spool { offset, len } => {
                let log = Arc::clone(self);
                let read = tokio::task::spawn_blocking(move || {
                    let mut bytes = vec![0; len];
                    let spool = log.spool.as_ref().ok_or(std::io::ErrorKind::NotFound)?;
                    spool.read_exact_at(&mut bytes, offset)?;
                    Ok::<_, std::io::Error>(Bytes::from(bytes))
                });
                read.await
                    .map_err(|error| internal("spool_read", error.to_string()))?
                    .map_err(|error| internal("spool_read", format!("read {len} bytes of results: {error}")))
            }
        }
    }
}

/// A position in a job's results.
struct Reader {
    log: Arc<ResultLog>,
    changed: watch::Receiver<()>,
    row: u64,
    begun: bool,
    done: bool,
}

enum Step {
    Segment(u64, Stored),
    End(End),
    Wait,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Bytes, ServiceError>> {
        loop {
            if self.done {
                return None;
            }
            self.changed.borrow_and_update();
            match self.look() {
                Step::Segment(rows, stored) => {
                    self.row += rows;
                    (self.log.on_taken)(self.row);
                    let body = match self.log.bytes_of(stored).await {
                        Ok(body) => body,
                        Err(error) => {
                            self.done = true;
                            return Some(Err(error));
                        }
                    };
                    let bytes = if self.begin() && !self.log.header.is_empty() {
                        [&self.log.header[..], &body].concat().into()
                    } else {
                        body
                    };
                    if !bytes.is_empty() {
                        return Some(Ok(bytes));
                    }
                }
                Step::End(end) => {
                    self.done = true;
                    return match end {
                        End::Rows(_) if self.begin() && !self.log.header.is_empty() => {
                            Some(Ok(self.log.header.clone()))
                        }
                        End::Rows(_) => None,
                        End::Document(document) => Some(Ok(document)),
                        End::Error(error) => Some(Err(error)),
                    };
                }
                // The log outlives its readers, so its sender does.
                Step::Wait => self.changed.changed().await.ok()?,
            }
        }
    }

    /// True the first time.
    fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true)
    }

    fn look(&self) -> Step {
        let mut inner = self.log.lock();
        let segment = if self.log.is_spooled() {
            inner.segments.get(&self.row).cloned()
        } else {
            inner.segments.remove(&self.row)
        };
        match (segment, &inner.end) {
            (Some((rows, stored)), _) => Step::Segment(rows, stored),
            (None, Some(End::Rows(rows))) if self.row < *rows => Step::Wait,
            (None, Some(end)) => Step::End(end.clone()),
            (None, None) => Step::Wait,
        }
    }
}

fn internal(code: &str, message: String) -> ServiceError {
    ServiceError { kind: ErrorKind::Internal, code: code.into(), message, place: None, retry_after_s: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collect(log: &Arc<ResultLog>) -> Result<Vec<u8>, ServiceError> {
        let mut stream = log.read()?;
        let mut all = Vec::new();
        while let Some(chunk) = stream.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all)
    }

    fn put(log: &ResultLog, first_row: u64, text: &'static str) {
        let stored = log.put(Bytes::from_static(text.as_bytes())).expect("room");
        log.commit(first_row, text.len() as u64, stored);
    }

    #[tokio::test]
    async fn segments_come_in_row_order_after_the_header() {
        let log = Arc::new(ResultLog::ephemeral(Bytes::from_static(b"h"), |_| {}));
        put(&log, 2, "cd");
        put(&log, 0, "ab");
        log.finish_rows(4);
        assert_eq!(collect(&log).await.expect("rows"), b"habcd");
        assert_eq!(log.read().err().expect("read once").code, "results_taken");
    }

    #[tokio::test]
    async fn reader_waits_for_the_missing_segment() {
        let log = Arc::new(ResultLog::ephemeral(Bytes::new(), |_| {}));
        put(&log, 2, "cd");
        log.finish_rows(4);
        let reader = tokio::spawn({
            let log = Arc::clone(&log);
            async move { collect(&log).await }
        });
        put(&log, 0, "ab");
        assert_eq!(reader.await.expect("no panic").expect("rows"), b"abcd");
    }

    #[tokio::test]
    async fn empty_results_still_have_their_header() {
        let log = Arc::new(ResultLog::ephemeral(Bytes::from_static(b"x,result\n"), |_| {}));
        log.finish_rows(0);
        assert_eq!(collect(&log).await.expect("rows"), b"x,result\n");
    }

    #[tokio::test]
    async fn spooled_results_can_be_read_again() {
        let folder = tempfile::tempdir().expect("folder");
        let log = Arc::new(ResultLog::spooled(Bytes::new(), &folder.path().join("1"), 4).expect("file"));
        put(&log, 0, "ab");
        put(&log, 2, "cd");
        assert_eq!(log.put(Bytes::from_static(b"e")).expect_err("over the limit").code, "spool_full");
        log.finish_rows(4);
        for _ in 0..2 {
            assert_eq!(collect(&log).await.expect("rows"), b"abcd");
        }
    }

    #[tokio::test]
    async fn an_error_ends_the_stream() {
        let log = Arc::new(ResultLog::ephemeral(Bytes::new(), |_| {}));
        log.finish_error(internal("x", "y".into()));
        assert_eq!(collect(&log).await.expect_err("error").code, "x");
    }
}
