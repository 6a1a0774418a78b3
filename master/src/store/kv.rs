//! Ordered tables of bytes: what the store stands on. On the disk that is fjall, in memory it is a map.

use super::StoreError;
use super::record::Table;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

/// Writes of one atomic commit, by table and key; `None` removes.
pub type Writes = BTreeMap<(Table, Vec<u8>), Option<Bytes>>;

/// Is told of a pair of key and value; false ends the scan.
pub type Each<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<bool, StoreError>;

/// Tables of bytes in the order of their keys. Reads see what was committed.
pub trait Kv: Send + Sync {
    /// A value.
    ///
    /// # Errors
    /// Where it can't be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Pairs with keys from `from` up to `to`, which is left out, in their order.
    ///
    /// # Errors
    /// Where they can't be read, or what `each` gives.
    fn scan(&self, table: Table, from: &[u8], to: &[u8], each: Each<'_>) -> Result<(), StoreError>;

    /// Makes all of these writes durable, or none.
    ///
    /// # Errors
    /// Where they can't be written; whether they will be there after a restart is not known then.
    fn commit(&self, writes: Writes) -> Result<(), StoreError>;
}

/// Tables in memory.
#[derive(Debug, Default)]
pub struct MemoryKv {
    pairs: RwLock<BTreeMap<(Table, Vec<u8>), Bytes>>,
}

impl Kv for MemoryKv {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        Ok(pairs.get(&(table, key.to_vec())).cloned())
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        for ((_, key), value) in pairs.range((table, from.to_vec())..(table, to.to_vec())) {
            if !each(key, value)? {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, writes: Writes) -> Result<(), StoreError> {
        let mut pairs = self.pairs.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in writes {
            match value {
                Some(value) => pairs.insert(key, value),
                None => pairs.remove(&key),
            };
        }
        Ok(())
    }
}

/// Writes that are not committed yet, over what is.
pub struct Draft<'a> {
    base: &'a dyn Kv,
    writes: Writes,
}

impl<'a> Draft<'a> {
    /// Nothing written yet.
    pub fn new(base: &'a dyn Kv) -> Self {
        Self { base, writes: Writes::new() }
    }

    /// What is to be committed.
    pub fn into_writes(self) -> Writes {
        self.writes
    }

    /// A value, as it will be.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.writes.get(&(table, key.to_vec())) {
            Some(written) => Ok(written.clone()),
            None => self.base.get(table, key),
        }
    }

    /// Writes a value.
    pub fn put(&mut self, table: Table, key: &[u8], value: impl Into<Bytes>) {
        self.writes.insert((table, key.to_vec()), Some(value.into()));
    }

    /// Removes a value.
    pub fn remove(&mut self, table: Table, key: &[u8]) {
        self.writes.insert((table, key.to_vec()), None);
    }

    /// Pairs with keys from `from` up to `to`, which is left out, as they will be, in memory.
    ///
    /// # Errors
    /// Where they can't be read.
    pub fn pairs(&self, table: Table, from: &[u8], to: &[u8]) -> Result<BTreeMap<Vec<u8>, Bytes>, StoreError> {
        let mut pairs = BTreeMap::new();
        self.base.scan(table, from, to, &mut |key, value| {
            pairs.insert(key.to_vec(), Bytes::copy_from_slice(value));
            Ok(true)
        })?;
        for ((_, key), value) in self.writes.range((table, from.to_vec())..(table, to.to_vec())) {
            match value {
                Some(value) => pairs.insert(key.clone(), value.clone()),
                None => pairs.remove(key),
            };
        }
        Ok(pairs)
    }
}
