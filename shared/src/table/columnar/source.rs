//! The bytes of a columnar file, wherever they are.

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes that are read ahead where a decoder reads on and on.
const READ_AHEAD_BYTES: usize = 16 * 1024;

/// A file, or those parts of it that are at hand.
#[derive(Debug)]
pub enum Source {
    /// An open file.
    File {
        /// The file.
        file: File,
        /// Its length when it was opened.
        len: u64,
    },
    /// Parts of a file that is somewhere else, in the order of their places.
    Parts {
        /// Offset and bytes of each part.
        parts: Vec<(u64, Bytes)>,
        /// Length of the whole file.
        len: u64,
    },
}

impl Source {
    /// An open file.
    ///
    /// # Errors
    /// Where its length is not known.
    pub fn file(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self::File { file, len })
    }

    /// A whole file in memory.
    pub fn bytes(bytes: Bytes) -> Self {
        let len = bytes.len() as u64;
        Self::Parts { parts: vec![(0, bytes)], len }
    }

    /// Length of the whole file.
    pub fn len(&self) -> u64 {
        match self {
            Self::File { len, .. } | Self::Parts { len, .. } => *len,
        }
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes at a place. What is not in the file is an error before anything is allocated for it.
    ///
    /// # Errors
    /// Where the file has no such bytes, or they are not at hand.
    pub fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.len());
        let out = || io::Error::new(io::ErrorKind::UnexpectedEof, format!("no {len} bytes at byte {offset}"));
        let end = end.ok_or_else(out)?;
        match self {
            Self::File { file, .. } => {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, offset)?;
                Ok(bytes.into())
            }
            Self::Parts { parts, .. } => {
                let after = parts.partition_point(|(start, _)| *start <= offset);
                let (start, bytes) = after.checked_sub(1).and_then(|at| parts.get(at)).ok_or_else(out)?;
                let from = usize::try_from(offset - start).map_err(|_| out())?;
                if end > start + bytes.len() as u64 {
                    return Err(out());
                }
                Ok(bytes.slice(from..from + len))
            }
        }
    }

    /// As many bytes at a place as there are, up to `len`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_up_to(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let mut there = self.len().saturating_sub(offset);
        if let Self::Parts { parts, .. } = self {
            let after = parts.partition_point(|(start, _)| *start <= offset);
            let part = after.checked_sub(1).and_then(|at| parts.get(at));
            there = part.map_or(0, |(start, bytes)| (start + bytes.len() as u64).saturating_sub(offset));
        }
        match usize::try_from(there).unwrap_or(usize::MAX).min(len) {
            0 => Ok(Bytes::new()),
            len => self.read(offset, len),
        }
    }
}

/// A [`Source`] as the `parquet` crate reads it.
#[derive(Clone, Debug)]
pub(crate) struct SharedSource(pub(crate) Arc<Source>);

impl Length for SharedSource {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for SharedSource {
    type T = BufReader<SourceRead>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let read = SourceRead { source: Arc::clone(&self.0), at: start };
        Ok(BufReader::with_capacity(READ_AHEAD_BYTES, read))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.0.read(start, length).map_err(|error| ParquetError::General(error.to_string()))
    }
}

/// Reads on from a place.
#[derive(Debug)]
pub(crate) struct SourceRead {
    source: Arc<Source>,
    at: u64,
}

impl Read for SourceRead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let bytes = self.source.read_up_to(self.at, out.len())?;
        out[..bytes.len()].copy_from_slice(&bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Source;
    use bytes::Bytes;
    use std::io::Write;

    #[test]
    fn bytes_are_read_at_their_places_and_nowhere_else() {
        let parts = vec![(2, Bytes::from_static(b"cde")), (8, Bytes::from_static(b"ij"))];
        let sparse = Source::Parts { parts, len: 10 };
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abcdefghij").unwrap();
        let file = Source::file(file).unwrap();
        for source in [&sparse, &file] {
            assert_eq!(source.read(2, 3).unwrap(), "cde");
            assert_eq!(source.read(8, 2).unwrap(), "ij");
            assert_eq!(source.read_up_to(9, 100).unwrap(), "j");
            assert!(source.read(8, 3).is_err());
            assert!(source.read(u64::MAX, 2).is_err());
            assert!(source.read(0, usize::MAX).is_err());
        }
        assert!(sparse.read(0, 1).is_err());
        assert!(sparse.read(4, 2).is_err());
        assert_eq!(sparse.read_up_to(6, 5).unwrap(), "");
    }
}
