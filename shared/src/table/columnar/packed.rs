//! The parts of a file that a shard needs, as one run of bytes: for workers that can't open the file.
//!
//! A packing begins with its table of contents (four bytes of length, little endian; then the file's length and each
//! part's place), and the parts follow. Whoever holds the file reads a packing at any offset without making it; who
//! gets it makes a [`Source`] of it.

use super::Source;
use super::guard::invalid;
use crate::spec::TableFormat;
use crate::table::TableError;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::io;
use std::ops::Range;

/// Bytes of the length in front.
const LENGTH_BYTES: usize = 4;

/// What a packing begins with.
#[derive(Serialize, Deserialize)]
struct Contents {
    file_bytes: u64,
    /// Offset and length of each part, in the order of their places, apart from each other.
    parts: Vec<(u64, u64)>,
}

/// A packing that can be read, part by part, from the file.
#[derive(Debug)]
pub struct Packing {
    head: Vec<u8>,
    parts: Vec<Range<u64>>,
}

impl Packing {
    /// Packs these parts of a file; they may overlap and come in any order.
    pub(super) fn new(file_bytes: u64, mut parts: Vec<Range<u64>>) -> Self {
        parts.sort_by_key(|part| part.start);
        let mut apart: Vec<Range<u64>> = Vec::with_capacity(parts.len());
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            match apart.last_mut() {
                Some(last) if part.start <= last.end => last.end = last.end.max(part.end),
                _ => apart.push(part),
            }
        }
        let places = apart.iter().map(|part| (part.start, part.end - part.start)).collect();
        // Writing into memory has no errors, and the length of the table is known.
        let contents = postcard::to_stdvec(&Contents { file_bytes, parts: places }).unwrap_or_default();
        let mut head = u32::try_from(contents.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        head.extend_from_slice(&contents);
        Self { head, parts: apart }
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.head.len() as u64 + self.parts.iter().map(|part| part.end - part.start).sum::<u64>()
    }

    /// Up to `len` bytes of it from `offset` on, read from the file.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub fn read(&self, source: &Source, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let end = offset.saturating_add(len as u64).min(self.bytes());
        let mut out = Vec::with_capacity(usize::try_from(end.saturating_sub(offset)).unwrap_or_default());
        let head_len = self.head.len() as u64;
        if offset < head_len {
            out.extend_from_slice(&self.head[offset as usize..end.min(head_len) as usize]);
        }
        let mut at = head_len;
        for part in &self.parts {
            let part_len = part.end - part.start;
            let (from, to) = (offset.max(at), end.min(at + part_len));
            if from < to {
                let wanted = usize::try_from(to - from).map_err(io::Error::other)?;
                out.extend_from_slice(&source.read(part.start + (from - at), wanted)?);
            }
            at += part_len;
        }
        Ok(out)
    }
}

/// The parts of a file in a packing.
///
/// # Errors
/// For bytes that are no packing.
pub fn unpack(format: TableFormat, bytes: &Bytes) -> Result<Source, TableError> {
    let bad = || invalid(format, "the shard's input is damaged");
    let (length, _) = bytes.split_first_chunk::<LENGTH_BYTES>().ok_or_else(bad)?;
    let parts_at = LENGTH_BYTES + u32::from_le_bytes(*length) as usize;
    let contents = bytes.get(LENGTH_BYTES..parts_at).ok_or_else(bad)?;
    let contents: Contents = postcard::from_bytes(contents).map_err(|_| bad())?;
    let mut rest = bytes.slice(parts_at..);
    let mut parts = Vec::new();
    let mut end = 0;
    for (offset, len) in contents.parts {
        let next_end = offset.checked_add(len).filter(|next| *next <= contents.file_bytes).ok_or_else(bad)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= rest.len() && offset >= end).ok_or_else(bad)?;
        parts.push((offset, rest.split_to(len)));
        end = next_end;
    }
    if !rest.is_empty() {
        return Err(bad());
    }
    Ok(Source::Parts { parts, len: contents.file_bytes })
}

#[cfg(test)]
mod tests {
    use super::{Packing, unpack};
    use crate::spec::TableFormat;
    use crate::table::columnar::Source;
    use bytes::Bytes;

    #[test]
    fn packing_read_in_pieces_has_the_parts_at_their_places() {
        let file: Vec<u8> = (0..=255).collect();
        let source = Source::bytes(Bytes::from(file.clone()));
        let packing = Packing::new(256, vec![200..256, 10..20, 15..40, 7..7]);
        for piece in [1, 7, 1000] {
            let mut packed = Vec::new();
            while (packed.len() as u64) < packing.bytes() {
                packed.extend(packing.read(&source, packed.len() as u64, piece).unwrap());
            }
            let parts = unpack(TableFormat::Parquet, &packed.into()).unwrap();
            assert_eq!(parts.len(), 256);
            assert_eq!(parts.read(10, 30).unwrap(), file[10..40]);
            assert_eq!(parts.read(200, 56).unwrap(), file[200..]);
            assert!(parts.read(39, 2).is_err());
        }
    }

    #[test]
    fn damaged_packing_is_refused() {
        let source = Source::bytes(Bytes::from(vec![7; 64]));
        let packing = Packing::new(64, vec![0..8, 32..64]);
        let whole = packing.read(&source, 0, 1000).unwrap();
        assert!(unpack(TableFormat::Arrow, &Bytes::from(whole.clone())).is_ok());
        for len in 0..whole.len() {
            assert!(unpack(TableFormat::Arrow, &Bytes::copy_from_slice(&whole[..len])).is_err(), "{len} bytes");
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(unpack(TableFormat::Arrow, &longer.into()).is_err());
    }
}
