//! Results of one job: what its shards gave, handed out in row order.
//!
//! Two places, one interface. *In memory* (embedded): rows wait until the one reader has taken them, and the scheduler's
//! window bounds how many wait. *On the disk* (cluster): a few rows of a shard go into the store with its record, more
//! into a file, synced before the record; both stay readable until the job is forgotten.

use crate::store::reads::Reads;
use crate::store::record::{OutputRecord, ResultHead};
use crate::store::{Store, StoreError, files};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, ServiceError};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Bytes of a shard's rows that go into the store with its record: a file of its own would cost two syncs.
const INLINE_BYTES_MAX: usize = 4096;

/// Rows of one shard, where they were put.
#[derive(Clone, Debug)]
pub enum Stored {
    /// In memory.
    Memory(Bytes),
    /// In the shard's record.
    Record,
    /// In the file.
    Spooled {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
        /// BLAKE3 of them.
        digest: [u8; 32],
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
    /// By first row: number of rows, and where they are.
    segments: BTreeMap<u64, (u64, Stored)>,
    end: Option<End>,
    /// Whether the one reader of results in memory has come.
    taken: bool,
    /// Where the next bytes go in the file.
    spooled_bytes: u64,
    file: Option<Arc<File>>,
}

/// Where rows are kept.
enum Place {
    /// In memory; told how far the one reader has come.
    Memory(Box<dyn Fn(u64) + Send + Sync>),
    /// On the disk.
    Disk(DiskPlace),
}

/// Where the results of a job are on the disk.
#[derive(Clone)]
pub struct DiskPlace {
    /// The store with the shards' records.
    pub store: Arc<Store>,
    /// The job.
    pub job: JobId,
    /// The file; made when it is needed.
    pub path: PathBuf,
    /// Its largest size.
    pub bytes_max: u64,
}

/// The results of a job.
pub struct ResultLog {
    inner: Mutex<Inner>,
    header: Bytes,
    place: Place,
    changed: watch::Sender<()>,
}

impl ResultLog {
    /// A log that keeps rows in memory for one reader; `on_taken` hears the row up to which they were taken.
    pub fn in_memory(header: Bytes, on_taken: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self::new(header, Place::Memory(Box::new(on_taken)), Inner::default())
    }

    /// A log on the disk, with what is recorded there; `spooled_bytes` of the file are in use.
    ///
    /// # Errors
    /// Where the records can't be read.
    pub fn on_disk(header: Bytes, place: DiskPlace, spooled_bytes: u64) -> Result<Self, StoreError> {
        let mut segments = BTreeMap::new();
        place.store.shards(place.job, &mut |first_row, shard| {
            let stored = match shard.output {
                OutputRecord::Inline(_) => Stored::Record,
                OutputRecord::Spooled { offset, len, digest } => Stored::Spooled { offset, len, digest },
                OutputRecord::None | OutputRecord::Partial(_) => return true,
            };
            segments.insert(first_row, (shard.rows, stored));
            true
        })?;
        Ok(Self::new(header, Place::Disk(place), Inner { segments, spooled_bytes, ..Inner::default() }))
    }

    /// The results of a job that has succeeded.
    ///
    /// # Errors
    /// Where the records can't be read.
    pub fn ended(place: DiskPlace, head: ResultHead) -> Result<Self, StoreError> {
        Ok(match head {
            ResultHead::Rows { header, rows } => {
                let log = Self::on_disk(header, place, 0)?;
                log.finish_rows(rows);
                log
            }
            ResultHead::Document(document) => {
                let log = Self::new(Bytes::new(), Place::Disk(place), Inner::default());
                log.finish_document(document);
                log
            }
        })
    }

