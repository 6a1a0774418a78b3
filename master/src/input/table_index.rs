//! Where each block of a table's records begins: built once, in the background, while shards already run.

use quipu_shared::BLOCK_ROWS;
use quipu_shared::spec::TableSchema;
use quipu_shared::table::columnar::{ColumnarFile, Source};
use quipu_shared::table::{RecordIndex, RecordIndexer, TableError};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

/// Bytes read at a time.
const READ_BYTES: usize = 1024 * 1024;

/// What the indexer has found so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexProgress {
    /// Rows whose bytes are known.
    pub rows: u64,
    /// Whether that is all.
    pub last: bool,
}

/// Byte offsets of the blocks of one file.
#[derive(Debug)]
pub struct TableIndex {
    path: PathBuf,
    schema: TableSchema,
    blocks: RwLock<Blocks>,
    /// For a table in columns: its file, whose footer tells the rows.
    file: OnceLock<ColumnarFile>,
    stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct Blocks {
    /// First byte of block i.
    offsets: Vec<u64>,
    /// First byte past the last record, once known.
    end: Option<u64>,
}

impl TableIndex {
    /// An index of a file that is still to be read.
    pub fn new(path: PathBuf, schema: TableSchema) -> Self {
        Self { path, schema, blocks: RwLock::default(), file: OnceLock::new(), stopped: AtomicBool::new(false) }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes [`Self::build`] return early.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Reads the file and reports rows as their places become known; blocks.
    ///
    /// # Errors
    /// Where the file can't be read, or a record is over the limit; the message names the file and the row.
    pub fn build(&self, mut report: impl FnMut(IndexProgress)) -> Result<(), String> {
        let name = self.path.display();
        if self.schema.format.is_columnar() {
            let rows = self.open_columns().map_err(|error| format!("{name}: {error}"))?;
            report(IndexProgress { rows, last: true });
            return Ok(());
        }
        let mut file = File::open(&self.path).map_err(|error| format!("open {name}: {error}"))?;
        let mut indexer = RecordIndexer::new(&self.schema).map_err(|error| format!("{name}: {error}"))?;
        let mut buffer = vec![0; READ_BYTES];
        let mut known = 0;
        while !self.stopped.load(Ordering::Relaxed) {
            let len = match file.read(&mut buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("read {name}: {error}")),
            };
            if len == 0 {
                let RecordIndex { blocks, records, bytes } =
                    indexer.finish().map_err(|error| format!("{name}: {error}"))?;
                *self.blocks.write().unwrap_or_else(PoisonError::into_inner) =
                    Blocks { offsets: blocks, end: Some(bytes) };
                report(IndexProgress { rows: records, last: true });
                return Ok(());
            }
            indexer.push(&buffer[..len]).map_err(|error| format!("{name}: {error}"))?;
            let found = indexer.offsets();
            // The bytes of a block are known when the next one begins.
            let whole = (found.len() as u64).saturating_sub(1) * BLOCK_ROWS;
            if whole > known {
                let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
                let already = blocks.offsets.len();
                blocks.offsets.extend_from_slice(&found[already..]);
                drop(blocks);
                known = whole;
                report(IndexProgress { rows: known, last: false });
            }
        }
        Ok(())
    }

    /// Reads the footer of a table in columns; gives its rows.
    fn open_columns(&self) -> Result<u64, TableError> {
        let file = ColumnarFile::open(self.schema.format, Source::file(File::open(&self.path)?)?)?;
        file.check(&self.schema)?;
        Ok(self.file.get_or_init(|| file).rows())
    }

    /// Bytes that a worker pulls for these rows, which can't open the file; see [`Self::range`] for the rows.
    pub fn pulled_bytes(&self, first_row: u64, rows: u64) -> Option<u64> {
        match self.file.get() {
            Some(file) => Some(file.packing(&(first_row..first_row + rows)).bytes()),
            None => self.range(first_row, rows).map(|(_, len)| len),
        }
    }

    /// Reads up to `len` of those bytes, from `offset` on; blocks.
    ///
    /// # Errors
    /// Where the file can't be read, or the rows' place is not known.
    pub fn read_pulled(&self, first_row: u64, rows: u64, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        if let Some(file) = self.file.get() {
            return file.packing(&(first_row..first_row + rows)).read(file.source(), offset, len);
        }
        let (first, bytes) = self.range(first_row, rows).ok_or(io::ErrorKind::NotFound)?;
        let left = usize::try_from(bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut out = vec![0; left.min(len)];
        File::open(&self.path)?.read_exact_at(&mut out, first + offset)?;
        Ok(out)
    }

    /// First byte and length of these rows; `first_row` is a multiple of [`BLOCK_ROWS`], and so is its end, or it is
    /// the end of the file. For a table in columns, the whole file.
    pub fn range(&self, first_row: u64, rows: u64) -> Option<(u64, u64)> {
        if self.schema.format.is_columnar() {
            // Their place in the file is for the worker to find.
            return self.file.get().map(|file| (0, file.bytes()));
        }
        let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
        let first = *blocks.offsets.get(usize::try_from(first_row / BLOCK_ROWS).ok()?)?;
        let next_block = usize::try_from((first_row + rows).div_ceil(BLOCK_ROWS)).ok()?;
        let end = match blocks.offsets.get(next_block) {
            Some(end) if (first_row + rows).is_multiple_of(BLOCK_ROWS) => *end,
            _ => blocks.end?,
        };
        Some((first, end - first))
    }
}
