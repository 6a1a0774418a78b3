//! Contents of one file: pages of 4 KiB, shared between what is seen and what is durable until one of them changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The unit in which a disk keeps or loses what was not synced.
pub const PAGE_BYTES: u64 = 4096;
const PAGE: usize = 4096;

type Page = Arc<[u8; PAGE]>;

/// A file's bytes. A page that is not there is zeros.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    size: u64,
    pages: BTreeMap<u64, Page>,
}

/// What of a file was changed since its last sync.
#[derive(Clone, Debug, Default)]
pub struct Dirt {
    /// Pages that were written.
    pub pages: BTreeSet<u64>,
    /// The smallest size that it was cut to.
    pub cut_to: Option<u64>,
}

/// Place of byte `at` within its page.
fn within(at: u64) -> usize {
    usize::try_from(at % PAGE_BYTES).unwrap_or(0)
}

impl Contents {
    /// In bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Pages that take room.
    pub fn pages(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Up to `count` bytes from `offset` on; fewer at the end.
    pub fn read(&self, offset: u64, count: usize) -> Vec<u8> {
        let end = self.size.min(offset.saturating_add(count as u64));
        let mut bytes = Vec::with_capacity(usize::try_from(end.saturating_sub(offset)).unwrap_or(0));
        let mut at = offset;
        while at < end {
            let until = end.min((at / PAGE_BYTES + 1) * PAGE_BYTES);
            let (from, length) = (within(at), usize::try_from(until - at).unwrap_or(0));
            match self.pages.get(&(at / PAGE_BYTES)) {
                Some(page) => bytes.extend_from_slice(&page[from..from + length]),
                None => bytes.resize(bytes.len() + length, 0),
            }
            at = until;
        }
        bytes
    }

    /// Writes and notes in `dirt` which pages that changed.
    pub fn write(&mut self, offset: u64, mut bytes: &[u8], dirt: &mut Dirt) {
        let mut at = offset;
        while !bytes.is_empty() {
            let from = within(at);
            let length = bytes.len().min(PAGE - from);
            let (now, later) = bytes.split_at(length);
            let page = self.pages.entry(at / PAGE_BYTES).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[from..from + length].copy_from_slice(now);
            dirt.pages.insert(at / PAGE_BYTES);
            at += length as u64;
            bytes = later;
        }
        self.size = self.size.max(at);
    }

    /// Cuts it or lengthens it with zeros.
    pub fn resize(&mut self, size: u64, dirt: &mut Dirt) {
        if size < self.size {
            self.cut(size);
            dirt.pages.retain(|page| page * PAGE_BYTES < size);
            dirt.cut_to = Some(dirt.cut_to.map_or(size, |earlier| earlier.min(size)));
        }
        self.size = size;
    }

    fn cut(&mut self, size: u64) {
        self.pages.split_off(&size.div_ceil(PAGE_BYTES));
        if let Some(page) = self.pages.get_mut(&(size / PAGE_BYTES)) {
            Arc::make_mut(page)[within(size)..].fill(0);
        }
        self.size = self.size.min(size);
    }

    /// Makes these durable contents the same as `seen`.
    pub fn sync(&mut self, seen: &Self, dirt: &mut Dirt) {
        self.sync_cut(dirt);
        self.take(seen, &dirt.pages);
        dirt.pages.clear();
        self.size = seen.size;
    }

    /// Makes only the cut durable, as a journal of metadata does.
    pub fn sync_cut(&mut self, dirt: &mut Dirt) {
        if let Some(size) = dirt.cut_to.take() {
            self.cut(size);
        }
    }

    /// Pages that a disk happened to write before its power was cut. A file's size follows its data.
    pub fn survive(&mut self, seen: &Self, pages: &BTreeSet<u64>) {
        self.take(seen, pages);
        if let Some(last) = pages.last() {
            self.size = self.size.max(seen.size.min((last + 1) * PAGE_BYTES));
        }
    }

    fn take(&mut self, seen: &Self, pages: &BTreeSet<u64>) {
        for page in pages {
            if let Some(bytes) = seen.pages.get(page) {
                self.pages.insert(*page, bytes.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_written_across_pages_and_holes() {
        let (mut contents, mut dirt) = (Contents::default(), Dirt::default());
        contents.write(4090, b"over the edge", &mut dirt);
        contents.write(3 * PAGE_BYTES, b"!", &mut dirt);
        assert_eq!(contents.read(4088, 17), b"\0\0over the edge\0\0");
        assert_eq!(contents.read(3 * PAGE_BYTES - 1, 99), b"\0!");
        assert_eq!(dirt.pages, BTreeSet::from([0, 1, 3]));
    }

    #[test]
    fn what_was_cut_off_does_not_come_back_when_the_file_grows() {
        let (mut contents, mut dirt) = (Contents::default(), Dirt::default());
        contents.write(0, &[7; 9000], &mut dirt);
        contents.resize(5000, &mut dirt);
        contents.resize(9000, &mut dirt);
        assert_eq!(contents.read(4999, 3), [7, 0, 0]);
        assert_eq!(contents.read(8999, 9), [0]);
        let mut durable = Contents::default();
        durable.sync(&contents, &mut dirt);
        assert_eq!(durable.read(0, 9000), contents.read(0, 9000));
        assert!(dirt.pages.is_empty() && dirt.cut_to.is_none());
    }
}