    fn new(header: Bytes, place: Place, inner: Inner) -> Self {
        let (changed, _) = watch::channel(());
        Self { inner: Mutex::new(inner), header, place, changed }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the results begin with.
    pub fn header(&self) -> &Bytes {
        &self.header
    }

    /// Whether rows go to the disk, so that [`Self::put`] may block.
    pub fn is_on_disk(&self) -> bool {
        matches!(self.place, Place::Disk(_))
    }

    /// Puts the bytes of a shard away, durably where that is on the disk; [`Self::commit`] makes them part of the
    /// results. Gives where they are, and what the shard's record says of it.
    ///
    /// # Errors
    /// Where the file is full or can't be written.
    pub fn put(&self, bytes: Bytes) -> Result<(Stored, OutputRecord), ServiceError> {
        let place = match &self.place {
            Place::Memory(_) => return Ok((Stored::Memory(bytes), OutputRecord::None)),
            Place::Disk(_) if bytes.len() <= INLINE_BYTES_MAX => {
                return Ok((Stored::Record, OutputRecord::Inline(bytes)));
            }
            Place::Disk(place) => place,
        };
        let len = bytes.len() as u64;
        let trouble = |doing: &str, error: &std::io::Error| {
            internal("spool_write", format!("{doing} ({}): {error}", place.path.display()))
        };
        let (file, offset) = {
            let mut inner = self.lock();
            let offset = inner.spooled_bytes;
            if offset + len > place.bytes_max {
                return Err(internal(
                    "spool_full",
                    format!(
                        "results are over the limit of {} bytes (limits.job_spool_bytes_max); use --reduce, or raise it",
                        place.bytes_max
                    ),
                ));
            }
            let file = match &inner.file {
                Some(file) => Arc::clone(file),
                None => {
                    let file = place.open().map_err(|error| trouble("open the file of results", &error))?;
                    Arc::clone(inner.file.insert(Arc::new(file)))
                }
            };
            inner.spooled_bytes += len;
            (file, offset)
        };
        let written = file.write_all_at(&bytes, offset).and_then(|()| match cfg!(feature = "unsafe-no-sync") {
            true => Ok(()),
            false => file.sync_data(),
        });
        written.map_err(|error| trouble(&format!("write {len} bytes of results"), &error))?;
        let digest = *blake3::hash(&bytes).as_bytes();
        Ok((Stored::Spooled { offset, len, digest }, OutputRecord::Spooled { offset, len, digest }))
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
    /// Where results in memory have had their reader.
    pub fn read(self: &Arc<Self>) -> Result<BoxStream<'static, Result<Bytes, ServiceError>>, ServiceError> {
        self.read_from(0)
    }

    /// The results without their first `offset` bytes, as they come; an error where there are not so many.
    ///
    /// # Errors
    /// Where results in memory have had their reader.
    pub fn read_from(
        self: &Arc<Self>,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, ServiceError>>, ServiceError> {
        if !self.is_on_disk() && std::mem::replace(&mut self.lock().taken, true) {
            return Err(ServiceError {
                kind: ErrorKind::Conflict,
                code: "results_taken".into(),
                message: "the results of an embedded job can be read once".into(),
                place: None,
                retry_after_s: None,
            });
        }
        let changed = self.changed.subscribe();
        let reader = Reader { log: Arc::clone(self), changed, row: 0, to_skip: offset, begun: false, done: false };
        Ok(stream::unfold(reader, |mut reader| async move {
            let item = reader.next().await?;
            Some((item, reader))
        })
        .boxed())
    }

    async fn bytes_of(self: &Arc<Self>, first_row: u64, stored: Stored) -> Result<Bytes, ServiceError> {
        if let Stored::Memory(bytes) = stored {
            return Ok(bytes);
        }
        let log = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || log.read_stored(first_row, &stored));
        read.await.map_err(|error| internal("spool_read", error.to_string()))?
    }

    fn read_stored(&self, first_row: u64, stored: &Stored) -> Result<Bytes, ServiceError> {
        let trouble = |what: String| internal("spool_read", format!("read results from row {first_row} on: {what}"));
        match (stored, &self.place) {
            (Stored::Memory(bytes), _) => Ok(bytes.clone()),
            (Stored::Record, Place::Disk(place)) => match place.store.output(place.job, first_row) {
                Ok(Some(OutputRecord::Inline(bytes))) => Ok(bytes),
                Ok(_) => Err(trouble("the job was forgotten".into())),
                Err(error) => Err(trouble(error.to_string())),
            },
            (&Stored::Spooled { offset, len, digest }, Place::Disk(place)) => {
                let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
                let file = File::open(&place.path).and_then(|file| file.read_exact_at(&mut bytes, offset));
                file.map_err(|error| trouble(format!("{} ({error})", place.path.display())))?;
                if *blake3::hash(&bytes).as_bytes() != digest {
                    return Err(trouble(format!("{} is damaged at byte {offset}", place.path.display())));
                }
                Ok(bytes.into())
            }
            (_, Place::Memory(_)) => Err(trouble("they are not in memory".into())),
        }
    }
}

impl DiskPlace {
    /// Opens the file, and makes it durably where it is missing.
    fn open(&self) -> std::io::Result<File> {
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&self.path)?;
        if let Some(folder) = self.path.parent() {
            files::sync_folder(folder)?;
        }
        Ok(file)
    }
}

/// A position in a job's results.
struct Reader {
    log: Arc<ResultLog>,
    changed: watch::Receiver<()>,
    row: u64,
    /// Bytes that the caller has already.
    to_skip: u64,
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
                    let first_row = self.row;
                    self.row += rows;
                    if let Place::Memory(on_taken) = &self.log.place {
                        on_taken(self.row);
                    }
                    if let Stored::Spooled { len, .. } = stored
                        && self.begun
                        && len <= self.to_skip
                    {
                        // It need not even be read.
                        self.to_skip -= len;
                        continue;
                    }
                    let body = match self.log.bytes_of(first_row, stored).await {
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
                    let bytes = self.skip(bytes);
                    if !bytes.is_empty() {
                        return Some(Ok(bytes));
                    }
                }
                Step::End(end) => {
                    self.done = true;
                    let last = match end {
                        End::Rows(_) if self.begin() => self.log.header.clone(),
                        End::Rows(_) => Bytes::new(),
                        End::Document(document) => document,
                        End::Error(error) => return Some(Err(error)),
                    };
                    let last = self.skip(last);
                    return match self.to_skip {
                        0 if last.is_empty() => None,
                        0 => Some(Ok(last)),
                        beyond => Some(Err(beyond_end(beyond))),
                    };
                }
                // The log outlives its readers, so its sender does.
                Step::Wait => self.changed.changed().await.ok()?,
            }
        }
    }

    /// What the caller does not have.
    fn skip(&mut self, mut bytes: Bytes) -> Bytes {
        let skipped = self.to_skip.min(bytes.len() as u64);
        self.to_skip -= skipped;
        // At most their length.
        bytes.split_off(skipped as usize)
    }

    /// True the first time.
    fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true)
    }

    fn look(&self) -> Step {
        let mut inner = self.log.lock();
        let segment = if self.log.is_on_disk() {
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

fn beyond_end(bytes: u64) -> ServiceError {
    ServiceError {
        kind: ErrorKind::Usage,
        code: "offset_beyond_end".into(),
        message: format!("the offset is {bytes} bytes behind the end of the results"),
        place: None,
        retry_after_s: None,
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
        let (stored, _) = log.put(Bytes::from_static(text.as_bytes())).expect("room");
        log.commit(first_row, text.len() as u64, stored);
    }

    #[tokio::test]
    async fn segments_come_in_row_order_after_the_header() {
        let log = Arc::new(ResultLog::in_memory(Bytes::from_static(b"h"), |_| {}));
        put(&log, 2, "cd");
        put(&log, 0, "ab");
        log.finish_rows(4);
        assert_eq!(collect(&log).await.expect("rows"), b"habcd");
        assert_eq!(log.read().err().expect("read once").code, "results_taken");
    }

    #[tokio::test]
    async fn reader_waits_for_the_missing_segment() {
        let log = Arc::new(ResultLog::in_memory(Bytes::new(), |_| {}));
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
        let log = Arc::new(ResultLog::in_memory(Bytes::from_static(b"x,result\n"), |_| {}));
        log.finish_rows(0);
        assert_eq!(collect(&log).await.expect("rows"), b"x,result\n");
    }

    #[tokio::test]
    async fn what_a_caller_has_is_left_out() {
        for offset in 0..=5 {
            let log = Arc::new(ResultLog::in_memory(Bytes::from_static(b"h"), |_| {}));
            put(&log, 0, "ab");
            put(&log, 2, "cd");
            log.finish_rows(4);
            let rest: Vec<Bytes> =
                log.read_from(offset).expect("first read").map(|piece| piece.expect("rows")).collect().await;
            assert_eq!(rest.concat(), b"habcd"[offset as usize..], "{offset}");
            assert!(rest.iter().all(|piece| !piece.is_empty()), "{rest:?}");
        }
        let log = Arc::new(ResultLog::in_memory(Bytes::new(), |_| {}));
        log.finish_document(Bytes::from_static(b"{}"));
        let beyond = log.read_from(3).expect("first read").next().await.expect("an answer").expect_err("too far");
        assert_eq!(beyond.code, "offset_beyond_end");
    }

    #[tokio::test]
    async fn an_error_ends_the_stream() {
        let log = Arc::new(ResultLog::in_memory(Bytes::new(), |_| {}));
        log.finish_error(internal("x", "y".into()));
        assert_eq!(collect(&log).await.expect_err("error").code, "x");
    }
}
